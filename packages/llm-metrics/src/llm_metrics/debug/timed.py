"""`@timed`: how long a function took, sync or async."""

from __future__ import annotations

import functools
import inspect
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar, cast, overload

__all__ = ["timed"]

_log = logging.getLogger("llm_metrics.debug")

P = ParamSpec("P")
R = TypeVar("R")

Report = Callable[[str, float], None]
"""Takes the function's qualified name and the seconds it took."""


def _to_log(name: str, seconds: float) -> None:
    _log.debug("%s took %.3f ms", name, seconds * 1e3)


@overload
def timed(function: Callable[P, R]) -> Callable[P, R]: ...


@overload
def timed(
    *, report: Report = ..., clock: Callable[[], float] = ...
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def timed(
    function: Callable[..., Any] | None = None,
    *,
    report: Report = _to_log,
    clock: Callable[[], float] = time.perf_counter,
) -> Any:
    """Report how long each call of a function took, also when it raises.

    Decorates functions and coroutine functions, with or without parentheses. Without `report`
    the logger ``llm_metrics.debug`` says it at level DEBUG, which is off unless asked for.
    """
    if function is None:
        return functools.partial(timed, report=report, clock=clock)
    name = function.__qualname__
    if inspect.iscoroutinefunction(function):
        waited_for = cast("Callable[..., Awaitable[Any]]", function)

        @functools.wraps(function)
        async def timed_coroutine(*args: Any, **kwargs: Any) -> Any:
            started = clock()
            try:
                return await waited_for(*args, **kwargs)
            finally:
                report(name, clock() - started)

        return timed_coroutine

    @functools.wraps(function)
    def timed_function(*args: Any, **kwargs: Any) -> Any:
        started = clock()
        try:
            return function(*args, **kwargs)
        finally:
            report(name, clock() - started)

    return timed_function
