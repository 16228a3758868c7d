"""Faults: the ways in which an answer can go wrong, by chance, by script or by request header."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from llm_sim.errors import ConfigurationError
from llm_sim.exchange import Answer, Chunk
from llm_sim.limits import Exceeded

HEADER = b"x-llm-sim-fault"
"""The request header that asks for a fault by name."""

STATUS_FAULTS: Mapping[str, str] = {
    "400": "the request is called invalid",
    "401": "the key is called wrong",
    "403": "the key is not allowed to do this",
    "404": "the model is called unknown",
    "408": "the vendor timed out",
    "409": "the vendor found a conflict",
    "413": "the request is called too large",
    "422": "the request is called unprocessable",
    "429": "the rate limit is called exceeded",
    "quota": "a 429 that no waiting helps: the account is out of money",
    "500": "the vendor failed",
    "502": "a gateway got no good answer",
    "503": "the vendor is overloaded",
    "504": "a gateway timed out",
    "529": "the vendor is overloaded, in Anthropic's words",
}

WIRE_FAULTS: Mapping[str, str] = {
    "slow_headers": "the headers come late",
    "slow_body": "the body comes drop by drop",
    "stall": "the body stops half-way and the connection stays open",
    "reset": "the connection is reset: before a plain answer, half-way through a stream",
    "truncate": "the body ends half-way against its own framing",
    "cut": "a stream ends cleanly half-way, without its terminal event",
    "malformed_json": "the JSON is broken: of the body, or of one event of a stream",
    "html": "a gateway's HTML page comes with status 200",
    "empty": "an empty body comes with status 200",
    "error_event": "a stream ends half-way with an error event",
    "wrong_content_type": "the content type is text/plain",
    "duplicate_chunks": "every token of a stream comes twice",
    "split_emoji": "characters of several bytes are split across chunks",
}

FAULTS: Mapping[str, str] = {**STATUS_FAULTS, **WIRE_FAULTS}
"""Name of every fault, and what it does. Those about streams leave a plain answer as it is,
except `cut` (truncates it) and `error_event` (makes it a 500)."""

BREAKING = frozenset(
    {
        "stall",
        "reset",
        "truncate",
        "cut",
        "malformed_json",
        "html",
        "empty",
        "error_event",
        "wrong_content_type",
    }
)
"""Faults of the wire after which a client may rightly try again."""

_HTML = (
    b"<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head>"
    b"<body><h1>502 Bad Gateway</h1></body></html>\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Which faults happen by chance, and how long the slow ones last."""

    probabilities: Mapping[str, float] = field(default_factory=dict)
    """Name to probability; together at most 1, for an answer has one fault at a time."""
    slow_seconds: float = 5.0
    """How long slow headers or a slow body take in all."""
    stall_seconds: float = 600.0
    """How long a stall lasts unless the client leaves."""
    retry_after_seconds: float = 1.0
    """The wait that a 429 by fault asks for."""

    def __post_init__(self) -> None:
        for name, probability in self.probabilities.items():
            check_name(name)
            if not 0 <= probability <= 1:
                raise ConfigurationError(
                    f"fault {name!r}: the probability must be from 0 to 1, got {probability!r}"
                )
        total = sum(self.probabilities.values())
        if total > 1 + 1e-9:
            raise ConfigurationError(f"the faults' probabilities add up to {total:g}, above 1")
        for name in ("slow_seconds", "stall_seconds", "retry_after_seconds"):
            if getattr(self, name) < 0:
                raise ConfigurationError(f"{name} must be 0 or more, got {getattr(self, name)!r}")

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Faults:
        """Read texts such as `429:0.02`; the probability is 1 if left out."""
        probabilities: dict[str, float] = {}
        for text in texts:
            name, _, number = text.partition(":")
            if name in probabilities:
                raise ConfigurationError(f"fault {name!r} is given twice; give it once")
            try:
                probabilities[check_name(name)] = float(number) if number else 1.0
            except ValueError as error:
                if isinstance(error, ConfigurationError):
                    raise
                raise ConfigurationError(
                    f"fault {text!r}: expected NAME:PROBABILITY, such as 429:0.02"
                ) from error
        return cls(probabilities=probabilities)

    def scaled(self, factor: float) -> Faults:
        """Return the same with every time multiplied."""
        if factor == 1:
            return self
        return replace(
            self,
            slow_seconds=self.slow_seconds * factor,
            stall_seconds=self.stall_seconds * factor,
        )

    def draw(self, rng: random.Random) -> str | None:
        """Draw the fault of one answer; one random number a call, so that runs repeat."""
        if not self.probabilities:
            return None
        number = rng.random()
        for name, probability in self.probabilities.items():
            number -= probability
            if number < 0:
                return name
        return None


def exceeded(wait_seconds: float) -> Exceeded:
    """Make up the limit that a 429 by fault speaks of."""
    return Exceeded(name="rpm", allowed=1, used=1, requested=1, wait_seconds=wait_seconds)


def check_name(name: str) -> str:
    """Return the name of a fault, or raise ConfigurationError listing them."""
    if name not in FAULTS:
        raise ConfigurationError(f"unknown fault {name!r}; there are {', '.join(FAULTS)}")
    return name


