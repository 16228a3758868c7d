"""Names, units and buckets as the tables of the conventions (v1.41.1) have them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from llm_core import (
    AttemptTimestamps,
    AudioOutput,
    Cost,
    CostStatus,
    Degradation,
    DegradedReason,
    ErrorInfo,
    ErrorType,
    EventTimestamps,
    FinishReason,
    GenerationRequest,
    GenerationResult,
    InvocationAttempt,
    Modality,
    ResponseSchema,
    Sampling,
    Usage,
    conventions,
)

SECONDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
TOKENS = [
    *[1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576],
    *[4194304, 16777216, 67108864],
]


@pytest.mark.parametrize(
    ("metric", "name", "unit", "boundaries"),
    [
        (conventions.TOKEN_USAGE, "gen_ai.client.token.usage", "{token}", TOKENS),
        (conventions.OPERATION_DURATION, "gen_ai.client.operation.duration", "s", SECONDS),
        (
            conventions.TIME_TO_FIRST_CHUNK,
            "gen_ai.client.operation.time_to_first_chunk",
            "s",
            SECONDS,
        ),
        (
            conventions.TIME_PER_OUTPUT_CHUNK,
            "gen_ai.client.operation.time_per_output_chunk",
            "s",
            SECONDS,
        ),
    ],
)
def test_a_metric_is_the_tables(
    metric: conventions.Metric, name: str, unit: str, boundaries: list[float]
) -> None:
    assert (metric.name, metric.unit, list(metric.boundaries)) == (name, unit, boundaries)
    assert metric in conventions.CALL_METRICS


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("openai", "openai"),
        ("anthropic", "anthropic"),
        ("ollama", "ollama"),
        ("azure", "azure.ai.openai"),
        ("bedrock", "aws.bedrock"),
        ("gemini", "gcp.gemini"),
        ("mistral", "mistral_ai"),
        ("vertex", "gcp.vertex_ai"),
        ("watsonx", "ibm.watsonx.ai"),
        ("xai", "x_ai"),
    ],
)
def test_a_provider_has_its_well_known_name(ours: str, theirs: str) -> None:
    assert conventions.provider_name(ours) == theirs


def test_a_span_is_named_by_operation_and_model() -> None:
    assert conventions.span_name("gpt-4o") == "chat gpt-4o"
    assert conventions.span_name(None) == "chat"
    assert conventions.span_name("e-3", conventions.EMBEDDINGS) == "embeddings e-3"


@pytest.mark.parametrize(
    ("said", "operation"),
    [
        ({}, "chat"),
        ({"gen_ai.operation.name": "embeddings"}, "embeddings"),
        ({"gen_ai.operation.name": "text_completion"}, "text_completion"),
        ({"gen_ai.operation.name": "made up"}, "chat"),
        ({"gen_ai.operation.name": 3}, "chat"),
    ],
)
def test_a_request_may_say_which_operation_it_is(said: dict[str, Any], operation: str) -> None:
    assert conventions.operation_of(GenerationRequest(user="hi", metadata=said)) == operation
    assert conventions.operation_of(None) == "chat"


def test_embeddings_have_their_own_attributes() -> None:
    request = GenerationRequest(
        user="hi",
        provider_options={"dimensions": 256},
        metadata={"gen_ai.operation.name": "embeddings"},
    )
    asked = conventions.request_attributes(request)
    assert asked["gen_ai.embeddings.dimension.count"] == 256
    result = finished(
        request=request,
        attempts=(attempt(),),
        finish_reason=FinishReason.STOP,
        usage=Usage(input_tokens=10),
    )
    answered = conventions.result_attributes(result)
    assert answered["gen_ai.usage.input_tokens"] == 10
    assert not {"gen_ai.usage.output_tokens", "gen_ai.response.finish_reasons"} & set(answered)


def test_a_request_says_every_parameter_it_has_and_no_content() -> None:
    request = GenerationRequest(
        user="secret",
        model="gpt-4o",
        max_output_tokens=10,
        seed=7,
        stop=("END",),
        sampling=Sampling(
            temperature=0.5, top_p=0.9, top_k=3, frequency_penalty=0.1, presence_penalty=0.2
        ),
        operation_name="translate",
        tenant="acme",
        metadata={"conversation_id": "conv-1"},
    )
    assert conventions.request_attributes(request) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.request.max_tokens": 10,
        "gen_ai.request.seed": 7,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.top_k": 3.0,
        "gen_ai.request.frequency_penalty": 0.1,
        "gen_ai.request.presence_penalty": 0.2,
        "gen_ai.conversation.id": "conv-1",
        "llm_service.operation": "translate",
        "llm_service.tenant": "acme",
    }


@pytest.mark.parametrize(
    ("wish", "output_type"),
    [
        ({}, None),
        ({"response_schema": ResponseSchema(name="s", json_schema={"type": "object"})}, "json"),
        (
            {
                "output_modalities": (Modality.AUDIO,),
                "audio_output": AudioOutput(voice="alloy"),
            },
            "speech",
        ),
        ({"output_modalities": (Modality.IMAGE,)}, "image"),
    ],
)
def test_the_output_type_is_what_was_asked_for(wish: dict[str, Any], output_type: str) -> None:
    attributes = conventions.request_attributes(GenerationRequest(user="hi", **wish))
    assert attributes.get("gen_ai.output.type") == output_type


def finished(**fields: Any) -> GenerationResult[Any]:
    times = EventTimestamps(
        requested_at=datetime(2026, 1, 1, tzinfo=UTC),
        requested=0,
        started=1_000_000_000,
        first_token=1_250_000_000,
    )
    return GenerationResult(**{"success": True, "timestamps": times} | fields)


def attempt(**fields: Any) -> InvocationAttempt:
    return InvocationAttempt(
        **{
            "number": 1,
            "provider": "gemini",
            "model": "gemini-2.5-pro",
            "timestamps": AttemptTimestamps(),
        }
        | fields
    )


def test_a_result_says_its_reply_its_usage_and_its_price() -> None:
    result = finished(
        attempts=(attempt(),),
        provider="gemini",
        model="gemini-2.5-pro-002",
        response_id="resp-1",
        finish_reason=FinishReason.STOP,
        usage=Usage(
            input_tokens=10,
            output_tokens=5,
            cache_read_tokens=3,
            cache_write_tokens=2,
            reasoning_tokens=1,
        ),
        cost=Cost(amount=Decimal("0.000001"), status=CostStatus.PRICED, source="override"),
    )
    assert conventions.result_attributes(result) == {
        "gen_ai.provider.name": "gcp.gemini",
        "gen_ai.request.model": "gemini-2.5-pro",
        "gen_ai.request.stream": True,
        "gen_ai.response.model": "gemini-2.5-pro-002",
        "gen_ai.response.id": "resp-1",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 3,
        "gen_ai.usage.cache_creation.input_tokens": 2,
        "gen_ai.usage.reasoning.output_tokens": 1,
        "llm_service.cost.amount": "0.000001",
        "llm_service.cost.currency": "USD",
        "llm_service.cost.status": "priced",
        "llm_service.attempts": 1,
    }


def test_a_failure_has_an_error_type_and_no_invented_numbers() -> None:
    error = ErrorInfo.of(ErrorType.OVERLOADED, "try later")
    result = finished(
        success=False,
        error=error,
        attempts=(attempt(error=error),),
        model="gemini-2.5-pro",
        degraded=Degradation(reason=DegradedReason.PARTIAL, detail="half"),
    )
    attributes = conventions.result_attributes(result)
    assert attributes["error.type"] == "overloaded"
    assert attributes["llm_service.degraded"] == "partial"
    assert attributes["llm_service.cost.status"] == "unpriced"
    assert not {"gen_ai.response.model", "gen_ai.usage.input_tokens"} & set(attributes)
    assert "llm_service.cost.amount" not in attributes


def test_a_finished_call_is_measured_by_every_metric_it_has() -> None:
    answered = attempt(
        usage=Usage(input_tokens=10, output_tokens=5),
        timestamps=AttemptTimestamps(first_token=0, last_token=400_000_000),
    )
    times = EventTimestamps(
        requested_at=datetime(2026, 1, 1, tzinfo=UTC),
        requested=0,
        started=1_000_000_000,
        first_token=1_250_000_000,
        completed=2_000_000_000,
    )
    result = finished(timestamps=times, usage=answered.usage, attempts=(answered,))
    assert list(conventions.measurements(result, conventions.result_attributes(result))) == [
        (conventions.TOKEN_USAGE, 10, {"gen_ai.token.type": "input"}),
        (conventions.TOKEN_USAGE, 5, {"gen_ai.token.type": "output"}),
        (conventions.OPERATION_DURATION, 2.0, {}),
        (conventions.TIME_TO_FIRST_CHUNK, 0.25, {}),
        (conventions.TIME_PER_OUTPUT_CHUNK, 0.1, {}),
    ]


def test_tokens_that_were_counted_here_are_not_measured() -> None:
    told, guessed = Usage(input_tokens=10), Usage(input_tokens=7, estimated=True)
    result = finished(
        attempts=(attempt(usage=told), attempt(number=2, usage=guessed), attempt(number=3)),
        usage=told + guessed,
    )
    [(metric, tokens, _), (_, _, _), *_] = conventions.measurements(
        result, conventions.result_attributes(result)
    )
    assert (metric, tokens) == (conventions.TOKEN_USAGE, 10)


def test_a_failure_is_measured_under_its_kind_of_error() -> None:
    error = ErrorInfo(type=ErrorType.TIMEOUT_READ, message="too slow")
    times = EventTimestamps(
        requested_at=datetime(2026, 1, 1, tzinfo=UTC), requested=0, completed=10**9
    )
    result = GenerationResult[str](success=False, error=error, timestamps=times)
    assert list(conventions.measurements(result, conventions.result_attributes(result))) == [
        (conventions.OPERATION_DURATION, 1.0, {"error.type": "timeout_read"})
    ]


def test_embeddings_are_measured_without_output_tokens() -> None:
    result = GenerationResult(
        request=GenerationRequest(user="hi", metadata={"gen_ai.operation.name": "embeddings"}),
        success=True,
        usage=Usage(input_tokens=10),
        timestamps=EventTimestamps(requested_at=datetime(2026, 1, 1, tzinfo=UTC), requested=0),
    )
    assert list(conventions.measurements(result, conventions.result_attributes(result))) == [
        (conventions.TOKEN_USAGE, 10, {"gen_ai.token.type": "input"})
    ]
