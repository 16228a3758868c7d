"""What may be given to a service and its operations: refused where it is given, not in the calls that come to use it.

Objects are taken for what they can do, as the Protocols say, and not for their class.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from llm_core import (
    Clock,
    Gate,
    InvalidValue,
    PriceBook,
    Provider,
    ResponseCache,
    TelemetryClient,
)
from llm_gates import BreakerPolicy
from llm_service.gate_book import Limits
from llm_service.hedging import HedgePolicy
from llm_service.ladder import Fallback
from llm_service.retry import RetryPolicy

__all__ = [
    "check_limits",
    "check_operation",
    "check_requests",
    "check_service",
    "fallbacks_of",
]


class _Rule(NamedTuple):
    """What one argument may be, besides None."""

    fits: Callable[[Any], bool]
    expected: str
    abilities: tuple[str, ...] = ()
    """What an object must have to do the work."""


def _able(kind: str, *abilities: str) -> _Rule:
    *most, last = abilities
    listed = f"{', '.join(most)} and {last}" if most else last
    return _Rule(
        lambda value: not isinstance(value, type) and not _lacks(value, abilities),
        f"{kind}, with {listed}",
        abilities,
    )


def _as(kind: str, protocol: type) -> _Rule:
    return _able(kind, *(name for name in vars(protocol) if not name.startswith("_")))


def _lacks(value: object, abilities: Iterable[str]) -> list[str]:
    return [name for name in abilities if not _has(value, name)]


def _has(value: object, name: str) -> bool:
    try:
        return hasattr(value, name)
    except Exception:  # noqa: BLE001 - a property that is there and raises, which is a matter of the calls
        return True


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_pipeline(value: Any) -> bool:
    return callable(value) or isinstance(value, str | Sequence | Mapping) or _has(value, "run")


_NO_LIMITS = Limits()
_TELEMETRY = _as("a TelemetryClient", TelemetryClient)


def _is_telemetry(value: Any) -> bool:
    if isinstance(value, str):
        return True
    if isinstance(value, list | tuple):
        return all(isinstance(name, str) for name in value)
    return _TELEMETRY.fits(value)


_MODEL = _Rule(_is_name, "a model's name")
_SERVICE: Mapping[str, _Rule] = {
    "model": _MODEL,
    "provider": _as("a Provider", Provider),
    "registry": _able("a ProviderRegistry", "resolve", "aclose"),
    "gate": _as("a Gate", Gate),
    "breaker": _Rule(lambda v: isinstance(v, BreakerPolicy), "a BreakerPolicy, or None"),
    "retry": _Rule(lambda v: isinstance(v, RetryPolicy), "a RetryPolicy, or None"),
    "restart_streams": _Rule(lambda v: isinstance(v, bool), "True or False"),
    "hedge": _Rule(lambda v: isinstance(v, HedgePolicy), "a HedgePolicy, or None"),
    "cache": _as("a ResponseCache", ResponseCache),
    "telemetry": _TELEMETRY._replace(
        fits=_is_telemetry, expected=f"{_TELEMETRY.expected}, or names of backends"
    ),
    "price_book": _as("a PriceBook", PriceBook),
    "operation_fields": _Rule(callable, "a function of an operation's name"),
    "clock": _as("a Clock", Clock),
}
_OPERATION: Mapping[str, _Rule] = {
    "name": _Rule(_is_name, "a name, or none for that of the method"),
    "model": _MODEL,
    "pipeline": _Rule(_is_pipeline, "a pipeline, a step, a function, or a list of these"),
    "limits": _Rule(lambda v: isinstance(v, Limits), "Limits"),
}


def check_service(**given: Any) -> None:
    """Raise InvalidValue for the first argument of a service that it could not work with."""
    _check(_SERVICE, given)


def check_operation(**given: Any) -> None:
    """Raise InvalidValue for the first argument of `@operation` that no request could take."""
    _check(_OPERATION, given)


def check_limits(limits: Mapping[str, Limits], *, general: Limits = _NO_LIMITS) -> None:
    """Raise InvalidValue unless `limits` are Limits by name."""
    if not isinstance(general, Limits):
        raise _refused("general", general, "Limits")
    if not isinstance(limits, Mapping):
        raise _refused("limits", limits, "a mapping of names to Limits")
    for name, own in limits.items():
        if not isinstance(name, str):
            words = "a model's, provider's or operation's name"
            raise InvalidValue(f"limits: got the key {_shown(name)}, expected {words}")
        if not isinstance(own, Limits):
            raise _refused(f"limits[{name!r}]", own, "Limits, such as Limits(max_rpm=60)")


def check_requests(requests: Any) -> None:
    """Raise InvalidValue unless there can be many requests in it."""
    if isinstance(requests, str | bytes) or not _gives_items(requests):
        raise _refused("requests", requests, "a list or another iterable of texts or requests")


def fallbacks_of(given: Iterable[Fallback | str]) -> tuple[Fallback, ...]:
    """Return the rungs of the ladder; raises InvalidValue, naming the one that is none."""
    if isinstance(given, str | bytes | Fallback) or not _gives_items(given):
        raise _refused("fallbacks", given, "a list of models or Fallback values")
    rungs = []
    for position, rung in enumerate(given):
        if not isinstance(rung, Fallback) and not _is_name(rung):
            raise _refused(f"fallbacks[{position}]", rung, "a model's name or a Fallback")
        rungs.append(rung if isinstance(rung, Fallback) else Fallback(model=rung))
    return tuple(rungs)


def _check(rules: Mapping[str, _Rule], given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        rule = rules[name]
        if value is not None and not rule.fits(value):
            raise _refused(name, value, rule.expected, _hint(rule, value))


def _hint(rule: _Rule, value: object) -> str:
    """Say what is missing of an object that could be meant, and nothing about a plain value."""
    lacking = _lacks(value, rule.abilities)
    if isinstance(value, type) and rule.abilities and not lacking:
        return f"; did you mean {value.__name__}(…)?"
    if 0 < len(lacking) < len(rule.abilities):
        return f"; it has no {' and no '.join(lacking)}"
    return ""


def _gives_items(value: object) -> bool:
    # `iter` itself may open what it iterates over.
    kind = type(value)
    return (
        hasattr(kind, "__iter__")
        or hasattr(kind, "__getitem__")
        or isinstance(value, AsyncIterable)
    )


def _refused(name: str, value: object, expected: str, hint: str = "") -> InvalidValue:
    message = f"{name}: got {_shown(value)}, expected {expected}{hint}"
    return InvalidValue(message, details={"field": name})


def _shown(value: object) -> str:
    """Write a value for people: of objects and containers the type alone, as they may hold keys."""
    if isinstance(value, str):
        from llm_metrics import redact_text

        text = redact_text(value[:1000])
        return repr(text if len(text) <= 80 else text[:77] + "...")
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
