"""Batches of OpenAI and Anthropic, from submission to results."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_core import (
    AudioPart,
    ErrorType,
    FinishReason,
    GenerationRequest,
    InvalidValue,
    ProviderError,
    ResponseSchema,
)
from llm_core.testing import ManualClock
from llm_providers import AnthropicProvider, BatchState, OpenAIProvider

SCHEMA = ResponseSchema(
    name="city", json_schema={"type": "object", "properties": {"name": {"type": "string"}}}
)


def wishes(*texts: str, **fields: Any) -> list[GenerationRequest]:
    return [GenerationRequest(user=text, model="gpt-4o", **fields) for text in texts]


def answer(text: str, **fields: Any) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text}]
    return {
        "id": "resp",
        "model": "gpt-4o",
        "status": "completed",
        "output": [{"type": "message", "content": content}],
        "usage": {"input_tokens": 5, "output_tokens": 2},
        **fields,
    }


def lines(*entries: Any) -> bytes:
    return b"\n".join(json.dumps(entry).encode() for entry in entries) + b"\n{broken\n"


async def test_an_openai_batch_from_submission_to_results(
    openai: OpenAIProvider, wire: Any
) -> None:
    requests = wishes("a", "b", "c", "d", "e", "f")
    wire.replies = [
        {"id": "file_1"},
        {"id": "batch_1", "status": "validating", "request_counts": {"total": 0}},
        {
            "id": "batch_1",
            "status": "cancelling",
            "request_counts": {"total": 6, "completed": 1, "failed": 0},
        },
    ]
    batch = await openai.batches.submit(requests)
    assert (batch.id, batch.state, batch.provider) == ("batch_1", BatchState.IN_PROGRESS, "openai")
    uploaded = wire.requests[0].content
    assert b'"custom_id":"request-000002","method":"POST","url":"/v1/responses"' in uploaded
    assert json.loads(wire.requests[1].content) == {
        "input_file_id": "file_1",
        "endpoint": "/v1/responses",
        "completion_window": "24h",
    }
    cancelled = await openai.batches.cancel("batch_1")
    assert (cancelled.state, cancelled.succeeded) == (BatchState.CANCELLING, 1)
    body = answer("A", status="incomplete", incomplete_details={"reason": "content_filter"})
    cut = answer("C", status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    output = lines(
        {"custom_id": "request-000002", "response": {"status_code": 200, "body": cut}},
        {"custom_id": "request-000000", "response": {"status_code": 200, "body": body}},
        {"custom_id": "strange", "response": {"status_code": 200, "body": answer("X")}},
    )
    limited = {"error": {"message": "m", "code": "rate_limit_exceeded"}}
    errors = lines(
        {"custom_id": "request-000001", "response": {"status_code": 429, "body": limited}},
        {"custom_id": "request-000003", "error": {"code": "batch_expired", "message": "late"}},
        {"custom_id": "request-000004", "error": {"code": "batch_cancelled", "message": "gone"}},
    )
    described = {
        "id": "batch_1",
        "status": "expired",
        "output_file_id": "file_2",
        "error_file_id": "file_3",
    }
    wire.replies = [described, output, errors]
    results = await openai.batches.results("batch_1", requests)
    assert [r.success for r in results] == [False, False, True, False, False, False]
    assert (results[2].content, results[2].finish_reason) == ("C", FinishReason.LENGTH)
    assert results[2].usage.total_tokens == 7
    assert results[2].request is requests[2]
    kinds = [r.error.type for r in results if r.error is not None]
    assert kinds == [
        ErrorType.CONTENT_FILTERED,
        ErrorType.RATE_LIMITED,
        ErrorType.TIMEOUT_DEADLINE,
        ErrorType.CANCELLED,
        ErrorType.TIMEOUT_DEADLINE,
    ]
    assert results[0].raw_content == "A"
    assert results[3].error is not None
    assert results[3].error.retryable


async def test_results_are_not_read_before_their_time(openai: OpenAIProvider, wire: Any) -> None:
    wire.json({"id": "b", "status": "in_progress"})
    with pytest.raises(ProviderError, match="'b' is in_progress: wait for it"):
        await openai.batches.results("b", wishes("a"))


async def test_a_batch_without_id_is_the_servers_fault(
    openai: OpenAIProvider, anthropic: AnthropicProvider, wire: Any
) -> None:
    wire.json({"status": "validating"})
    for provider in (openai, anthropic):
        with pytest.raises(ProviderError, match=r"expected something with an id, got \['status'\]"):
            await provider.batches.submit(wishes("a", max_output_tokens=5))


async def test_a_failed_openai_batch_fails_every_request(openai: OpenAIProvider, wire: Any) -> None:
    wire.json({"id": "b", "status": "failed", "errors": {"data": [{"message": "bad line"}]}})
    batch = await openai.batches.poll("b")
    assert batch.state is BatchState.FAILED
    (result,) = await openai.batches.results("b", wishes("a"))
    assert result.error is not None
    assert result.error.type is ErrorType.INVALID_REQUEST
    assert "bad line" in result.error.message


async def test_a_reply_in_a_batch_that_says_it_failed(openai: OpenAIProvider, wire: Any) -> None:
    body = answer("", status="failed", error={"code": "server_error", "message": "oops"})
    entry = {"custom_id": "request-000000", "response": {"status_code": 200, "body": body}}
    wire.replies = [{"id": "b", "status": "completed", "output_file_id": "f"}, lines(entry)]
    (result,) = await openai.batches.results("b", wishes("a"))
    assert result.error is not None
    assert (result.error.type, result.error.message) == (ErrorType.SERVER_ERROR, "oops")


@pytest.mark.parametrize(
    ("requests", "words"),
    [
        ([], "expected 1 to 50000 requests"),
        ([GenerationRequest(user="x")], r"requests\[0\]\.model: got None"),
        (
            [
                *wishes("a"),
                GenerationRequest(user="x", model="gpt-audio", audio=(AudioPart(data=b"x"),)),
            ],
            "requests for one endpoint only",
        ),
    ],
)
async def test_what_one_batch_cannot_hold(
    openai: OpenAIProvider, requests: Any, words: str
) -> None:
    with pytest.raises(InvalidValue, match=words):
        await openai.batches.submit(requests)


async def test_a_batch_file_that_is_too_large(
    openai: OpenAIProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_providers.openai.batches.MAX_FILE_BYTES", 10)
    with pytest.raises(InvalidValue, match="at most 10 bytes"):
        await openai.batches.submit(wishes("a"))


async def test_waiting_polls_until_the_batch_is_over(http_client: Any, wire: Any) -> None:
    import asyncio

    clock = ManualClock()
    provider = OpenAIProvider("k", http_client=http_client, clock=clock)
    wire.replies = [
        {"id": "b", "status": "in_progress"},
        {"id": "b", "status": "finalizing"},
        {"id": "b", "status": "completed"},
    ]
    waiting = asyncio.create_task(provider.batches.wait("b", interval_seconds=60))
    for _ in range(200):
        await asyncio.sleep(0.005)
        if clock.sleepers:
            clock.advance(60)
        if waiting.done():
            break
    assert (await waiting).state is BatchState.ENDED
    assert len(wire.requests) == 3


async def test_an_anthropic_batch_from_submission_to_results(
    anthropic: AnthropicProvider, wire: Any
) -> None:
    requests = [
        GenerationRequest(user=text, model="claude-opus-4-1", response_schema=SCHEMA)
        for text in "abcdef"
    ]
    counts = {"processing": 6, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    wire.json({"id": "b", "processing_status": "in_progress", "request_counts": counts})
    batch = await anthropic.batches.submit(requests)
    assert (batch.state, batch.total) == (BatchState.IN_PROGRESS, 6)
    assert wire.sent["requests"][1]["custom_id"] == "request-000001"
    assert wire.sent["requests"][1]["params"]["model"] == "claude-opus-4-1"
    wire.json({"id": "b", "processing_status": "canceling"})
    assert (await anthropic.batches.cancel("b")).state is BatchState.CANCELLING
    counts = {"succeeded": 1, "errored": 1, "canceled": 1, "expired": 2}
    wire.json({"id": "b", "processing_status": "ended", "request_counts": counts})
    ended = await anthropic.batches.wait("b")
    assert (ended.state, ended.succeeded, ended.failed) == (BatchState.ENDED, 1, 4)
    message = {
        "content": [{"type": "tool_use", "id": "c", "name": "city", "input": {"name": "Rome"}}],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 3, "output_tokens": 4},
    }
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}

    def entry(number: int, **result: Any) -> dict[str, Any]:
        return {"custom_id": f"request-{number:06d}", "result": result}

    wire.body = lines(
        entry(3, type="expired"),
        entry(1, type="errored", error=overloaded),
        entry(0, type="succeeded", message=message),
        entry(2, type="canceled"),
        entry(4, type="succeeded", message={}),
        entry(9, type="succeeded", message=message),
    )
    results = await anthropic.batches.results("b", requests)
    assert results[0].content == '{"name": "Rome"}'
    assert results[0].structured_by == "tool"
    kinds = [r.error.type for r in results if r.error is not None]
    assert kinds == [
        ErrorType.OVERLOADED,
        ErrorType.CANCELLED,
        ErrorType.TIMEOUT_DEADLINE,
        ErrorType.SERVER_ERROR,
        ErrorType.SERVER_ERROR,
    ]


async def test_one_line_of_a_batch_that_cannot_be_read_fails_its_request_only(
    openai: OpenAIProvider, anthropic: AnthropicProvider, wire: Any, monkeypatch: Any
) -> None:
    def burst(*_: object) -> None:
        raise RuntimeError("burst")

    line = b'{"custom_id":"request-000000","result":{"type":"succeeded"},"response":{"status_code":200}}'
    for provider in (openai, anthropic):
        monkeypatch.setattr(type(provider.batches), "_outcome", burst)
        ended = {"id": "b", "status": "completed", "output_file_id": "f"}
        wire.replies = [ended, line] if provider is openai else [line]
        (result,) = await provider.batches.results("b", wishes("a"))
        assert result.error is not None
        assert "burst" in result.error.message
