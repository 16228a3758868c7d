from __future__ import annotations

from typing import Any

import pytest

from llm_core import (
    AudioOutput,
    AudioPart,
    FilePart,
    ImagePart,
    InvalidValue,
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
from llm_providers import OpenAIProvider

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 8
PNG_URL = "data:image/png;base64,iVBORw0KGgowMDAwMDAwMA=="
CITY = ResponseSchema(
    name="city",
    description="A city.",
    json_schema={
        "type": "object",
        "properties": {"name": {"type": "string"}, "people": {"type": "integer"}},
        "required": ["name"],
    },
)
WEATHER = Tool(
    name="weather",
    description="Today's weather.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}},
)


def body_of(request: LLMCallRequest, api: Any = "responses", stream: bool = False) -> Any:
    provider = OpenAIProvider("key", api=api)
    return provider.dialect_for(request).prepare(request, stream=stream).body


def prepared(request: LLMCallRequest, api: Any = "responses") -> Any:
    return OpenAIProvider("key", api=api).dialect_for(request).prepare(request, stream=False)


def call(*messages: Message, model: str = "gpt-4o", **fields: Any) -> LLMCallRequest:
    return LLMCallRequest(model=model, messages=messages or (Message.user("Hi"),), **fields)


def test_a_conversation_becomes_input_items() -> None:
    request = call(
        Message.system("Be brief."),
        Message.user("Weather?"),
        Message.assistant(
            ReasoningPart(text="hm", signature="enc", reference_id="rs_1"),
            "I look.",
            ToolCall(id="c1", name="weather", arguments={"city": "Rome"}),
        ),
        Message.tool(ToolResult(tool_call_id="c1", content="sunny")),
        tools=(WEATHER,),
    )
    assert body_of(request)["input"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather?"},
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "hm"}],
            "encrypted_content": "enc",
        },
        {"role": "assistant", "content": "I look."},
        {
            "type": "function_call",
            "call_id": "c1",
            "name": "weather",
            "arguments": '{"city":"Rome"}',
        },
        {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
    ]


def test_a_conversation_becomes_chat_messages() -> None:
    request = call(
        Message.system("Be", " brief."),
        Message.user("Weather?", name="ann"),
        Message.assistant(ToolCall(id="c1", name="weather", arguments_text='{"city": "Rome"}')),
        Message.tool(ToolResult(tool_call_id="c1", content="sunny")),
        Message.assistant("Sunny."),
        Message.user("Thanks"),
    )
    assert body_of(request, "chat_completions")["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather?", "name": "ann"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city": "Rome"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        {"role": "assistant", "content": "Sunny."},
        {"role": "user", "content": "Thanks"},
    ]


def test_the_thoughts_of_other_vendors_are_not_sent() -> None:
    thought = ReasoningPart(text="hm", signature="anthropic's")
    request = call(Message.user("Q"), Message.assistant(thought, "A"), Message.user("Q2"))
    assert body_of(request)["input"][1] == {"role": "assistant", "content": "A"}


def test_images_go_as_data_urls_with_their_type_detected() -> None:
    request = call(
        Message.user("What?", ImagePart(data=PNG), ImagePart(url="https://x.test/a", detail="low"))
    )
    assert body_of(request)["input"][0]["content"] == [
        {"type": "input_text", "text": "What?"},
        {"type": "input_image", "image_url": PNG_URL, "detail": "auto"},
        {"type": "input_image", "image_url": "https://x.test/a", "detail": "low"},
    ]
    assert body_of(request, "chat_completions")["messages"][0]["content"] == [
        {"type": "text", "text": "What?"},
        {"type": "image_url", "image_url": {"url": PNG_URL}},
        {"type": "image_url", "image_url": {"url": "https://x.test/a", "detail": "low"}},
    ]


def test_an_image_of_no_known_format_is_refused_with_advice() -> None:
    with pytest.raises(InvalidValue, match=r"ImagePart\.media_type: got None, expected a media"):
        body_of(call(Message.user(ImagePart(data=b"what is this"))))


def test_files_go_by_bytes_id_or_url() -> None:
    request = call(
        Message.user(
            FilePart(data=b"%PDF-1.7", filename="a.pdf"),
            FilePart(file_id="file_1"),
            FilePart(url="https://x.test/a.pdf"),
        )
    )
    assert body_of(request)["input"][0]["content"] == [
        {
            "type": "input_file",
            "filename": "a.pdf",
            "file_data": "data:application/pdf;base64,JVBERi0xLjc=",
        },
        {"type": "input_file", "file_id": "file_1"},
        {"type": "input_file", "file_url": "https://x.test/a.pdf"},
    ]


