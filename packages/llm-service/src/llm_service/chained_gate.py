"""Two gates passed one after the other: an operation's own limits, then the model's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from decimal import Decimal
from typing import Any

from llm_core import Clock, ErrorInfo, Gate, Permit, RateLimitFacts

__all__ = ["ChainedGate"]


class ChainedGate:
    """Admits through `outer`, then through `inner`; what the provider says about limits concerns `inner` alone."""

    def __init__(self, outer: Gate, inner: Gate, *, clock: Clock) -> None:
        self._outer = outer
        self._inner = inner
        self._clock = clock

    @property
    def gates(self) -> tuple[Gate, Gate]:
        """Both gates, in the order in which they are passed."""
        return self._outer, self._inner

    def admit(
        self,
        *,
        timeout: float | None = None,
        **needs: Any,
    ) -> AbstractAsyncContextManager[Permit]:
        """Wait for both permits within one timeout."""
        return self._admit(timeout, needs)

    def observe(self, facts: RateLimitFacts) -> None:
        """Correct the inner gate."""
        self._inner.observe(facts)

    def hold(self, seconds: float) -> None:
        """Hold the inner gate."""
        self._inner.hold(seconds)

    @asynccontextmanager
    async def _admit(self, seconds: float | None, needs: dict[str, Any]) -> AsyncIterator[Permit]:
        began = self._clock.monotonic_ns()
        async with self._outer.admit(timeout=seconds, **needs) as outer:
            waited = (self._clock.monotonic_ns() - began) / 1e9
            left = None if seconds is None else max(seconds - waited, 0.0)
            permit = None
            try:
                async with self._inner.admit(timeout=left, **needs) as inner:
                    permit = _ChainedPermit(outer, inner)
                    yield permit
            finally:
                if permit is None:
                    # Refused inside: nothing was sent, so nothing counts outside either.
                    outer.cancel()


class _ChainedPermit:
    """Two permits as one."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, outer: Permit, inner: Permit) -> None:
        self._outer = outer
        self._inner = inner

    @property
    def wait_seconds(self) -> float:
        return self._outer.wait_seconds + self._inner.wait_seconds

    @property
    def waited_for(self) -> str | None:
        longer = max(self._inner, self._outer, key=lambda permit: permit.wait_seconds)
        return longer.waited_for

    def settle(
        self, *, tokens: int, output_tokens: int | None = None, cost: Decimal | None = None
    ) -> None:
        self._outer.settle(tokens=tokens, output_tokens=output_tokens, cost=cost)
        self._inner.settle(tokens=tokens, output_tokens=output_tokens, cost=cost)

    def fail(self, error: ErrorInfo, *, cost: Decimal | None = None) -> None:
        self._outer.fail(error, cost=cost)
        self._inner.fail(error, cost=cost)

    def cancel(self) -> None:
        self._outer.cancel()
        self._inner.cancel()
