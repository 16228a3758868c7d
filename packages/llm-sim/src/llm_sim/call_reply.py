"""What a simulated exchange comes to in the words of `llm_core`: replies, rate limits, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llm_core import (
    AudioPart,
    ErrorInfo,
    ErrorType,
    FinishReason,
    LLMCallRequest,
    Part,
    ProviderResponse,
    RateLimitFacts,
    RateLimitWindow,
    ReasoningPart,
    TextPart,
    ToolCall,
    Usage,
)
from llm_sim import exchange
from llm_sim.errors import Refusal
from llm_sim.exchange import Ask, Call, Reply, Stamp
from llm_sim.fields import read_object
from llm_sim.limits import LimitName
from llm_sim.simulator import Simulator
from llm_sim.sound import encode

__all__ = ["error_of", "facts_of", "response_of"]

_FINISH = {
    "stop": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
    "refusal": FinishReason.REFUSAL,
}

_LIMIT_FIELDS: tuple[tuple[LimitName, str], ...] = (
    ("rpd", "requests"),
    ("rpm", "requests"),
    ("tpm", "tokens"),
    ("itpm", "input_tokens"),
    ("otpm", "output_tokens"),
)
"""Which limit fills which field of the facts; of requests a day and a minute the latter."""

_STATUS_TYPES = {
    401: ErrorType.AUTHENTICATION,
    403: ErrorType.PERMISSION,
    404: ErrorType.MODEL_NOT_FOUND,
    408: ErrorType.TIMEOUT_READ,
    429: ErrorType.RATE_LIMITED,
    503: ErrorType.OVERLOADED,
    529: ErrorType.OVERLOADED,
}
_CODE_TYPES = {
    "insufficient_quota": ErrorType.QUOTA_EXHAUSTED,
    "unsupported_country_region_territory": ErrorType.UNSUPPORTED_REGION,
}


def response_of(
    ask: Ask,
    request: LLMCallRequest,
    reply: Reply,
    stamp: Stamp,
    *,
    provider: str,
    facts: RateLimitFacts | None,
) -> ProviderResponse:
    """Return the whole answer."""
    return ProviderResponse(
        provider=provider,
        model=request.model,
        parts=tuple(_parts(ask, reply)),
        usage=_usage(reply.usage),
        finish_reason=_FINISH[reply.finish_reason],
        response_id=stamp.id("resp_"),
        provider_request_id=stamp.id("req_"),
        rate_limits=facts,
        structured_by="native" if request.response_schema is not None else None,
    )


def facts_of(simulator: Simulator, call: Call) -> RateLimitFacts | None:
    """Return what a vendor's headers would say about the limits; None where there are none."""
    account = simulator.book.account_name(call.key, call.model)
    readings = simulator.book.readings(account, simulator.clock())
    windows: dict[str, Any] = {
        field: RateLimitWindow(
            limit=readings[name].allowed,
            remaining=readings[name].remaining,
            reset_seconds=readings[name].reset_seconds,
        )
        for name, field in _LIMIT_FIELDS
        if name in readings
    }
    return RateLimitFacts(**windows) if windows else None


def error_of(
    refusal: Refusal, request: LLMCallRequest, stamp: Stamp, *, provider: str
) -> ErrorInfo:
    """Return a refusal as the failure that a client makes of its status and code."""
    default = ErrorType.SERVER_ERROR if refusal.status >= 500 else ErrorType.INVALID_REQUEST
    kind = _CODE_TYPES.get(refusal.code or "") or _STATUS_TYPES.get(refusal.status, default)
    return ErrorInfo.of(
        kind,
        refusal.message,
        retryable=not refusal.final,
        retry_after=refusal.retry_after_seconds,
        status_code=refusal.status,
        code=refusal.code,
        provider=provider,
        model=request.model,
        provider_request_id=stamp.id("req_"),
    )


def _parts(ask: Ask, reply: Reply) -> Iterator[Part]:
    if reply.reasoning:
        yield ReasoningPart(text=reply.reasoning)
    if ask.wants_audio:
        yield AudioPart(
            data=encode(reply.audio, ask.wants_audio), format=ask.wants_audio, transcript=reply.text
        )
    elif reply.pieces or reply.refusal:
        yield TextPart(text=reply.text or reply.refusal)
    for call in reply.tool_calls:
        yield ToolCall(
            id=call.id,
            name=call.name,
            arguments=read_object(call.arguments),
            arguments_text=call.arguments,
        )


def _usage(used: exchange.Usage) -> Usage:
    return Usage(
        input_tokens=used.input_tokens,
        output_tokens=used.output_tokens,
        cache_read_tokens=used.cached_tokens,
        cache_write_tokens=used.cache_write_tokens,
        reasoning_tokens=used.reasoning_tokens,
        audio_input_tokens=used.audio_input_tokens,
        audio_output_tokens=used.audio_output_tokens,
    )
