"""Clients, event loops, connections: over real sockets on 127.0.0.1."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from llm_core import (
    ConfigurationError,
    ErrorType,
    LLMCallRequest,
    Message,
    MissingDependencyError,
    ProviderError,
    StreamDone,
    StreamFailed,
    StreamStarted,
    TextDelta,
)
from llm_providers import AnthropicProvider, OllamaProvider, OpenAIProvider
from llm_providers.client_transport import ResponseStream
from llm_providers.credentials import Secret, shown_url
from llm_providers.provider import BaseLLMProvider
from llm_providers.sdk_transport import SdkTransport
from llm_providers.testing import CannedTransport
from llm_providers.wire import WireCall

HELLO = LLMCallRequest(model="gpt-4o", messages=(Message.user("Hi"),))
OUTPUT = b'{"id":"r","status":"completed","output":[],"usage":{}}'
DELTA = b'data: {"type":"response.output_text.delta","delta":"Hi"}\n\n'

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def served(talk: Talk) -> AsyncIterator[str]:
    """Serve raw sockets; `talk` gets each connection once its request head was read."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/v1"


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Keep the connection open and silent until the client hangs up: since Python 3.12 the server waits for this."""
    await reader.read()


def plain(body: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body)


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


def piece(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def test_closing_a_stream_closes_its_connection_at_once() -> None:
    closed = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + piece(DELTA))
        while await reader.read(1000):
            pass
        closed.set()

    async with served(talk) as url, OpenAIProvider("k", url) as provider:
        stream = provider.stream(HELLO)
        async for event in stream:
            if isinstance(event, TextDelta):
                break
        await stream.aclose()  # type: ignore[attr-defined]
        await asyncio.wait_for(closed.wait(), 2)


async def test_cancelling_the_reader_closes_the_connection_and_is_not_swallowed() -> None:
    closed, seen = asyncio.Event(), asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + piece(DELTA))
        while await reader.read(1000):
            pass
        closed.set()

    async def read(provider: OpenAIProvider) -> None:
        async for event in provider.stream(HELLO):
            if isinstance(event, TextDelta):
                seen.set()

    async with served(talk) as url, OpenAIProvider("k", url) as provider:
        task = asyncio.create_task(read(provider))
        await asyncio.wait_for(seen.wait(), 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(closed.wait(), 2)


async def test_a_finished_stream_gives_its_connection_back() -> None:
    connections = 0
    end = b'data: {"type":"response.completed","response":{"status":"completed"}}\n\n'

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            writer.write(STREAM_HEAD + piece(DELTA) + piece(end))
            await writer.drain()
            await asyncio.sleep(0.01)  # the end of the body comes later than its last event
            writer.write(b"0\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")

    async with served(talk) as url, OpenAIProvider("k", url) as provider:
        for _ in range(3):
            events = [event async for event in provider.stream(HELLO)]
            assert len(events) == 3
    assert connections == 1


async def test_a_stream_that_takes_too_long_in_all_ends_even_if_it_never_falls_silent() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD)
        while not writer.is_closing():
            writer.write(piece(DELTA))
            await writer.drain()
            await asyncio.sleep(0.02)

    async with (
        served(talk) as url,
        OpenAIProvider("k", url, timeout_seconds=0.3, idle_timeout_seconds=5) as provider,
    ):
        events = [event async for event in provider.stream(HELLO)]
    last = events[-1]
    assert isinstance(last, StreamFailed)
    assert (last.error.type, last.error.details["phase"]) == (ErrorType.TIMEOUT_READ, "total")
    assert last.error.partial is not None
    assert last.error.partial.text.startswith("HiHi")


async def test_headers_that_never_come_end_a_stream_in_time() -> None:
    async with (
        served(say_nothing) as url,
        OpenAIProvider("k", url, timeout_seconds=0.2) as provider,
    ):
        (failed,) = [event async for event in provider.stream(HELLO)]
    assert isinstance(failed, StreamFailed)
    assert failed.error.type is ErrorType.TIMEOUT_READ
    assert failed.error.partial is None


async def test_the_request_may_be_stricter_than_the_provider() -> None:
    request = LLMCallRequest(model="gpt-4o", messages=(Message.user("Hi"),), timeout_seconds=0.2)
    async with served(say_nothing) as url, OpenAIProvider("k", url) as provider:
        with pytest.raises(ProviderError, match=r"no answer within 0\.2 s"):
            await provider.invoke(request)


async def test_what_is_not_a_chat_call_is_bounded_as_well() -> None:
    async with (
        served(say_nothing) as url,
        OpenAIProvider("k", url, timeout_seconds=0.2) as provider,
    ):
        with pytest.raises(ProviderError, match=r"no answer within 0\.2 s"):
            await provider.list_models()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize("kind", [OpenAIProvider, AnthropicProvider, OllamaProvider])
async def test_a_server_that_is_not_there(kind: Any) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    provider = kind(url) if kind is OllamaProvider else kind("k", url)
    async with provider:
        with pytest.raises(ProviderError) as caught:
            await provider.invoke(HELLO)
        (failed,) = [event async for event in provider.stream(HELLO)]
    for info in (caught.value.info, failed.error):
        assert (info.type, info.details) == (
            ErrorType.CONNECTION,
            {"reason": "refused", "sent": False},
        )
        assert info.status_code is None


@pytest.mark.parametrize("kind", [OpenAIProvider, AnthropicProvider, OllamaProvider])
async def test_a_server_that_speaks_no_tls(kind: Any) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(plain(b"{}"))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(plain(b"plain words"))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        provider = kind(url) if kind is OllamaProvider else kind("k", url)
        async with provider:
            with pytest.raises(ProviderError) as caught:
                await provider.invoke(HELLO)
    assert caught.value.info.type is ErrorType.CONNECTION
    assert caught.value.info.details == {"reason": "tls", "sent": False}


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        ("ConnectTimeout", ErrorType.TIMEOUT_CONNECT),
        ("PoolTimeout", ErrorType.TIMEOUT_CONNECT),
        ("ReadTimeout", ErrorType.TIMEOUT_READ),
        ("RemoteProtocolError", ErrorType.CONNECTION),
        ("UnsupportedProtocol", ErrorType.INVALID_REQUEST),
    ],
)
async def test_failures_of_the_http_client(
    openai: OpenAIProvider,
    anthropic: AnthropicProvider,
    ollama: OllamaProvider,
    wire: Any,
    failure: str,
    expected: ErrorType,
) -> None:
    import httpx
    import httpx2

    for provider, module in ((openai, httpx2), (anthropic, httpx2), (ollama, httpx)):
        wire.failure = getattr(module, failure)("told")
        with pytest.raises(ProviderError) as caught:
            await provider.invoke(HELLO)
        assert caught.value.info.type is expected
        assert "told" in str(caught.value)
        (failed,) = [event async for event in provider.stream(HELLO)]
        assert isinstance(failed, StreamFailed)
        assert failed.error.type is expected


async def test_what_nobody_foresaw_is_an_internal_error_not_an_exception_of_its_own(
    openai: OpenAIProvider, ollama: OllamaProvider, wire: Any
) -> None:
    wire.failure = ZeroDivisionError("what?")
    for provider in (openai, ollama):
        with pytest.raises(ProviderError) as caught:
            await provider.invoke(HELLO)
        assert caught.value.info.type in (ErrorType.INTERNAL, ErrorType.CONNECTION)


async def test_the_headers_of_the_request_are_sent(openai: OpenAIProvider, wire: Any) -> None:
    wire.body = OUTPUT
    request = LLMCallRequest(
        model="gpt-4o",
        messages=(Message.user("Hi \u20ac"),),
        headers={"traceparent": "00-1-2-01"},
    )
    await openai.invoke(request)
    sent = wire.requests[0].headers
    assert sent["traceparent"] == "00-1-2-01"
    assert sent["content-type"] == "application/json"
    assert sent["authorization"] == "Bearer key"
    assert "\u20ac" in wire.requests[0].content.decode()


async def test_several_providers_of_one_vendor_keep_their_keys_apart() -> None:
    seen: list[str] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(plain(OUTPUT))

    async def heads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append(next(x for x in head.decode().split("\r\n") if "earer" in x).split()[-1])
        writer.write(plain(OUTPUT))
        writer.close()

    server = await asyncio.start_server(heads, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        one, two = OpenAIProvider("one", url, name="a"), OpenAIProvider("two", url, name="b")
        async with one, two:
            replies = [await one.invoke(HELLO), await two.invoke(HELLO), await one.invoke(HELLO)]
    assert seen == ["one", "two", "one"]
    assert [reply.provider for reply in replies] == ["a", "b", "a"]


async def test_the_environment_gives_key_and_address(monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(plain(OUTPUT))

    async with served(talk) as url:
        monkeypatch.setenv("OPENAI_API_KEY", "from-environment")
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        async with OpenAIProvider() as provider:
            assert (await provider.invoke(HELLO)).response_id == "r"
            assert "from-environment" not in repr(provider) + str(vars(provider))


@pytest.mark.usefixtures("no_keys")
@pytest.mark.parametrize(
    ("kind", "package"),
    [(OpenAIProvider, "openai"), (AnthropicProvider, "anthropic"), (OllamaProvider, "ollama")],
)
async def test_a_missing_package_names_the_extra(
    kind: Any, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    provider = kind()
    words = rf"install the extra llm-providers\[{package}\]"
    with pytest.raises(MissingDependencyError, match=words):
        provider.check()
    with pytest.raises(MissingDependencyError, match=words):
        await provider.invoke(HELLO)
    with pytest.raises(MissingDependencyError, match=words):
        await anext(aiter(provider.stream(HELLO)))


async def test_the_callers_http_client_is_left_open(http_client: Any, wire: Any) -> None:
    wire.body = OUTPUT
    async with OpenAIProvider("k", http_client=http_client) as provider:
        await provider.invoke(HELLO)
    assert not http_client.is_closed
    await http_client.aclose()


def test_a_provider_serves_several_loops() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(plain(OUTPUT))

    provider = OpenAIProvider("k")

    async def once() -> None:
        async with served(talk) as url:
            provider._base_url = url
            assert (await provider.invoke(HELLO)).response_id == "r"
            await provider.aclose()

    asyncio.run(once())
    asyncio.run(once())


def test_a_secret_is_not_shown_or_pickled() -> None:
    import pickle

    secret = Secret("hush")
    assert "hush" not in f"{secret} {secret!r}"
    assert secret.reveal() == "hush"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(secret)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pass@host.test:8/v1?key=1", "https://host.test:8/v1"),
        ("localhost", "localhost"),
        ("user:pass@host.test:11434", "host.test:11434"),
        ("http://[bad", "…"),
        (None, None),
    ],
)
def test_an_address_is_shown_without_its_secrets(url: str | None, shown: str | None) -> None:
    assert shown_url(url) == shown


@pytest.mark.usefixtures("no_keys")
@pytest.mark.parametrize(
    ("provider", "address"),
    [
        (OpenAIProvider(), ("api.openai.com", 443)),
        (OpenAIProvider(base_url="http://user:pass@[::1]:8000/v1"), ("::1", 8000)),
        (AnthropicProvider(), ("api.anthropic.com", 443)),
        (OllamaProvider(), ("127.0.0.1", 11434)),
        (OllamaProvider("http://box.test"), ("box.test", 80)),
        (OllamaProvider("box.test"), ("box.test", 11434)),
        (OpenAIProvider(base_url="http://[bad"), None),
    ],
    ids=repr,
)
def test_a_provider_tells_where_its_endpoint_is(provider: Any, address: Any) -> None:
    assert provider.server_address == address


def test_a_provider_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "https://proxy.test/v1")
    assert OpenAIProvider().server_address == ("proxy.test", 443)


def test_a_key_that_no_header_can_carry_is_refused_unseen() -> None:
    assert Secret("hush\n").reveal() == "hush"
    for key in ("hush\nhush", "h\u00fcsh"):
        with pytest.raises(ConfigurationError, match="printable ASCII") as caught:
            OpenAIProvider(key)
        assert key not in str(caught.value)


async def test_what_the_environment_says_for_openai_is_sent_to_openai_only(
    wire: Any, http_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-mine")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-mine")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "x-mine: yes")
    wire.json({"object": "list", "data": []})
    foreign = "https://llm.test/api.openai.com/v1"
    for base_url in (foreign, "https://eu.api.openai.com/v1"):
        await OpenAIProvider("key", base_url, http_client=http_client).list_models()
    elsewhere, there = wire.requests
    assert "mine" not in str(elsewhere.headers.raw)
    assert there.headers["openai-organization"] == "org-mine"


async def test_no_key_is_logged(
    openai: OpenAIProvider, anthropic: AnthropicProvider, wire: Any, caplog: Any
) -> None:
    caplog.set_level("DEBUG")
    wire.status = 401
    for provider in (openai, anthropic):
        provider._api_key = Secret("hush-hush")
        with pytest.raises(ProviderError) as caught:
            await provider.invoke(HELLO)
        assert "hush-hush" not in repr(caught.value.info)
    assert any("hush-hush" in str(request.headers.raw) for request in wire.requests)
    assert caplog.records
    assert "hush-hush" not in caplog.text


async def test_a_connection_that_is_never_made_is_a_connect_timeout() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        fillers = []
        for _ in range(4):  # fills the queue of connections that nobody accepts
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
            fillers.append(filler)
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/v1"
        async with OpenAIProvider("k", url, connect_seconds=0.2) as patient:
            with pytest.raises(ProviderError) as caught:
                await patient.invoke(HELLO)
        strict = LLMCallRequest(model="m", messages=(Message.user("Hi"),), timeout_seconds=0.8)
        strictly = []
        for provider in (OpenAIProvider("k", url), OllamaProvider(url)):
            async with provider:
                with pytest.raises(ProviderError) as refused:
                    await provider.invoke(strict)
                strictly.append(refused.value.info.type)
        for filler in fillers:
            filler.close()
    assert caught.value.info.type is ErrorType.TIMEOUT_CONNECT
    assert strictly == [ErrorType.TIMEOUT_CONNECT] * 2


def test_an_unknown_api_is_refused() -> None:
    from llm_core import InvalidValue

    with pytest.raises(InvalidValue, match="'responses' or 'chat_completions'"):
        OpenAIProvider(api="completions")  # type: ignore[arg-type]


def test_what_has_no_json_form_is_refused_before_it_is_sent() -> None:
    from llm_core import InvalidValue

    for odd in (object(), float("nan"), "\ud800"):
        request = LLMCallRequest(
            model="gpt-4o", messages=(Message.user("Hi"),), provider_options={"odd": odd}
        )
        with pytest.raises(InvalidValue, match="cannot be written as JSON"):
            asyncio.run(OpenAIProvider("k").invoke(request))


async def test_the_transport_can_be_swapped() -> None:
    transport = CannedTransport(OUTPUT, headers={"x-request-id": "r1"})
    provider: BaseLLMProvider = OpenAIProvider(transport=transport)
    assert (await provider.invoke(HELLO)).provider_request_id == "r1"
    assert transport.calls[0].path == "/responses"
    end = b'data: {"type":"response.completed","response":{"status":"completed"}}\n\n'
    provider = OpenAIProvider(transport=CannedTransport(chunks=[DELTA[:9], DELTA[9:], end]))
    assert [type(event) for event in [e async for e in provider.stream(HELLO)]] == [
        StreamStarted,
        TextDelta,
        StreamDone,
    ]
    provider.check()
    await provider.aclose()


async def test_other_methods_reach_the_server(http_client: Any, wire: Any) -> None:
    import openai

    wire.body = b"{}"
    transport = SdkTransport(
        lambda: openai.AsyncOpenAI(api_key="k", http_client=http_client), connect_seconds=5
    )
    await transport.send(WireCall(path="/files/1", method="DELETE"))
    await transport.send(WireCall(path="/x", content=b"{}", timeout_seconds=1))
    assert [r.method for r in wire.requests] == ["DELETE", "POST"]
    assert wire.requests[1].extensions["timeout"]["connect"] == 0.75


async def test_a_connection_that_breaks_while_closing_does_not_raise() -> None:
    class Breaking:
        status_code = 200
        headers = type("Headers", (), {"raw": []})()

        async def aclose(self) -> None:
            raise OSError("broken pipe")

    stream = ResponseStream(Breaking())
    await stream.aclose()
    assert stream.status == 200
