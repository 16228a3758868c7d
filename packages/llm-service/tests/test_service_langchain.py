"""`ServiceChatModel`, by LangChain's own standard tests and by what those do not ask."""

from __future__ import annotations

import base64
import io
import json
import struct
import subprocess
import sys
import wave
import zlib
from collections.abc import AsyncGenerator, Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import langchain_tests.integration_tests.chat_models as standard
import pytest
from langchain_core.messages import AIMessageChunk, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests
from pydantic import BaseModel, ValidationError

from llm_core import (
    AudioPart,
    CacheMode,
    CachePolicy,
    Cost,
    CostStatus,
    ErrorInfo,
    ErrorType,
    EventTimestamps,
    FinishReason,
    GenerationResult,
    GenerationStarted,
    InvalidValue,
    ProviderError,
    ProviderResponse,
    ReasoningDelta,
    ReasoningPart,
    Sampling,
    StreamEvent,
    StreamRestarted,
    StreamResult,
    StreamStarted,
    TextDelta,
    TextPart,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
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

WEATHER = {"name": "get_weather", "arguments": {"location": "San Francisco"}}
RULES = [
    {
        "contains": "magic_function(3)",
        "reply": {"tool_calls": [{"name": "magic_function", "arguments": {"input": 3}}]},
    },
    {
        "contains": "Pirate greeting",
        "reply": {
            "tool_calls": [{"name": "greeting_generator", "arguments": {"answer_style": "pirate"}}]
        },
    },
    {
        "contains": "weather in San Francisco",
        "turns": [{"tool_calls": [WEATHER]}, "It is sunny."],
    },
    *[
        {
            "contains": name,
            "reply": {
                "tool_calls": [
                    {
                        "name": "unicode_customer",
                        "arguments": {"customer_name": name, "description": "a company"},
                    }
                ]
            },
        }
        for name in ("你好啊集团", "こんにちは株式会社")
    ],
]


@pytest.fixture(scope="module")
def sim() -> Iterator[SimServer]:
    with SimServer({"rules": RULES, "default": "echo"}) as server:
        yield server


@pytest.fixture
async def service(sim: SimServer) -> AsyncGenerator[BaseLLMService, None]:
    # Chat Completions, as the Responses API knows no stop texts and no sound.
    openai = OpenAIProvider("simulated", sim.openai_base_url, "chat_completions")
    async with BaseLLMService(model="gpt-5-mini", provider=openai) as service:
        yield service


class Standard:
    """What both of LangChain's suites are told of the model."""

    service: BaseLLMService

    @pytest.fixture(autouse=True)
    def _over_the_simulator(self, service: BaseLLMService) -> None:
        self.service = service

    @pytest.fixture
    def benchmark(self, benchmark: Any) -> Any:
        """Run once what the suite would time."""
        benchmark.disabled = True
        return benchmark

    @property
    def chat_model_class(self) -> type[ServiceChatModel]:
        return ServiceChatModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"service": self.service, "model": "gpt-4o-mini"}

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_image_inputs(self) -> bool:
        return True

    @property
    def supports_image_urls(self) -> bool:
        return True

    @property
    def supports_pdf_inputs(self) -> bool:
        return True

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return "gpt-4.1-mini"


class TestStandardUnit(Standard, ChatModelUnitTests):
    """LangChain's unit tests."""


