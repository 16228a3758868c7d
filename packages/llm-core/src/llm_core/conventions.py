"""The names of telemetry: OpenTelemetry's conventions for generative AI, v1.41.1.

https://github.com/open-telemetry/semantic-conventions/tree/v1.41.1/docs/gen-ai
Backends that stand beside each other (spans, Prometheus, JSON lines) say the same thing by the same
name, so the names live here. What the conventions have no word for is called ``llm_service.*``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from llm_core.request import GenerationRequest, Modality
from llm_core.result import GenerationResult
from llm_core.usage import Usage
from llm_core.value import Value, immutable

__all__ = [
    "CALL_METRICS",
    "EMBEDDINGS",
    "OPERATION",
    "OPERATION_DURATION",
    "PROVIDER_NAMES",
    "SCHEMA_URL",
    "TIME_PER_OUTPUT_CHUNK",
    "TIME_TO_FIRST_CHUNK",
    "TOKEN_USAGE",
    "Metric",
    "measurements",
    "operation_of",
    "provider_name",
    "request_attributes",
    "result_attributes",
    "span_name",
]

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.41.1"
"""Which version of the conventions the names follow."""

OPERATION: Final = "chat"
"""``gen_ai.operation.name`` of a call unless its request says otherwise: messages in, one out."""

EMBEDDINGS: Final = "embeddings"
"""``gen_ai.operation.name`` of a call that turns texts into vectors."""

_OPERATIONS: Final = frozenset({OPERATION, EMBEDDINGS, "generate_content", "text_completion"})

_TOKEN_BOUNDARIES = tuple(float(4**power) for power in range(14))
_SECONDS_BOUNDARIES = tuple(0.01 * 2**power for power in range(14))


@immutable
class Metric(Value):
    """A histogram of the conventions."""

    name: str
    unit: str
    """UCUM, such as ``s`` and ``{token}``."""
    description: str
    boundaries: tuple[float, ...]
    """Upper bounds of the buckets, inclusive; above the last one there is one more bucket."""


TOKEN_USAGE: Final = Metric(
    name="gen_ai.client.token.usage",
    unit="{token}",
    description="Number of input and output tokens used.",
    boundaries=_TOKEN_BOUNDARIES,
)
OPERATION_DURATION: Final = Metric(
    name="gen_ai.client.operation.duration",
    unit="s",
    description="GenAI operation duration.",
    boundaries=_SECONDS_BOUNDARIES,
)
TIME_TO_FIRST_CHUNK: Final = Metric(
    name="gen_ai.client.operation.time_to_first_chunk",
    unit="s",
    description="Time to receive the first chunk of a streamed reply.",
    boundaries=_SECONDS_BOUNDARIES,
)
TIME_PER_OUTPUT_CHUNK: Final = Metric(
    name="gen_ai.client.operation.time_per_output_chunk",
    unit="s",
    description="Time per output chunk of a streamed reply, after the first one.",
    boundaries=_SECONDS_BOUNDARIES,
)

CALL_METRICS: Final = (TOKEN_USAGE, OPERATION_DURATION, TIME_TO_FIRST_CHUNK, TIME_PER_OUTPUT_CHUNK)
"""Every histogram that a client records."""

PROVIDER_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "azure": "azure.ai.openai",
        "bedrock": "aws.bedrock",
        "gemini": "gcp.gemini",
        "google": "gcp.gemini",
        "mistral": "mistral_ai",
        "vertex": "gcp.vertex_ai",
        "watsonx": "ibm.watsonx.ai",
        "xai": "x_ai",
    }
)
"""Our provider names → the conventions' well-known values, where the two differ."""


def provider_name(provider: str) -> str:
    """Return ``gen_ai.provider.name`` for one of our providers; unknown ones keep their name."""
    return PROVIDER_NAMES.get(provider, provider)


def operation_of(request: GenerationRequest | None) -> str:
    """Return ``gen_ai.operation.name``: what the request's metadata says by that name, else chat.

    Only the conventions' words for inference count.
    """
    said = request.metadata.get("gen_ai.operation.name") if request is not None else None
    return said if isinstance(said, str) and said in _OPERATIONS else OPERATION


def span_name(model: str | None, operation: str = OPERATION) -> str:
    """Return the name of a call's span: ``chat {model}``, or ``chat`` while no model is known."""
    return f"{operation} {model}" if model else operation


