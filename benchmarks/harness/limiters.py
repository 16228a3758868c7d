"""Who limits a rate: ours and the peers, with their environments."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.harness.contenders import Contender
from benchmarks.harness.environments import Environment

OURS = "llm-gates"
YARDSTICK = "aiolimiter"
PYTHON_312 = Environment(("token-throttle", YARDSTICK), "3.12")
"""token-throttle needs Python 3.12; the yardstick is in its environment, too."""
ENVIRONMENTS = {
    **{
        name: Environment((name,))
        for name in (YARDSTICK, "pyrate-limiter", "throttled-py", "langchain-core", "limits")
    },
    "token-throttle": PYTHON_312,
}


def limiters(*, peers: bool = True) -> dict[str, Callable[[], Contender]]:
    """Return makers of all contenders that limit a rate; without peers, ours and the yardstick."""
    makers: dict[str, Callable[[], Contender]] = {OURS: lambda: Contender("limiters", OURS)}
    for name, environment in ENVIRONMENTS.items():
        if peers or name == YARDSTICK:
            makers[name] = lambda name=name, environment=environment: Contender(  # type: ignore[misc]
                "limiters", name, environment=environment
            )
    return makers


def limiter_versions() -> str:
    """Return name and version of every peer, as they are installed for them."""
    found = [f"{name} {environment.version(name)}" for name, environment in ENVIRONMENTS.items()]
    return ", ".join(found) + " (on Python 3.12)"