def test_chat_takes_files_by_bytes_and_id_only() -> None:
    request = call(Message.user(FilePart(data=b"hello", filename="a.txt"), FilePart(file_id="f")))
    assert body_of(request, "chat_completions")["messages"][0]["content"] == [
        {
            "type": "file",
            "file": {"filename": "a.txt", "file_data": "data:text/plain;base64,aGVsbG8="},
        },
        {"type": "file", "file": {"file_id": "f"}},
    ]
    with pytest.raises(UnsupportedFeature, match="files by URL"):
        body_of(call(Message.user(FilePart(url="https://x.test/a"))), "chat_completions")


def test_sound_goes_over_chat_whichever_api_was_chosen() -> None:
    request = call(
        Message.user("Listen:", AudioPart(data=b"RIFF", format="wav")),
        model="gpt-audio",
        output_modalities=(Modality.TEXT, Modality.AUDIO),
        audio_output=AudioOutput(voice="alloy", format="mp3"),
    )
    sent = prepared(request)
    assert sent.path == "/chat/completions"
    assert sent.body["messages"][0]["content"][1] == {
        "type": "input_audio",
        "input_audio": {"data": "UklGRg==", "format": "wav"},
    }
    assert sent.body["modalities"] == ["text", "audio"]
    assert sent.body["audio"] == {"voice": "alloy", "format": "mp3"}
    assert body_of(request, stream=True)["audio"]["format"] == "pcm16"


def test_what_the_model_said_aloud_goes_back_by_reference_or_as_its_words() -> None:
    spoken = AudioPart(data=b"x", transcript="Hi!", reference_id="audio_1")
    lost = AudioPart(data=b"x", transcript="Ho!")
    request = call(
        Message.user("Q"), Message.assistant(spoken), Message.assistant(lost), Message.user("Q")
    )
    said = body_of(request, "chat_completions")["messages"]
    assert said[1] == {"role": "assistant", "content": None, "audio": {"id": "audio_1"}}
    assert said[2] == {"role": "assistant", "content": "Ho!"}
    assert body_of(request)["input"][1] == {"role": "assistant", "content": "Hi!"}


def test_sound_in_a_format_that_is_not_taken_is_refused() -> None:
    request = call(Message.user(AudioPart(data=b"x", format="flac")), model="gpt-audio")
    with pytest.raises(UnsupportedFeature, match="convert it to wav or mp3"):
        body_of(request)


def test_tools_and_their_choice() -> None:
    strict = Tool(
        name="strict",
        parameters={
            "type": "object",
            "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
            "required": ["a"],
        },
        strict=True,
    )
    bare = Tool(name="bare")
    request = call(
        tools=(WEATHER, strict, bare),
        tool_choice=ToolChoice(mode=ToolChoiceMode.NAMED, name="weather", parallel=False),
    )
    body = body_of(request)
    assert body["tool_choice"] == {"type": "function", "name": "weather"}
    assert body["parallel_tool_calls"] is False
    assert body["tools"][0] == {
        "type": "function",
        "name": "weather",
        "description": "Today's weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        "strict": False,
    }
    assert body["tools"][1]["parameters"]["required"] == ["a", "b"]
    assert body["tools"][1]["parameters"]["additionalProperties"] is False
    assert body["tools"][2]["parameters"] == {"type": "object", "properties": {}}
    chat = body_of(request, "chat_completions")
    assert chat["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert chat["tools"][1]["function"]["strict"] is True
    for mode in ("auto", "none", "required"):
        choice = ToolChoice(mode=ToolChoiceMode(mode))
        assert body_of(call(tools=(WEATHER,), tool_choice=choice))["tool_choice"] == mode


def test_a_response_schema_is_closed_for_strict_decoding() -> None:
    asked = prepared(call(response_schema=CITY))
    assert asked.structured_by == "native"
    assert asked.body["text"]["format"] == {
        "type": "json_schema",
        "name": "city",
        "description": "A city.",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "people": {"type": "integer"}},
            "required": ["name", "people"],
            "additionalProperties": False,
        },
    }
    chat = prepared(call(response_schema=CITY), "chat_completions").body["response_format"]
    assert chat["json_schema"]["name"] == "city"
    assert "required" in CITY.json_schema
    assert CITY.json_schema["required"] == ("name",)


@pytest.mark.parametrize("api", ["responses", "chat_completions"])
def test_what_is_done_to_one_body_does_not_reach_the_next(api: Any) -> None:
    tool = Tool(name="city", parameters=CITY.json_schema, strict=True)
    request = call(response_schema=CITY, tools=(tool,))
    first, again = body_of(request, api), body_of(request, api)
    assert first == again
    for schema in schemas_in(first):
        schema["properties"]["name"]["type"] = "null"
        schema["required"].clear()
    assert body_of(request, api) == again


