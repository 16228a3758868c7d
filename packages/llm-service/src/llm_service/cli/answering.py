"""`Answering`: the requests of a file on their way through a service, into a journal."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import aclosing
from itertools import chain
from typing import Any

from llm_core import GenerationRequest, GenerationResult
from llm_service.cli.interrupts import on_interrupt
from llm_service.cli.journal import SYNC_SECONDS, Journal
from llm_service.cli.request_file import LINES_AT_ONCE, Item
from llm_service.service import BaseLLMService

__all__ = ["Answering"]


class Answering:
    """Answers what the journal does not hold yet, a bounded number at a time.

    An interrupt (SIGINT, SIGTERM, SIGHUP) ends the reading: calls in flight may finish within `drain_seconds`, and
    what is not finished then, or at a second interrupt, is cancelled and will be sent again by the next run.
    With `reload` SIGHUP calls that in place of ending anything, see `on_interrupt`.
    """

    def __init__(
        self,
        service: BaseLLMService,
        items: Iterable[Item],
        journal: Journal,
        *,
        in_flight: int,
        drain_seconds: float,
        on_result: Callable[[], None],
        say: Callable[[str], None],
        reload: Callable[[], None] | None = None,
    ) -> None:
        self._service = service
        self._items = items
        self._journal = journal
        self._in_flight = in_flight
        self._drain_seconds = drain_seconds
        self._on_result = on_result
        self._say = say
        self._reload = reload
        self._started = self._finished = 0
        self.stopped_by: signal.Signals | None = None
        """The signal that ended the run early."""

    async def run(self) -> None:
        """Answer everything, or what can be answered until an interrupt.

        Raises what reading the items and writing the journal raise; what was journalled is safe.
        """
        async with self._service:
            work = asyncio.ensure_future(self._answer())
            with on_interrupt(lambda number: self._stop(number, work), reload=self._reload):
                try:
                    await work
                except asyncio.CancelledError:
                    if self.stopped_by is None:
                        raise

    async def _answer(self) -> None:
        synced = time.monotonic()
        requests = self._requests(await self._unanswered())
        async with aclosing(
            self._service.generate_many(requests, in_flight=self._in_flight)
        ) as results:
            async for _, result in results:
                self._keep(result)
                if time.monotonic() - synced >= SYNC_SECONDS:
                    await asyncio.to_thread(self._journal.sync)
                    synced = time.monotonic()

    async def _unanswered(self) -> Iterator[Item]:
        """Skip what earlier runs have answered, which may be most of a large file, open to an interrupt."""
        items = iter(self._items)
        for number, item in enumerate(items):
            if not self._journal.index.answers(item):
                return chain((item,), items)
            if number % LINES_AT_ONCE == 0:
                await asyncio.sleep(0)
                if self.stopped_by is not None:
                    break
        return iter(())

    def _requests(self, items: Iterator[Item]) -> Iterator[GenerationRequest]:
        for item in items:
            if self.stopped_by is not None:
                return
            if not self._journal.index.answers(item):
                self._started += 1
                yield item.request

    def _keep(self, result: GenerationResult[Any]) -> None:
        self._journal.add(result)
        self._finished += 1
        self._on_result()

    def _stop(self, number: signal.Signals, work: asyncio.Task[None]) -> None:
        if self.stopped_by is not None:
            # A terminal that closes sends one SIGHUP, and its shell another.
            if number.name != "SIGHUP":
                work.cancel()
            return
        self.stopped_by = number
        left = self._started - self._finished
        if left:
            again = "; Ctrl-C stops them now" if self._drain_seconds > 0 else ""
            self._say(
                f"{left} call{'s' * (left != 1)} in flight may finish within {self._drain_seconds:g} s{again}"
            )
        asyncio.get_running_loop().call_later(self._drain_seconds, work.cancel)
