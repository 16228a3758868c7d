"""Which telemetry backend a program gets: the one asked for, else the one installed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from llm_core import ConfigurationError, TelemetryClient
from llm_metrics.delivery import NullTelemetry, TelemetryFanOut

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["ENTRY_POINT_GROUP", "choose_telemetry", "installed_telemetry", "telemetry_names"]

ENTRY_POINT_GROUP: Final = "llm_metrics.telemetry"
"""A distribution offers a backend as an entry point of this group: a name, and a callable that
takes nothing and returns a `TelemetryClient`."""

_VARIABLE: Final = "LLM_TELEMETRY"
_NONE: Final = "none"


def installed_telemetry() -> dict[str, str]:
    """Return the installed backends as name → distribution, without importing any of them."""
    return {point.name: _distribution(point) for point in _entry_points()}


def choose_telemetry(
    choice: str | Sequence[str] | TelemetryClient | None = None,
    *,
    environ: Mapping[str, str] | None = None,
) -> TelemetryClient:
    """Return the backends asked for, ready to use and unable to break a call.

    `choice` is a backend, or names: one, several, or several in one text (``"otel,jsonl"``).
    Without it the environment variable ``LLM_TELEMETRY`` chooses (read from `environ`), else the
    only installed backend is taken, else none. Names are those of `installed_telemetry`, ``jsonl``
    (`JsonLinesTelemetry`, to the file named by ``LLM_TELEMETRY_JSONL_PATH`` or to standard error)
    and ``none``. Only what is chosen is imported.

    Raises ConfigurationError for an unknown name, for several installed backends of which none is
    chosen, and for a backend that cannot be imported or made; the message names it.
    """
    environ = os.environ if environ is None else environ
    if isinstance(choice, TelemetryClient):
        return TelemetryFanOut([choice])
    names = telemetry_names(choice, environ=environ)
    if names == [_NONE]:
        return NullTelemetry()
    made: list[TelemetryClient] = []
    try:
        for name in names:
            made.append(_make(name, environ))
    except Exception:
        TelemetryFanOut(made).close(0)  # a port or thread of theirs must not stay behind
        raise
    return TelemetryFanOut(made)


def telemetry_names(
    choice: str | Sequence[str] | None = None, *, environ: Mapping[str, str] | None = None
) -> list[str]:
    """Return the names of the backends that `choose_telemetry` would take, making and importing none.

    Raises ConfigurationError for an unknown name, for ``none`` beside others, and for several installed backends of
    which none is chosen.
    """
    names = _names(choice, os.environ if environ is None else environ)
    if _NONE in names and len(names) > 1:
        raise ConfigurationError(f"telemetry: got {names!r}, expected 'none' alone or backends")
    known = {"jsonl", _NONE, *installed_telemetry()}
    for name in names:
        if name not in known:
            raise ConfigurationError(
                f"telemetry: got {name!r}, expected one of {', '.join(sorted(known))}; "
                f"a backend is installed as a package of its own, such as llm-telemetry-{name}"
            )
    return names


def _names(choice: str | Sequence[str] | None, environ: Mapping[str, str]) -> list[str]:
    asked = environ.get(_VARIABLE) if choice is None else choice
    if asked is not None:
        words = asked.split(",") if isinstance(asked, str) else asked
        names = list(dict.fromkeys(word.strip() for word in words if word.strip()))
        if names:
            return names
    installed = installed_telemetry()
    if len(installed) > 1:
        listed = ", ".join(f"{name} ({owner})" for name, owner in sorted(installed.items()))
        raise ConfigurationError(
            f"several telemetry backends are installed and none is chosen: {listed}; "
            f"set {_VARIABLE} to one of the names, to several with commas, or to 'none'"
        )
    return list(installed) or [_NONE]


def _make(name: str, environ: Mapping[str, str]) -> TelemetryClient:
    if name == "jsonl":
        from llm_metrics.json_lines import JsonLinesTelemetry  # only what is chosen is imported

        return JsonLinesTelemetry(environ.get("LLM_TELEMETRY_JSONL_PATH") or None)
    point = next(point for point in _entry_points() if point.name == name)
    try:
        factory: Callable[[], object] = point.load()
        backend = factory()
    except Exception as error:
        raise ConfigurationError(
            f"telemetry backend {name!r} of {_distribution(point)} ({point.value}) "
            f"cannot be used: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(backend, TelemetryClient):
        raise ConfigurationError(
            f"telemetry backend {name!r} of {_distribution(point)} ({point.value}): "
            f"got {backend!r}, expected a TelemetryClient"
        )
    return backend


def _entry_points() -> list[EntryPoint]:
    from importlib.metadata import entry_points  # slow to import, needed once

    return list(entry_points(group=ENTRY_POINT_GROUP))


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown distribution"
