"""Requests: from what the caller wants to what a provider needs."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from llm_core import (
    UNSET,
    AudioOutput,
    AudioPart,
    CacheMode,
    CachePolicy,
    FilePart,
    FrozenDict,
    GenerationRequest,
    ImagePart,
    InvalidValue,
    LLMCallRequest,
    Message,
    Modality,
    ReasoningEffort,
    ReasoningPart,
    ResponseSchema,
    Role,
    Sampling,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Verbosity,
)

IMAGE = ImagePart(data=b"\x89PNG", media_type="image/png")
SOUND = AudioPart(data=b"RIFF")
PAPER = FilePart(file_id="file-1")


class TestConversation:
    def test_text_becomes_one_user_message(self) -> None:
        assert GenerationRequest(user="Where is Lima?").conversation() == (
            Message(role=Role.USER, content=(TextPart(text="Where is Lima?"),)),
        )

    def test_system_user_and_the_beginning_of_the_answer_become_three(self) -> None:
        request = GenerationRequest(system="Be brief.", user="Where is Lima?", assistant="In ")
        assert request.conversation() == (
            Message.system("Be brief."),
            Message.user("Where is Lima?"),
            Message.assistant("In "),
        )

    def test_images_sound_and_files_follow_the_text(self) -> None:
        request = GenerationRequest(
            user="What is it?", images=(IMAGE,), audio=(SOUND,), files=(PAPER,)
        )
        assert request.conversation() == (Message.user("What is it?", IMAGE, SOUND, PAPER),)

    @pytest.mark.parametrize(
        "fields", [{"images": (IMAGE,)}, {"audio": (SOUND,)}, {"files": (PAPER,)}]
    )
    def test_a_picture_sound_or_file_alone_is_enough(self, fields: dict[str, Any]) -> None:
        (message,) = GenerationRequest(**fields).conversation()
        assert message.text == ""
        assert len(message.content) == 1

    def test_messages_are_sent_as_they_are(self) -> None:
        messages = (
            Message.system("Be brief.", cache=True),
            Message.user("Find Lima.", name="Ana"),
            Message.assistant(ReasoningPart(text="Hm."), ToolCall(id="1", name="find")),
            Message.tool(ToolResult(tool_call_id="1", content="-12, -77")),
        )
        assert GenerationRequest(messages=messages).conversation() is messages
        assert [message.role.value for message in messages] == [
            "system",
            "user",
            "assistant",
            "tool",
        ]

    def test_only_text_counts_as_the_text_of_a_message(self) -> None:
        assert Message.user("What ", IMAGE, "is it?").text == "What is it?"


def test_a_call_has_everything_but_the_services_concerns() -> None:
    fields: dict[str, Any] = {
        "tools": (Tool(name="find"),),
        "tool_choice": ToolChoice(parallel=False),
        "response_schema": ResponseSchema(name="city", json_schema={"type": "object"}),
        "output_modalities": (Modality.TEXT, Modality.AUDIO),
        "audio_output": AudioOutput(voice="ada"),
        "reasoning_effort": ReasoningEffort.LOW,
        "verbosity": Verbosity.LOW,
        "sampling": Sampling(temperature=0.0),
        "max_output_tokens": 50,
        "stop": ("END",),
        "seed": 7,
        "previous_response_id": "r-1",
        "provider_options": FrozenDict(service_tier="flex"),
        "on_unsupported": "drop",
    }
    both = {field.name for field in dataclasses.fields(LLMCallRequest)} & {
        field.name for field in dataclasses.fields(GenerationRequest)
    }
    assert set(fields) == both - {"model", "messages"}
    request = GenerationRequest(user="Where is Lima?", tenant="acme", priority=3, **fields)
    call = request.to_call("gpt-5-mini", timeout_seconds=30)
    assert call.model == "gpt-5-mini"
    assert call.messages == request.conversation()
    assert call.timeout_seconds == 30
    assert {name: getattr(call, name) for name in fields} == fields
    assert call.headers == {}
    assert not hasattr(call, "tenant")


def test_a_copy_with_changes_is_checked_anew() -> None:
    request = GenerationRequest(user="Where is Lima?", priority=1)
    assert request.replace(model="m").model == "m"
    assert request.replace(model="m").priority == 1
    assert request.model is None
    with pytest.raises(InvalidValue, match=r"GenerationRequest\.model: got ''"):
        request.replace(model="")


def test_none_is_a_fallback_value_and_leaving_it_out_is_none() -> None:
    without = GenerationRequest(user="x")
    nothing = GenerationRequest(user="x", fallback_value=None)
    assert without.fallback_value is UNSET
    assert "fallback_value" not in without.to_dict()
    assert nothing.to_dict()["fallback_value"] is None
    assert GenerationRequest.from_dict(without.to_dict()).fallback_value is UNSET
    assert GenerationRequest.from_dict(nothing.to_dict()).fallback_value is None
    assert without != nothing


def test_the_cache_is_off_unless_asked_for() -> None:
    assert CachePolicy().mode is CacheMode.OFF
    assert GenerationRequest(user="x").cache is None
    assert CachePolicy(mode="use", ttl_seconds=60).to_dict() == {  # type: ignore[arg-type]
        "mode": "use",
        "ttl_seconds": 60,
        "stale_seconds": 0.0,
    }


class Upper:
    """A step with a declarative form."""

    def to_config(self) -> dict[str, Any]:
        return {"step": "upper", "of": (str.lower, Inner())}


class Inner:
    """A step without one."""

    def __str__(self) -> str:
        return "inner step"


@pytest.mark.parametrize(
    ("pipeline", "written"),
    [
        (None, None),
        ("strip", "strip"),
        (len, "len"),
        (Inner(), "inner step"),
        (Upper(), {"step": "upper", "of": ["lower", "inner step"]}),
        ([Inner, {"extract": "$.city", 1: 2.5}], ["Inner", {"extract": "$.city", "1": 2.5}]),
        ((True, 1), [True, 1]),
    ],
)
def test_pipeline_steps_are_written_in_their_declarative_form(pipeline: Any, written: Any) -> None:
    request = GenerationRequest(user="x", pipeline=pipeline)
    assert json.loads(json.dumps(request.to_dict()))["pipeline"] == written


def test_whatever_a_caller_keeps_in_metadata_can_be_written() -> None:
    request = GenerationRequest(user="x", metadata={"where": Inner, "tags": {"a"}})
    written = json.loads(json.dumps(request.to_dict()))["metadata"]
    assert written["tags"] == ["a"]
    assert "Inner" in written["where"]


class TestSendingACall:
    def test_headers_are_added_below_those_of_the_call_and_a_timeout_replaces_its_own(self) -> None:
        call = LLMCallRequest(
            model="m", messages=(Message.user("?"),), headers={"x": "mine"}, timeout_seconds=5.0
        )
        sent = call.sent_with(headers={"x": "other", "traceparent": "00"}, timeout_seconds=1.0)
        assert sent.headers == {"x": "mine", "traceparent": "00"}
        assert sent.timeout_seconds == 1.0
        assert call.sent_with().timeout_seconds == 5.0
        assert call.sent_with() == call

    def test_a_call_needs_a_models_name(self) -> None:
        with pytest.raises(InvalidValue, match=r"LLMCallRequest\.model: got ''"):
            GenerationRequest(user="?").to_call("")
