from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import httpx2
import pytest

from llm_core import LLMCallRequest, Message
from llm_core.testing import ManualClock
from llm_providers import AnthropicProvider, OllamaProvider, OpenAIProvider

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@dataclass
class Wire:
    """A server in memory: answers what it is told, and keeps what it was sent."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    replies: list[Any] = field(default_factory=list)
    """JSON bodies to give in order, instead of `body`."""
    failure: Exception | None = None
    requests: list[Any] = field(default_factory=list)

    def json(self, body: Any, status: int = 200, **headers: str) -> None:
        self.body = json.dumps(body).encode()
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def sse(self, *events: Any, ending: bytes = b"") -> None:
        self.body = b"".join(b"data: %s\n\n" % json.dumps(e).encode() for e in events) + ending
        self.headers = {"content-type": "text/event-stream"}

    def ndjson(self, *lines: Any) -> None:
        self.body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        self.headers = {"content-type": "application/x-ndjson"}

    @property
    def sent(self) -> Any:
        """The last request's JSON body."""
        return json.loads(self.requests[-1].content)

    @property
    def paths(self) -> list[str]:
        return [request.url.raw_path.decode() for request in self.requests]

    def answer(self, request: Any) -> tuple[int, bytes, dict[str, str]]:
        self.requests.append(request)
        if self.failure is not None:
            raise self.failure
        if self.replies:
            reply = self.replies.pop(0)
            content = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
            return 200, content, self.headers
        return self.status, self.body, self.headers


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def http_client(wire: Wire) -> httpx2.AsyncClient:
    def handle(request: httpx2.Request) -> httpx2.Response:
        status, content, headers = wire.answer(request)
        return httpx2.Response(status, content=content, headers=headers)

    return httpx2.AsyncClient(transport=httpx2.MockTransport(handle))


@pytest.fixture
async def openai(http_client: httpx2.AsyncClient) -> AsyncIterator[OpenAIProvider]:
    async with OpenAIProvider("key", http_client=http_client, clock=ManualClock(NOW)) as provider:
        yield provider


@pytest.fixture
async def chat(http_client: httpx2.AsyncClient) -> AsyncIterator[OpenAIProvider]:
    provider = OpenAIProvider(
        "key", api="chat_completions", http_client=http_client, clock=ManualClock(NOW)
    )
    async with provider:
        yield provider


@pytest.fixture
async def anthropic(http_client: httpx2.AsyncClient) -> AsyncIterator[AnthropicProvider]:
    provider = AnthropicProvider("key", http_client=http_client, clock=ManualClock(NOW))
    async with provider:
        yield provider


@pytest.fixture
async def ollama(wire: Wire) -> AsyncIterator[OllamaProvider]:
    def handle(request: httpx.Request) -> httpx.Response:
        status, content, headers = wire.answer(request)
        return httpx.Response(status, content=content, headers=headers)

    options = {"transport": httpx.MockTransport(handle)}
    provider = OllamaProvider("http://ollama.test", client_options=options, clock=ManualClock(NOW))
    async with provider:
        yield provider


Ask = Callable[..., LLMCallRequest]


@pytest.fixture
def ask() -> Ask:
    """Build a request from a text or messages, and whatever else it should hold."""

    def build(*said: str | Message, model: str = "gpt-4o", **fields: Any) -> LLMCallRequest:
        messages = tuple(
            Message.user(turn) if isinstance(turn, str) else turn for turn in said or ("Hi",)
        )
        return LLMCallRequest(model=model, messages=messages, **fields)

    return build


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