class TestStandardIntegration(Standard, ChatModelIntegrationTests):
    """LangChain's integration tests, against llm-sim."""

    @pytest.fixture(autouse=True)
    def _files_that_the_suite_would_download(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def get(url: str, **_: Any) -> Any:
            return SimpleNamespace(content=DOWNLOADS[url.rpartition(".")[2]])

        monkeypatch.setattr(standard, "httpx", SimpleNamespace(get=get))


def _png() -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0\xff\0\0")
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


PNG = _png()
DOWNLOADS = {"png": PNG, "pdf": b"%PDF-1.4\n%%EOF\n"}


ModelOver = Callable[..., tuple[ServiceChatModel, ScriptedProvider]]


@pytest.fixture
def model_over() -> Iterator[ModelOver]:
    """Make models whose answers are scripted; give each with its provider, and close the services."""
    services = []

    def make(*replies: Any, **options: Any) -> tuple[ServiceChatModel, ScriptedProvider]:
        arguments = {k: options.pop(k) for k in list(options) if k in ServiceChatModel.model_fields}
        provider = ScriptedProvider(replies)
        services.append(BaseLLMService(provider=provider, **{"model": "m", **options}))
        return ServiceChatModel(service=services[-1], **arguments), provider

    yield make
    for service in services:
        service.close()


class Streams:
    """A service whose stream is written down."""

    def __init__(self, *events: StreamEvent) -> None:
        self.events = events

    def model(self) -> ServiceChatModel:
        events = self.events

        class Service(BaseLLMService):
            async def stream(self, *_: Any, **__: Any) -> AsyncGenerator[StreamEvent, None]:  # type: ignore[override]
                for event in events:
                    yield event

        return ServiceChatModel(service=Service(model="m", provider=ScriptedProvider()))


def finished(**fields: Any) -> StreamResult:
    timestamps = EventTimestamps(requested_at=datetime(2026, 1, 1, tzinfo=UTC), requested=0)
    result: GenerationResult[Any] = GenerationResult(
        **{"success": True, "timestamps": timestamps, **fields}
    )
    return StreamResult(result=result)


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


class TestStream:
    """Events as chunks."""

    async def test_pieces_add_up(self) -> None:
        call = ToolCall(id="1", name="f", arguments={"a": 1}, arguments_text='{"a": 1}')
        streams = Streams(
            StreamStarted(model="m"),
            ReasoningDelta(text="I "),
            ReasoningDelta(text="think"),
            TextDelta(text="a"),
            TextDelta(text="b"),
            ToolCallStarted(index=0, id="1", name="f"),
            ToolCallDelta(index=0, arguments_text='{"a":'),
            ToolCallDelta(index=0, arguments_text=" 1}"),
            ToolCallEnded(index=0, tool_call=call),
            finished(
                content="ab", reasoning="I think", tool_calls=(call,), usage=Usage(input_tokens=3)
            ),
        )
        whole = await summed(streams.model())
        assert whole.text == "ab"
        assert whole.additional_kwargs["reasoning_content"] == "I think"
        assert [(c["name"], c["args"]) for c in whole.tool_calls] == [("f", {"a": 1})]
        assert whole.usage_metadata is not None
        assert whole.usage_metadata["input_tokens"] == 3

    async def test_what_was_not_streamed_comes_at_the_end(self) -> None:
        call = ToolCall(id="1", name="f", arguments={"a": 1})
        last = finished(content="ab", reasoning="hm", tool_calls=(call,))
        whole = await summed(Streams(last).model())
        assert (whole.text, whole.tool_calls[0]["args"]) == ("ab", {"a": 1})
        assert whole.additional_kwargs["reasoning_content"] == "hm"

    @pytest.mark.parametrize("begun", [False, True])
    async def test_a_call_that_comes_whole_is_given_once(self, begun: bool) -> None:
        call = ToolCall(id="1", name="f", arguments={"a": 1})
        start = [ToolCallStarted(index=0, id="1", name="f")] if begun else []
        events = [*start, ToolCallEnded(index=0, tool_call=call), finished(tool_calls=(call,))]
        whole = await summed(Streams(*events).model())
        assert [(c["id"], c["args"]) for c in whole.tool_calls] == [("1", {"a": 1})]

    async def test_a_restart_before_the_first_word_is_not_noticed(self) -> None:
        again = StreamRestarted(attempt=2, error=ErrorInfo.of(ErrorType.OVERLOADED, "busy"))
        whole = await summed(Streams(again, TextDelta(text="a"), finished(content="a")).model())
        assert whole.text == "a"

    async def test_a_restart_after_the_first_word_fails(self) -> None:
        again = StreamRestarted(attempt=2, error=ErrorInfo.of(ErrorType.OVERLOADED, "busy"))
        with pytest.raises(ProviderError, match="busy"):
            await summed(Streams(TextDelta(text="a"), again, finished(content="b")).model())

    def test_leaving_early_closes_the_stream(self, model_over: ModelOver) -> None:
        model, _ = model_over("one two three")
        stream = model.stream("hi")
        assert next(stream).text
        stream.close()  # type: ignore[attr-defined]
        assert model.invoke("hi").text == "one two three"


async def summed(model: ServiceChatModel) -> AIMessageChunk:
    whole: AIMessageChunk | None = None
    async for chunk in model.astream("hi"):
        whole = chunk if whole is None else whole + chunk
    assert whole is not None
    return whole


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
