"""Bad input gets one clear error: which field, what it was given, what was expected."""

# mypy: disable-error-code="arg-type"
# Wrong types are what these tests are about.

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

import pytest

from llm_core import (
    UNSET,
    AudioOutput,
    AudioPart,
    CachePolicy,
    CheckedRecord,
    Cost,
    CostStatus,
    ErrorInfo,
    ErrorType,
    EventTimestamps,
    FilePart,
    GenerationRequest,
    GenerationResult,
    ImagePart,
    InvalidValue,
    LLMCallRequest,
    Message,
    Modality,
    Record,
    ResponseSchema,
    Sampling,
    StreamResult,
    TextDelta,
    TextPart,
    Tool,
    ToolChoice,
    ToolChoiceMode,
    Unset,
    Usage,
    immutable,
)

HELLO = (Message.user("hello"),)
ITSELF: dict[str, Any] = {}
ITSELF["self"] = ITSELF


def ask(**fields: Any) -> GenerationRequest:
    return GenerationRequest(**{"user": "hello", **fields})


def call(**fields: Any) -> LLMCallRequest:
    return LLMCallRequest(**{"model": "m", "messages": HELLO, **fields})


MADE_WRONG: list[tuple[Callable[[], object], str]] = [
    # text or messages
    (
        lambda: GenerationRequest(),
        "GenerationRequest.user: got None, expected text, or messages instead",
    ),
    (
        lambda: GenerationRequest(user=""),
        "GenerationRequest.user: got '', expected text, or messages instead",
    ),
    (
        lambda: GenerationRequest(system="be brief"),
        "GenerationRequest.user: got None, expected text, or messages instead",
    ),
    (
        lambda: ask(messages=HELLO, system="be brief"),
        "GenerationRequest.messages: given together with user, system; "
        "expected either messages or the single fields",
    ),
    (
        lambda: ask(user=5),
        "GenerationRequest.user: got 5, expected a value of type str",
    ),
    (
        lambda: GenerationRequest(messages=[Message.system("be brief")]),
        "GenerationRequest.messages: got (Message(role=<Role.SYSTEM: 'system'>, "
        "content=(TextPart(text='be brief'),), ..., expected something besides system messages",
    ),
    (
        lambda: GenerationRequest(messages="hello"),
        "GenerationRequest.messages: got 'hello', expected a list or tuple",
    ),
    (
        lambda: GenerationRequest(messages=["hello"]),
        "GenerationRequest.messages[0]: got 'hello', expected a Message",
    ),
    (
        lambda: GenerationRequest(messages=None),
        "GenerationRequest.messages: got None, expected a value",
    ),
    (
        lambda: ask(priority=UNSET),
        "GenerationRequest.priority: got <Unset.UNSET: 'unset'>, expected a value",
    ),
    (
        lambda: ask(model=UNSET),
        "GenerationRequest.model: got <Unset.UNSET: 'unset'>, expected a value",
    ),
    # the model and its parameters
    (lambda: ask(model="  "), "GenerationRequest.model: got '  ', expected a model's name"),
    (lambda: call(model=""), "LLMCallRequest.model: got '', expected a model's name"),
    (lambda: call(messages=()), "LLMCallRequest.messages: got (), expected at least one message"),
    (
        lambda: ask(max_output_tokens=0),
        "GenerationRequest.max_output_tokens: got 0, expected 1 or more",
    ),
    (
        lambda: ask(max_output_tokens=12.5),
        "GenerationRequest.max_output_tokens: got 12.5, expected a value of type int",
    ),
    (
        lambda: ask(max_attempts=0),
        "GenerationRequest.max_attempts: got 0, expected 1 or more",
    ),
    (
        lambda: ask(seed=True),
        "GenerationRequest.seed: got True, expected a value of type int",
    ),
    (
        lambda: ask(stop="END"),
        "GenerationRequest.stop: got 'END', expected a list or tuple",
    ),
    (
        lambda: ask(stop=["END", ""]),
        "GenerationRequest.stop: got ('END', ''), expected texts, none of them empty",
    ),
    (
        lambda: ask(reasoning_effort="extreme"),
        "GenerationRequest.reasoning_effort: got 'extreme', expected one of "
        "'none', 'minimal', 'low', 'medium', 'high', 'xhigh'",
    ),
    (
        lambda: ask(verbosity=["low"]),
        "GenerationRequest.verbosity: got ['low'], expected one of 'low', 'medium', 'high'",
    ),
    (
        lambda: ask(on_unsupported="ignore"),
        "GenerationRequest.on_unsupported: got 'ignore', expected one of 'error', 'drop'",
    ),
    (
        lambda: ask(on_unsupported=["drop"]),
        "GenerationRequest.on_unsupported: got ['drop'], expected one of 'error', 'drop'",
    ),
    (
        lambda: ask(output_modalities=[Modality.AUDIO]),
        "GenerationRequest.audio_output: got None, "
        "expected an AudioOutput, as output_modalities asks for audio",
    ),
    (
        lambda: ask(sampling={"temperature": 1}),
        "GenerationRequest.sampling: got {'temperature': 1}, expected a Sampling",
    ),
    (
        lambda: ask(tools=[Tool(name="find")], tool_choice=ToolChoice(mode="named", name="look")),
        "GenerationRequest.tool_choice: got ToolChoice(mode=<ToolChoiceMode.NAMED: 'named'>, "
        "name='look', parallel=True), expected the name of one of the tools ['find']",
    ),
    (
        lambda: ask(provider_options=["x"]),
        "GenerationRequest.provider_options: got ['x'], expected a mapping",
    ),
    (
        lambda: ask(metadata=ITSELF),
        "GenerationRequest.metadata: got {'self': {...}}, "
        "expected a mapping that does not contain itself",
    ),
    (
        lambda: call(headers={"traceparent": 7}),
        "LLMCallRequest.headers['traceparent']: got 7, expected a value of type str",
    ),
    # times
    (
        lambda: ask(deadline_seconds=0),
        "GenerationRequest.deadline_seconds: got 0, expected a number of seconds above 0",
    ),
    (
        lambda: ask(deadline_seconds=math.inf),
        "GenerationRequest.deadline_seconds: got inf, expected a finite number",
    ),
    (
        lambda: ask(deadline_seconds=math.nan),
        "GenerationRequest.deadline_seconds: got nan, expected a finite number",
    ),
    (
        lambda: ask(deadline_seconds=1e300),
        "GenerationRequest.deadline_seconds: got 1e+300, expected a billion seconds at most",
    ),
    (
        lambda: ask(deadline_seconds="30"),
        "GenerationRequest.deadline_seconds: got '30', expected a value of type float",
    ),
    (
        lambda: call(timeout_seconds=-1.0),
        "LLMCallRequest.timeout_seconds: got -1.0, expected a number of seconds above 0",
    ),
    (
        lambda: CachePolicy(ttl_seconds=0.0),
        "CachePolicy.ttl_seconds: got 0.0, expected a number of seconds above 0",
    ),
    (
        lambda: CachePolicy(stale_seconds=-1),
        "CachePolicy.stale_seconds: got -1, expected zero or more seconds",
    ),
    # sampling
    (
        lambda: Sampling(temperature=2.1),
        "Sampling.temperature: got 2.1, expected 0.0 to 2.0",
    ),
    (lambda: Sampling(top_p=-0.1), "Sampling.top_p: got -0.1, expected 0.0 to 1.0"),
    (lambda: Sampling(top_k=0), "Sampling.top_k: got 0, expected 1 or more"),
    (
        lambda: Sampling(frequency_penalty=3),
        "Sampling.frequency_penalty: got 3, expected -2.0 to 2.0",
    ),
    (
        lambda: Sampling(presence_penalty=-3),
        "Sampling.presence_penalty: got -3, expected -2.0 to 2.0",
    ),
    # parts and messages
    (lambda: TextPart(text=None), "TextPart.text: got None, expected a value"),
    (
        lambda: Message(role="robot", content=(TextPart(text="x"),)),
        "Message.role: got 'robot', expected one of 'system', 'user', 'assistant', 'tool'",
    ),
    (lambda: Message.user(), "Message.content: got (), expected at least one part"),
    (
        lambda: Message.user(b"x"),
        "Message.content[0]: got b'x', expected a TextPart or ImagePart or AudioPart or FilePart "
        "or ReasoningPart or ToolCall or ToolResult",
    ),
    (lambda: ImagePart(), "ImagePart: got none, expected exactly one of data, url"),
    (
        lambda: ImagePart(data=b"x", url="https://example.org/x.png"),
        "ImagePart: got ['data', 'url'], expected exactly one of data, url",
    ),
    (
        lambda: FilePart(url="https://example.org/x", file_id="f"),
        "FilePart: got ['url', 'file_id'], expected exactly one of data, url, file_id",
    ),
    (lambda: AudioPart(data=b""), "AudioPart.data: got b'', expected encoded audio, not empty"),
    (
        lambda: AudioPart(data="UklGRg=="),
        "AudioPart.data: got 'UklGRg==', expected a value of type bytes",
    ),
    (lambda: AudioOutput(voice=None), "AudioOutput.voice: got None, expected a value"),
    # tools and schemas
    (
        lambda: Tool(name="find city"),
        "Tool.name: got 'find city', expected 1 to 64 letters, digits, underscores or hyphens",
    ),
    (
        lambda: ToolChoice(mode=ToolChoiceMode.NAMED),
        "ToolChoice.name: got None, expected a tool's name, as mode is 'named'",
    ),
    (
        lambda: ToolChoice(name="find"),
        "ToolChoice.name: got 'find', expected None, as mode is 'auto'",
    ),
    (
        lambda: ResponseSchema(name="", json_schema={"type": "object"}),
        "ResponseSchema.name: got '', expected 1 to 64 letters, digits, underscores or hyphens",
    ),
    (
        lambda: ResponseSchema(name="city", json_schema={}),
        "ResponseSchema.json_schema: got {}, expected a JSON Schema, not empty",
    ),
    # tokens, money, errors
    (lambda: Usage(input_tokens=-1), "Usage.input_tokens: got -1, expected zero or more tokens"),
    (
        lambda: Cost(amount=0.1),
        "Cost.amount: got 0.1, expected a finite Decimal",
    ),
    (
        lambda: Cost(amount=Decimal("NaN")),
        "Cost.amount: got Decimal('NaN'), expected a finite Decimal",
    ),
    (
        lambda: Cost(status=CostStatus.PRICED),
        "Cost.amount: got None, expected a Decimal, as status is 'priced'",
    ),
    (
        lambda: ErrorInfo(type="broken", message="x"),
        "ErrorInfo.type: got 'broken', expected one of 'rate_limited', 'quota_exhausted', ",
    ),
    (
        lambda: ErrorInfo(type=ErrorType.INTERNAL, message="x", retryable=None),
        "ErrorInfo.retryable: got None, expected a value",
    ),
]


