"""`@operation`: a method of a service as a business operation, with defaults of its own and a sync twin."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from llm_core import CachePolicy, GenerationRequest, InvalidValue, Value, immutable
from llm_service.arguments import check_operation
from llm_service.gate_book import Limits

if TYPE_CHECKING:
    from llm_service.service import BaseLLMService

__all__ = [
    "Operation",
    "OperationDefaults",
    "completed",
    "current_defaults",
    "innermost",
    "operation",
]

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound="BaseLLMService")


@immutable
class OperationDefaults(Value):
    """What requests made inside an operation take where they say nothing themselves."""

    operation_name: str
    model: str | None = None
    pipeline: Any = None
    deadline_seconds: float | None = None
    cache: CachePolicy | None = None
    limits: Limits | None = None
    """Limits of the operation as a whole, whatever models it asks; each call passes them before the model's own.

    The two are not taken together: a call that waits for its model counts here already.
    """

    def fields(self) -> dict[str, Any]:
        """Return the defaults that are set, by the names of `GenerationRequest`."""
        names = ("operation_name", "model", "pipeline", "deadline_seconds", "cache")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def completed(request: GenerationRequest, defaults: Mapping[str, Any]) -> GenerationRequest:
    """Return `request` with `defaults` in place of what it leaves open."""
    missing = {name: value for name, value in defaults.items() if getattr(request, name) is None}
    return request.replace(**missing) if missing else request


_Innermost = Mapping[int, tuple["BaseLLMService", OperationDefaults]]
innermost: ContextVar[_Innermost] = ContextVar(
    "llm_service_operations", default=MappingProxyType({})
)
"""The innermost operation of each service, by the service's id; beside its defaults stands the service itself, so that
no other can get that id."""


def current_defaults(service: BaseLLMService) -> OperationDefaults | None:
    """Return the defaults of the operation of `service` that is running here; None outside of one."""
    found = innermost.get().get(id(service))
    return None if found is None else found[1]


@contextlib.contextmanager
def _inside(service: BaseLLMService, defaults: OperationDefaults) -> Iterator[None]:
    token = innermost.set({**innermost.get(), id(service): (service, defaults)})
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
            limits=limits,
        )
        # Refuses what no request can have here, and not at the first call.
        GenerationRequest(user="?", **defaults.fields())
        return Operation(function, defaults)

    if callable(name):
        raise InvalidValue("operation: write @operation(), with parentheses")
    return decorate
