"""The files of a run: input read in constant memory, a journal that survives, a ledger of batches."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import pytest

from llm_core import (
    Cost,
    CostStatus,
    ErrorInfo,
    ErrorType,
    EventTimestamps,
    GenerationRequest,
    GenerationResult,
    InvalidValue,
    SystemClock,
    Usage,
)
from llm_core.testing import ScriptedProvider
from llm_providers import Batch, BatchState, ProviderRegistry
from llm_service.cli.batch_ledger import BatchLedger, SubmittedBatch
from llm_service.cli.batching import Batching
from llm_service.cli.journal import AnswerIndex, Journal
from llm_service.cli.request_file import RequestFile


def result_of(request: GenerationRequest, content: str = "yes") -> GenerationResult[str]:
    clock = SystemClock()
    return GenerationResult(
        request=request,
        success=True,
        content=content,
        timestamps=EventTimestamps(requested_at=clock.now(), requested=clock.monotonic_ns()),
        usage=Usage(input_tokens=10, output_tokens=10),
        model=request.model or "m",
        provider="scripted",
    )


def source_of(folder: Path, *texts: str) -> RequestFile:
    path = folder / "in.jsonl"
    path.write_text("".join(json.dumps({"user": text}) + "\n" for text in texts), encoding="utf-8")
    return RequestFile(path, settings="m")


class TestInput:
    """Reading requests."""

    def test_memory_does_not_grow_with_the_number_of_lines(self, tmp_path: Path) -> None:
        def peak(count: int) -> int:
            source = source_of(tmp_path, *["x" * 100] * count)
            tracemalloc.start()
            assert sum(1 for _ in source) == count
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            return most

        peak(10)
        # All requests at once would be megabytes; a coverage tool's own books are in it as well.
        assert peak(5_000) < peak(500) + 500_000

    def test_a_byte_order_mark_and_blank_lines_are_passed_over(self, tmp_path: Path) -> None:
        path = tmp_path / "in.jsonl"
        path.write_bytes(b'\xef\xbb\xbf{"user": "a"}\r\n\r\n{"user": "b\xe2\x80\xa8"}')
        items = list(RequestFile(path))
        assert [(item.line, item.request.user) for item in items] == [(1, "a"), (3, "b\u2028")]

    def test_the_hash_changes_with_the_line_and_the_settings_alone(self, tmp_path: Path) -> None:
        path = source_of(tmp_path, "a").path
        digests = [
            next(iter(RequestFile(path, **options))).digest
            for options in (
                {"settings": "m"},
                {"settings": "m"},
                {"settings": "n" * 99},
                {"settings": "m", "template": "x"},
            )
        ]
        assert digests[0] == digests[1]
        assert len(set(digests)) == 3

    def test_tables_may_be_separated_by_tabs_and_hold_nothing(self, tmp_path: Path) -> None:
        table = tmp_path / "in.tsv"
        table.write_text("user\tsystem\na, b\t\n", encoding="utf-8")
        assert [item.request.user for item in RequestFile(table)] == ["a, b"]
        table.write_text("", encoding="utf-8")
        with pytest.raises(click.ClickException, match="holds no requests"):
            list(RequestFile(table))

    def test_a_folder_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(click.ClickException, match="cannot be read: Is a directory"):
            list(RequestFile(tmp_path))

    def test_objects_with_a_template_keep_what_is_no_field(self, tmp_path: Path) -> None:
        path = tmp_path / "in.jsonl"
        path.write_text('{"n": 7, "metadata": {"a": 1}, "system": "s"}\n', encoding="utf-8")
        (item,) = RequestFile(path, template="{{{n:03}}}")
        assert (item.request.user, item.request.system) == ("{007}", "s")
        assert item.request.metadata["n"] == 7
        assert item.request.metadata["a"] == 1

    def test_wrong_metadata_is_refused_by_its_name(self, tmp_path: Path) -> None:
        path = tmp_path / "in.jsonl"
        path.write_text('{"user": "a", "metadata": 3}\n', encoding="utf-8")
        with pytest.raises(click.ClickException, match="metadata: got 3"):
            list(RequestFile(path))


class TestJournal:
    """Keeping what has finished."""

    def test_what_cannot_be_read_is_told_so(self, tmp_path: Path) -> None:
        for read in (AnswerIndex.read, lambda path: BatchLedger(path.with_suffix(""))):
            path = tmp_path / "out.batches"
            path.mkdir(exist_ok=True)
            with pytest.raises(click.ClickException, match="batches: cannot be read: Is a dir"):
                read(path)

    def test_a_torn_line_is_cut_off_and_asked_again(self, tmp_path: Path) -> None:
        first, second = source_of(tmp_path, "a", "b")
        with Journal.resume(tmp_path / "out") as journal:
            journal.open()
            journal.add(result_of(first.request))
            whole = journal.path.stat().st_size
            journal.add(result_of(second.request))
        with journal.path.open("r+b") as stream:
            stream.truncate(whole + 100)
        with Journal.resume(tmp_path / "out") as journal:
            assert [journal.index.answers(item) for item in (first, second)] == [True, False]
            journal.open()
            assert journal.path.stat().st_size == whole
            journal.add(result_of(second.request, "\ud83d half a pair"))
            journal.publish(in_input_order=True)
        lines = (tmp_path / "out").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["content"] for line in lines] == ["yes", "\ud83d half a pair"]

    def test_a_line_in_the_middle_that_is_none_is_named(self, tmp_path: Path) -> None:
        (item,) = source_of(tmp_path, "a")
        with Journal.resume(tmp_path / "out") as journal:
            journal.open()
            journal.add(result_of(item.request))
        with journal.path.open("ab") as stream:
            stream.write(b"garbage\n")
        with pytest.raises(click.ClickException, match=r"out\.journal:2: not written by"):
            Journal.resume(tmp_path / "out")

    @pytest.mark.parametrize(
        "metadata", [{}, {"input_line": 0, "input_hash": "00"}, {"x": 1}, None]
    )
    def test_results_of_other_origin_are_no_answers(self, tmp_path: Path, metadata: Any) -> None:
        path = tmp_path / "out"
        path.write_text(json.dumps({"request": {"metadata": metadata}}) + "\n", encoding="utf-8")
        with pytest.raises(click.ClickException, match="not written by"):
            AnswerIndex.read(path)

    def test_two_that_begin_at_once_do_not_mix(self, tmp_path: Path) -> None:
        (item,) = source_of(tmp_path, "a")
        late = Journal.resume(tmp_path / "out")
        with Journal.resume(tmp_path / "out") as early:
            early.open()
            with pytest.raises(click.ClickException, match="another run is writing it"):
                late.open()
            early.add(result_of(item.request))
        with pytest.raises(click.ClickException, match="another run has begun it"):
            late.open()
        late.close()
        assert early.path.exists()

    def test_an_empty_journal_is_not_left_behind(self, tmp_path: Path) -> None:
        with Journal.resume(tmp_path / "out") as journal:
            journal.open()
        assert list(tmp_path.iterdir()) == []


class FakeBatches:
    """A vendor's batch API whose next failures can be set."""

    def __init__(self) -> None:
        self.failures: list[BaseException] = []
        self.submitted: list[list[GenerationRequest]] = []
        self.cancelled: list[str] = []
        self.polls = 0

    async def submit(self, requests: Any) -> Batch:
        self._fail()
        self.submitted.append(list(requests))
        return self._batch(f"b{len(self.submitted)}", BatchState.IN_PROGRESS)

    async def poll(self, batch_id: str) -> Batch:
        self._fail()
        self.polls += 1
        ended = self.polls > len(self.submitted)
        return self._batch(batch_id, BatchState.ENDED if ended else BatchState.IN_PROGRESS)

    async def cancel(self, batch_id: str) -> Batch:
        self._fail()
        self.cancelled.append(batch_id)
        return self._batch(batch_id, BatchState.CANCELLING)

    async def results(self, batch_id: str, requests: Any) -> Any:
        self._fail()
        return tuple(result_of(request) for request in requests)

    def _batch(self, name: str, state: BatchState) -> Batch:
        return Batch(provider="scripted", id=name, state=state, succeeded=1)

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)


