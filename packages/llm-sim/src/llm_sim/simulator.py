"""One simulator: a request in, an `Answer` out; no sockets, no waiting."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from llm_sim import control, faults, ollama_wire
from llm_sim.brain import Brain, count_input
from llm_sim.catalogue import Catalogue
from llm_sim.errors import ConfigurationError, Refusal
from llm_sim.exchange import Answer, Ask, Call, Json, Reply, Request, Stamp, Usage
from llm_sim.faults import Faults
from llm_sim.fields import dump
from llm_sim.latency import Latency
from llm_sim.limits import Charge, LimitBook, Limits
from llm_sim.prices import PriceList
from llm_sim.referee import Referee, Report
from llm_sim.script import Script
from llm_sim.wire import Dialogue, Vendor

_WRONG_VALUES = (AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What reading a request raises where it holds, say, a text instead of an object."""

_REMEMBERED_BODY_BYTES = 65_536
"""Larger requests (images, sound) are forgotten, so that a thousand remembered calls stay small."""

_CHARACTERS_PER_CHARGED_TOKEN = 4
"""OpenAI charges "the estimated number of tokens based on the character count of your request"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a simulator behaves."""

    script: Script = field(default_factory=Script)
    latency: Latency = field(default_factory=Latency)
    limits: Limits = field(default_factory=Limits)
    faults: Faults = field(default_factory=Faults)
    api_keys: frozenset[str] | None = None
    """The keys that are known; None accepts any key, but not the lack of one."""
    models: frozenset[str] | None = None
    """The models that exist; None accepts any name."""
    batch_seconds: float = 0.0
    """How long a batch of requests takes."""
    seed: int = 0
    """Of everything drawn at random: latencies and faults."""

    @classmethod
    def of(
        cls,
        script: object = None,
        *,
        latency: Latency | None = None,
        limits: Limits | None = None,
        faults: Faults | Iterable[str] | None = None,
        api_keys: Sequence[str] | None = None,
        models: Sequence[str] | None = None,
        batch_seconds: float = 0.0,
        seed: int = 0,
    ) -> Settings:
        """Read settings as users write them: a script's path or rules, faults as texts."""
        if not isinstance(faults, Faults):
            faults = Faults.parse([faults] if isinstance(faults, str) else faults or ())
        return cls(
            script=Script() if script is None else Script.of(script),
            latency=latency or Latency(),
            limits=limits or Limits(),
            faults=faults,
            api_keys=_names(api_keys, "api_keys"),
            models=_names(models, "models"),
            batch_seconds=batch_seconds,
            seed=seed,
        )


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
        self.prices = PriceList()
        self.brain = Brain(self.settings.script)
        self._wall_clock = wall_clock
        self._serial = 0
        self.epoch = 0
        self._restart()

    def _restart(self) -> None:
        settings = self.settings
        self.epoch += 1
        self.book = LimitBook(settings.limits)
        self.referee = Referee(settings.limits, self.prices)
        # Faults and latencies draw from streams of their own: one does not shift the other.
        self._fault_rng = random.Random(f"faults {settings.seed}")
        self._latency_rng = random.Random(f"latency {settings.seed}")
        self._spent: dict[str, dict[str, Usage]] = {}
        self._catalogue = Catalogue(settings.models, self.complete, settings.batch_seconds)

    def reset(self) -> None:
        """Begin anew: counts, limits, stored things, random numbers. What runs ends uncounted."""
        self._restart()
        self.brain.reset()

    def report(self) -> Report:
        """Sum up what the client did."""
        return self.referee.report()

    def use_script(self, script: Script) -> None:
        """Answer by another script from now on."""
        self.brain.reset(script)

    def stamp(self) -> Stamp:
        """Number the next answer."""
        self._serial += 1
        return Stamp(serial=self._serial, created=int(self._wall_clock()))

    def answer(self, request: Request) -> Answer:
        """Answer a request; never raises for what a client sends.

        Call `finish` once the answer was sent, or could not be.
        """
        if request.path.startswith(control.PREFIX):
            return control.answer(self, request)
        stamp = self.stamp()
        vendor = self._catalogue.vendor_of(request)
        call = self.call(stamp, request.method, request.path)
        request_id = stamp.id("req_")
        try:
            answer = self._serve(vendor, request, stamp, call)
        except Refusal as refusal:
            answer = Answer(
                status=refusal.status,
                body=vendor.error_body(refusal, request_id),
                headers=[(k.encode(), v.encode()) for k, v in refusal.headers],
                refusal=refusal,
            )
        answer.call = call
        call.status = answer.status
        seconds = answer.delay_seconds
        answer.headers.extend(vendor.request_headers(request_id, seconds))
        if call.account is not None or (answer.refusal is not None and answer.status == 429):
            account = self.book.account_name(call.key, call.model)
            readings = self.book.readings(account, self.clock())
            answer.headers.extend(vendor.limit_headers(readings, self._wall_clock()))
        return answer

    def complete(self, path: str, body: Json) -> tuple[int, Json, Usage]:
        """Answer one request of a batch, to which no limits, faults or latencies apply."""
        request = Request(method="POST", path=path, headers={}, body=dump(body))
        dialogue = self._catalogue.dialogues[path]
        vendor = self._catalogue.vendor_of(request)
        stamp = self.stamp()
        try:
            ask = _read(dialogue, request)
            if not self._catalogue.models.exists(ask.model):
                raise vendor.unknown_model(ask.model)
        except Refusal as refusal:
            error = json.loads(vendor.error_body(refusal, stamp.id("req_")))
            return refusal.status, error, Usage()
        reply = self.brain.reply(ask, stamp)
        self.referee.count_batched(ask.model, reply.usage)
        return 200, json.loads(dialogue.render(ask, reply, stamp)), reply.usage

    def finish(self, answer: Answer, *, abandoned: bool = False) -> None:
        """An answer was sent whole, or its client left before."""
        if answer.call is not None:
            self.end(answer.call, answer.refusal, abandoned=abandoned)

    def call(self, stamp: Stamp, method: str, path: str) -> Call:
        """Open the account of one request."""
        return Call(
            serial=stamp.serial, epoch=self.epoch, at=self.clock(), method=method, path=path
        )

    def begin(self, call: Call) -> None:
        """Count a call that has come."""
        self.referee.arrive(call)

    def end(self, call: Call, refusal: Refusal | None, *, abandoned: bool = False) -> None:
        """Count a call that is over: give its place back, charge what it made."""
        if call.epoch != self.epoch:
            return
        now = self.clock()
        # A stall ends by nothing but the client's leaving, which is no fault of the client's.
        left = abandoned and call.fault != "stall"
        broken = call.fault in faults.BREAKING
        call.ended = "abandoned" if left else "broken" if broken else "completed"
        if call.account is not None:
            self.book.leave(call.account)
            if refusal is None:
                self.book.settle(call.account, now, output_tokens=call.usage.output_tokens)
        if refusal is None and self.settings.limits.quota_usd is not None:
            of_key = self._spent.setdefault(call.key, {})
            of_key[call.model] = of_key.get(call.model, Usage()) + call.usage
        self.referee.end(call, now, refusal)

    def _serve(self, vendor: Vendor, request: Request, stamp: Stamp, call: Call) -> Answer:
        try:
            endpoint = self._catalogue.find(vendor, request)
            call.key = vendor.key_of(request.headers)
            known = self.settings.api_keys
            if known is not None and call.key not in known:
                raise vendor.unknown_key(call.key)
        finally:
            call.fingerprint = hash((call.key, request.path, request.body))
            self.begin(call)
        if not callable(endpoint):
            return self._converse(vendor, endpoint, request, stamp, call)
        call.operation = "resource"
        try:
            answer = endpoint(request, stamp)
        except _WRONG_VALUES as error:
            raise _wrong_value(error) from error
        if faults.HEADER in request.headers:
            # Stored things fail only when asked to: chance is for what limits are for.
            call.fault = self._fault(request.headers[faults.HEADER])
            self._fail(vendor, call)
            if call.fault is not None:
                faults.spoil(answer, call.fault, self._slowness, b"")
        return answer

    def _converse(
        self, vendor: Vendor, dialogue: Dialogue, request: Request, stamp: Stamp, call: Call
    ) -> Answer:
        ask = _read(dialogue, request)
        if len(request.body) <= _REMEMBERED_BODY_BYTES:
            call.body = ask.body
        reply, fault = self.reply(vendor, ask, stamp, call, request.headers.get(faults.HEADER))
        answer = self._paced(ask, reply)
        answer.content_type = dialogue.content_type(ask)
        if ask.stream:
            answer.chunks = dialogue.stream(ask, reply, stamp)
        else:
            answer.body = dialogue.render(ask, reply, stamp)
        if fault is not None:
            event = dialogue.error_event("The server had an error processing your request.")
            faults.spoil(answer, fault, self._slowness, event)
        return answer

    def reply(
        self, vendor: Vendor, ask: Ask, stamp: Stamp, call: Call, wanted_fault: bytes | None
    ) -> tuple[Reply, str | None]:
        """Weigh a request, then reply to it; return the reply and the fault of the wire it gets.

        Raises Refusal, in the vendor's words, for what limits or faults refuse.
        """
        call.model, call.operation, call.streamed = ask.model, ask.operation, ask.stream
        if not self._catalogue.models.exists(ask.model):
            raise vendor.unknown_model(ask.model)
        if vendor is ollama_wire:
            self._catalogue.ollama_used[ask.model] = stamp.created
        self._admit(vendor, ask, call)
        call.fault = self._fault(wanted_fault)
        self._fail(vendor, call)
        reply = self.brain.reply(ask, stamp, call.key)
        if call.fault is None and reply.fault is not None:
            call.fault = reply.fault
            self._fail(vendor, call)
        call.usage = reply.usage
        return reply, call.fault

    def _admit(self, vendor: Vendor, ask: Ask, call: Call) -> None:
        limits = self.settings.limits
        cached = 0 if limits.itpm is None else self.brain.cache.read_tokens(ask, call.key)
        charge = charge_of(ask, cached)
        account = self.book.account_name(call.key, ask.model)
        if limits.quota_usd is not None:
            spent = self.referee.cost(self._spent.get(call.key, {}))
            if spent >= limits.quota_usd:
                raise vendor.out_of_money()
        exceeded = self.book.admit(account, charge, call.at)
        self.referee.charge(call, account, charge, exceeded)
        if exceeded is not None:
            raise vendor.limited(exceeded, ask.model)
        call.account = account

    def _fault(self, wanted: bytes | None) -> str | None:
        if wanted is None:
            return self.settings.faults.draw(self._fault_rng)
        try:
            return Faults.parse([wanted.decode("latin-1")]).draw(self._fault_rng)
        except ConfigurationError as error:
            raise Refusal(400, f"{faults.HEADER.decode()}: {error}", type="llm_sim") from error

    def _fail(self, vendor: Vendor, call: Call) -> None:
        """Raise the error that a call's fault stands for, if it stands for one."""
        fault = call.fault
        if fault == "error_event" and not call.streamed:
            raise vendor.failure(500)
        if fault is None or fault not in faults.STATUS_FAULTS:
            return
        if fault == "quota":
            raise vendor.out_of_money()
        if fault == "429":
            wait = self.settings.faults.retry_after_seconds
            raise vendor.limited(faults.exceeded(wait), call.model)
        raise vendor.failure(int(fault))

    @property
    def _slowness(self) -> Faults:
        """The faults with their times scaled as all others."""
        return self.settings.faults.scaled(self.settings.latency.time_scale)

    def pace(self, reply: Reply) -> tuple[float, float]:
        """Draw the seconds before the first token and those for each token."""
        latency = self.settings.latency
        first = latency.first(self._latency_rng, input_tokens=reply.usage.input_tokens)
        return first + reply.delay_seconds * latency.time_scale, latency.next(self._latency_rng)

    def _paced(self, ask: Ask, reply: Reply) -> Answer:
        first, each = self.pace(reply)
        return Answer(usage=reply.usage, delay_seconds=first, seconds_per_token=each)


def _read(dialogue: Dialogue, request: Request) -> Ask:
    try:
        return dialogue.read(request)
    except _WRONG_VALUES as error:
        raise _wrong_value(error) from error


def _wrong_value(error: Exception) -> Refusal:
    """Refuse a value of a wrong type, deep in a request, that no check of its own has caught."""
    return Refusal(
        400, f"A value in the request has a wrong type: {error}", type="invalid_request_error"
    )


def charge_of(ask: Ask, cached_tokens: int) -> Charge:
    """Weigh a request before it is answered; see `Limits` for the rules."""
    characters = sum(map(len, ask.texts))
    guess = math.ceil(characters / _CHARACTERS_PER_CHARGED_TOKEN) + ask.extra_tokens
    return Charge(
        tokens=max(ask.max_output_tokens or 0, guess + ask.audio_tokens, 1),
        input_tokens=count_input(ask) - cached_tokens,
    )


def _names(value: Sequence[str] | None, what: str) -> frozenset[str] | None:
    if value is None:
        return None
    if isinstance(value, str) or not all(isinstance(name, str) for name in value):
        raise ConfigurationError(f"{what} must be a list of names, got {value!r}")
    return frozenset(value)
