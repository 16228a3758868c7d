"""When to try again, and after how long: a policy as data, driven by tenacity."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from llm_core import InvalidValue, Value, immutable
from llm_service.retry_budget import RetryBudget

if TYPE_CHECKING:
    from tenacity import AsyncRetrying, RetryCallState

__all__ = ["RetryPolicy"]


@immutable
class RetryPolicy(Value):
    """How failed attempts are repeated: exponential back-off with full jitter, the provider's Retry-After respected.

    The pause after attempt n is drawn evenly from 0 to ``initial_seconds * 2 ** (n - 1)``, at most `max_seconds`
    (the «full jitter» of the AWS Architecture Blog, «Exponential Backoff And Jitter», 2015),
    and is never shorter than what the provider asked for.
    Only errors that the error table, or the provider, calls retryable are repeated.
    """

    max_attempts: int = 3
    """All attempts together, 1 or more; 1 never retries."""
    initial_seconds: float = 0.5
    max_seconds: float = 30.0
    max_retry_after_seconds: float = 120.0
    """A provider that asks for a longer pause than this is not asked again."""
    budget: float = 100.0
    """Capacity of each provider's `RetryBudget`: half as many failures in a row stop all retries to it."""
    budget_ratio: float = 0.1
    """How much of a retry each success earns."""

    def __post_init__(self) -> None:
        if isinstance(self.max_attempts, bool) or not isinstance(self.max_attempts, int):
            raise InvalidValue.of("RetryPolicy.max_attempts", self.max_attempts, "a whole number")
        if self.max_attempts < 1:
            raise InvalidValue.of("RetryPolicy.max_attempts", self.max_attempts, "1 or more")
        for name in ("initial_seconds", "max_seconds", "max_retry_after_seconds"):
            seconds = getattr(self, name)
            if not (isinstance(seconds, (int, float)) and 0 <= seconds < float("inf")):
                raise InvalidValue.of(f"RetryPolicy.{name}", seconds, "zero or more seconds")
        self.new_budget()

    def new_budget(self) -> RetryBudget:
        """Return a full retry budget for one provider."""
        return RetryBudget(self.budget, ratio=self.budget_ratio)

    def retrying(
        self,
        *,
        max_attempts: int | None,
        remaining_seconds: Callable[[], float | None],
        may_retry: Callable[[BaseException], bool],
        before_sleep: Callable[[float, float], None],
        sleep: Callable[[float], Awaitable[None]],
    ) -> AsyncRetrying:
        """Return tenacity's driver for one call; it raises the last error when it gives up.

        `max_attempts` overrides the policy's own; `may_retry` says whether an error is worth another try at all.
        A pause that does not fit into `remaining_seconds()` is not begun.
        `before_sleep` gets each pause and the part of it that the provider asked for, in seconds.
        """
        import tenacity

        allowed = max_attempts or self.max_attempts
        exponential = tenacity.wait_random_exponential(
            multiplier=self.initial_seconds, max=self.max_seconds
        )

        def wait(state: RetryCallState) -> float:
            return max(exponential(state), _retry_after(state))

        def give_up(state: RetryCallState) -> bool:
            remaining = remaining_seconds()
            too_late = remaining is not None and state.upcoming_sleep >= remaining
            too_long = _retry_after(state) > self.max_retry_after_seconds
            return state.attempt_number >= allowed or too_late or too_long

        def note_pause(state: RetryCallState) -> None:
            before_sleep(state.upcoming_sleep, min(_retry_after(state), state.upcoming_sleep))

        return tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(may_retry),
            wait=wait,
            stop=give_up,
            before_sleep=note_pause,
            sleep=sleep,
            reraise=True,
        )


def _retry_after(state: RetryCallState) -> float:
    error: Any = state.outcome.exception() if state.outcome else None
    return getattr(error, "retry_after", None) or 0.0
