"""`Batching`: the requests of a file through the vendors' batch APIs, at half the price and within a day."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from llm_core import (
    UNSET,
    GenerationResult,
    LLMError,
    ProviderError,
    RequestError,
    SystemClock,
)
from llm_providers import Batches, BatchState, ProviderRegistry
from llm_service.cli.batch_ledger import BatchLedger, SubmittedBatch, digest_of
from llm_service.cli.batch_result import collected, refused
from llm_service.cli.interrupts import on_interrupt
from llm_service.cli.journal import Journal
from llm_service.cli.model_names import told_error
from llm_service.cli.request_file import LINES_AT_ONCE, Item

if TYPE_CHECKING:
    from llm_metrics import PriceBook

__all__ = ["MAX_CHUNK_BYTES", "Batching"]

MAX_CHUNK_BYTES = 100_000_000
"""Of requests as JSON in one batch: half of what OpenAI takes (200 MB), as its own form is longer than ours."""

T = TypeVar("T")

_MOST_LINES_AT_ONCE = 50_000
_SUBMIT_ATTEMPTS = 5
_LONGEST_PAUSE_SECONDS = 60.0


@dataclass(slots=True)
class _Chunk:
    """Requests for one model that will go into one batch."""

    provider: str
    items: list[Item] = field(default_factory=list)
    size: int = 0


class Batching:
    """Submits what neither the journal nor a batch under way answers, polls, and collects into the journal.

    An interrupt ends the waiting; the batches go on at the vendor, and the next run collects them.
    """

    def __init__(
        self,
        items: Iterable[Item],
        journal: Journal,
        ledger: BatchLedger,
        *,
        model_of: Callable[[str | None], str],
        registry: ProviderRegistry,
        prices: PriceBook | None,
        batch_size: int,
        poll_seconds: float,
        on_result: Callable[[], None],
        say: Callable[[str], None],
        sleep: Callable[[float], Any] = asyncio.sleep,
    ) -> None:
        self._items = items
        self._journal = journal
        self._ledger = ledger
        self._model_of = model_of
        self._registry = registry
        self._prices = prices
        self._batch_size = batch_size
        self._poll_seconds = poll_seconds
        self._on_result = on_result
        self._say = say
        self._sleep = sleep
        self._clock = SystemClock()
        self.stopped_by: signal.Signals | None = None
        """The signal that ended the run early."""

    async def run(self) -> None:
        """Answer everything, or what can be answered until an interrupt.

        Raises click.ClickException when the vendor refuses for good; what it accepted before is in the ledger.
        """
        async with self._registry:
            work = asyncio.ensure_future(self._run())
            with on_interrupt(lambda number: self._stop(number, work)):
                try:
                    await work
                except asyncio.CancelledError:
                    if self.stopped_by is None:
                        raise
                except LLMError as error:
                    raise click.ClickException(f"--batch: {told_error(error)}") from None

    def _stop(self, number: signal.Signals, work: asyncio.Task[None]) -> None:
        is_first, self.stopped_by = self.stopped_by is None, number
        left = len(self._ledger.open_batches)
        if left and is_first:
            self._say(f"{left} batch{' goes' if left == 1 else 'es go'} on at the vendor")
        work.cancel()

    async def _run(self) -> None:
        await self._check()
        await self._cancel_forgotten()
        async for chunk in self._chunks():
            await self._submit(chunk)
        while self._ledger.open_batches:
            ended = [b for b in self._ledger.open_batches if await self._has_ended(b)]
            for some in _groups(ended):
                items = self._read(some)
                for batch in some:
                    await self._collect(batch, items)
            if self._ledger.open_batches:
                await self._sleep(self._poll_seconds)

    async def _check(self) -> None:
        """Find what cannot be submitted before anything is, open to an interrupt."""
        usable: set[str] = set()
        async for item in self._open_items():
            try:
                provider, _ = self._for_vendor(item)
                if provider not in usable:
                    self._check_provider(provider)
                    usable.add(provider)
            except (LLMError, click.ClickException) as error:
                told = told_error(error) if isinstance(error, LLMError) else error.format_message()
                raise click.ClickException(f"--batch: line {item.line}: {told}") from None

    def _check_provider(self, name: str) -> None:
        provider: Any = self._registry.get(name)
        if not hasattr(provider, "batches"):
            raise click.ClickException(f"{name} has no batch API")
        if hasattr(provider, "check"):
            provider.check()

    async def _open_items(self) -> AsyncIterator[Item]:
        """Yield what neither the journal nor a batch under way answers, open to an interrupt."""
        under_way = self._ledger.lines()
        for number, item in enumerate(self._items):
            if number % LINES_AT_ONCE == 0:
                await asyncio.sleep(0)
            if item.line not in under_way and not self._journal.index.answers(item):
                yield item

    async def _cancel_forgotten(self) -> None:
        """Give up the batches of a run that begins anew; one that cannot be is left to itself."""
        for batch in self._ledger.forgotten:
            try:
                await self._batches_of(batch.provider).cancel(batch.id)
            except LLMError as error:
                self._say(f"{batch.id}: could not be cancelled: {error}")
        if self._ledger.forgotten:
            self._ledger.remove()

    async def _chunks(self) -> AsyncIterator[_Chunk]:
        """Gather the unanswered requests by model, one batch full at a time."""
        chunks: dict[tuple[str, str], _Chunk] = {}
        async for unanswered in self._open_items():
            provider, item = self._for_vendor(unanswered)
            key = (provider, str(item.request.model))
            size = len(json.dumps(item.request.to_dict()))
            chunk = chunks.get(key)
            if chunk is not None and chunk.size + size > MAX_CHUNK_BYTES:
                yield chunks.pop(key)
            chunk = chunks.setdefault(key, _Chunk(provider))
            chunk.items.append(item)
            chunk.size += size
            if len(chunk.items) >= self._batch_size:
                yield chunks.pop(key)
        for chunk in chunks.values():
            yield chunk

    def _for_vendor(self, item: Item) -> tuple[str, Item]:
        """Return the vendor and the item with the vendor's own model name; refuse what a batch cannot do."""
        request = item.request
        if request.pipeline is not None or request.fallback_value is not UNSET:
            raise click.ClickException(
                "pipeline and fallback_value need calls one by one, without --batch"
            )
        found = self._registry.resolve(request.model or self._model_of(request.operation_name))
        return found.provider.name, replace(item, request=request.replace(model=found.model))

    def _batches_of(self, provider: str) -> Batches:
        found: Any = self._registry.get(provider)
        batches: Batches = found.batches
        return batches

    async def _submit(self, chunk: _Chunk) -> None:
        """Submit a chunk; a request that no batch can hold is answered with its failure, and the rest goes."""
        requests = [item.request for item in chunk.items]
        try:
            batch = await self._patiently(lambda: self._batches_of(chunk.provider).submit(requests))
        except RequestError as error:
            if len(chunk.items) == 1:
                item = chunk.items[0]
                self._keep(refused(item, error, provider=chunk.provider, clock=self._clock))
                return
            middle = len(chunk.items) // 2
            for half in (chunk.items[:middle], chunk.items[middle:]):
                await self._submit(_Chunk(chunk.provider, half))
            return
        submitted = SubmittedBatch(
            id=batch.id,
            provider=chunk.provider,
            lines=tuple(item.line for item in chunk.items),
            digest=digest_of(chunk.items),
            submitted_at=self._clock.now(),
        )
        self._ledger.note_submitted(submitted)
        self._say(
            f"{batch.id}: {len(requests)} request{'s' * (len(requests) != 1)} submitted to {chunk.provider}"
        )

    async def _has_ended(self, batch: SubmittedBatch) -> bool:
        state = await self._patiently(lambda: self._batches_of(batch.provider).poll(batch.id))
        done = state.succeeded + state.failed
        if state.state is BatchState.IN_PROGRESS and done:
            self._say(f"{batch.id}: {done} of {len(batch.lines)}")
        return state.state in (BatchState.ENDED, BatchState.FAILED)

    def _read(self, batches: Sequence[SubmittedBatch]) -> dict[int, Item]:
        """Read the requests of some batches again, in one go, by their lines."""
        wanted = {line for batch in batches for line in batch.lines}
        return {item.line: self._for_vendor(item)[1] for item in self._items if item.line in wanted}

    async def _collect(self, batch: SubmittedBatch, by_line: Mapping[int, Item]) -> None:
        items = [by_line[line] for line in batch.lines if line in by_line]
        if digest_of(items) != batch.digest:
            raise click.ClickException(
                f"{batch.id}: its lines have changed since it was submitted; --restart asks anew"
            )
        requests = [item.request for item in items]
        results = await self._patiently(
            lambda: self._batches_of(batch.provider).results(batch.id, requests)
        )
        for item, result in zip(items, results, strict=True):
            if not self._journal.index.answers(item):
                self._keep(
                    collected(
                        result,
                        submitted_at=batch.submitted_at,
                        prices=self._prices,
                        clock=self._clock,
                    )
                )
        self._journal.sync()
        self._ledger.note_collected(batch)

    def _keep(self, result: GenerationResult[Any]) -> None:
        self._journal.add(result)
        self._on_result()

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call to a vendor, again after pauses if it fails in a way that passes."""
        import tenacity

        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(_passes),
            wait=tenacity.wait_random_exponential(multiplier=1, max=_LONGEST_PAUSE_SECONDS),
            stop=tenacity.stop_after_attempt(_SUBMIT_ATTEMPTS),
            sleep=self._sleep,
            reraise=True,
        )

        async def once() -> T:
            return await call()

        answer: T = await retrying(once)
        return answer


def _groups(batches: Iterable[SubmittedBatch]) -> Iterator[list[SubmittedBatch]]:
    """Yield the batches in groups whose requests fit into memory together."""
    group: list[SubmittedBatch] = []
    for batch in batches:
        if group and sum(len(b.lines) for b in (*group, batch)) > _MOST_LINES_AT_ONCE:
            yield group
            group = []
        group.append(batch)
    if group:
        yield group


def _passes(error: BaseException) -> bool:
    return isinstance(error, ProviderError) and error.info.retryable