class FakePrices:
    """A price book without prices for batches, as far as it is not told otherwise."""

    def __init__(self, status: CostStatus = CostStatus.ESTIMATED) -> None:
        self.status = status

    def price(self, usage: Usage, **_: Any) -> Cost:
        return Cost(amount=Decimal(8), status=self.status, source="book")


def submitted_batch(name: str, *lines: int) -> SubmittedBatch:
    noon = datetime(2026, 11, 1, 12, tzinfo=UTC)
    return SubmittedBatch(id=name, provider="scripted", lines=lines, digest="00", submitted_at=noon)


class BatchProvider(ScriptedProvider):
    """A scripted provider with a batch API."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = FakeBatches()


class Run:
    """A batch run in a folder, without waiting."""

    def __init__(self, folder: Path, *texts: str) -> None:
        self.folder = folder
        self.source = source_of(folder, *texts)
        self.provider = BatchProvider()
        self.prices: Any = FakePrices()
        self.said: list[str] = []
        self.pauses: list[float] = []

    def __call__(self, *, restart: bool = False, batch_size: int = 10) -> list[dict[str, Any]]:
        """Run to the end; returns the results in the order of the input."""
        with Journal.resume(self.folder / "out", restart=restart) as journal:
            journal.open()
            ledger = BatchLedger(self.folder / "out", restart=restart)
            batching = Batching(
                self.source,
                journal,
                ledger,
                model_of=lambda _: "scripted/m",
                registry=ProviderRegistry({"scripted": self.provider}),
                prices=self.prices,
                batch_size=batch_size,
                poll_seconds=60.0,
                on_result=lambda: None,
                say=self.said.append,
                sleep=self._sleep,
            )
            asyncio.run(batching.run())
            journal.publish(in_input_order=True)
        lines = (self.folder / "out").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)


class TestBatching:
    """The vendors' batch APIs, with a vendor that does as it is told."""

    def test_batches_are_of_the_size_that_was_asked_for(self, tmp_path: Path) -> None:
        run = Run(tmp_path, "a", "b", "c", "d", "e")
        results = run(batch_size=2)
        assert [len(batch) for batch in run.provider.batches.submitted] == [2, 2, 1]
        assert {r["request"]["model"] for r in results} == {"m"}
        assert 60.0 in run.pauses
        assert "b1: 1 of 2" in run.said

    def test_without_a_batch_price_half_the_standard_one_is_an_estimate(
        self, tmp_path: Path
    ) -> None:
        run = Run(tmp_path, "a")
        (result,) = run()
        assert (result["cost"]["amount"], result["cost"]["status"]) == ("4", "estimated")
        assert result["cost"]["source"] == "book,half for batch"
        run.prices = FakePrices(CostStatus.PRICED)
        (result,) = run(restart=True)
        assert result["cost"]["amount"] == "8"
        run.prices = None
        (result,) = run(restart=True)
        assert result["cost"]["amount"] is None

    def test_a_failure_that_passes_is_waited_out(self, tmp_path: Path) -> None:
        run = Run(tmp_path, "a")
        busy = ErrorInfo.of(ErrorType.OVERLOADED, "busy").to_exception()
        run.provider.batches.failures = [busy, busy]
        assert len(run()) == 1
        assert len(run.pauses) >= 2

    def test_a_failure_that_stays_is_one_line(self, tmp_path: Path) -> None:
        run = Run(tmp_path, "a")
        wrong = ErrorInfo.of(ErrorType.AUTHENTICATION, "wrong key").to_exception()
        run.provider.batches.failures = [wrong]
        with pytest.raises(click.ClickException, match=r"--batch: .*wrong key"):
            run()

    def test_only_the_request_that_is_refused_fails(self, tmp_path: Path) -> None:
        run = Run(tmp_path, "a", "b", "c")
        refusal = InvalidValue("no batch holds this")
        run.provider.batches.failures = [refusal, refusal]
        results = run()
        assert [r["success"] for r in results] == [False, True, True]
        assert results[0]["error"]["type"] == "invalid_request"

    def test_beginning_anew_gives_up_what_was_under_way(self, tmp_path: Path) -> None:
        run = Run(tmp_path, "a")
        old = submitted_batch("old", 1)
        stuck = replace(old, id="stuck")
        for batch in (old, stuck):
            BatchLedger(tmp_path / "out").note_submitted(batch)
        run.provider.batches.failures = [ErrorInfo.of(ErrorType.TIMEOUT_READ, "?").to_exception()]
        run(restart=True)
        assert run.provider.batches.cancelled == ["stuck"]
        assert any("old: could not be cancelled" in words for words in run.said)

    def test_requests_are_split_by_what_one_batch_may_weigh(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("llm_service.cli.batching.MAX_CHUNK_BYTES", 1_500)
        monkeypatch.setattr("llm_service.cli.batching._MOST_LINES_AT_ONCE", 1)
        run = Run(tmp_path, "a", "b", "c")
        assert len(run()) == 3
        assert len(run.provider.batches.submitted) > 1

    def test_a_torn_line_of_the_ledger_is_cut_off(self, tmp_path: Path) -> None:
        ledger = BatchLedger(tmp_path / "out")
        batch = submitted_batch("b", 1, 2)
        ledger.note_submitted(batch)
        ledger.note_submitted(replace(batch, id="c"))
        ledger.note_collected(batch)
        with ledger.path.open("ab") as stream:
            stream.write(b'{"coll')
        assert [b.id for b in BatchLedger(tmp_path / "out").open_batches] == ["c"]
        assert ledger.path.read_bytes().endswith(b"\n")
        ledger.path.write_text("[]\n", encoding="utf-8")
        with pytest.raises(click.ClickException, match=r"out\.batches:1: not written by"):
            BatchLedger(tmp_path / "out")
