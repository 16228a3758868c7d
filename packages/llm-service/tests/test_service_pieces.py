"""Calls that are made of several: batches of texts to embed, pieces of sound to hear and of text to speak."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from llm_audio import AudioClip
from llm_audio.testing import FakeSoundSystem
from llm_core import (
    AudioPart,
    CacheMode,
    CachePolicy,
    Cost,
    CostStatus,
    DegradedReason,
    ErrorInfo,
    ErrorType,
    GenerationFinished,
    GenerationStarted,
    InvalidValue,
    ProviderError,
    Usage,
)
from llm_core.testing import ManualClock, MemoryCache, RecordingTelemetry, ScriptedProvider
from llm_gates import RpmGate
from llm_providers import Transcript
from llm_service import BaseLLMService, operation
from llm_service.audio import AudioOperations
from llm_service.ledger import total_cost

RATE = 16_000
WRONG = ErrorInfo.of(ErrorType.AUTHENTICATION, "no")
THREE = "One two three. Four five six. Seven eight nine."
CUT: dict[str, Any] = {"voice": "v", "max_characters": 17}


class Pieceworker(ScriptedProvider):
    """Embeds, hears and speaks; fails at each piece whose number, from 1, is in `fails`."""

    def __init__(self, *fails: int) -> None:
        super().__init__()
        self.fails = fails
        self.given: list[Any] = []
        self.finished = 0
        self.pauses: Callable[[int], Awaitable[object]] = lambda _: asyncio.sleep(0)

    async def _work(self, piece: Any) -> None:
        self.given.append(piece)
        number = len(self.given)
        await self.pauses(number)
        self.finished += 1
        if number in self.fails:
            raise ProviderError(WRONG)

    async def embed(self, texts: Any, *, model: str, dimensions: int | None) -> Any:
        await self._work(texts)
        vectors = tuple((1.0,) for _ in texts)
        return SimpleNamespace(model=model, usage=Usage(input_tokens=len(texts)), vectors=vectors)

    async def speak(self, text: str, *, voice: str, model: str, format: str) -> AudioPart:
        await self._work(text)
        return AudioClip.tone(440, 0.1 * len(text.split()), RATE).to("int16").to_part()

    async def transcribe(self, audio: AudioPart, *, model: str) -> Transcript:
        await self._work(audio)
        return Transcript(text="words", usage=Usage(input_tokens=10))


class InEuro:
    """A price book of another currency."""

    def price(self, usage: Usage, **_: Any) -> Cost:
        return Cost(amount=Decimal(1), currency="EUR", status=CostStatus.PRICED)


def service_of(provider: Any, **options: Any) -> AudioOperations:
    return AudioOperations(model="m", provider=provider, **options)


async def in_turns(number: int) -> None:
    """Let earlier pieces take longer."""
    for _ in range(100 - 10 * number):
        await asyncio.sleep(0)


class TestMoney:
    @pytest.mark.parametrize(
        ("costs", "total"),
        [
            ([("1", "EUR"), ("0", "USD"), ("2", "EUR")], ("3", "EUR")),
            ([("0", "USD"), ("2", "EUR")], ("2", "EUR")),
            ([("0", "USD"), ("0", "EUR")], ("0", "USD")),
        ],
    )
    def test_nothing_is_nothing_in_every_currency(self, costs: Any, total: Any) -> None:
        priced = [Cost(amount=Decimal(a), currency=c, status=CostStatus.PRICED) for a, c in costs]
        amount, currency = total
        summed = total_cost(priced)
        assert (summed.amount, summed.currency) == (Decimal(amount), currency)
        assert summed.status is CostStatus.PRICED

    def test_what_has_no_price_leaves_a_lower_bound(self) -> None:
        euro = Cost(amount=Decimal(1), currency="EUR", status=CostStatus.PRICED)
        expected = Cost(amount=Decimal(1), currency="EUR", status=CostStatus.UNPRICED)
        assert total_cost([Cost(), euro]) == expected

    async def test_a_batch_that_cost_nothing_is_no_other_currency(self) -> None:
        service = service_of(Pieceworker(2), price_book=InEuro())
        embedded = await service.embed(["x"] * 3000)
        assert embedded.error == WRONG
        assert (embedded.cost.amount, embedded.cost.currency) == (1, "EUR")

    async def test_a_piece_that_cost_nothing_is_no_other_currency(self) -> None:
        service = service_of(Pieceworker(3), price_book=InEuro())
        spoken = await service.speak(THREE, **CUT)
        assert spoken.error == WRONG
        assert (spoken.cost.amount, spoken.cost.currency) == (2, "EUR")

    async def test_what_later_pieces_cost_counts_when_an_earlier_one_fails(self) -> None:
        provider = Pieceworker(1)
        provider.pauses = in_turns
        service = service_of(provider)
        result = await service.speak(THREE, **CUT)
        (row,) = service.usage.rows()
        assert result.error == WRONG
        assert result.content is None
        assert len(result.attempts) == row.attempts == 3
        assert result.usage == row.usage
        assert result.usage.total_tokens > 0


class TestFailures:
    async def test_after_a_failure_those_that_still_wait_are_not_sent(self) -> None:
        provider, clock = Pieceworker(1), ManualClock()
        service = service_of(provider, clock=clock, gate=RpmGate(1, clock=clock))
        result = await asyncio.wait_for(service.speak(THREE, **CUT), 5)
        assert result.error == WRONG
        assert provider.given == ["One two three."]
        assert [a.error.type for a in result.attempts] == [
            ErrorType.AUTHENTICATION,
            ErrorType.CANCELLED,
            ErrorType.CANCELLED,
        ]

    async def test_those_that_are_under_way_are_ended_and_on_the_ledger(self) -> None:
        provider, heard = Pieceworker(2), RecordingTelemetry()
        hanging = asyncio.Event()

        async def pause(number: int) -> None:
            await (hanging.wait() if number == 3 else asyncio.sleep(0))

        provider.pauses = pause
        service = service_of(provider, telemetry=heard)
        result = await asyncio.wait_for(service.speak(THREE, **CUT), 5)
        assert result.error == WRONG
        assert result.content.duration_seconds == pytest.approx(0.3)
        ended = result.attempts[2]
        assert (ended.error.type, ended.usage.estimated) == (ErrorType.CANCELLED, True)
        finished = [e.result for e in heard.events if isinstance(e, GenerationFinished)]
        assert finished[-1].error.message == "an earlier piece failed"
        assert service.snapshot().in_flight == 0

    async def test_those_before_the_failure_come_to_their_end(self) -> None:
        provider = Pieceworker(3)
        provider.pauses = in_turns
        result = await service_of(provider).speak(THREE, **CUT)
        assert result.error == WRONG
        assert result.content.duration_seconds == pytest.approx(0.6)

    async def test_waits_are_those_of_all_pieces(self) -> None:
        clock = ManualClock()
        service = service_of(Pieceworker(), clock=clock, gate=RpmGate(1, clock=clock))
        task = asyncio.create_task(service.speak(THREE, **CUT))
        await clock.run_for(400)
        result = await task
        (row,) = service.usage.rows()
        assert result.backoff.gate_waits == 2
        assert result.backoff.gate_wait_seconds == row.gate_wait_seconds

    async def test_cancelling_the_whole_cancels_its_pieces(self) -> None:
        provider = Pieceworker()
        provider.pauses = lambda _: asyncio.Event().wait()
        service = service_of(provider)
        task = asyncio.create_task(service.speak(THREE, **CUT))
        while len(provider.given) < 3:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert service.snapshot().in_flight == 0

    async def test_closing_the_service_ends_the_whole(self) -> None:
        provider = Pieceworker()
        provider.pauses = lambda _: asyncio.Event().wait()
        service = service_of(provider)
        task = asyncio.create_task(service.speak(THREE, **CUT, fallback_value="none"))
        while len(provider.given) < 3:
            await asyncio.sleep(0)
        await service.aclose(drain_seconds=0)
        result = await task
        assert (result.success, result.error.type) == (False, ErrorType.CANCELLED)
        assert len(result.attempts) == 3


class TestDeadlines:
    async def test_an_operations_deadline_holds_for_all_pieces_together(self) -> None:
        class Guide(AudioOperations):
            @operation(deadline_seconds=90)
            async def tell(self) -> Any:
                return await self.speak(THREE, **CUT, in_flight=1)

        clock, provider = ManualClock(), Pieceworker()
        gate = RpmGate(1, clock=clock)
        guide = Guide(model="m", provider=provider, clock=clock, gate=gate)
        task = asyncio.create_task(guide.tell())
        await clock.run_for(400)
        result = await task
        assert not result.success
        assert len(provider.given) == 2
        assert result.timestamps.total_seconds <= 90

    async def test_a_configured_deadline_does_so_too(self) -> None:
        clock, provider = ManualClock(), Pieceworker()
        provider.pauses = lambda _: clock.sleep(50)
        service = service_of(
            provider, clock=clock, operation_fields=lambda _: {"deadline_seconds": 90.0}
        )
        task = asyncio.create_task(service.speak(THREE, **CUT, in_flight=1))
        await clock.run_for(400)
        result = await task
        assert result.error.type is ErrorType.TIMEOUT_DEADLINE
        assert result.error.message == "the deadline passed after 2 of 3 calls"
        assert result.content.duration_seconds == pytest.approx(0.6)
        assert result.request.deadline_seconds == 90

    @pytest.mark.parametrize("deadline", ["10", float("inf"), float("nan"), 0])
    async def test_what_is_no_deadline_is_refused(self, deadline: Any) -> None:
        service = service_of(Pieceworker())
        clip = AudioClip.silence(1, RATE)
        for result in (
            await service.speak(THREE, voice="v", deadline_seconds=deadline),
            await service.transcribe(clip, deadline_seconds=deadline),
            await service.embed(["x"], deadline_seconds=deadline),
        ):
            assert result.error.type is ErrorType.INVALID_REQUEST
            assert "deadline_seconds" in result.error.message


class TestFallbackValues:
    async def test_it_stands_in_for_all_batches_together(self) -> None:
        whole = await service_of(Pieceworker(2)).embed(["x"] * 3000, fallback_value=())
        plain = await service_of(Pieceworker(1)).embed(["x"], fallback_value=())
        for result in (whole, plain):
            assert result.success
            assert result.content == ()
            assert result.degraded.reason is DegradedReason.FALLBACK_VALUE
            assert result.degraded.error == result.error == WRONG
            assert result.request.fallback_value == ()
        assert whole.degraded.detail == plain.degraded.detail
        assert whole.usage.input_tokens == 2048

    @pytest.mark.parametrize("text", [THREE, "One."])
    async def test_it_stands_in_for_speech(self, text: str) -> None:
        taken: list[AudioClip] = []

        async def take(clip: AudioClip) -> None:
            taken.append(clip)

        service = service_of(Pieceworker(1))
        result = await service.speak(text, **CUT, fallback_value=None, on_clip=take)
        assert (result.success, result.content, result.audio, taken) == (True, None, None, [])

    @pytest.mark.parametrize("seconds", [1, 5])
    async def test_it_stands_in_for_a_transcript(self, seconds: int) -> None:
        service = service_of(Pieceworker(1))
        clip = AudioClip.silence(seconds, RATE)
        result = await service.transcribe(clip, max_seconds=2, fallback_value="nothing")
        assert (result.success, result.content) == (True, "nothing")

    async def test_it_does_not_stand_in_for_what_cannot_be_asked(self) -> None:
        result = await service_of(Pieceworker()).speak(THREE, **CUT, colour=1, fallback_value="x")
        assert not result.success

    async def test_it_is_not_needed_where_all_is_well(self) -> None:
        result = await service_of(Pieceworker()).embed(["x"] * 3000, fallback_value=())
        assert len(result.content) == 3000
        assert result.degraded is None


class TestNames:
    async def test_pieces_have_ids_of_their_own_under_that_of_the_whole(self) -> None:
        heard = RecordingTelemetry()
        service = service_of(Pieceworker(), telemetry=heard)
        result = await service.speak(THREE, **CUT, request_id="mine")
        begun = [e.request_id for e in heard.events if isinstance(e, GenerationStarted)]
        assert begun == ["mine-1", "mine-2", "mine-3"]
        assert result.request_id == result.request.request_id == "mine"

    async def test_a_single_piece_has_the_id_itself(self) -> None:
        heard = RecordingTelemetry()
        await service_of(Pieceworker(), telemetry=heard).embed(["x"], request_id="mine")
        assert {event.request_id for event in heard.events} == {"mine"}

    async def test_embeddings_are_called_so_beside_other_facts(self) -> None:
        result = await service_of(Pieceworker()).embed(["x"], metadata={"job": 1})
        assert result.request.metadata == {"gen_ai.operation.name": "embeddings", "job": 1}

    async def test_neither_vectors_nor_speech_are_kept_in_a_cache(self) -> None:
        cache = MemoryCache()
        service = service_of(Pieceworker(), cache=cache)
        use = CachePolicy(mode=CacheMode.USE)
        for _ in range(2):
            assert (await service.speak("Hello.", voice="v", cache=use)).unwrap()
            assert (await service.embed(["x"], cache=use)).unwrap()
        assert cache.results == {}


CLIP = AudioClip.silence(5, RATE)


class TestOptionsThatCannotBe:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"in_flight": 0}, "in_flight: got 0"),
            ({"in_flight": "8"}, "in_flight: got '8'"),
            ({"max_characters": "x"}, "max_characters: got 'x'"),
            ({"max_characters": 0}, "max_characters: got 0, expected a whole number, 1 or more"),
            ({"max_characters": 9.5}, "max_characters: got 9.5"),
            ({"on_clip": 3}, "on_clip: got 3"),
            ({"voice": None}, "voice"),
            ({"metadata": 3}, "metadata"),
        ],
    )
    async def test_of_speech_are_results(self, options: dict[str, Any], words: str) -> None:
        provider = Pieceworker()
        result = await service_of(provider).speak(THREE, **{"voice": "v", **options})
        assert result.error.type is ErrorType.INVALID_REQUEST
        assert words in result.error.message
        assert provider.given == []

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"in_flight": 0}, "in_flight: got 0"),
            ({"max_seconds": 1e-300}, "max_seconds: got 1e-300, expected a number, 1 or more"),
            ({"max_seconds": float("nan")}, "max_seconds: got nan"),
            ({"max_seconds": "9"}, "max_seconds: got '9'"),
            ({"max_bytes": -1}, "max_bytes: got -1"),
            ({"max_bytes": 200}, "max_bytes: got 200, expected enough for a second"),
            ({"overlap_seconds": float("nan")}, "overlap_seconds: got nan"),
            ({"overlap_seconds": "2"}, "overlap_seconds: got '2'"),
            ({"audio": "\0.wav"}, "null"),
        ],
    )
    async def test_of_transcribing_are_results(self, options: dict[str, Any], words: str) -> None:
        provider = Pieceworker()
        result = await service_of(provider).transcribe(**{"audio": CLIP, **options})
        assert result.error.type is ErrorType.INVALID_REQUEST
        assert words in result.error.message
        assert provider.given == []

    @pytest.mark.parametrize("in_flight", [0, -1, "8", 1.5, True])
    def test_of_many_requests_are_refused_at_once(self, in_flight: Any) -> None:
        with pytest.raises(InvalidValue, match="in_flight"):
            BaseLLMService(provider=Pieceworker()).generate_many([], in_flight=in_flight)


class TestListeners:
    async def test_what_on_clip_raises_ends_the_whole(self) -> None:
        provider = Pieceworker()

        async def pause(number: int) -> None:
            if number > 1:
                await asyncio.Event().wait()

        async def take(clip: AudioClip) -> None:
            raise KeyError("mine")

        provider.pauses = pause
        service = service_of(provider)
        with pytest.raises(KeyError, match="mine"):
            await service.speak(THREE, **CUT, on_clip=take)
        assert service.snapshot().in_flight == 0

    async def test_nothing_more_is_made_for_a_loudspeaker_that_fails(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken() -> FakeSoundSystem:
            raise RuntimeError("no loudspeaker")

        monkeypatch.setattr("llm_audio.device_stream.load_system", broken)
        monkeypatch.setattr("llm_audio.devices.load_system", broken)
        provider = Pieceworker()

        async def pause(number: int) -> None:
            if number > 1:
                await asyncio.Event().wait()

        provider.pauses = pause
        service = service_of(provider)
        with pytest.raises(RuntimeError, match="no loudspeaker") as raised:
            await service.speak(THREE, **CUT, play=True)
        assert service.snapshot().in_flight == 0, raised
