from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from llm_core import ConfigurationError, MissingDependencyError
from llm_providers.loop_clients import LoopClients


class Client:
    """A client that knows whether it was closed, and on which loop."""

    def __init__(self) -> None:
        self.closed_on: asyncio.AbstractEventLoop | None = None

    async def close(self) -> None:
        self.closed_on = asyncio.get_running_loop()


def clients(made: list[Client]) -> LoopClients[Client]:
    def make() -> Client:
        made.append(Client())
        return made[-1]

    return LoopClients(make, Client.close)


async def test_one_loop_has_one_client_however_many_ask_at_once() -> None:
    made: list[Client] = []
    known = clients(made)
    got = await asyncio.gather(*[known.current() for _ in range(10)])
    assert len(made) == 1
    assert set(got) == set(made)


async def test_another_loop_has_a_client_of_its_own_closed_where_it_lives() -> None:
    made: list[Client] = []
    known = clients(made)
    here = await known.current()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    there = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(known.current(), loop))
    assert here is not there
    await known.aclose()
    assert here.closed_on is asyncio.get_running_loop()
    assert there.closed_on is loop
    assert await known.current() not in (here, there)
    loop.call_soon_threadsafe(loop.stop)
    await asyncio.to_thread(thread.join)
    loop.close()


async def test_the_client_of_a_loop_that_ended_is_let_go() -> None:
    made: list[Client] = []
    known = clients(made)
    await asyncio.to_thread(lambda: asyncio.run(_current(known)))
    await known.aclose()
    assert made[0].closed_on is None
    gc.collect()


async def _current(known: LoopClients[Client]) -> None:
    await known.current()


async def test_a_client_checked_beforehand_serves_the_first_call() -> None:
    made: list[Client] = []
    known = clients(made)
    known.check()
    known.check()
    assert await known.current() is made[0]
    known.check()
    assert len(made) == 1
    unused = clients(made)
    unused.check()
    await unused.aclose()
    assert made[1].closed_on is not None


async def test_making_that_fails_is_tried_anew() -> None:
    tries = 0

    def make() -> Client:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise MissingDependencyError("not yet")
        return Client()

    known = LoopClients(make, Client.close)
    with pytest.raises(MissingDependencyError):
        await known.current()
    assert isinstance(await known.current(), Client)


async def test_whatever_an_sdk_dislikes_beforehand_is_the_configurations_fault() -> None:
    def make() -> Client:
        raise ValueError("Invalid port: 'port'")

    known = LoopClients(make, Client.close)
    with pytest.raises(ConfigurationError, match="Invalid port"):
        await known.current()
    with pytest.raises(ConfigurationError, match="Invalid port"):
        known.check()


async def test_clients_of_ended_loops_do_not_pile_up_though_they_hold_their_loop() -> None:
    class Holding(Client):
        def __init__(self) -> None:
            super().__init__()
            self.loop: asyncio.AbstractEventLoop | None = None

    known = LoopClients(Holding, Client.close)

    async def use() -> None:
        (await known.current()).loop = asyncio.get_running_loop()

    for _ in range(5):
        await asyncio.to_thread(lambda: asyncio.run(use()))
    await known.current()
    assert len(known._clients) == 1
