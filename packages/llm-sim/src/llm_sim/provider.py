"""A provider for `llm_core` that answers in this process, without HTTP."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import replace

from llm_core import (
    AudioDelta,
    Clock,
    ErrorInfo,
    ErrorType,
    FinishReason,
    LLMCallRequest,
    Part,
    ProviderError,
    ProviderResponse,
    ReasoningDelta,
    ReasoningPart,
    StreamDone,
    StreamEvent,
    StreamFailed,
    StreamStarted,
    SystemClock,
    TextDelta,
    TextPart,
    ToolCall,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    Usage,
)
from llm_sim import openai_wire, tokens
from llm_sim.call_reply import error_of, facts_of, response_of
from llm_sim.call_request import Turns, ask_of
from llm_sim.errors import Refusal
from llm_sim.exchange import Ask, Call, Reply
from llm_sim.faults import HEADER as FAULT_HEADER
from llm_sim.faults import Faults
from llm_sim.latency import Latency
from llm_sim.limits import Limits
from llm_sim.referee import Report
from llm_sim.simulator import Settings, Simulator

_KEY = "in-process"
_STORED_TURNS = 4096
"""How many replies are kept for `previous_response_id`; the oldest are forgotten."""

_WIRE_ERRORS = {
    "stall": (ErrorType.TIMEOUT_READ, "the answer stopped half-way"),
    "reset": (ErrorType.CONNECTION, "the connection was reset"),
    "truncate": (ErrorType.CONNECTION, "the body ended against its framing"),
    "cut": (ErrorType.TRUNCATED, "the stream ended without its terminal event"),
    "malformed_json": (ErrorType.SERVER_ERROR, "the body is not JSON"),
    "html": (ErrorType.SERVER_ERROR, "a page of HTML came instead of JSON"),
    "empty": (ErrorType.SERVER_ERROR, "the body is empty"),
    "error_event": (ErrorType.SERVER_ERROR, "the server had an error half-way"),
}
"""What a client makes of a fault of the wire. The others (a wrong content type, doubled or split
chunks) are about bytes, of which there are none here; the slow ones take their time."""

_WITHOUT_TEXT = ("html", "empty")
"""Faults that leave nothing of a stream, where the others leave its first half."""


class SimProvider:
    """A simulated provider in this process: scripts, limits, faults and latency without HTTP.

    `script`, `latency`, `limits`, `faults`, `models` and `seed` are as for `SimServer`; limits and
    latencies pass by `clock`. May be used from several loops and threads.

    Raises ConfigurationError of this package for a wrong setting.
    """

    def __init__(
        self,
        script: object = None,
        *,
        latency: Latency | None = None,
        limits: Limits | None = None,
        faults: Faults | Iterable[str] | None = None,
        models: Sequence[str] | None = None,
        seed: int = 0,
        name: str = "sim",
        clock: Clock | None = None,
    ) -> None:
        self._name = name
        self._clock = clock or SystemClock()
        self.simulator = Simulator(
            Settings.of(
                script, latency=latency, limits=limits, faults=faults, models=models, seed=seed
            ),
            clock=lambda: self._clock.monotonic_ns() / 1e9,
            wall_clock=lambda: self._clock.now().timestamp(),
        )
        self._lock = threading.Lock()
        self._turns: OrderedDict[str, Turns] = OrderedDict()

    @property
    def name(self) -> str:
        """The provider's name."""
        return self._name

    def report(self) -> Report:
        """Sum up what the caller did."""
        with self._lock:
            return self.simulator.report()

    async def invoke(self, request: LLMCallRequest) -> ProviderResponse:
        """Answer once; raise ProviderError for what limits or faults refuse."""
        taken = self._take(request, stream=False)
        done = False
        try:
            wait = taken.first_seconds + taken.token_seconds * taken.reply.usage.output_tokens
            await self._spend(taken, wait + taken.fault_seconds)
            done = True
            if taken.error is not None:
                raise ProviderError(taken.error)
            return taken.response
        finally:
            self._end(taken, abandoned=not done)

    async def stream(self, request: LLMCallRequest) -> AsyncIterator[StreamEvent]:
        """Answer in pieces of one token; ends with StreamDone or StreamFailed."""
        try:
            taken = self._take(request, stream=True)
        except ProviderError as error:
            yield StreamFailed(error=error.info)
            return
        done = False
        said: list[Part] = []
        try:
            yield StreamStarted(model=request.model, response_id=taken.response.response_id)
            await self._spend(taken, taken.first_seconds)
            events = list(_events(taken))
            for event in events[: taken.broken_at(len(events))]:
                await self._spend(taken, taken.token_seconds)
                _collect(said, event)
                yield event
            await self._spend(taken, taken.fault_seconds)
            done = True
            if taken.error is not None:
                yield StreamFailed(error=replace(taken.error, partial=_partial(taken, said)))
            else:
                yield StreamDone(response=taken.response)
        except ProviderError as error:  # the time allowed is over
            yield StreamFailed(error=replace(error.info, partial=_partial(taken, said)))
        finally:
            self._end(taken, abandoned=not done)

    async def aclose(self) -> None:
        """Do nothing: there is no connection."""

    def _take(self, request: LLMCallRequest, *, stream: bool) -> _Taken:
        """Weigh and reply, all at once; what remains is to take the time for it."""
        with self._lock:
            simulator = self.simulator
            stamp = simulator.stamp()
            call = simulator.call(stamp, "POST", _KEY)
            call.key = _KEY
            call.fingerprint = hash((request.model, request.messages, request.max_output_tokens))
            try:
                ask = self._read(request, call, stream=stream)
                wanted = request.headers.get(FAULT_HEADER.decode())
                reply, fault = simulator.reply(
                    openai_wire, ask, stamp, call, wanted.encode() if wanted else None
                )
            except Refusal as refusal:
                call.status = refusal.status
                simulator.end(call, refusal)
                error = error_of(refusal, request, stamp, provider=self._name)
                raise ProviderError(error) from refusal
            call.status = 200
            first, each = simulator.pace(reply)
            facts = facts_of(simulator, call)
            response = response_of(ask, request, reply, stamp, provider=self._name, facts=facts)
            taken = _Taken(call, reply, response, first, each)
            if request.timeout_seconds is not None:
                taken.timeout_seconds = request.timeout_seconds
            self._keep(taken.response, ask, reply)
        self._apply(taken, fault)
        return taken

    def _apply(self, taken: _Taken, fault: str | None) -> None:
        settings = self.simulator.settings
        scaled = settings.faults.scaled(settings.latency.time_scale)
        if fault in ("slow_headers", "slow_body"):
            taken.fault_seconds = scaled.slow_seconds
        elif fault == "stall":
            taken.fault_seconds = scaled.stall_seconds
        if fault in _WIRE_ERRORS:
            # A plain body that is cut breaks its framing.
            plain_cut = fault == "cut" and not taken.call.streamed
            kind, message = _WIRE_ERRORS["truncate" if plain_cut else fault]
            taken.error = ErrorInfo.of(
                kind, message, provider=self._name, model=taken.call.model, status_code=200
            )

    async def _spend(self, taken: _Taken, seconds: float) -> None:
        """Wait, but no longer than the request allows in all."""
        if seconds <= 0:
            return
        left = taken.timeout_seconds - taken.spent_seconds
        await self._clock.sleep(min(seconds, left))
        taken.spent_seconds += seconds
        if seconds > left:
            raise ProviderError(
                ErrorInfo.of(
                    ErrorType.TIMEOUT_READ,
                    f"no whole answer within {taken.timeout_seconds:g} seconds",
                    provider=self._name,
                    model=taken.call.model,
                )
            )

    def _end(self, taken: _Taken, *, abandoned: bool) -> None:
        with self._lock:
            self.simulator.end(taken.call, None, abandoned=abandoned)

    def _read(self, request: LLMCallRequest, call: Call, *, stream: bool) -> Ask:
        """Read a request and count it; what is never sent (UnsupportedFeature) is no call."""
        try:
            ask = ask_of(request, self._earlier(request), stream=stream)
        except Refusal:
            self.simulator.begin(call)
            raise
        self.simulator.begin(call)
        return ask

    def _earlier(self, request: LLMCallRequest) -> Turns:
        name = request.previous_response_id
        if name is None:
            return Turns()
        if name not in self._turns:
            raise openai_wire.refuse(
                f"Previous response with id '{name}' not found.",
                "previous_response_id",
                "previous_response_not_found",
            )
        return self._turns[name]

    def _keep(self, response: ProviderResponse, ask: Ask, reply: Reply) -> None:
        said = reply.text + "".join(call.name + call.arguments for call in reply.tool_calls)
        self._turns[str(response.response_id)] = Turns(
            texts=(*ask.texts, said),
            user_text=ask.user_text,
            assistant_turns=ask.assistant_turns + 1,
        )
        if len(self._turns) > _STORED_TURNS:
            self._turns.popitem(last=False)