@pytest.mark.parametrize(("make", "message"), MADE_WRONG, ids=[text for _, text in MADE_WRONG])
def test_a_wrong_value_is_refused_by_name(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        make()
    assert str(caught.value).startswith(message)
    assert caught.value.error_type is ErrorType.INVALID_REQUEST
    assert isinstance(caught.value, ValueError)
    assert message.startswith(caught.value.details["field"])


READ_WRONG: list[tuple[type[Record], Any, str]] = [
    (TextPart, "text", "TextPart: got 'text', expected a mapping"),
    (TextPart, {"text": "x", "size": 1}, "TextPart: got 'size', expected only the fields text"),
    (TextPart, {"text": "x", 7: 1}, "TextPart: got 7, expected only the fields text"),
    (
        TextPart,
        {},
        "TextPart.text: got nothing, expected a value, as it has no default",
    ),
    (TextPart, {"text": 1}, "TextPart.text: got 1, expected a value of type str"),
    (TextPart, {"kind": "image", "text": "x"}, "TextPart.kind: got 'image', expected 'text'"),
    (TextDelta, {"kind": None, "text": "x"}, "TextDelta.kind: got None, expected 'text'"),
    (Usage, {"kind": "usage"}, "Usage: got 'kind', expected only the fields input_tokens, "),
    (
        Message,
        {"role": "user", "content": [{"kind": "smell"}]},
        "Message.content[0]: got {'kind': 'smell'}, expected an object whose 'kind' is one of "
        "'text', 'image', 'audio', 'file', 'reasoning', 'tool_call', 'tool_result'",
    ),
    (
        Message,
        {"role": "user", "content": ["hello"]},
        "Message.content[0]: got 'hello', expected an object whose 'kind' is one of 'text', ",
    ),
    (
        Message,
        {"role": "user", "content": [{"kind": "text", "text": 5}]},
        "Message.content[0].text: got 5, expected a value of type str",
    ),
    (
        Message,
        {"role": "user", "content": {"kind": "text"}},
        "Message.content: got {'kind': 'text'}, expected a list or tuple",
    ),
    (AudioPart, {"data": "no base64!"}, "AudioPart.data: got 'no base64!', expected base64 text"),
    (AudioPart, {"data": 5}, "AudioPart.data: got 5, expected base64 text"),
    (
        Cost,
        {"amount": "a lot"},
        "Cost.amount: got 'a lot', expected a decimal number written as a string",
    ),
    (
        Cost,
        {"amount": 0.1},
        "Cost.amount: got 0.1, expected a decimal number written as a string",
    ),
    (
        Cost,
        {"amount": "Infinity"},
        "Cost.amount: got 'Infinity', expected a decimal number written as a string",
    ),
    (
        EventTimestamps,
        {"requested_at": "2026-01-01T00:00:00", "requested": 1},
        "EventTimestamps.requested_at: got '2026-01-01T00:00:00', "
        "expected an ISO 8601 time with its UTC offset",
    ),
    (
        EventTimestamps,
        {"requested_at": 5, "requested": 1},
        "EventTimestamps.requested_at: got 5, expected an ISO 8601 time with its UTC offset",
    ),
    (
        StreamResult,
        {"result": {"success": True, "timestamps": {"requested_at": "soon", "requested": 1}}},
        "StreamResult.result.timestamps.requested_at: got 'soon', "
        "expected an ISO 8601 time with its UTC offset",
    ),
    (
        GenerationResult,
        {"success": True, "timestamps": None},
        "GenerationResult.timestamps: got None, expected a mapping",
    ),
    (
        GenerationRequest,
        {"user": "x", "metadata": 5},
        "GenerationRequest.metadata: got 5, expected a mapping",
    ),
    (GenerationRequest, {"user": "x", "stop": "END"}, "GenerationRequest.stop: got 'END', "),
]


@pytest.mark.parametrize(
    ("cls", "data", "message"), READ_WRONG, ids=[text for _, _, text in READ_WRONG]
)
def test_wrong_json_is_refused_by_name(cls: type[Record], data: Any, message: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        cls.from_dict(data)
    assert str(caught.value).startswith(message)
    assert "field" in caught.value.details


def test_a_long_value_is_shortened() -> None:
    with pytest.raises(InvalidValue) as caught:
        GenerationRequest(user="x", metadata="y" * 10_000_000)
    assert str(caught.value) == (
        f"GenerationRequest.metadata: got '{'y' * 76}..., expected a mapping"
    )


def test_values_of_neighbouring_types_are_taken() -> None:
    request = ask(
        stop=["END"],
        reasoning_effort="low",
        deadline_seconds=30,
        metadata={"nested": {"list": [1, {"x": [2]}], 3: "number"}},
    )
    assert request.stop == ("END",)
    assert request.reasoning_effort is not None
    assert request.reasoning_effort.name == "LOW"
    assert request.deadline_seconds == 30
    assert request.metadata == {"nested": {"list": (1, {"x": (2,)}), "3": "number"}}
    with pytest.raises(TypeError, match="immutable"):
        request.metadata["nested"]["list"][1]["x"] = 5
    assert AudioPart(data=bytearray(b"RIFF")).data == b"RIFF"
    assert AudioPart(data=memoryview(b"RIFF")).data == b"RIFF"


@immutable
class Patch(CheckedRecord):
    """A record for this test, with a field that may be unset, None or a number."""

    ttl: int | Unset | None = UNSET
    colour: str | Unset = UNSET


def test_a_field_may_be_unset_none_or_a_value() -> None:
    assert Patch().to_dict() == {}
    assert Patch(ttl=None).to_dict() == {"ttl": None}
    assert Patch(ttl=5, colour="red").to_dict() == {"ttl": 5, "colour": "red"}
    with pytest.raises(InvalidValue, match=r"Patch\.colour: got None, expected a value"):
        Patch(colour=None)
    for patch in (Patch(), Patch(ttl=None), Patch(ttl=5, colour="red")):
        assert Patch.from_dict(patch.to_dict()) == patch
    with pytest.raises(InvalidValue, match=r"Patch\.ttl: got 'x', expected a value of type int"):
        Patch(ttl="x")


def test_a_field_of_an_unsupported_type_is_a_mistake_of_the_class() -> None:
    @immutable
    class Wrong(CheckedRecord):
        numbers: set[int]

    with pytest.raises(TypeError, match="records do not support fields of type set\\[int\\]"):
        Wrong(numbers={1})


def test_times_must_know_their_zone() -> None:
    @immutable
    class Appointment(CheckedRecord):
        at: datetime
        notes: Mapping[str, str]

    Appointment(at=datetime(2026, 1, 1, tzinfo=UTC), notes={})
    with pytest.raises(InvalidValue, match="expected a timezone-aware datetime"):
        Appointment(at=datetime(2026, 1, 1), notes={})


@immutable
class Row(CheckedRecord):
    """A record for this test, whose tuples hold more than plain values."""

    cells: tuple[int | None, ...] = ()
    moods: tuple[Literal["calm", "cross"], ...] = ()


def test_items_of_a_tuple_are_checked_and_written_one_by_one() -> None:
    row = Row(cells=[1, None], moods=["calm"])
    assert row.to_dict() == {"cells": [1, None], "moods": ["calm"]}
    assert Row.from_dict(row.to_dict()) == row
    with pytest.raises(InvalidValue, match=r"Row\.cells\[1\]: got 'x', expected a value of type"):
        Row(cells=(1, "x"))
    with pytest.raises(InvalidValue, match=r"Row\.moods\[0\]: got 'mad', expected one of 'calm'"):
        Row(moods=("mad",))