def spoil(answer: Answer, fault: str, faults: Faults, error_event: bytes) -> None:
    """Change an answer in place as a fault of the wire does."""
    _SPOILERS[fault](answer, faults, error_event)


def _slow_headers(answer: Answer, faults: Faults, error_event: bytes) -> None:
    answer.header_delay_seconds += faults.slow_seconds


def _slow_body(answer: Answer, faults: Faults, error_event: bytes) -> None:
    pieces = _pieces(answer)
    pause = faults.slow_seconds / max(len(pieces), 1)
    answer.chunks = [part for piece in pieces for part in (Chunk(b"", 0, "wait", pause), piece)]


def _stall(answer: Answer, faults: Faults, error_event: bytes) -> None:
    first, rest = _halves(answer)
    answer.chunks = [*first, Chunk(b"", 0, "wait", faults.stall_seconds), *rest]


def _reset(answer: Answer, faults: Faults, error_event: bytes) -> None:
    first = [] if answer.body is not None else _halves(answer)[0]
    answer.body = None
    answer.chunks = [*first, Chunk(b"", 0, "reset")]


def _truncate(answer: Answer, faults: Faults, error_event: bytes) -> None:
    first, _ = _halves(answer)
    answer.chunks = [*first, Chunk(b"", 0, "close")]


def _cut(answer: Answer, faults: Faults, error_event: bytes) -> None:
    if answer.body is not None:
        _truncate(answer, faults, error_event)
    else:
        answer.chunks = _halves(answer)[0]


def _malformed_json(answer: Answer, faults: Faults, error_event: bytes) -> None:
    if answer.body is not None:
        answer.body = answer.body[: len(answer.body) * 2 // 3]
        return
    first, rest = _halves(answer)
    broken = rest[0].data.rstrip(b"\n")
    ending = rest[0].data[len(broken) :]
    answer.chunks = [
        *first,
        Chunk(broken[: len(broken) * 2 // 3] + ending, rest[0].tokens),
        *rest[1:],
    ]


def _html(answer: Answer, faults: Faults, error_event: bytes) -> None:
    answer.status, answer.body, answer.content_type = 200, _HTML, b"text/html; charset=utf-8"


def _empty(answer: Answer, faults: Faults, error_event: bytes) -> None:
    answer.status, answer.body = 200, b""


def _error_event(answer: Answer, faults: Faults, error_event: bytes) -> None:
    answer.chunks = [*_halves(answer)[0], Chunk(error_event)]


def _wrong_content_type(answer: Answer, faults: Faults, error_event: bytes) -> None:
    answer.content_type = b"text/plain; charset=utf-8"


def _duplicate_chunks(answer: Answer, faults: Faults, error_event: bytes) -> None:
    if answer.body is None:
        answer.chunks = _doubled(answer.chunks)


def _doubled(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    for chunk in chunks:
        yield chunk
        if chunk.tokens:
            yield chunk


def _split_emoji(answer: Answer, faults: Faults, error_event: bytes) -> None:
    answer.chunks = [part for piece in _pieces(answer) for part in _split(piece)]


def _split(chunk: Chunk) -> Iterator[Chunk]:
    """Cut a chunk inside every character of several bytes; each part is written by itself."""
    start = 0
    for place, byte in enumerate(chunk.data):
        if byte & 0xC0 == 0x80 and chunk.data[place - 1] & 0xC0 == 0xC0:
            yield Chunk(chunk.data[start:place], 0, "flush")
            start = place
    yield Chunk(chunk.data[start:], chunk.tokens, "flush")


_SPOILERS = {
    "slow_headers": _slow_headers,
    "slow_body": _slow_body,
    "stall": _stall,
    "reset": _reset,
    "truncate": _truncate,
    "cut": _cut,
    "malformed_json": _malformed_json,
    "html": _html,
    "empty": _empty,
    "error_event": _error_event,
    "wrong_content_type": _wrong_content_type,
    "duplicate_chunks": _duplicate_chunks,
    "split_emoji": _split_emoji,
}


def _pieces(answer: Answer) -> list[Chunk]:
    """Take an answer apart: a stream's chunks, or a body in ten pieces that keep its length."""
    if answer.body is None:
        return list(answer.chunks)
    body, answer.body = answer.body, None
    answer.content_length = len(body)
    # A whole answer takes all its time before its headers.
    answer.header_delay_seconds += answer.delay_seconds
    answer.header_delay_seconds += answer.seconds_per_token * answer.usage.output_tokens
    answer.delay_seconds = answer.seconds_per_token = 0.0
    step = max(len(body) // 10, 1)
    return [Chunk(body[i : i + step]) for i in range(0, len(body), step)]


def _halves(answer: Answer) -> tuple[list[Chunk], list[Chunk]]:
    """Take an answer apart in the middle of its tokens, or of its bytes if it is plain."""
    pieces = _pieces(answer)
    carrying = [place for place, piece in enumerate(pieces) if piece.tokens]
    middle = len(pieces) // 2
    if carrying:
        # With one token alone, it comes before the middle: a fault half-way follows some text.
        middle = carrying[len(carrying) // 2] + (len(carrying) == 1)
    return pieces[:middle], pieces[middle:]
