"""`@timed`: how long a function, coroutine or generator took."""

from __future__ import annotations

import functools
import inspect
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
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

    Decorates functions, coroutine functions and generators of both kinds, with or without
    parentheses. A generator is timed from its first item being asked for until it ends or is
    closed, which includes what its consumer does in between. Without `report` the logger
    ``llm_metrics.debug`` says it at level DEBUG, which is off unless asked for.
    """
    if function is None:
        return functools.partial(timed, report=report, clock=clock)
    name = getattr(function, "__qualname__", None) or repr(function)
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

    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def timed_generator(*args: Any, **kwargs: Any) -> Any:
            started = clock()
            try:
                return (yield from function(*args, **kwargs))
            finally:
                report(name, clock() - started)

        return timed_generator

    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def timed_async_generator(*args: Any, **kwargs: Any) -> Any:
            started = clock()
            try:
                async with aclosing(function(*args, **kwargs)) as items:
                    async for item in items:
                        yield item
            finally:
                report(name, clock() - started)

        return timed_async_generator

    @functools.wraps(function)
    def timed_function(*args: Any, **kwargs: Any) -> Any:
        started = clock()
        try:
            return function(*args, **kwargs)
        finally:
            report(name, clock() - started)

    return timed_function
