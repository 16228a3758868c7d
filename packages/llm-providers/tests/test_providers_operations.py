"""What is asked for besides chat: vectors, speech, counts of tokens, lists of models."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest

from llm_core import (
    AudioPart,
    ErrorType,
    InvalidValue,
    Message,
    ProviderError,
    ResponseSchema,
    Tool,
    ToolCall,
    ToolResult,
)
from llm_providers import OpenAIProvider
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


async def test_an_error_body_with_status_200_is_no_sound(openai: OpenAIProvider, wire: Any) -> None:
    wire.json({"error": {"message": "no"}}, content_type="application/json")
    with pytest.raises(ProviderError, match="no sound"):
        await openai.speak("Hello", voice="alloy")
