"""`ServiceChatModel`, by what LangChain's own standard tests do not ask."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import wave
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from pydantic import BaseModel, ValidationError

from llm_core import (
    AudioPart,
    CacheMode,
    CachePolicy,
    Cost,
    CostStatus,
    ErrorInfo,
    ErrorType,
    FinishReason,
    GenerationStarted,
    InvalidValue,
    ProviderError,
    ProviderResponse,
    ReasoningPart,
    Sampling,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolChoiceMode,
    ToolResult,
    Usage,
    Verbosity,
)
from llm_core.testing import MemoryCache, RecordingTelemetry, ScriptedProvider
from llm_providers import OpenAIProvider
from llm_service import BaseLLMService, RetryPolicy
from llm_service.langchain import ServiceChatModel
from llm_sim import SimServer

ModelOver = Callable[..., tuple[ServiceChatModel, ScriptedProvider]]


@tool
def get_weather(city: str) -> str:
    """Tell the weather."""
    return f"sunny in {city}"


class TestRequest:
    """What reaches the service."""

    def test_arguments_become_fields_of_the_request(self, model_over: ModelOver) -> None:
        model, provider = model_over(
            "ok",
            model="small",
            temperature=0.5,
            max_tokens=7,
            stop=["END"],
            seed=3,
            request_fields={"verbosity": Verbosity.LOW, "seed": 9},
        )
        model.invoke("hi")
        (sent,) = provider.requests
        assert sent.model == "small"
        assert sent.sampling == Sampling(temperature=0.5)
        assert (sent.max_output_tokens, sent.stop, sent.seed) == (7, ("END",), 3)
        assert sent.verbosity is Verbosity.LOW

    def test_arguments_of_one_call_go_before_the_models_own(self, model_over: ModelOver) -> None:
        model, provider = model_over("ok", temperature=0.5, stop=["END"], model="small")
        model.bind(top_p=0.1).invoke(
            "hi", stop=["HALT"], model="big", temperature=0.0, stream=False
        )
        (sent,) = provider.requests
        assert sent.sampling == Sampling(temperature=0.0, top_p=0.1)
        assert (sent.stop, sent.model) == (("HALT",), "big")

    def test_the_services_own_concerns_are_passed_on(self, model_over: ModelOver) -> None:
        recorded = RecordingTelemetry()
        model, _ = model_over(
            "ok", operation_name="triage", tenant="t", priority=2, timeout=9, max_retries=1,
            telemetry=recorded,
        )  # fmt: skip
        model.invoke("hi")
        (request,) = [e.request for e in recorded.events if isinstance(e, GenerationStarted)]
        assert (request.operation_name, request.tenant, request.priority) == ("triage", "t", 2)
        assert (request.deadline_seconds, request.max_attempts) == (9, 2)

    def test_an_unknown_argument_is_refused(self, model_over: ModelOver) -> None:
        model, _ = model_over("ok")
        with pytest.raises(InvalidValue, match="temprature: no argument of ServiceChatModel"):
            model.invoke("hi", temprature=1)
        with pytest.raises(ValidationError, match="temprature"):
            ServiceChatModel(service=model.service, temprature=1)
        with pytest.raises(ValidationError, match="service"):
            ServiceChatModel(service=ScriptedProvider())

    def test_tools_are_described(self, model_over: ModelOver) -> None:
        model, provider = model_over("ok")
        model.bind_tools([get_weather], strict=True, parallel_tool_calls=False).invoke("hi")
        (sent,) = provider.requests
        assert [(t.name, t.description, t.strict) for t in sent.tools] == [
            ("get_weather", "Tell the weather.", True)
        ]
        assert sent.tool_choice == ToolChoice(parallel=False)

    @pytest.mark.parametrize(
        ("choice", "expected"),
        [
            (None, None),
            (False, None),
            ("auto", ToolChoice()),
            ("none", ToolChoice(mode=ToolChoiceMode.NONE)),
            ("any", ToolChoice(mode=ToolChoiceMode.REQUIRED)),
            ("required", ToolChoice(mode=ToolChoiceMode.REQUIRED)),
            (True, ToolChoice(mode=ToolChoiceMode.REQUIRED)),
            ("get_weather", ToolChoice(mode=ToolChoiceMode.NAMED, name="get_weather")),
            (
                {"type": "function", "function": {"name": "get_weather"}},
                ToolChoice(mode=ToolChoiceMode.NAMED, name="get_weather"),
            ),
            ({"type": "any"}, ToolChoice(mode=ToolChoiceMode.REQUIRED)),
        ],
    )
    def test_a_choice_of_tools(
        self, model_over: ModelOver, choice: Any, expected: ToolChoice | None
    ) -> None:
        model, provider = model_over("ok")
        model.bind_tools([get_weather], tool_choice=choice).invoke("hi")
        assert provider.requests[0].tool_choice == expected

    def test_a_choice_in_our_words_is_taken_as_it_is(self, model_over: ModelOver) -> None:
        model, provider = model_over("ok")
        offered, choice = Tool(name="a"), ToolChoice(mode=ToolChoiceMode.NAMED, name="a")
        model.invoke("hi", tools=[offered], tool_choice=choice)
        assert (provider.requests[0].tools, provider.requests[0].tool_choice) == (
            (offered,),
            choice,
        )

    def test_a_choice_of_no_tool_fails_where_it_is_made(self, model_over: ModelOver) -> None:
        model, _ = model_over("ok")
        with pytest.raises(
            InvalidValue, match="expected one of auto, none, any, required, get_weather"
        ):
            model.bind_tools([get_weather], tool_choice="get_wether")

    def test_a_vendors_own_tool_is_refused(self, model_over: ModelOver) -> None:
        model, _ = model_over("ok")
        with pytest.raises(InvalidValue, match="web_search"):
            model.bind_tools([{"type": "web_search"}])

    def test_two_models_differ_in_langchains_cache(self, model_over: ModelOver) -> None:
        model, _ = model_over("ok")
        assert model.asdict() != model.model_copy(update={"temperature": 1.0}).asdict()

    def test_two_services_differ_in_langchains_cache(self) -> None:
        keys = []
        for model, name in [("large", "a"), ("small", "a"), ("large", "b")]:
            provider = ScriptedProvider(["ok"], name=name)
            with BaseLLMService(model=model, provider=provider) as service:
                keys.append(ServiceChatModel(service=service).asdict())
        assert len({str(key) for key in keys}) == 3

    def test_a_service_that_can_ask_nobody_has_a_key_all_the_same(self) -> None:
        with BaseLLMService() as service:
            assert ServiceChatModel(service=service).asdict()["stop"] is None


class TestAnswer:
    """What comes back."""

    def test_usage_and_what_happened_are_told(self, model_over: ModelOver) -> None:
        usage = Usage(
            input_tokens=10, output_tokens=5, cache_read_tokens=4, cache_write_tokens=3,
            reasoning_tokens=2, audio_input_tokens=1, audio_output_tokens=1,
        )  # fmt: skip
        response = ProviderResponse(
            provider="scripted", model="m-1", parts=(TextPart(text="yes"),), usage=usage,
            response_id="r1", cost=Cost(amount=Decimal("0.5"), status=CostStatus.PRICED),
        )  # fmt: skip
        model, _ = model_over(response)
        message = model.invoke("hi")
        assert message.text == "yes"
        assert message.usage_metadata == {
            "input_tokens": 10,
            "output_tokens": 5,
            "total_tokens": 15,
            "input_token_details": {"audio": 1, "cache_read": 4, "cache_creation": 3},
            "output_token_details": {"audio": 1, "reasoning": 2},
        }
        told = message.response_metadata
        assert told["model_name"] == "m-1"
        assert (told["provider"], told["finish_reason"]) == ("scripted", "stop")
        assert (told["cost"], told["cost_currency"], told["attempts"]) == ("0.5", "USD", 1)
        assert told["response_id"] == "r1"
        assert told["request_id"]
        json.dumps(told)

    def test_thought_and_sound_are_kept(self, model_over: ModelOver) -> None:
        sound = AudioPart(data=b"wav", transcript="hm", reference_id="a1")
        parts = (ReasoningPart(text="I think"), TextPart(text="hm"), sound)
        model, _ = model_over(ProviderResponse(provider="p", model="m", parts=parts))
        message = model.invoke("hi")
        assert message.content_blocks[0] == {"type": "reasoning", "reasoning": "I think"}
        assert message.additional_kwargs["audio"] == {
            "id": "a1",
            "data": base64.b64encode(b"wav").decode(),
            "format": "wav",
            "transcript": "hm",
        }

    def test_calls_that_cannot_be_run_are_apart(self, model_over: ModelOver) -> None:
        parts = (
            ToolCall(
                id="1", name="f", arguments={"a": {"b": [1]}}, arguments_text='{"a": {"b": [1]}}'
            ),
            ToolCall(id="2", name="f", arguments_text="{}"),
            ToolCall(id="3", name="f", arguments_text="[1"),
            ToolCall(id="4", name="f", arguments={"a": 1}, complete=False),
        )
        response = ProviderResponse(
            provider="p", model="m", parts=parts, finish_reason=FinishReason.TOOL_CALLS
        )
        model, _ = model_over(response)
        message = model.invoke("hi")
        assert [(c["id"], c["args"]) for c in message.tool_calls] == [
            ("1", {"a": {"b": [1]}}),
            ("2", {}),
        ]
        assert [(c["id"], c["args"]) for c in message.invalid_tool_calls] == [
            ("3", "[1"),
            ("4", ""),
        ]

    def test_a_conversation_with_tools_goes_round(self, model_over: ModelOver) -> None:
        call = ToolCall(id="1", name="get_weather", arguments={"city": "Rome"})
        asked = ProviderResponse(provider="p", model="m", parts=(call,))
        model, provider = model_over(asked, "Sunny.")
        with_tools = model.bind_tools([get_weather])
        history: list[Any] = [HumanMessage("Weather in Rome?")]
        history.append(with_tools.invoke(history))
        history.append(get_weather.invoke(history[-1].tool_calls[0]))
        assert with_tools.invoke(history).text == "Sunny."
        results = provider.requests[1].messages[-1].content
        assert results == (ToolResult(tool_call_id="1", content="sunny in Rome"),)

    @pytest.mark.parametrize("streamed", [False, True])
    def test_a_failure_is_raised_with_all_that_is_known(
        self, model_over: ModelOver, streamed: bool
    ) -> None:
        busy = ErrorInfo.of(ErrorType.OVERLOADED, "try later")
        model, provider = model_over(busy, retry=RetryPolicy(max_attempts=2, initial_seconds=0))
        with pytest.raises(ProviderError, match="try later") as caught:
            list(model.stream("hi")) if streamed else model.invoke("hi")
        assert caught.value.info.type is ErrorType.OVERLOADED
        assert len(provider.requests) == 2

    def test_a_fallback_value_is_the_answer(self, model_over: ModelOver) -> None:
        busy = ErrorInfo.of(ErrorType.INVALID_REQUEST, "no")
        model, _ = model_over(busy, request_fields={"fallback_value": {"a": 1}})
        message = model.invoke("hi")
        assert (message.text, message.response_metadata["degraded"]) == (
            '{"a": 1}',
            "fallback_value",
        )

    async def test_an_answer_from_the_cache_is_streamed_as_well(self) -> None:
        policy = CachePolicy(mode=CacheMode.USE)
        provider = ScriptedProvider(["one two"])
        async with BaseLLMService(model="m", provider=provider, cache=MemoryCache()) as service:
            model = ServiceChatModel(service=service, request_fields={"cache": policy})
            await model.ainvoke("hi")
            chunks = [chunk async for chunk in model.astream("hi")]
        assert "".join(chunk.text for chunk in chunks) == "one two"
        assert chunks[-1].response_metadata["cached"]
        assert len(provider.requests) == 1

    def test_it_works_in_a_chain(self, model_over: ModelOver) -> None:
        model, _ = model_over("one two")
        chain = ChatPromptTemplate.from_messages([("human", "{x}")]) | model | StrOutputParser()
        assert "".join(chain.stream({"x": "?"})) == chain.invoke({"x": "?"}) == "one two"


class Joke(BaseModel):
    """A joke."""

    setup: str


class TestStructuredOutput:
    @pytest.mark.parametrize(
        ("method", "strict", "expected"),
        [
            ("json_schema", None, True),
            ("json_schema", True, True),
            ("json_schema", False, False),
            ("json_mode", None, False),
        ],
    )
    def test_the_schema_is_asked_for(
        self, model_over: ModelOver, method: Any, strict: bool | None, expected: bool
    ) -> None:
        model, provider = model_over('{"setup": "a"}')
        chain = model.with_structured_output(Joke, method=method, strict=strict)
        assert chain.invoke("?") == Joke(setup="a")
        schema = provider.requests[0].response_schema
        assert schema is not None
        assert (schema.name, schema.description, schema.strict) == ("Joke", "A joke.", expected)

    def test_a_schema_without_a_proper_name_gets_one(self, model_over: ModelOver) -> None:
        model, provider = model_over("{}")
        schema = {"title": "my answer", "type": "object", "properties": {}}
        assert model.with_structured_output(schema).invoke("?") == {}
        sent = provider.requests[0].response_schema
        assert sent is not None
        assert sent.name == "my_answer"

    def test_by_a_tool(self, model_over: ModelOver) -> None:
        call = ToolCall(id="1", name="Joke", arguments={"setup": "a"})
        model, provider = model_over(ProviderResponse(provider="p", model="m", parts=(call,)))
        chain = model.with_structured_output(Joke, method="function_calling")
        assert chain.invoke("?") == Joke(setup="a")
        assert provider.requests[0].tool_choice == ToolChoice(mode=ToolChoiceMode.REQUIRED)

    def test_the_raw_answer_may_be_kept(self, model_over: ModelOver) -> None:
        model, _ = model_over('{"setup": "a"}', "no JSON")
        chain: Any = model.with_structured_output(Joke, include_raw=True)
        good, bad = chain.invoke("?"), chain.invoke("?")
        assert (good["parsed"], good["parsing_error"]) == (Joke(setup="a"), None)
        assert (bad["raw"].text, bad["parsed"]) == ("no JSON", None)
        assert "no JSON" in str(bad["parsing_error"])

    def test_another_method_is_refused(self, model_over: ModelOver) -> None:
        model, _ = model_over("{}")
        with pytest.raises(
            InvalidValue, match="expected json_schema, function_calling or json_mode"
        ):
            model.with_structured_output(Joke, method="magic")  # type: ignore[arg-type]


def test_sound_is_heard_by_a_model_that_hears() -> None:
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", "not compressed"))
        file.writeframes(b"\0\0" * 80)
    sound = base64.b64encode(written.getvalue()).decode()
    with SimServer({"default": "echo"}) as sim:
        openai = OpenAIProvider("simulated", sim.openai_base_url, "chat_completions")
        with BaseLLMService(model="gpt-4o-audio-preview", provider=openai) as service:
            blocks = [
                {"type": "text", "text": "What is this?"},
                {"type": "audio", "base64": sound, "mime_type": "audio/wav"},
            ]
            assert ServiceChatModel(service=service).invoke([HumanMessage(blocks)]).text


def test_tokens_are_counted_without_another_package() -> None:
    with BaseLLMService(model="m", provider=ScriptedProvider()) as service:
        model = ServiceChatModel(service=service)
        assert model.get_num_tokens("four characters a token") == 6
        assert model.get_num_tokens_from_messages([HumanMessage("Quid novi?")]) > 0


def test_without_langchain_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['langchain_core'] = None\n"
        "try: import llm_service.langchain\nexcept ImportError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True
    )
    assert "is not installed: install the extra llm-service[langchain]" in done.stdout


def test_the_service_alone_loads_none_of_it() -> None:
    code = (
        "import sys, llm_service; print({'pydantic', 'yaml', 'langchain_core'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True
    )
    assert done.stdout == "set()\n"
