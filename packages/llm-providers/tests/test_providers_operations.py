from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest

from llm_core import (
    AudioPart,
    ErrorType,
    GenerationRequest,
    InvalidValue,
    Message,
    ProviderError,
    ResponseSchema,
    Tool,
    ToolCall,
    ToolResult,
)
from llm_core.testing import ManualClock
from llm_providers import AnthropicProvider, BatchState, OpenAIProvider
from llm_providers import token_count as token_count_module
from llm_providers.openai import embeddings as openai_embeddings


def vector(*numbers: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


async def test_vectors_come_in_the_order_of_the_texts(openai: OpenAIProvider, wire: Any) -> None:
    wire.json(
        {
            "model": "text-embedding-3-small-x",
            "data": [
                {"index": 1, "embedding": vector(3, 4)},
                {"index": 0, "embedding": [1, 2.5]},
            ],
            "usage": {"prompt_tokens": 7},
        }
    )
    made = await openai.embed(["a", "b"], dimensions=2, provider_options={"user": "u"})
    assert made.vectors == ((1, 2.5), (3, 4))
    assert (made.model, made.usage.input_tokens) == ("text-embedding-3-small-x", 7)
    assert wire.sent == {
        "model": "text-embedding-3-small",
        "input": ["a", "b"],
        "encoding_format": "base64",
        "dimensions": 2,
        "user": "u",
    }
    assert type(made).from_dict(json.loads(json.dumps(made.to_dict()))) == made


async def test_many_texts_are_split_by_the_vendors_limits(
    openai: OpenAIProvider, wire: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_providers.openai.provider.MAX_TEXTS", 3)
    monkeypatch.setattr("llm_providers.openai.provider.MAX_TOKENS", 10)
    texts = ["a", "b", "c", "d", "x" * 32, "y" * 32, "z" * 400]
    sizes = [3, 2, 1, 1]
    number = 0
    for size in sizes:
        data = [{"index": i, "embedding": [number + i]} for i in range(size)]
        wire.replies.append({"data": data, "usage": {"prompt_tokens": 10}})
        number += size
    made = await openai.embed(texts)
    assert [len(json.loads(request.content)["input"]) for request in wire.requests] == sizes
    assert made.vectors == tuple((float(i),) for i in range(7))
    assert made.usage.input_tokens == 40


async def test_no_texts_need_no_call(openai: OpenAIProvider, wire: Any) -> None:
    made = await openai.embed([])
    assert (made.vectors, made.dimensions, wire.requests) == ((), 0, [])


@pytest.mark.parametrize(
    "data",
    [
        [{"index": 0, "embedding": vector(1)}],
        [{"index": 0, "embedding": vector(1)}, {"index": 0, "embedding": vector(1)}],
        [{"index": "x", "embedding": vector(1)}, {"index": 1, "embedding": vector(1)}],
        [{"index": 0, "embedding": "AAA"}, {"index": 1, "embedding": vector(1)}],
        [{"index": 0, "embedding": "AAAA"}, {"index": 1, "embedding": vector(1)}],
        [{"index": 0, "embedding": ["x"]}, {"index": 1, "embedding": vector(1)}],
        [{"index": 0}, {"index": 1}],
        None,
    ],
)
async def test_vectors_that_make_no_sense_are_the_servers_fault(
    openai: OpenAIProvider, wire: Any, data: Any
) -> None:
    wire.json({"data": data})
    with pytest.raises(ProviderError) as caught:
        await openai.embed(["a", "b"])
    assert caught.value.info.type is ErrorType.SERVER_ERROR


async def test_an_empty_text_is_named(openai: OpenAIProvider) -> None:
    with pytest.raises(InvalidValue, match=r"embed\.texts\[1\]: got '', expected a text"):
        await openai.embed(["a", ""])


def test_the_limits_of_openai() -> None:
    assert (openai_embeddings.MAX_TEXTS, openai_embeddings.MAX_TOKENS) == (2048, 300_000)


async def test_speech_becomes_text(openai: OpenAIProvider, wire: Any) -> None:
    wire.json(
        {
            "text": "Hello there.",
            "language": "english",
            "duration": 2.5,
            "segments": [
                {"text": "Hello", "start": 0.0, "end": 1.0},
                {"text": "there.", "start": 1.0, "end": 2.5, "speaker": "A"},
            ],
            "usage": {
                "input_tokens": 30,
                "output_tokens": 4,
                "input_token_details": {"audio_tokens": 28},
            },
        }
    )
    heard = await openai.transcribe(
        AudioPart(data=b"OggS", format="opus"),
        model="whisper-1",
        language="en",
        prompt="Hi.",
        segments=True,
    )
    assert heard.text == "Hello there."
    assert (heard.language, heard.duration_seconds) == ("english", 2.5)
    assert [s.speaker for s in heard.segments] == [None, "A"]
    assert heard.segments[1].end_seconds == 2.5
    assert heard.usage.audio_input_tokens == 28
    sent = wire.requests[0].content
    for expected in (b'filename="audio.ogg"', b"audio/ogg", b"whisper-1", b"verbose_json", b"OggS"):
        assert expected in sent


async def test_speech_billed_by_its_length(openai: OpenAIProvider, wire: Any) -> None:
    wire.json({"text": "Hi", "usage": {"type": "duration", "seconds": 3}})
    heard = await openai.transcribe(AudioPart(data=b"x", format="mp3"))
    assert (heard.duration_seconds, heard.segments) == (3.0, ())
    assert b"audio/mpeg" in wire.requests[0].content


async def test_sound_that_is_not_taken_is_refused(
    openai: OpenAIProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidValue, match="a format with a header"):
        await openai.transcribe(AudioPart(data=b"x", format="pcm16", sample_rate_hz=16_000))
    monkeypatch.setattr("llm_providers.openai.audio.MAX_UPLOAD_BYTES", 3)
    with pytest.raises(InvalidValue, match="got 4 bytes, expected at most 3; split it first"):
        await openai.transcribe(AudioPart(data=b"1234"))


async def test_text_becomes_speech(openai: OpenAIProvider, wire: Any) -> None:
    wire.body = b"RIFF..."
    spoken = await openai.speak("Hello", voice="alloy", format="pcm16", speed=1.5)
    assert spoken == AudioPart(
        data=b"RIFF...", format="pcm16", sample_rate_hz=24_000, transcript="Hello"
    )
    assert wire.sent == {
        "model": "gpt-4o-mini-tts",
        "input": "Hello",
        "voice": "alloy",
        "response_format": "pcm",
        "speed": 1.5,
    }
    for text in ("", "x" * 4097):
        with pytest.raises(InvalidValue, match="expected 1 to 4096"):
            await openai.speak(text, voice="alloy")


async def test_silence_or_a_page_is_no_speech(openai: OpenAIProvider, wire: Any) -> None:
    with pytest.raises(ProviderError, match="empty body"):
        await openai.speak("Hello", voice="alloy")
    wire.body, wire.headers = b"<html>", {"content-type": "text/html"}
    with pytest.raises(ProviderError, match="no sound"):
        await openai.speak("Hello", voice="alloy")


async def test_openai_counts_tokens_by_its_own_endpoint(
    openai: OpenAIProvider, wire: Any, ask: Any
) -> None:
    wire.json({"input_tokens": 11})
    counted = await openai.count_tokens(ask(max_output_tokens=5))
    assert (counted.input_tokens, counted.counted_by) == (11, "vendor")
    assert wire.paths == ["/v1/responses/input_tokens"]
    assert wire.sent == {"model": "gpt-4o", "input": [{"role": "user", "content": "Hi"}]}


class Words:
    """A tokeniser that counts words."""

    def encode(self, text: str, *, disallowed_special: Any) -> list[str]:
        assert disallowed_special == ()
        return text.split()


@pytest.fixture
def tiktoken(monkeypatch: pytest.MonkeyPatch) -> None:
    import tiktoken as real

    token_count_module._encoding_for.cache_clear()

    def find(model: str) -> Words:
        if model == "offline":
            raise OSError("no network")
        return Words()

    monkeypatch.setattr(real, "encoding_for_model", find)


@pytest.mark.usefixtures("tiktoken")
async def test_other_servers_count_with_tiktoken(ask: Any) -> None:
    provider = OpenAIProvider(base_url="http://x.test/v1", api="chat_completions")
    request = ask(
        "one two three",
        Message.assistant(ToolCall(id="c", name="t", arguments_text=" 1 2")),
        Message.tool(ToolResult(tool_call_id="c", content="a b")),
        model="m",
        tools=(Tool(name="t", description=" does this"),),
        response_schema=ResponseSchema(name="s", json_schema={"type": "object"}),
    )
    counted = await provider.count_tokens(request)
    assert counted.counted_by == "tiktoken"
    # 3 before the reply, 3 x 4 per message, 3 + 3 + 2 words, the tool's 3, the schema's 2
    assert counted.input_tokens == 3 + 12 + 8 + 3 + 2
    estimated = await provider.count_tokens(ask("x" * 40, model="offline"))
    assert (estimated.counted_by, estimated.input_tokens) == ("estimate", 14)


async def test_without_tiktoken_tokens_are_estimated(
    ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    token_count_module._encoding_for.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "tiktoken", None)
    provider = OpenAIProvider(base_url="http://x.test/v1", api="chat_completions")
    assert (await provider.count_tokens(ask(model="m2"))).counted_by == "estimate"


async def test_models_are_listed(openai: OpenAIProvider, wire: Any) -> None:
    wire.json(
        {
            "data": [
                {"id": "gpt-4o", "created": 1_715_367_049},
                {"id": "local", "created": 10**18, "max_model_len": 4096},
            ]
        }
    )
    first, second = await openai.list_models()
    assert first.created is not None
    assert (first.id, first.created.year) == ("gpt-4o", 2024)
    assert (second.created, second.context_tokens) == (None, 4096)


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
    body = answer("A", status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    output = lines(
        {"custom_id": "request-000002", "response": {"status_code": 200, "body": answer("C")}},
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
    assert results[2].content == "C"
    assert results[2].usage.total_tokens == 7
    assert results[2].request is requests[2]
    kinds = [r.error.type for r in results if r.error is not None]
    assert kinds == [
        ErrorType.TRUNCATED,
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


async def test_an_error_body_with_status_200_is_no_sound(openai: OpenAIProvider, wire: Any) -> None:
    wire.json({"error": {"message": "no"}}, content_type="application/json")
    with pytest.raises(ProviderError, match="no sound"):
        await openai.speak("Hello", voice="alloy")