class _Taken:
    """A call that was admitted and replied to, and has yet to take its time."""

    def __init__(
        self,
        call: Call,
        reply: Reply,
        response: ProviderResponse,
        first_seconds: float,
        token_seconds: float,
    ) -> None:
        self.call = call
        self.reply = reply
        self.response = response
        self.first_seconds = first_seconds
        self.token_seconds = token_seconds
        self.timeout_seconds = float("inf")
        self.spent_seconds = 0.0
        self.fault_seconds = 0.0
        self.error: ErrorInfo | None = None

    def broken_at(self, event_count: int) -> int:
        """Return how many of the events of a stream come before it breaks."""
        if self.error is None:
            return event_count
        return 0 if self.call.fault in _WITHOUT_TEXT else (event_count + 1) // 2


def _events(taken: _Taken) -> Iterator[StreamEvent]:
    """Give the reply one token at a time."""
    reply = taken.reply
    yield from (ReasoningDelta(text=piece) for piece in tokens.split(reply.reasoning))
    audio = taken.response.audio
    if audio is None:
        said = reply.pieces or tokens.split(reply.refusal)
        yield from (TextDelta(text=piece) for piece in said)
    else:
        yield AudioDelta(data=audio.data, transcript=audio.transcript)
    for index, call in enumerate(taken.response.tool_calls):
        yield ToolCallStarted(index=index, id=call.id, name=call.name)
        for piece in tokens.split(call.arguments_text):
            yield ToolCallDelta(index=index, arguments_text=piece)
        yield ToolCallEnded(index=index, tool_call=call)


def _partial(taken: _Taken, said: list[Part]) -> ProviderResponse:
    """What had arrived when a stream broke, with its tokens counted as far as they came."""
    spoken = "".join(part.text for part in said if isinstance(part, TextPart | ReasoningPart))
    usage = Usage(
        input_tokens=taken.response.usage.input_tokens,
        output_tokens=tokens.count(spoken),
        estimated=True,
    )
    return replace(
        taken.response, parts=tuple(said), usage=usage, finish_reason=FinishReason.INCOMPLETE
    )


def _collect(said: list[Part], event: StreamEvent) -> None:
    """Add what an event says to the parts that have arrived."""
    match event:
        case TextDelta(text=text):
            if said and isinstance(said[-1], TextPart):
                said[-1] = TextPart(text=said[-1].text + text)
            else:
                said.append(TextPart(text=text))
        case ReasoningDelta(text=text):
            if said and isinstance(said[-1], ReasoningPart):
                said[-1] = ReasoningPart(text=said[-1].text + text)
            else:
                said.append(ReasoningPart(text=text))
        case ToolCallStarted(id=name_of_call, name=name):
            said.append(ToolCall(id=name_of_call, name=name, complete=False))
        case ToolCallEnded(tool_call=call):
            said[-1] = call
