"""The gates of a service: one set of limits for each model of each provider, as the vendors count them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from llm_core import Clock, Gate, InvalidValue, Value, immutable
from llm_core.forks import begin_anew_in_children
from llm_gates import (
    UNLIMITED,
    BreakerPolicy,
    CircuitBreaker,
    ConcurrencyGate,
    GateSet,
    GateSnapshot,
    RpmGate,
    TpmGate,
)
from llm_service.chained_gate import ChainedGate

__all__ = ["GateBook", "Limits"]

_MANY_ROUTES = 1_000
"""From how many models on those that nobody asks any more are forgotten: names may come from a caller's users."""


@immutable
class Limits(Value):
    """How much may go to one model of one provider; None for what is not limited."""

    max_rpm: int | None = None
    """Requests in any minute."""
    max_tpm: int | None = None
    """Tokens in any minute, input and output together."""
    max_concurrent_requests: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_rpm", "max_tpm", "max_concurrent_requests"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if value is not None and not (whole and value >= 1):
                raise InvalidValue.of(name, value, "a whole number of at least 1, or None")


class _Route(GateSet):
    """The gates of one model, as the set that they form.

    Every gate is there from the start, for about 2 µs a call: so a limit that begins later knows the last minute,
    and nobody waits in a queue that was given up.
    """

    def __init__(self, limits: Limits, breaker: BreakerPolicy | None, clock: Clock) -> None:
        self.limits = limits
        self._rpm = RpmGate(limits.max_rpm or UNLIMITED, clock=clock)
        self._tpm = TpmGate(limits.max_tpm or UNLIMITED, clock=clock)
        self._slots = ConcurrencyGate(limits.max_concurrent_requests or UNLIMITED, clock=clock)
        breakers = [CircuitBreaker(breaker, clock=clock)] if breaker else []
        super().__init__(self._rpm, self._tpm, self._slots, *breakers, clock=clock)

    def change(self, limits: Limits) -> None:
        """Change the limits in place, for all who wait as well."""
        self.limits = limits
        self._rpm.set_limit(limits.max_rpm or UNLIMITED)
        self._tpm.set_limit(limits.max_tpm or UNLIMITED)
        self._slots.set_limit(limits.max_concurrent_requests or UNLIMITED)

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs, waits or counts here any more, so that new gates would do the same."""
        now = self.snapshot()
        busy = now.in_flight or now.queued or now.held_seconds
        return not busy and not any(limit.used for limit in now.limits)


class GateBook:
    """Makes, keeps and changes the gates of every model that is asked; safe to use from any thread.

    With a `gate` of the caller's own, that one is for every model and cannot be changed here.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        per_model: Mapping[str, Limits] = MappingProxyType({}),
        breaker: BreakerPolicy | None,
        gate: Gate | None,
        clock: Clock,
    ) -> None:
        """Build the book; the keys of `per_model` are ``provider/model``, a model's name, or a provider's.

        Under ``operation:NAME`` stand limits of an operation, which go before those in the code.
        """
        self._limits = limits
        self._per_model = dict(per_model)
        self._breaker = breaker
        self._gate = gate
        self._clock = clock
        self._routes: dict[tuple[str, str], _Route] = {}
        self._tidy_at = _MANY_ROUTES
        self._in_code: dict[str, Limits] = {}
        self._operations = {
            name: _Route(limits, None, self._clock)
            for name, limits in _of_operations(self._per_model).items()
        }
        self.begin_anew()
        begin_anew_in_children(self)

    def begin_anew(self) -> None:
        """Wait for no other thread; the gates of a forked child begin anew by themselves."""
        self._lock = threading.Lock()

    def limit_operation(self, name: str, limits: Limits) -> None:
        """Give an operation the limits that its code says, for as long as none are configured for it.

        The first that are given for a name count.
        """
        if name not in self._in_code:
            with self._lock:
                self._in_code.setdefault(name, limits)
                self._limit_operations()

    def gate_of(self, provider: str, model: str, operation: str | None) -> Gate:
        """Return the gate that calls to this model pass, behind the operation's own if it has one."""
        gate: Gate | None = self._routes.get((provider, model))
        if gate is None:
            gate = self._new_route(provider, model) if self._gate is None else self._gate
        if operation is None or operation not in self._operations:
            return gate
        return ChainedGate(self._operations[operation], gate, clock=self._clock)

    def _new_route(self, provider: str, model: str) -> _Route:
        with self._lock:
            route = self._routes.get((provider, model))
            if route is None:
                if len(self._routes) >= self._tidy_at:
                    self._forget_idle_routes()
                wanted = self._limits_for(provider, model)
                route = _Route(wanted, self._breaker, self._clock)
                self._routes[provider, model] = route
            return route

    def _forget_idle_routes(self) -> None:
        for key in [key for key, route in self._routes.items() if route.is_idle]:
            del self._routes[key]
        # To look through them takes a millisecond for eighty, so not at every new one.
        self._tidy_at = max(2 * len(self._routes), _MANY_ROUTES)

    def change(self, **changes: int | None) -> None:
        """Change some of the limits of every model that has no limits of its own, for all who wait, at once.

        What counts in the windows stays counted; a limit that was None before knows the last minute too.
        Calls in flight are not touched. Raises InvalidValue for a gate of the caller's own, or an impossible limit.
        """
        with self._lock:
            self._take(replace(self._limits, **changes), self._per_model)

    def use(self, limits: Limits, per_model: Mapping[str, Limits]) -> None:
        """Change all limits, those of single models and providers too, as `change` does."""
        with self._lock:
            self._take(limits, per_model)

    def _take(self, limits: Limits, per_model: Mapping[str, Limits]) -> None:
        if self._gate is not None:
            raise InvalidValue("gate: the service was given one; change its limits there")
        self._limits, self._per_model = limits, dict(per_model)
        self._limit_operations()
        for (provider, model), route in self._routes.items():
            wanted = self._limits_for(provider, model)
            if wanted != route.limits:
                route.change(wanted)

    def _limit_operations(self) -> None:
        """Give every operation its limits: the configured ones, else those in the code, else none any more."""
        gone = dict.fromkeys(self._operations, Limits())
        wanted = {**gone, **self._in_code, **_of_operations(self._per_model)}
        for name, limits in wanted.items():
            route = self._operations.get(name)
            if route is None:
                self._operations[name] = _Route(limits, None, self._clock)
            elif limits != route.limits:
                route.change(limits)

    def snapshots(self) -> Mapping[str, GateSnapshot]:
        """Return the state of every gate, by ``provider/model`` or ``operation:NAME``; a gate of the caller's own by ``*``."""
        routes = {f"{p}/{m}": route for (p, m), route in list(self._routes.items())}
        routes |= {f"operation:{name}": route for name, route in list(self._operations.items())}
        found = {name: route.snapshot() for name, route in routes.items()}
        own: Any = getattr(self._gate, "snapshot", None)
        if own is not None:
            found["*"] = own()
        return MappingProxyType(found)

    def _limits_for(self, provider: str, model: str) -> Limits:
        for key in (f"{provider}/{model}", model, provider):
            if key in self._per_model:
                return self._per_model[key]
        return self._limits


def _of_operations(limits: Mapping[str, Limits]) -> dict[str, Limits]:
    """Return the limits that are an operation's, by its name."""
    prefix = "operation:"
    return {key.removeprefix(prefix): own for key, own in limits.items() if key.startswith(prefix)}
