"""`@operation`: a method of a service as a business operation, with defaults of its own and a sync twin."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from llm_core import UNSET, CachePolicy, GenerationRequest, InvalidValue, Value, immutable
from llm_service.arguments import check_operation
from llm_service.gate_book import Limits

if TYPE_CHECKING:
    from llm_service.service import BaseLLMService

__all__ = [
    "Operation",
    "OperationDefaults",
    "completed",
    "current",
    "innermost",
    "operation",
]

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound="BaseLLMService")


FieldsOf = Callable[[str | None], Mapping[str, Any]]
"""Gives the fields that requests of an operation take from a configuration."""

# What passes before an operation asks for the first time is not worth another deadline than it was given.
_AT_ONCE_NS = 10_000_000
# Rounds to no nanosecond: what is asked after the deadline fails as late, and nothing is sent.
_NO_TIME = 1e-10


@immutable
class OperationDefaults(Value):
    """What requests made inside an operation take where they say nothing themselves."""

    operation_name: str
    model: str | None = None
    pipeline: Any = None
    deadline_seconds: float | None = None
    """For all that the operation asks, together, from its beginning; each request has what is left of it."""
    cache: CachePolicy | None = None
    fallback_value: Any = UNSET
    limits: Limits | None = None
    """Limits of the operation as a whole, whatever models it asks; each call passes them before the model's own.

    The two are not taken together: a call that waits for its model counts here already.
    """

    def fields(self) -> dict[str, Any]:
        """Return the defaults that are set, by the names of `GenerationRequest`."""
        names = ("operation_name", "model", "pipeline", "deadline_seconds", "cache")
        fields = {name: value for name in names if (value := getattr(self, name)) is not None}
        if self.fallback_value is not UNSET:
            fields["fallback_value"] = self.fallback_value
        return fields


def completed(request: GenerationRequest, defaults: Mapping[str, Any]) -> GenerationRequest:
    """Return `request` with `defaults` in place of what it leaves open."""
    missing = {
        name: value
        for name, value in defaults.items()
        if getattr(request, name) is (UNSET if name == "fallback_value" else None)
    }
    return request.replace(**missing) if missing else request


class Running:
    """An operation under way: what it says, and until when it may ask."""

    __slots__ = ("_began", "_ends", "_is_timed", "_outer", "defaults", "service")

    def __init__(self, service: BaseLLMService, defaults: OperationDefaults, began: int) -> None:
        self.service = service
        """Kept, so that no other service can get its id meanwhile."""
        self.defaults = defaults
        self._began = began
        self._outer = current(service)
        self._ends: int | None = None
        self._is_timed = False

    def in_time(
        self, request: GenerationRequest, configured: FieldsOf | None, now: int
    ) -> GenerationRequest:
        """Return `request` with what is left of the operation's deadline, if it has not less time itself."""
        ends = self._end(configured)
        if ends is None:
            return request
        left, own = ends - now, request.deadline_seconds
        if own is not None and round(own * 1e9) <= left + _AT_ONCE_NS:
            return request
        return request.replace(deadline_seconds=left / 1e9 if left > 0 else _NO_TIME)

    def _end(self, configured: FieldsOf | None) -> int | None:
        """Return the monotonic nanoseconds at which this or an operation around it must end; None for never."""
        if not self._is_timed:
            seconds = self.defaults.deadline_seconds
            if seconds is None and configured is not None:
                seconds = configured(self.defaults.operation_name).get("deadline_seconds")
            own = None if seconds is None else self._began + round(seconds * 1e9)
            outer = None if self._outer is None else self._outer._end(configured)
            self._ends = min((end for end in (own, outer) if end is not None), default=None)
            self._is_timed = True
        return self._ends


innermost: ContextVar[Mapping[int, Running]] = ContextVar(
    "llm_service_operations", default=MappingProxyType({})
)
"""The innermost operation of each service, by the service's id."""


def current(service: BaseLLMService) -> Running | None:
    """Return the operation of `service` that is running here; None outside of one."""
    return innermost.get().get(id(service))


