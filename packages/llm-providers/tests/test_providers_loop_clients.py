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
        self.times_closed = 0

    async def close(self) -> None:
        self.closed_on = asyncio.get_running_loop()
        self.times_closed += 1


def clients(made: list[Client], kind: type[Client] = Client) -> LoopClients[Client]:
    def make() -> Client:
        made.append(kind())
        return made[-1]

    return LoopClients(make, lambda client: client.close(), close_seconds=0.05)


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


def test_a_client_is_closed_when_its_loop_ends() -> None:
    made: list[Client] = []
    known = clients(made)
    for number in range(3):
        with asyncio.Runner() as runner:
            runner.run(_current(known))
            loop = runner.get_loop()
            assert made[number].closed_on is None
        assert made[number].closed_on is loop
    asyncio.run(known.aclose())
    assert [client.times_closed for client in made] == [1, 1, 1]


def test_a_client_that_was_closed_by_hand_is_not_closed_again_when_its_loop_ends() -> None:
    made: list[Client] = []
    known = clients(made)

    async def use() -> None:
        await known.current()
        await known.aclose()
        await known.current()

    asyncio.run(use())
    assert [client.times_closed for client in made] == [1, 1]


def test_a_loop_that_runs_on_after_its_generators_were_closed_gets_a_new_client() -> None:
    made: list[Client] = []
    known = clients(made)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(_current(known))
    loop.run_until_complete(loop.shutdown_asyncgens())
    with pytest.warns(ResourceWarning, match="after loop.shutdown_asyncgens"):
        loop.run_until_complete(_current(known))
    loop.run_until_complete(known.aclose())
    loop.close()
    assert [client.times_closed for client in made] == [1, 1]


@pytest.mark.parametrize("closed_first", [True, False])
def test_the_client_of_a_loop_that_does_not_run_is_let_go(closed_first: bool) -> None:
    made: list[Client] = []
    known = clients(made)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(_current(known))
    if closed_first:
        loop.close()
    asyncio.run(known.aclose())
    loop.close()
    del known
    gc.collect()
    assert made[0].closed_on is None


def test_a_provider_that_is_dropped_between_two_runs_of_its_loop_leaves_nothing_to_tell() -> None:
    made: list[Client] = []
    known = clients(made)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(_current(known))
    del known
    gc.collect()
    loop.close()
    gc.collect()
    assert made[0].closed_on is None


async def test_a_dropped_client_is_closed_on_its_loop() -> None:
    made: list[Client] = []
    await clients(made).current()
    gc.collect()
    await asyncio.sleep(0)  # the loop begins to close it,
    await asyncio.sleep(0)  # and does
    assert made[0].closed_on is asyncio.get_running_loop()


class Hanging(Client):
    """A client that does not come to an end."""

    async def close(self) -> None:
        await super().close()
        await asyncio.Event().wait()


class Breaking(Client):
    """A client that breaks while it is closed."""

    async def close(self) -> None:
        await super().close()
        raise OSError("broken pipe")


@pytest.mark.parametrize("kind", [Hanging, Breaking])
def test_a_client_that_cannot_be_closed_does_not_keep_its_loop_from_ending(
    kind: type[Client], caplog: pytest.LogCaptureFixture
) -> None:
    made: list[Client] = []
    known = clients(made, kind)
    asyncio.run(_current(known))
    assert made[0].times_closed == 1
    assert not caplog.records


async def test_a_client_that_takes_too_long_to_close_is_let_go() -> None:
    made: list[Client] = []
    known = clients(made, Hanging)
    await known.current()
    await known.aclose()
    await known.aclose()
    assert made[0].times_closed == 1


async def test_a_client_that_breaks_while_closing_keeps_no_other_from_being_closed() -> None:
    made: list[Client] = []
    known = clients(made, Breaking)
    await known.current()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(known.current(), loop))
    with pytest.raises(OSError, match="broken pipe"):
        await known.aclose()
    loop.call_soon_threadsafe(loop.stop)
    await asyncio.to_thread(thread.join)
    loop.close()
    assert [client.closed_on for client in made] == [asyncio.get_running_loop(), loop]
    await known.aclose()
    assert [client.times_closed for client in made] == [1, 1]


async def test_a_loop_that_is_blocked_does_not_block_the_closing() -> None:
    made: list[Client] = []
    known = clients(made)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(known.current(), loop))
    free = threading.Event()
    loop.call_soon_threadsafe(free.wait)
    await known.aclose()
    free.set()
    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop))
    loop.call_soon_threadsafe(loop.stop)
    await asyncio.to_thread(thread.join)
    loop.close()


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

    def use_and_close() -> None:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(use())
        loop.close()

    for _ in range(5):
        await asyncio.to_thread(use_and_close)
    await known.current()
    assert len(known._clients) == 1
