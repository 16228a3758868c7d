"""One simulator: a request in, an `Answer` out; no sockets, no waiting."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from llm_sim import openai_chat, openai_wire
from llm_sim.brain import Brain
from llm_sim.errors import ConfigurationError, Refusal
from llm_sim.exchange import Answer, Ask, Chunk, Json, Reply, Request, Stamp
from llm_sim.latency import Latency
from llm_sim.openai_responses import OpenAIResponses
from llm_sim.script import Script


class Dialogue(Protocol):
    """A protocol in which a model is asked and replies."""

    def read(self, body: Json) -> Ask:
        """Read a request; raise Refusal if the vendor would."""
        ...

    def render(self, ask: Ask, reply: Reply, stamp: Stamp) -> bytes:
        """Write a whole reply."""
        ...

    def stream(self, ask: Ask, reply: Reply, stamp: Stamp) -> Iterator[Chunk]:
        """Write a streamed reply, its terminal event included."""
        ...

    def error_event(self, message: str) -> bytes:
        """Write the error that ends a stream half-way."""
        ...


class Vendor(Protocol):
    """What all endpoints of one vendor share."""

    def key_of(self, headers: Mapping[bytes, bytes]) -> str:
        """Return the API key; refuse a request without one if the vendor does."""
        ...

    def unknown_key(self, key: str) -> Refusal:
        """Make the refusal of a key that is not known."""
        ...

    def unknown_model(self, model: str) -> Refusal:
        """Make the refusal of a model that does not exist."""
        ...

    def error_body(self, refusal: Refusal, request_id: str) -> bytes:
        """Render an error."""
        ...


class Serve(Protocol):
    """Answers a request for a stored thing; the path's named groups come as keywords."""

    def __call__(self, request: Request, stamp: Stamp, /, **names: str) -> Answer:
        """Answer, or raise Refusal."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A path at which things are stored, listed or deleted."""

    method: str
    pattern: re.Pattern[str]
    vendor: Vendor
    serve: Serve


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a simulator behaves."""

    script: Script = field(default_factory=Script)
    latency: Latency = field(default_factory=Latency)
    api_keys: frozenset[str] | None = None
    """The keys that are known; None accepts any key, but not the lack of one."""
    models: frozenset[str] | None = None
    """The models that exist; None accepts any name."""
    seed: int = 0
    """Of everything drawn at random: latencies and faults."""


class Simulator:
    """The state of one simulator. Not thread-safe: one thread, one loop."""

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings or Settings()
        self.clock = clock
        self.rng = random.Random(self.settings.seed)
        self.brain = Brain(self.settings.script)
        self._wall_clock = wall_clock
        self._serial = 0
        responses = OpenAIResponses()
        self._dialogues: dict[str, tuple[Vendor, Dialogue]] = {
            "/v1/chat/completions": (openai_wire, openai_chat),
            "/v1/responses": (openai_wire, responses),
        }
        self._resources: tuple[Resource, ...] = tuple(
            Resource(method=method, pattern=re.compile(path), vendor=openai_wire, serve=serve)
            for method, path, serve in responses.resources()
        )

    def answer(self, request: Request) -> Answer:
        """Answer a request; never raises for what a client sends."""
        self._serial += 1
        stamp = Stamp(serial=self._serial, created=int(self._wall_clock()))
        request_id = stamp.id("req_")
        vendor: Vendor = openai_wire
        try:
            dialogue = self._dialogues.get(request.path)
            if dialogue is not None and request.method == "POST":
                vendor = dialogue[0]
                answer = self._converse(vendor, dialogue[1], request, stamp)
            else:
                answer = self._serve_resource(request, stamp)
        except Refusal as refusal:
            answer = Answer(
                status=refusal.status,
                body=vendor.error_body(refusal, request_id),
                headers=[(k.encode(), v.encode()) for k, v in refusal.headers],
                refusal=refusal,
            )
        answer.headers.append((b"x-request-id", request_id.encode()))
        return answer

    def _serve_resource(self, request: Request, stamp: Stamp) -> Answer:
        known = request.path in self._dialogues
        for resource in self._resources:
            if found := resource.pattern.fullmatch(request.path):
                known = True
                if resource.method == request.method:
                    self._authenticate(resource.vendor, request)
                    return resource.serve(request, stamp, **found.groupdict())
        if known:
            raise Refusal(
                405,
                f"Not allowed to {request.method} on {request.path}.",
                type="invalid_request_error",
                code="method_not_supported",
            )
        raise Refusal(
            404,
            f"Invalid URL ({request.method} {request.path})",
            type="invalid_request_error",
        )

    def _authenticate(self, vendor: Vendor, request: Request) -> str:
        key = vendor.key_of(request.headers)
        if self.settings.api_keys is not None and key not in self.settings.api_keys:
            raise vendor.unknown_key(key)
        return key

    def _converse(
        self, vendor: Vendor, dialogue: Dialogue, request: Request, stamp: Stamp
    ) -> Answer:
        settings = self.settings
        self._authenticate(vendor, request)
        ask = dialogue.read(read_json(request.body))
        if settings.models is not None and ask.model not in settings.models:
            raise vendor.unknown_model(ask.model)
        reply = self.brain.reply(ask, stamp)
        answer = Answer(usage=reply.usage, model=ask.model, streamed=ask.stream)
        answer.delay_seconds = (
            settings.latency.first(self.rng, input_tokens=reply.usage.input_tokens)
            + reply.delay_seconds * settings.latency.time_scale
        )
        answer.seconds_per_token = settings.latency.next(self.rng)
        if ask.stream:
            answer.content_type = b"text/event-stream; charset=utf-8"
            answer.chunks = dialogue.stream(ask, reply, stamp)
        else:
            answer.body = dialogue.render(ask, reply, stamp)
        return answer


def read_json(body: bytes) -> Json:
    """Read a JSON object, or refuse as OpenAI does."""
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Refusal(
            400,
            "We could not parse the JSON body of your request. (HINT: This likely means you "
            "aren't using your HTTP library correctly. The OpenAI API expects a JSON payload, but "
            "what was sent was not valid JSON.)",
            type="invalid_request_error",
        )
    return value


def keys_of(value: object) -> frozenset[str] | None:
    """Check a collection of API keys or model names."""
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, list | tuple | set | frozenset):
        raise ConfigurationError(f"expected a list of names, got {value!r}")
    return frozenset(value)
