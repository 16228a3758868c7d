"""The gates of a service: one set of limits for each model of each provider, as the vendors count them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from llm_core import Clock, Gate, InvalidValue
from llm_gates import (
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
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


class _Route:
    """The gates of one model, and the set that they form."""

    def __init__(self, limits: Limits, breaker: BreakerPolicy | None, clock: Clock) -> None:
        self.limits = limits
        self.rpm = RpmGate(limits.max_rpm, clock=clock) if limits.max_rpm else None
        self.tpm = TpmGate(limits.max_tpm, clock=clock) if limits.max_tpm else None
        wide = limits.max_concurrent_requests
        self.concurrency = ConcurrencyGate(wide, clock=clock) if wide else None
        self.breaker = CircuitBreaker(breaker, clock=clock) if breaker else None
        gates = [self.rpm, self.tpm, self.concurrency, self.breaker]
        self.gate = GateSet(*[gate for gate in gates if gate is not None], clock=clock)

    def change(self, limits: Limits) -> bool:
        """Change the limits in place, if each stays a limit or stays none; return whether it could be done."""
        pairs = [
            (self.rpm, limits.max_rpm),
            (self.tpm, limits.max_tpm),
            (self.concurrency, limits.max_concurrent_requests),
        ]
        if any((gate is None) != (limit is None) for gate, limit in pairs):
            return False
        for gate, limit in pairs:
            if gate is not None and limit is not None:
                gate.set_limit(limit)
        self.limits = limits
        return True


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
        """Build the book; the keys of `per_model` are ``provider/model``, a model's name, or a provider's."""
        self._limits = limits
        self._per_model = dict(per_model)
        self._breaker = breaker
        self._gate = gate
        self._clock = clock
        self._routes: dict[tuple[str, str], _Route] = {}
        self._operations: dict[str, _Route] = {}
        self._lock = threading.Lock()

    def limit_operation(self, name: str, limits: Limits) -> None:
        """Give an operation limits of its own, unless it has some already."""
        if name not in self._operations:
            with self._lock:
                self._operations.setdefault(name, _Route(limits, None, self._clock))

    def gate_of(self, provider: str, model: str, operation: str | None) -> Gate:
        """Return the gate that calls to this model pass, behind the operation's own if it has one."""
        gate = self._model_gate(provider, model)
        own = self._operations.get(operation) if operation is not None else None
        return gate if own is None else ChainedGate(own.gate, gate, clock=self._clock)

    def _model_gate(self, provider: str, model: str) -> Gate:
        if self._gate is not None:
            return self._gate
        route = self._routes.get((provider, model))
        if route is None:
            with self._lock:
                route = self._routes.get((provider, model))
                if route is None:
                    wanted = self._limits_for(provider, model)
                    route = _Route(wanted, self._breaker, self._clock)
                    self._routes[provider, model] = route
        return route.gate

    def change(self, **changes: int | None) -> None:
        """Change some of the limits of every model that has no limits of its own, for all who wait, at once.

        What counts in the windows stays counted; a limit that was None before starts to count now.
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
        for (provider, model), route in list(self._routes.items()):
            wanted = self._limits_for(provider, model)
            if wanted != route.limits and not route.change(wanted):
                self._routes[provider, model] = _Route(wanted, self._breaker, self._clock)

    def snapshots(self) -> Mapping[str, GateSnapshot]:
        """Return the state of every gate, by ``provider/model`` or ``operation:NAME``; a gate of the caller's own by ``*``."""
        routes = {f"{p}/{m}": route for (p, m), route in list(self._routes.items())}
        routes |= {f"operation:{name}": route for name, route in list(self._operations.items())}
        found = {name: route.gate.snapshot() for name, route in routes.items()}
        own: Any = getattr(self._gate, "snapshot", None)
        if own is not None:
            found["*"] = own()
        return MappingProxyType(found)

    def _limits_for(self, provider: str, model: str) -> Limits:
        for key in (f"{provider}/{model}", model, provider):
            if key in self._per_model:
                return self._per_model[key]
        return self._limits
