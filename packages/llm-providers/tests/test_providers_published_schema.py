"""Any request converts to a body that the vendor's published types accept, and to nothing they do not know.

The types are the parameter types of the vendors' packages, which are generated from the vendors' OpenAPI specifications;
pydantic checks bodies against them.
What a type does not know it drops, so a body that comes back unchanged holds no invented field.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from llm_core import (
    AudioOutput,
    AudioPart,
    FilePart,
    ImagePart,
    LLMCallRequest,
    Message,
    Modality,
    ReasoningEffort,
    ReasoningPart,
    ResponseSchema,
    Sampling,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolChoiceMode,
    ToolResult,
    UnsupportedFeature,
    Verbosity,
)
from llm_providers import (
    AnthropicProvider,
    BaseLLMProvider,
    OllamaProvider,
    OpenAIProvider,
    PreparedCall,
)

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=20)
NAMES = st.text("abc_-", min_size=1, max_size=5)
PNG, PDF = b"\x89PNG\r\n\x1a\n0", b"%PDF-1.7"

SCHEMAS: Any = st.sampled_from(
    [
        {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "null"}}},
        {"type": "object", "additionalProperties": True},
        {
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/x"}},
            "$defs": {"x": {"type": "object", "properties": {"y": {"enum": [1, 2]}}}},
        },
    ]
)

text = st.builds(TextPart, text=TEXTS)
image = st.one_of(
    st.builds(ImagePart, data=st.just(PNG), detail=st.sampled_from([None, "low", "high"])),
    st.builds(ImagePart, url=st.just("https://x.test/a.png")),
    st.builds(ImagePart, data=st.just(b"BM0")),
)
audio = st.builds(
    AudioPart,
    data=st.just(b"RIFF"),
    format=st.sampled_from(["wav", "mp3", "flac"]),
    transcript=st.none() | TEXTS,
    reference_id=st.none() | st.just("audio_1"),
)
document = st.one_of(
    st.builds(FilePart, data=st.just(PDF), filename=st.none() | st.just("a.pdf")),
    st.builds(FilePart, data=st.just(b"words"), filename=st.just("a.txt")),
    st.builds(FilePart, url=st.just("https://x.test/a.pdf")),
    st.builds(FilePart, file_id=st.just("file_1")),
)
thought = st.builds(
    ReasoningPart,
    text=st.just("") | TEXTS,
    signature=st.none() | st.just("sig"),
    reference_id=st.sampled_from([None, "rs_1", "redacted_thinking"]),
)
tool_call = st.builds(ToolCall, id=NAMES, name=NAMES, arguments=st.just({"a": 1}) | st.just({}))
tool_result = st.builds(ToolResult, tool_call_id=NAMES, content=TEXTS, is_error=st.booleans())


def several(part: Any) -> Any:
    return st.lists(part, min_size=1, max_size=3)


messages = st.one_of(
    st.builds(
        lambda parts, cache: Message.system(*parts, cache=cache), several(text), st.booleans()
    ),
    st.builds(
        lambda parts, name, cache: Message.user(*parts, name=name, cache=cache),
        several(st.one_of(text, image, audio, document)),
        st.none() | NAMES,
        st.booleans(),
    ),
    several(st.one_of(text, thought, tool_call, audio)).map(
        lambda parts: Message.assistant(*parts)
    ),
    several(tool_result).map(lambda parts: Message.tool(*parts)),
)

tools = st.lists(
    st.builds(
        Tool,
        name=NAMES,
        description=st.just("") | TEXTS,
        parameters=SCHEMAS | st.just({}),
        strict=st.booleans(),
    ),
    max_size=3,
    unique_by=lambda tool: tool.name,
)
sampling = st.builds(
    Sampling,
    temperature=st.none() | st.floats(0, 2),
    top_p=st.none() | st.floats(0.1, 1),
    top_k=st.none() | st.integers(1, 9),
    frequency_penalty=st.none() | st.floats(-2, 2),
    presence_penalty=st.none() | st.floats(-2, 2),
)
MODELS = {
    "openai": ["gpt-4o", "gpt-5", "gpt-5.1", "gpt-4-turbo", "o3", "gpt-3.5-turbo", "gpt-6-sol"],
    "anthropic": ["claude-sonnet-4-5", "claude-opus-4-8", "claude-opus-4-1", "claude-3-haiku"],
    "ollama": ["llama3", "gpt-oss:20b"],
}


@st.composite
def requests(draw: Any, vendor: str) -> LLMCallRequest:
    spoken = draw(st.booleans())
    offered = draw(tools)
    choice = draw(st.sampled_from([None, *ToolChoiceMode]))
    named = choice is ToolChoiceMode.NAMED
    if named and not offered:
        choice, named = None, False
    return LLMCallRequest(
        model=draw(st.sampled_from(MODELS[vendor])),
        messages=(Message.user("Hi"), *draw(st.lists(messages, max_size=4))),
        tools=tuple(offered),
        tool_choice=None
        if choice is None
        else ToolChoice(
            mode=choice, name=offered[0].name if named else None, parallel=draw(st.booleans())
        ),
        response_schema=draw(
            st.none()
            | st.builds(
                ResponseSchema,
                name=NAMES,
                json_schema=SCHEMAS,
                description=st.none() | TEXTS,
                strict=st.booleans(),
            )
        ),
        output_modalities=(Modality.TEXT, Modality.AUDIO)
        if spoken
        else draw(st.sampled_from([(Modality.TEXT,), (Modality.TEXT, Modality.IMAGE)])),
        audio_output=AudioOutput(voice="alloy", format=draw(st.sampled_from(["wav", "mp3"])))
        if spoken
        else None,
        reasoning_effort=draw(st.sampled_from([None, *ReasoningEffort])),
        verbosity=draw(st.sampled_from([None, *Verbosity])),
        sampling=draw(st.none() | sampling),
        max_output_tokens=draw(st.none() | st.integers(1, 9999)),
        stop=tuple(draw(st.lists(TEXTS, max_size=2))),
        seed=draw(st.none() | st.integers(0, 2**31)),
        previous_response_id=draw(st.none() | st.just("resp_1")),
        on_unsupported=draw(st.sampled_from(["drop", "drop", "error"])),
    )


@cache
def adapter(path: str, stream: bool) -> TypeAdapter[Any]:
    from anthropic.types import message_create_params
    from openai.types.chat import completion_create_params
    from openai.types.responses import response_create_params

    kinds = {
        "/responses": (
            response_create_params.ResponseCreateParamsNonStreaming,
            response_create_params.ResponseCreateParamsStreaming,
        ),
        "/chat/completions": (
            completion_create_params.CompletionCreateParamsNonStreaming,
            completion_create_params.CompletionCreateParamsStreaming,
        ),
        "/v1/messages": (
            message_create_params.MessageCreateParamsNonStreaming,
            message_create_params.MessageCreateParamsStreaming,
        ),
    }
    return TypeAdapter(kinds[path][stream])


def listed(value: Any) -> Any:
    """Read the iterators that pydantic makes of `Iterable` fields, which validates their items."""
    if isinstance(value, dict):
        return {key: listed(item) for key, item in value.items()}
    if value is None or isinstance(value, (str, bytes, int, float)):
        return value
    return [listed(item) for item in value]


def prepared(
    provider: BaseLLMProvider, request: LLMCallRequest, stream: bool
) -> PreparedCall | None:
    """Return the call, or None if it is refused, which it may be only for a reason."""
    refused = None
    try:
        return provider.dialect_for(request).prepare(request, stream=stream)
    except UnsupportedFeature as error:
        refused = error
    assert request.on_unsupported == "error" or "dropped" in refused.details
    return None


def accepted(path: str, body: dict[str, Any], stream: bool) -> Any:
    return listed(adapter(path, stream).validate_python(body))


OLD_SAMPLING = {"temperature", "top_p", "top_k"}
"""Anthropic's newest models take none of these, so the newest types do not know them; older models still do."""

