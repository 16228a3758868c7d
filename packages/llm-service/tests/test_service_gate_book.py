"""The gates of many models: made when one is asked, forgotten when nobody asks it any more."""

from __future__ import annotations

from llm_core import SystemClock
from llm_core.testing import ManualClock, ScriptedProvider
from llm_gates import BreakerPolicy
from llm_service import BaseLLMService
from llm_service.gate_book import GateBook, Limits


def book_of(clock: ManualClock) -> GateBook:
    return GateBook(Limits(max_rpm=5), breaker=BreakerPolicy(), gate=None, clock=clock)


class TestModelsThatNobodyAsksAnyMore:
    def test_they_are_forgotten_when_there_are_many(self) -> None:
        book = book_of(ManualClock())
        for number in range(1_500):
            book.gate_of("p", f"model-{number}", None)
        assert len(book.snapshots()) <= 1_000

    async def test_those_that_count_calls_are_kept_with_their_counts(self) -> None:
        clock = ManualClock()
        book = book_of(clock)
        asked, under_way = book.gate_of("p", "asked", None), book.gate_of("p", "under way", None)
        async with under_way.admit(tokens=1):
            await clock.run_for(120.0)
            async with asked.admit(tokens=1):
                pass
            for number in range(1_500):
                book.gate_of("p", f"model-{number}", None)
            assert book.gate_of("p", "under way", None) is under_way
            assert book.gate_of("p", "asked", None) is asked
            await clock.run_for(61.0)
            for number in range(1_500):
                book.gate_of("p", f"model-{number}", None)
            assert "p/asked" not in book.snapshots()
            assert "p/under way" in book.snapshots()

    async def test_a_service_asks_any_number_of_models(self) -> None:
        clock = ManualClock()
        service = BaseLLMService(provider=ScriptedProvider(), max_rpm=5, clock=clock)
        for number in range(1_500):
            assert (await service.generate("?", model=f"model-{number}")).success
            await clock.run_for(0.1)
        assert len(service.snapshot().gates) < 1_200


def test_models_that_are_asked_share_one_gate() -> None:
    book = GateBook(Limits(), breaker=None, gate=None, clock=SystemClock())
    assert book.gate_of("p", "m", None) is book.gate_of("p", "m", None)
    assert book.gate_of("p", "m", None) is not book.gate_of("q", "m", None)
