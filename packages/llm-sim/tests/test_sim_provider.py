"""The provider that answers in this process."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from llm_core import (
    AudioOutput,
    AudioPart,
    ErrorType,
    FilePart,
    FinishReason,
    ImagePart,
    LLMCallRequest,
    Message,
    Modality,
    ProviderError,
    ReasoningEffort,
    ReasoningPart,
    ResponseSchema,
    StreamDone,
    StreamEvent,
    StreamFailed,
    TextDelta,
    Tool,
    ToolCallEnded,
    ToolChoice,
    ToolChoiceMode,
    ToolResult,
    UnsupportedFeature,
)
from llm_core.interfaces import Provider
from llm_core.testing import ManualClock
from llm_sim import Constant, Faults, Latency, Limits, SimProvider

RULES = [
    {
        "exact": "weather",
        "turns": [{"tool_calls": [{"name": "look", "arguments": {"city": "Paris"}}]}, "Sunny."],
    },
    {"exact": "think", "reply": {"text": "42", "reasoning": "six times seven"}},
    {"exact": "forbidden", "reply": {"refusal": "I will not."}},
]
LOOK = Tool(name="look", parameters={"type": "object", "properties": {"city": {"type": "string"}}})


def call(text: str = "one two three", **options: Any) -> LLMCallRequest:
    options.setdefault("messages", (Message.user(text),))
    return LLMCallRequest(model="gpt-4o", **options)


async def events(provider: SimProvider, request: LLMCallRequest) -> list[StreamEvent]:
    return [event async for event in provider.stream(request)]


async def test_it_is_a_provider_and_echoes() -> None:
    provider = SimProvider()
    assert isinstance(provider, Provider)
    assert provider.name == "sim"
    response = await provider.invoke(call())
    assert response.text == "one two three"
    assert (response.usage.input_tokens, response.usage.output_tokens) == (9, 3)
    assert response.finish_reason is FinishReason.STOP
    assert response.model == "gpt-4o"
    await provider.aclose()


async def test_a_stream_says_what_invoke_says() -> None:
    provider = SimProvider(RULES)
    for text in ("one two three", "weather", "think", "forbidden"):
        whole = await provider.invoke(call(text, tools=(LOOK,)))
        got = await events(provider, call(text, tools=(LOOK,)))
        done = got[-1]
        assert isinstance(done, StreamDone)
        assert done.response.parts == whole.parts or text == "weather"
        assert done.response.usage == whole.usage
        assert "".join(e.text for e in got if isinstance(e, TextDelta)) == whole.text
    calls = [e for e in await events(provider, call("weather")) if isinstance(e, ToolCallEnded)]
    assert calls[0].tool_call.arguments == {"city": "Paris"}


async def test_a_conversation_goes_on_by_its_id() -> None:
    provider = SimProvider(RULES)
    first = await provider.invoke(call("weather", tools=(LOOK,)))
    assert first.finish_reason is FinishReason.TOOL_CALLS
    result = ToolResult(tool_call_id=first.tool_calls[0].id, content="sun")
    second = await provider.invoke(
        call(messages=(Message.tool(result),), previous_response_id=first.response_id)
    )
    assert second.text == "Sunny."
    with pytest.raises(ProviderError) as caught:
        await provider.invoke(call(previous_response_id="resp_none"))
    assert caught.value.info.type is ErrorType.INVALID_REQUEST
    again = await provider.invoke(
        call(messages=(Message.user("weather"), first.message, Message.tool(result)))
    )
    assert again.text == "Sunny."


async def test_what_is_asked_for_is_given() -> None:
    provider = SimProvider(RULES)
    shaped = await provider.invoke(
        call(response_schema=ResponseSchema(name="c", json_schema=LOOK.parameters))
    )
    assert shaped.text == '{"city": "city example"}'
    assert shaped.structured_by == "native"
    named = ToolChoice(mode=ToolChoiceMode.NAMED, name="look")
    chosen = await provider.invoke(call(tools=(LOOK,), tool_choice=named))
    assert chosen.tool_calls[0].arguments == {"city": "city example"}
    required = ToolChoice(mode=ToolChoiceMode.REQUIRED)
    assert (await provider.invoke(call(tools=(LOOK,), tool_choice=required))).tool_calls
    thought = await provider.invoke(call(reasoning_effort=ReasoningEffort.HIGH))
    assert isinstance(thought.parts[0], ReasoningPart)
    assert thought.usage.reasoning_tokens > 10
    cut = await provider.invoke(call(max_output_tokens=2))
    assert (cut.text, cut.finish_reason) == ("one two", FinishReason.LENGTH)
    refused = await provider.invoke(call("forbidden"))
    assert (refused.text, refused.finish_reason) == ("I will not.", FinishReason.REFUSAL)


async def test_sound_images_and_files_are_counted_and_spoken() -> None:
    provider = SimProvider()
    message = Message.user(
        "see",
        ImagePart(url="https://example.org/x.png", detail="low"),
        AudioPart(data=b"x" * 32_000, format="mp3"),
        FilePart(file_id="f", filename="a.pdf"),
        FilePart(file_id="g"),
    )
    speak: dict[str, Any] = {
        "messages": (message,),
        "output_modalities": (Modality.TEXT, Modality.AUDIO),
    }
    response = await provider.invoke(call(**speak, audio_output=AudioOutput(voice="v")))
    assert response.usage.audio_input_tokens == 20
    assert response.audio is not None
    assert response.audio.data.startswith(b"RIFF")
    assert response.audio.transcript == "see"
    got = await events(provider, call(**speak, audio_output=AudioOutput(voice="v")))
    assert isinstance(got[-1], StreamDone)
    with pytest.raises(UnsupportedFeature, match="speaks wav, mp3 and pcm16"):
        await provider.invoke(call(**speak, audio_output=AudioOutput(voice="v", format="opus")))
    with pytest.raises(UnsupportedFeature, match="makes no images"):
        await provider.invoke(call(output_modalities=(Modality.IMAGE,)))
    report = provider.report()
    assert (report.calls, report.running) == (2, 0)  # what is never sent is no call


async def test_marked_messages_are_cached() -> None:
    provider = SimProvider()
    long = Message.system("a long rule " * 500, cache=True)
    for expected in ((0, 1504), (1504, 0)):
        usage = (await provider.invoke(call(messages=(long, Message.user("x"))))).usage
        assert (usage.cache_read_tokens, usage.cache_write_tokens) == expected


async def test_limits_refuse_and_are_told() -> None:
    provider = SimProvider(limits=Limits(rpm=2, rpd=10, tpm=1000), clock=ManualClock())
    response = await provider.invoke(call())
    assert response.rate_limits is not None
    assert response.rate_limits.requests is not None
    assert (response.rate_limits.requests.limit, response.rate_limits.requests.remaining) == (2, 1)
    await provider.invoke(call())
    with pytest.raises(ProviderError) as caught:
        await provider.invoke(call())
    info = caught.value.info
    assert (info.type, info.retry_after, info.status_code) == (ErrorType.RATE_LIMITED, 60.0, 429)
    (failed,) = await events(provider, call())
    assert isinstance(failed, StreamFailed)
    report = provider.report()
    assert (report.calls, report.early_retries) == (4, 1)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("409", ErrorType.INVALID_REQUEST),
        ("400", ErrorType.INVALID_REQUEST),
        ("401", ErrorType.AUTHENTICATION),
        ("403", ErrorType.UNSUPPORTED_REGION),
        ("404", ErrorType.MODEL_NOT_FOUND),
        ("429", ErrorType.RATE_LIMITED),
        ("quota", ErrorType.QUOTA_EXHAUSTED),
        ("500", ErrorType.SERVER_ERROR),
        ("529", ErrorType.OVERLOADED),
        ("reset", ErrorType.CONNECTION),
        ("truncate", ErrorType.CONNECTION),
        ("stall", ErrorType.TIMEOUT_READ),
        ("malformed_json", ErrorType.SERVER_ERROR),
        ("empty", ErrorType.SERVER_ERROR),
        ("html", ErrorType.SERVER_ERROR),
        ("error_event", ErrorType.SERVER_ERROR),
    ],
)
async def test_faults_become_their_errors(fault: str, kind: ErrorType) -> None:
    provider = SimProvider(faults=Faults(probabilities={fault: 1.0}, stall_seconds=0))
    with pytest.raises(ProviderError) as caught:
        await provider.invoke(call())
    assert caught.value.info.type is kind
    assert caught.value.info.retryable is (fault == "409" or kind.traits.retryable)
    failed = (await events(provider, call()))[-1]
    assert isinstance(failed, StreamFailed)
    assert failed.error.type is kind


async def test_a_broken_stream_keeps_what_had_arrived() -> None:
    provider = SimProvider(RULES)
    header = {"x-llm-sim-fault": "cut"}
    failed = (await events(provider, call("one two three four", headers=header)))[-1]
    assert isinstance(failed, StreamFailed)
    assert failed.error.partial is not None
    assert failed.error.partial.text == "one two"
    assert failed.error.partial.usage.output_tokens == 2
    nothing = (await events(provider, call(headers={"x-llm-sim-fault": "html"})))[-1]
    assert isinstance(nothing, StreamFailed)
    assert nothing.error.partial is not None
    assert nothing.error.partial.parts == ()
    with pytest.raises(ProviderError) as caught:
        await provider.invoke(call(headers=header))
    assert caught.value.info.type is ErrorType.CONNECTION
    assert failed.error.partial.finish_reason is FinishReason.INCOMPLETE
    cut = (await events(provider, call("weather", headers=header)))[-1]
    assert isinstance(cut, StreamFailed)
    assert cut.error.partial is not None
    assert not cut.error.partial.tool_calls[0].complete
    thought = (await events(provider, call("think", headers=header)))[-1]
    assert isinstance(thought, StreamFailed)
    assert thought.error.partial is not None
    assert thought.error.partial.reasoning == "six times"
    assert thought.error.partial.text == ""


async def test_faults_of_bytes_leave_the_answer_as_it_is() -> None:
    provider = SimProvider(faults=["duplicate_chunks"])
    assert (await provider.invoke(call())).text == "one two three"


async def spend(clock: ManualClock, work: Any) -> Any:
    """Run something to its end, moving the clock for it."""
    task = asyncio.ensure_future(work)
    while not task.done():
        await clock.run_for(0.01)
    return task.result()


async def test_answers_take_their_time() -> None:
    clock = ManualClock()
    latency = Latency(first_token=Constant(1.0), per_token=Constant(0.5))
    provider = SimProvider(latency=latency, clock=clock)
    await spend(clock, provider.invoke(call()))
    assert clock.monotonic_ns() == pytest.approx(2.5e9, rel=0.01)
    await spend(clock, events(provider, call()))
    assert clock.monotonic_ns() == pytest.approx(5e9, rel=0.01)


@pytest.mark.parametrize(("fault", "seconds"), [("slow_body", 2.0), ("stall", 20.0)])
async def test_slow_faults_take_theirs(fault: str, seconds: float) -> None:
    clock = ManualClock()
    faults = Faults(probabilities={fault: 1.0}, slow_seconds=2, stall_seconds=20)
    provider = SimProvider(faults=faults, clock=clock)
    await spend(clock, events(provider, call()))
    assert clock.monotonic_ns() == pytest.approx(seconds * 1e9, rel=0.01)


async def test_the_time_allowed_ends_the_call() -> None:
    clock = ManualClock()
    provider = SimProvider(latency=Latency(first_token=Constant(60)), clock=clock)
    with pytest.raises(ProviderError) as caught:
        await spend(clock, provider.invoke(call(timeout_seconds=3)))
    assert caught.value.info.type is ErrorType.TIMEOUT_READ
    failed = (await spend(clock, events(provider, call(timeout_seconds=3))))[-1]
    assert failed.error.type is ErrorType.TIMEOUT_READ
    assert clock.monotonic_ns() == pytest.approx(6e9, rel=0.01)
    assert provider.report().running == 0


async def test_what_came_before_the_time_was_over_is_kept() -> None:
    clock = ManualClock()
    provider = SimProvider(latency=Latency(per_token=Constant(1.0)), clock=clock)
    failed = (await spend(clock, events(provider, call("one two three", timeout_seconds=2.5))))[-1]
    assert failed.error.partial.text == "one two"


async def test_a_cancelled_call_gives_its_place_back() -> None:
    provider = SimProvider(
        latency=Latency(first_token=Constant(60)), limits=Limits(concurrency=1), clock=ManualClock()
    )
    task = asyncio.ensure_future(provider.invoke(call()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    stream = provider.stream(call())
    assert await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    report = provider.report()
    assert (report.running, report.streams_abandoned) == (0, 1)


async def test_old_turns_are_forgotten() -> None:
    provider = SimProvider()
    first = await provider.invoke(call("x"))
    for _ in range(4096):
        await provider.invoke(call("x"))
    with pytest.raises(ProviderError, match="not found"):
        await provider.invoke(call(previous_response_id=first.response_id))