PATIENT = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("api", ["responses", "chat_completions"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_openai_accepts_any_request(api: Any, stream: bool) -> None:
    provider = OpenAIProvider("key", api=api)

    @PATIENT
    @given(requests("openai"))
    def check(request: LLMCallRequest) -> None:
        call = prepared(provider, request, stream)
        if call is None:
            return
        assert accepted(call.path, dict(call.body), stream) == call.body

    check()


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_anthropic_accepts_any_request(stream: bool) -> None:
    provider = AnthropicProvider("key")

    @PATIENT
    @given(requests("anthropic"))
    def check(request: LLMCallRequest) -> None:
        call = prepared(provider, request, stream)
        if call is None:
            return
        body = {key: value for key, value in call.body.items() if key not in OLD_SAMPLING}
        assert accepted(call.path, body, stream) == body
        roles = [turn["role"] for turn in body["messages"]]
        assert all(one != other for one, other in pairwise(roles))
        if "thinking" in body and body["thinking"]["type"] == "enabled":
            assert 1024 <= body["thinking"]["budget_tokens"] < body["max_tokens"]

    check()


def test_ollama_accepts_any_request() -> None:
    from ollama._types import ChatRequest

    provider = OllamaProvider()

    @PATIENT
    @given(requests("ollama"))
    def check(request: LLMCallRequest) -> None:
        call = prepared(provider, request, stream=False)
        if call is None:
            return
        body = {key: value for key, value in call.body.items() if key != "tools"}
        known = ChatRequest.model_validate(body).model_dump(exclude_none=True)
        assert known == body

    check()
