"""Whatever a server sends, a provider answers, raises ProviderError, or ends its stream with one terminal event."""

from __future__ import annotations

import asyncio
import copy
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_core import (
    ErrorType,
    LLMCallRequest,
    Message,
    ProviderError,
    ProviderResponse,
    ResponseSchema,
    StreamDone,
    StreamFailed,
    StreamStarted,
)
from llm_providers import AnthropicProvider, BaseLLMProvider, OllamaProvider, OpenAIProvider
from llm_providers.testing import CannedTransport

SCHEMA = ResponseSchema(name="city", json_schema={"type": "object", "properties": {"a": {}}})


def cut(content: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(content) + 1) for place in places), len(content)]
    return [content[start:end] for start, end in pairwise(edges)]


def providers(transport: CannedTransport) -> list[tuple[BaseLLMProvider, str]]:
    return [
        (OpenAIProvider("k", transport=transport), "gpt-4-turbo"),
        (OpenAIProvider("k", api="chat_completions", transport=transport), "gpt-4-turbo"),
        (AnthropicProvider("k", transport=transport), "claude-opus-4-1"),
        (OllamaProvider(transport=transport), "llama3"),
    ]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["text", "error", "completed", "tool_use", "city", "message", "{}"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "id", "error", "message", "content", "usage", "index", "x"])
            | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)