@contextlib.contextmanager
def _inside(service: BaseLLMService, defaults: OperationDefaults) -> Iterator[None]:
    running = Running(service, defaults, service._clock.monotonic_ns())
    token = innermost.set({**innermost.get(), id(service): running})
    try:
        yield
    finally:
        innermost.reset(token)


class BoundOperation(Generic[P, R]):
    """An operation of one service: await it, or call `.sync` and block.

    It has the name, documentation and signature of the method, so that frameworks see what they would of a function.
    """

    def __init__(
        self,
        service: BaseLLMService,
        function: Callable[..., Coroutine[Any, Any, R]],
        defaults: OperationDefaults,
    ) -> None:
        self._service = service
        self._function = function
        self.defaults = defaults
        self.__name__, self.__qualname__ = function.__name__, function.__qualname__
        self.__module__, self.__doc__ = function.__module__, function.__doc__

    @property
    def __wrapped__(self) -> Callable[P, Coroutine[Any, Any, R]]:
        """The method of the service as it was written."""
        # Made when it is asked for; of a partial the signature is right even if the method has other decorators.
        return functools.partial(self._function, self._service)

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the operation."""
        with _inside(self._service, self.defaults):
            return await self._function(self._service, *args, **kwargs)

    def sync(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the operation and block until it is done; works where `generate_sync` works."""
        return self._service.run_sync(lambda: self(*args, **kwargs))


class Operation(Generic[S, P, R]):
    """The descriptor that `@operation` leaves in the class."""

    def __init__(
        self,
        function: Callable[Concatenate[S, P], Coroutine[Any, Any, R]],
        defaults: OperationDefaults,
    ) -> None:
        self._function = function
        self.defaults = defaults
        functools.update_wrapper(self, function)  # type: ignore[arg-type]

    @overload
    def __get__(self, service: None, owner: type[S]) -> Operation[S, P, R]: ...

    @overload
    def __get__(self, service: S, owner: type[S]) -> BoundOperation[P, R]: ...

    def __get__(self, service: S | None, owner: type[S]) -> Any:
        if service is None:
            return self
        return BoundOperation(service, self._function, self.defaults)


def operation(
    name: str | None = None,
    *,
    model: str | None = None,
    pipeline: Any = None,
    deadline_seconds: float | None = None,
    cache: CachePolicy | None = None,
    fallback_value: Any = UNSET,
    limits: Limits | None = None,
) -> Callable[[Callable[Concatenate[S, P], Coroutine[Any, Any, R]]], Operation[S, P, R]]:
    """Make an async method of a service an operation::

        class Geography(BaseLLMService):
            @operation(model="gpt-5-mini", deadline_seconds=10)
            async def capital_of(self, country: str) -> GenerationResult[str]:
                return await self.generate(f"What is the capital of {country}?")

        await geography.capital_of("France")
        geography.capital_of.sync("France")

    Every request made inside it, of the same service, takes the defaults given here where it says nothing itself.
    `deadline_seconds` is for all of them together, from the operation's beginning: each has what is left of it, also one
    with a longer deadline of its own and those of operations called inside, and what is asked after it fails as late.
    What the method does besides is not interrupted. `fallback_value` is for each of them that fails.
    `name` is the operation's name in metrics, limits and logs; by default the method's own.
    Raises InvalidValue for a method that is not ``async def``, or that yields, and for defaults no request can have.
    """

    def decorate(
        function: Callable[Concatenate[S, P], Coroutine[Any, Any, R]],
    ) -> Operation[S, P, R]:
        check_operation(name=name, model=model, pipeline=pipeline, limits=limits)
        if not inspect.iscoroutinefunction(function):
            raise InvalidValue.of("operation", function, "an async method that returns a value")
        defaults = OperationDefaults(
            operation_name=name or function.__name__,
            model=model,
            pipeline=pipeline,
            deadline_seconds=deadline_seconds,
            cache=cache,
            fallback_value=fallback_value,
            limits=limits,
        )
        # Refuses what no request can have here, and not at the first call.
        GenerationRequest(user="?", **defaults.fields())
        return Operation(function, defaults)

    if callable(name):
        raise InvalidValue("operation: write @operation(), with parentheses")
    return decorate