def schemas_in(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the schemas of the answer and of the one tool."""
    if "text" in body:
        return [body["text"]["format"]["schema"], body["tools"][0]["parameters"]]
    answer, tool = body["response_format"]["json_schema"], body["tools"][0]["function"]
    return [answer["schema"], tool["parameters"]]


def test_a_schema_that_is_open_on_purpose_is_not_forced() -> None:
    schema = ResponseSchema(
        name="any", json_schema={"type": "object", "additionalProperties": {"type": "string"}}
    )
    written = body_of(call(response_schema=schema))["text"]["format"]
    assert written["strict"] is False
    assert written["schema"] == {"type": "object", "additionalProperties": {"type": "string"}}


def test_an_older_model_is_asked_by_a_forced_tool() -> None:
    asked = prepared(call(model="gpt-4-turbo", response_schema=CITY))
    assert (asked.structured_by, asked.schema_tool) == ("tool", "city")
    assert asked.body["tool_choice"] == {"type": "function", "name": "city"}
    assert "text" not in asked.body
    with_tools = prepared(call(model="gpt-4-turbo", response_schema=CITY, tools=(WEATHER,)))
    assert with_tools.body["tool_choice"] == "required"
    assert [tool["name"] for tool in with_tools.body["tools"]] == ["weather", "city"]


def test_a_schema_whose_name_a_tool_has_is_asked_for_in_the_prompt() -> None:
    tool = Tool(name="city")
    asked = prepared(call(model="gpt-4-turbo", response_schema=CITY, tools=(tool,)))
    assert asked.structured_by == "prompt"
    assert '"people"' in asked.body["input"][0]["content"]


def test_reasoning_verbosity_and_limits() -> None:
    request = call(
        model="gpt-5",
        reasoning_effort=ReasoningEffort.MINIMAL,
        verbosity=Verbosity.LOW,
        max_output_tokens=99,
        previous_response_id="resp_0",
        provider_options={"store": False, "text": {"extra": 1}, "reasoning": {"summary": "auto"}},
    )
    body = body_of(request)
    assert body["reasoning"] == {"effort": "minimal", "summary": "auto"}
    assert body["text"] == {"verbosity": "low", "extra": 1}
    assert body["max_output_tokens"] == 99
    assert body["previous_response_id"] == "resp_0"
    assert body["include"] == ["reasoning.encrypted_content"]
    chat = body_of(
        call(model="gpt-5", reasoning_effort=ReasoningEffort.LOW, verbosity=Verbosity.HIGH),
        "chat_completions",
    )
    assert (chat["reasoning_effort"], chat["verbosity"]) == ("low", "high")


def test_sampling_stop_and_seed_in_chat() -> None:
    request = call(
        sampling=Sampling(temperature=0.5, top_p=0.9, frequency_penalty=1, presence_penalty=-1),
        stop=("END",),
        seed=7,
        max_output_tokens=5,
    )
    body = body_of(request, "chat_completions", stream=True)
    wanted = {
        "temperature": 0.5,
        "top_p": 0.9,
        "frequency_penalty": 1,
        "presence_penalty": -1,
        "stop": ["END"],
        "seed": 7,
        "max_completion_tokens": 5,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert body.items() >= wanted.items()


@pytest.mark.parametrize(
    ("fields", "feature"),
    [
        ({"stop": ("x",)}, "stop"),
        ({"seed": 1}, "seed"),
        ({"sampling": Sampling(top_k=3)}, "top_k"),
        ({"sampling": Sampling(frequency_penalty=1)}, "frequency_penalty"),
        ({"reasoning_effort": ReasoningEffort.LOW}, "reasoning_effort"),
        ({"verbosity": Verbosity.LOW}, "verbosity"),
        ({"model": "gpt-5", "sampling": Sampling(temperature=0)}, "temperature"),
        ({"model": "gpt-5", "reasoning_effort": ReasoningEffort.XHIGH}, "reasoning_effort 'xhigh'"),
        (
            {
                "model": "gpt-5.1",
                "sampling": Sampling(temperature=0),
                "reasoning_effort": ReasoningEffort.LOW,
            },
            "temperature",
        ),
    ],
)
def test_what_responses_or_the_model_lacks_is_an_error_or_dropped(
    fields: dict[str, Any], feature: str
) -> None:
    with pytest.raises(UnsupportedFeature) as caught:
        body_of(call(**fields))
    assert caught.value.details["feature"] == feature
    assert repr(fields.get("model", "gpt-4o")) in str(caught.value)
    assert prepared(call(**fields, on_unsupported="drop")).dropped == (feature,)


def test_a_temperature_is_sent_where_the_model_does_not_reason() -> None:
    request = call(
        model="gpt-5.1",
        sampling=Sampling(temperature=0),
        reasoning_effort=ReasoningEffort.NONE,
    )
    assert body_of(request)["temperature"] == 0
    assert "reasoning" not in body_of(call(reasoning_effort=ReasoningEffort.NONE))


@pytest.mark.parametrize("api", ["responses", "chat_completions"])
def test_a_started_answer_is_refused_or_dropped(api: Any) -> None:
    request = call(Message.user("Q"), Message.assistant("Once"))
    with pytest.raises(UnsupportedFeature, match="prefill"):
        body_of(request, api)
    dropped = prepared(
        call(Message.user("Q"), Message.assistant("Once"), on_unsupported="drop"), api
    )
    assert dropped.dropped == ("prefill",)
    assert "Once" not in str(dropped.body)


def test_dropping_leaves_out_parts_the_model_cannot_see() -> None:
    request = call(
        Message.user(ImagePart(data=PNG)),
        Message.user("Hi", ImagePart(data=PNG), FilePart(file_id="f")),
        model="gpt-3.5-turbo",
        on_unsupported="drop",
    )
    asked = prepared(request, "chat_completions")
    assert asked.body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    assert asked.dropped == ("images", "files")


def test_an_image_is_asked_for_with_the_tool_that_makes_it() -> None:
    request = call(output_modalities=(Modality.IMAGE,))
    assert body_of(request)["tools"] == [{"type": "image_generation"}]
    with pytest.raises(UnsupportedFeature, match="image_output"):
        body_of(request, "chat_completions")


def test_chat_cannot_continue_a_stored_response() -> None:
    with pytest.raises(UnsupportedFeature, match=r"api='responses'"):
        body_of(call(previous_response_id="r"), "chat_completions")


def test_compatible_servers_get_the_words_they_know() -> None:
    provider = OpenAIProvider(base_url="http://x.test/v1", api="chat_completions", name="vllm")
    request = call(
        Message.user("Q"),
        Message.assistant("Once"),
        model="qwen",
        sampling=Sampling(top_k=3),
        max_output_tokens=5,
    )
    body = provider.dialect_for(request).prepare(request, stream=False).body
    assert (body["top_k"], body["max_tokens"]) == (3, 5)
    assert body["messages"][-1] == {"role": "assistant", "content": "Once"}


def test_mixed_text_and_tool_results_in_a_user_message_keep_both() -> None:
    message = Message.user(ToolResult(tool_call_id="c", content="r"), TextPart(text="and?"))
    request = call(Message.user("Q"), Message.assistant(ToolCall(id="c", name="t")), message)
    assert body_of(request)["input"][-2:] == [
        {"type": "function_call_output", "call_id": "c", "output": "r"},
        {"role": "user", "content": [{"type": "input_text", "text": "and?"}]},
    ]


@pytest.mark.parametrize("api", ["responses", "chat_completions"])
def test_dropping_everything_is_an_error(api: Any) -> None:
    request = call(
        Message.user(FilePart(file_id="f")), model="gpt-3.5-turbo", on_unsupported="drop"
    )
    with pytest.raises(UnsupportedFeature, match=r"nothing is left to say .* without files"):
        body_of(request, api)


def test_an_assistant_turn_without_words_is_an_empty_one() -> None:
    request = call(
        Message.user("Q"), Message.assistant(ReasoningPart(text="hm")), Message.user("Q")
    )
    said = body_of(request, "chat_completions")["messages"][1]
    assert said == {"role": "assistant", "content": ""}


@pytest.mark.parametrize("role", [Message.system, Message.user])
def test_the_end_of_what_is_to_be_cached_is_marked_where_the_model_knows_marks(role: Any) -> None:
    messages = (role("Long.", cache=True), Message.user("Q"))
    mark = {"mode": "explicit"}
    marked = body_of(call(*messages, model="gpt-5.6-sol"))["input"][0]["content"]
    assert marked == [{"type": "input_text", "text": "Long.", "prompt_cache_breakpoint": mark}]
    marked = body_of(call(*messages, model="gpt-6-sol"), "chat_completions")["messages"][0]
    assert marked["content"] == [{"type": "text", "text": "Long.", "prompt_cache_breakpoint": mark}]
    assert body_of(call(*messages))["input"][0]["content"] == "Long."
    assert body_of(call(*messages), "chat_completions")["messages"][0]["content"] == "Long."


def test_a_tool_whose_arguments_cannot_be_strict_is_sent_without_strictness() -> None:
    point = {"type": "object", "properties": {"at": {"type": "array"}}}
    request = call(tools=(Tool(name="go", parameters=point, strict=True),))
    assert body_of(request)["tools"][0]["strict"] is False
    assert body_of(request, "chat_completions")["tools"][0]["function"] == {
        "name": "go",
        "parameters": point,
    }