REPLIES: list[Any] = [
    {
        "id": "r",
        "model": "m",
        "status": "completed",
        "output": [
            {"type": "message", "content": [{"type": "output_text", "text": "Hi"}]},
            {"type": "reasoning", "id": "rs", "summary": [{"text": "Hm"}]},
            {"type": "function_call", "call_id": "c", "name": "city", "arguments": "{}"},
            {"type": "image_generation_call", "result": "AAAA"},
        ],
        "usage": {"input_tokens": 1, "input_tokens_details": {"cached_tokens": 1}},
        "incomplete_details": {"reason": "max_output_tokens"},
    },
    {
        "id": "r",
        "model": "m",
        "choices": [
            {
                "message": {
                    "content": "Hi",
                    "tool_calls": [{"id": "c", "function": {"name": "city", "arguments": "{}"}}],
                    "audio": {"id": "a", "data": "AAAA", "transcript": "Hi"},
                },
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens_details": {"audio_tokens": 1}},
    },
    {
        "id": "r",
        "model": "m",
        "content": [
            {"type": "text", "text": "Hi"},
            {"type": "thinking", "thinking": "Hm", "signature": "s"},
            {"type": "tool_use", "id": "c", "name": "city", "input": {"a": 1}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 1, "cache_read_input_tokens": 2},
    },
    {
        "model": "m",
        "message": {
            "content": "Hi",
            "thinking": "Hm",
            "tool_calls": [{"function": {"name": "city", "arguments": {"a": 1}}}],
        },
        "done": True,
        "done_reason": "stop",
        "eval_count": 3,
        "eval_duration": 5,
    },
    {"error": {"code": "c", "type": "t", "message": "Limit 3, Requested 9", "details": {}}},
]

STREAMS: list[list[Any]] = [
    [
        {"type": "response.created", "response": {"id": "r", "model": "m"}},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {"type": "function_call", "call_id": "c", "name": "city"},
        },
        {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": "{}"},
        {
            "type": "response.output_item.done",
            "output_index": 0,
            "item": {"type": "function_call", "call_id": "c", "name": "city"},
        },
        {"type": "response.output_text.delta", "delta": "Hi"},
        {"type": "response.completed", "response": {"status": "completed", "usage": {"x": 1}}},
    ],
    [
        {"id": "r", "model": "m", "choices": [{"delta": {"content": "Hi"}}]},
        {
            "choices": [
                {
                    "delta": {
                        "tool_calls": [
                            {"index": 0, "id": "c", "function": {"name": "t", "arguments": "{"}}
                        ],
                        "audio": {"data": "AAAA"},
                    }
                }
            ]
        },
        {"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3}},
    ],
    [
        {"type": "message_start", "message": {"id": "r", "usage": {"input_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
        {
            "type": "content_block_start",
            "index": 1,
            "content_block": {"type": "tool_use", "id": "c", "name": "city", "input": {}},
        },
        {
            "type": "content_block_delta",
            "index": 1,
            "delta": {"type": "input_json_delta", "partial_json": "{"},
        },
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "x"}, "usage": {"output_tokens": 3}},
        {"type": "message_stop"},
    ],
    [
        {"model": "m", "message": {"content": "Hi", "thinking": "Hm"}, "done": False},
        {"message": {"tool_calls": [{"function": {"name": "t", "arguments": {}}}]}},
        {"done": True, "done_reason": "stop", "eval_count": 2, "load_duration": 9},
    ],
]


@st.composite
def damaged(draw: Any, examples: Any) -> Any:
    """Replace or remove up to three places in a sound example."""
    value = copy.deepcopy(draw(st.sampled_from(examples)))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(value))
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        if draw(st.booleans()) and isinstance(holder, dict):
            del holder[key]
        else:
            holder[key] = draw(JSON)
    return value


def _places(value: Any) -> Any:
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(entries):
        yield value, key
        if isinstance(inner, (dict, list)):
            yield from _places(inner)


def written(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


BODIES = st.binary(max_size=200) | JSON.map(written) | damaged(REPLIES).map(written)
STATUSES = st.sampled_from([200, 200, 200, 201, 302, 400, 404, 429, 500, 529, 999])
HEADERS = st.dictionaries(
    st.sampled_from(["retry-after", "x-request-id", "x-should-retry", "content-type"]),
    st.text(max_size=10),
)


def request_for(model: str, structured: bool) -> LLMCallRequest:
    return LLMCallRequest(
        model=model,
        messages=(Message.user("Hi"),),
        response_schema=SCHEMA if structured else None,
    )


async def answer_or_failure(provider: BaseLLMProvider, request: LLMCallRequest) -> Any:
    try:
        return await provider.invoke(request)
    except ProviderError as error:
        return error.info


@settings(max_examples=100, deadline=None)
@given(BODIES, STATUSES, HEADERS, st.booleans())
def test_no_body_makes_a_plain_call_raise_anything_else(
    content: bytes, status: int, headers: dict[str, str], structured: bool
) -> None:
    transport = CannedTransport(content, status=status, headers=headers)
    for provider, model in providers(transport):
        outcome = asyncio.run(answer_or_failure(provider, request_for(model, structured)))
        if isinstance(outcome, ProviderResponse):
            assert status < 300
            json.dumps(outcome.to_dict())
        else:
            assert outcome.type is not ErrorType.INTERNAL, outcome
            json.dumps(outcome.to_dict())


def framed(events: Any) -> bytes:
    return b"".join(
        b"data: %s\n\n%s\n" % (written(event), written(event) if index % 2 else b"")
        for index, event in enumerate(events)
    )


def sse(events: Any) -> bytes:
    return b"".join(b"data: %s\n\n" % written(event) for event in events) + b"data: [DONE]\n\n"


def ndjson(events: Any) -> bytes:
    return b"".join(b"%s\n" % written(event) for event in events)


STREAM_BODIES = st.one_of(
    st.binary(max_size=200),
    st.lists(JSON, max_size=4).map(sse),
    damaged(STREAMS).map(sse),
    damaged(STREAMS).map(ndjson),
    damaged(STREAMS).map(framed),
    BODIES,
)


async def last_of(provider: BaseLLMProvider, request: LLMCallRequest) -> list[Any]:
    return [event async for event in provider.stream(request)]


@settings(max_examples=100, deadline=None)
@given(STREAM_BODIES, STATUSES, st.lists(st.integers(0, 999), max_size=4), st.booleans())
def test_no_body_makes_a_stream_end_in_any_other_way(
    content: bytes, status: int, cuts: list[int], structured: bool
) -> None:
    transport = CannedTransport(content, status=status, chunks=cut(content, cuts))
    for provider, model in providers(transport):
        events = asyncio.run(last_of(provider, request_for(model, structured)))
        terminal = [event for event in events if isinstance(event, (StreamDone, StreamFailed))]
        assert terminal == events[-1:]
        if isinstance(events[-1], StreamFailed):
            assert events[-1].error.type is not ErrorType.INTERNAL, events[-1]
        started = [event for event in events if isinstance(event, StreamStarted)]
        if not isinstance(events[0], StreamFailed):
            assert started == events[:1]
        for event in events:
            json.dumps(event.to_dict())


@settings(max_examples=50, deadline=None)
@given(BODIES)
def test_no_body_breaks_what_is_not_a_chat_call(content: bytes) -> None:
    async def run() -> None:
        transport = CannedTransport(content)
        openai, anthropic, ollama = (
            OpenAIProvider("k", transport=transport),
            AnthropicProvider("k", transport=transport),
            OllamaProvider(transport=transport),
        )
        request = request_for("gpt-4o", False)
        from llm_core import GenerationRequest

        asked = [GenerationRequest(user="x", model="gpt-4o")]
        for work in (
            lambda: openai.embed(["x"]),
            lambda: ollama.embed(["x"], model="m"),
            lambda: openai.list_models(),
            lambda: anthropic.list_models(),
            lambda: ollama.list_models(),
            lambda: openai.count_tokens(request),
            lambda: anthropic.count_tokens(request),
            lambda: openai.batches.poll("b"),
            lambda: openai.batches.results("b", asked),
            lambda: anthropic.batches.results("b", asked),
        ):
            failure = None
            try:
                await work()
            except ProviderError as error:
                failure = error.info
            assert failure is None or failure.type is not ErrorType.INTERNAL, failure

    asyncio.run(run())


def test_a_list_of_models_that_never_ends_is_left() -> None:
    page = b'{"data":[{"id":"a"}],"has_more":true,"last_id":"a"}'
    models = asyncio.run(AnthropicProvider("k", transport=CannedTransport(page)).list_models())
    assert [model.id for model in models] == ["a"]


@pytest.mark.parametrize("depth", [100, 100_000])
def test_deep_nesting_is_no_way_in(depth: int) -> None:
    content = b'{"error":' + b"[" * depth + b"]" * depth + b"}"
    for provider, model in providers(CannedTransport(content)):
        outcome = asyncio.run(answer_or_failure(provider, request_for(model, False)))
        assert outcome.type is ErrorType.SERVER_ERROR
        events = asyncio.run(last_of(provider, request_for(model, False)))
        assert isinstance(events[-1], StreamFailed)


def test_huge_numbers_are_not_counted() -> None:
    content = b'{"message":{"content":"x"},"done":true,"eval_count":1e308,"prompt_eval_count":-5}'
    provider = OllamaProvider(transport=CannedTransport(content))
    reply = asyncio.run(provider.invoke(request_for("llama3", False)))
    assert reply.usage.total_tokens == 0
    digits = b'{"message":{"content":"x"},"eval_count":' + b"9" * 5000 + b"}"
    provider = OllamaProvider(transport=CannedTransport(digits))
    outcome = asyncio.run(answer_or_failure(provider, request_for("llama3", False)))
    assert outcome.type is ErrorType.SERVER_ERROR


def test_a_bug_in_reading_is_an_internal_failure_and_no_exception(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("bug")

    monkeypatch.setattr("llm_providers.ollama.provider.read_ollama", broken)
    monkeypatch.setattr("llm_providers.ollama.provider.OllamaStreamReader.read", broken)
    provider = OllamaProvider(transport=CannedTransport(b'{"a":1}\n'))
    outcome = asyncio.run(answer_or_failure(provider, request_for("llama3", False)))
    assert (outcome.type, "ZeroDivisionError" in outcome.message) == (ErrorType.INTERNAL, True)
    events = asyncio.run(last_of(provider, request_for("llama3", False)))
    assert events[-1].error.type is ErrorType.INTERNAL