def request_attributes(request: GenerationRequest) -> dict[str, Any]:
    """Return what the conventions say of a call when it starts; nothing of what was said in it."""
    sampling, operation = request.sampling, operation_of(request)
    attributes = {
        "gen_ai.operation.name": operation,
        "gen_ai.request.model": request.model,
        "gen_ai.request.max_tokens": request.max_output_tokens,
        "gen_ai.request.seed": request.seed,
        "gen_ai.request.stop_sequences": request.stop or None,
        "gen_ai.output.type": _output_type(request),
        "gen_ai.conversation.id": request.metadata.get("conversation_id"),
        "llm_service.operation": request.operation_name,
        "llm_service.tenant": request.tenant,
    }
    if operation == EMBEDDINGS:
        attributes["gen_ai.embeddings.dimension.count"] = request.provider_options.get("dimensions")
    if sampling is not None:
        attributes |= {
            "gen_ai.request.temperature": sampling.temperature,
            "gen_ai.request.top_p": sampling.top_p,
            "gen_ai.request.top_k": None if sampling.top_k is None else float(sampling.top_k),
            "gen_ai.request.frequency_penalty": sampling.frequency_penalty,
            "gen_ai.request.presence_penalty": sampling.presence_penalty,
        }
    return {name: value for name, value in attributes.items() if value is not None}


def result_attributes(result: GenerationResult[Any]) -> dict[str, Any]:
    """Return what the conventions say of a call when it is over: the reply's facts and its usage.

    Money is a string, so that no digit is lost.
    """
    usage, cost, times = result.usage, result.cost, result.timestamps
    answered = result.attempts[-1] if result.attempts else None
    attributes = {
        "gen_ai.provider.name": provider_name(result.provider) if result.provider else None,
        "gen_ai.request.model": answered.model if answered else result.model,
        "gen_ai.request.stream": True if times.first_token is not None else None,
        "gen_ai.response.model": result.model if answered and answered.success else None,
        "gen_ai.response.id": result.response_id,
        "gen_ai.response.finish_reasons": (result.finish_reason.value,)
        if result.finish_reason
        else None,
        "gen_ai.response.time_to_first_chunk": times.time_to_first_token_seconds,
        "error.type": None if result.success or result.error is None else result.error.type.value,
        "llm_service.cost.amount": None if cost.amount is None else str(cost.amount),
        "llm_service.cost.currency": None if cost.amount is None else cost.currency,
        "llm_service.cost.status": cost.status.value if result.attempts else None,
        "llm_service.attempts": len(result.attempts),
        "llm_service.cached": result.cached or None,
        "llm_service.degraded": result.degraded.reason.value if result.degraded else None,
    }
    if usage.total_tokens:
        attributes |= {
            "gen_ai.usage.input_tokens": usage.input_tokens,
            "gen_ai.usage.output_tokens": usage.output_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage.cache_read_tokens or None,
            "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens or None,
            "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens or None,
            "llm_service.usage.estimated": usage.estimated or None,
        }
    if operation_of(result.request) == EMBEDDINGS:  # vectors have no tokens and no reason to end
        attributes["gen_ai.response.finish_reasons"] = None
        attributes["gen_ai.usage.output_tokens"] = None
    return {name: value for name, value in attributes.items() if value is not None}


def measurements(
    result: GenerationResult[Any], facts: Mapping[str, Any]
) -> Iterator[tuple[Metric, float, dict[str, str]]]:
    """Yield each of `CALL_METRICS` that a finished call has: its value, and the attributes that it alone has.

    `facts` are the call's `result_attributes`.
    Tokens only as far as they were reported: the conventions forbid to record what was counted
    here, and a histogram could not tell the two apart. The time per chunk comes once for a streamed
    call, as the mean over its tokens: events do not tell of single chunks.
    """
    usage, times = _reported_usage(result), result.timestamps
    if usage.total_tokens:
        yield TOKEN_USAGE, usage.input_tokens, {"gen_ai.token.type": "input"}
        if "gen_ai.usage.output_tokens" in facts:
            yield TOKEN_USAGE, usage.output_tokens, {"gen_ai.token.type": "output"}
    if times.total_seconds is not None:
        error = facts.get("error.type")
        yield OPERATION_DURATION, times.total_seconds, {"error.type": error} if error else {}
    if times.time_to_first_token_seconds is not None:
        yield TIME_TO_FIRST_CHUNK, times.time_to_first_token_seconds, {}
    last = result.attempts[-1] if result.attempts else None
    mean = last.time_per_output_token_seconds if last else None
    if mean is not None:
        yield TIME_PER_OUTPUT_CHUNK, mean, {}


def _reported_usage(result: GenerationResult[Any]) -> Usage:
    """Return the call's tokens without those of attempts that were counted here."""
    if not result.usage.estimated:
        return result.usage
    usages = [attempt.usage for attempt in result.attempts if attempt.usage is not None]
    return sum((usage for usage in usages if not usage.estimated), Usage())


def _output_type(request: GenerationRequest) -> str | None:
    """Return the kind of output asked for, in the conventions' words; None for plain text."""
    if request.response_schema is not None:
        return "json"
    if Modality.AUDIO in request.output_modalities:
        return "speech"
    return "image" if Modality.IMAGE in request.output_modalities else None
