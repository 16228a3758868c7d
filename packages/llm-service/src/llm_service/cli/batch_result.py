"""The result of a request that went through a vendor's batch API, told like any other: times, attempt, cost."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from llm_core import (
    AttemptTimestamps,
    Clock,
    Cost,
    CostStatus,
    ErrorInfo,
    EventTimestamps,
    GenerationResult,
    InvocationAttempt,
    RequestError,
)
from llm_service.cli.request_file import Item

if TYPE_CHECKING:
    from llm_metrics import PriceBook

__all__ = ["collected", "refused"]


def collected(
    result: GenerationResult[Any], *, submitted_at: datetime, prices: PriceBook | None, clock: Clock
) -> GenerationResult[Any]:
    """Return what a batch has answered, with the one attempt that the batch was, and its cost.

    It lasted from the submission until now, as vendors do not tell when each request was answered; the submission
    may have been another process's.
    """
    ended_at, ended = clock.now(), clock.monotonic_ns()
    started = ended - round((ended_at - submitted_at).total_seconds() * 1e9)
    cost = _cost_of(result, prices, ended_at)
    is_billed = result.usage.total_tokens > 0
    attempt = InvocationAttempt(
        number=1,
        provider=str(result.provider),
        model=str(result.model),
        timestamps=AttemptTimestamps(started=started, request_sent=started, ended=ended),
        error=result.error,
        usage=result.usage if is_billed else None,
        cost=cost if is_billed else None,
        finish_reason=result.finish_reason,
        response_id=result.response_id,
        provider_request_id=result.error.provider_request_id if result.error else None,
    )
    timestamps = EventTimestamps(
        requested_at=submitted_at,
        requested=started,
        started=started,
        request_sent=started,
        ended=ended,
        completed=ended,
    )
    return replace(result, attempts=(attempt,), timestamps=timestamps, cost=cost)


def refused(
    item: Item, error: RequestError, *, provider: str, clock: Clock
) -> GenerationResult[Any]:
    """Return the failure of a request that no batch can hold; it has no attempt, as nothing was sent."""
    now = clock.monotonic_ns()
    return GenerationResult(
        request=item.request,
        success=False,
        timestamps=EventTimestamps(requested_at=clock.now(), requested=now, completed=now),
        error=ErrorInfo.from_exception(error),
        model=item.request.model,
        provider=provider,
        operation_name=item.request.operation_name,
    )


def _cost_of(result: GenerationResult[Any], prices: PriceBook | None, at: datetime) -> Cost:
    usage = result.usage
    if prices is None or not usage.total_tokens or result.cost.amount is not None:
        return result.cost
    cost = prices.price(
        usage, provider=str(result.provider), model=str(result.model), at=at, tier="batch"
    )
    return _halved(cost, is_estimate=usage.estimated)


def _halved(cost: Cost, *, is_estimate: bool) -> Cost:
    """Return the cost at half the price, if the price book had to take the standard price.

    It says so by the status ``estimated``. OpenAI («Batch API») and Anthropic («Message Batches API») give every
    model at half the price in a batch.
    """
    if cost.amount is None or cost.status is not CostStatus.ESTIMATED or is_estimate:
        return cost
    return replace(cost, amount=cost.amount / 2, source=f"{cost.source},half for batch")
