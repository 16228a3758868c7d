"""What a caller gets of every fault of a server: the expectation of the tests and a page of the documentation at once."""

from __future__ import annotations

from llm_core import ErrorType, Value, immutable

__all__ = ["FAULT_TABLE", "FaultRow", "Outcome", "fault_table_markdown"]


@immutable
class Outcome(Value):
    """What a call comes to."""

    error_type: ErrorType | None = None
    """None: the whole answer."""
    or_type: ErrorType | None = None
    """Another type, where the vendors' own words for one status differ."""
    retryable: bool = False
    keeps_text: bool = False
    """The beginning of the answer is in `error.partial`, with a usage above zero."""
    ends_by: str = "at once"
    """What bounds the time: ``at once``, ``idle timeout`` or ``whole-call timeout``."""


@immutable
class FaultRow(Value):
    """One way for a server to fail, and what a caller gets."""

    fault: str
    meaning: str
    plain: Outcome
    streamed: Outcome


_T = ErrorType
_ANSWER = Outcome()


def _refused(
    fault: str,
    meaning: str,
    error_type: ErrorType,
    *,
    or_type: ErrorType | None = None,
    retryable: bool | None = None,
) -> FaultRow:
    """Build a row for a status that plain and streamed calls meet alike."""
    by_table = error_type.traits.retryable if retryable is None else retryable
    outcome = Outcome(error_type=error_type, or_type=or_type, retryable=by_table)
    return FaultRow(fault=fault, meaning=meaning, plain=outcome, streamed=outcome)


def _broken(
    fault: str,
    meaning: str,
    plain: ErrorType,
    streamed: ErrorType,
    *,
    keeps_text: bool = True,
    or_streamed: ErrorType | None = None,
    plain_ends_by: str = "at once",
    stream_ends_by: str = "at once",
) -> FaultRow:
    """Build a row for a fault of the wire, which may keep a stream's first half."""
    return FaultRow(
        fault=fault,
        meaning=meaning,
        plain=Outcome(error_type=plain, retryable=True, ends_by=plain_ends_by),
        streamed=Outcome(
            error_type=streamed,
            or_type=or_streamed,
            retryable=True,
            keeps_text=keeps_text,
            ends_by=stream_ends_by,
        ),
    )


def _harmless(fault: str, meaning: str) -> FaultRow:
    return FaultRow(fault=fault, meaning=meaning, plain=_ANSWER, streamed=_ANSWER)


FAULT_TABLE: tuple[FaultRow, ...] = (
    _refused("400", "the request is called invalid", _T.INVALID_REQUEST),
    _refused("401", "the key is called wrong", _T.AUTHENTICATION),
    _refused(
        "403",
        "the key may not do this, or not from here",
        _T.UNSUPPORTED_REGION,
        or_type=_T.PERMISSION,
    ),
    _refused("404", "the model is called unknown", _T.MODEL_NOT_FOUND),
    _refused("408", "the vendor timed out", _T.TIMEOUT_READ),
    _refused("409", "a conflict with another request", _T.INVALID_REQUEST, retryable=True),
    _refused("413", "the request is called too large", _T.INVALID_REQUEST),
    _refused("422", "the request is called unprocessable", _T.INVALID_REQUEST),
    _refused("429", "the rate limit is exceeded", _T.RATE_LIMITED),
    _refused("quota", "the account is out of money", _T.QUOTA_EXHAUSTED),
    _refused("500", "the vendor failed", _T.SERVER_ERROR),
    _refused("502", "a gateway got no good answer", _T.SERVER_ERROR),
    _refused("503", "the vendor is overloaded", _T.OVERLOADED),
    _refused("504", "a gateway timed out", _T.SERVER_ERROR, or_type=_T.TIMEOUT_READ),
    _refused("529", "the vendor is overloaded (Anthropic)", _T.OVERLOADED),
    _harmless("slow_headers", "the headers come late"),
    _harmless("slow_body", "the body comes drop by drop"),
    _broken(
        "stall",
        "the body stops half-way and the connection stays open",
        _T.TIMEOUT_READ,
        _T.TIMEOUT_READ,
        plain_ends_by="whole-call timeout",
        stream_ends_by="idle timeout",
    ),
    _broken("reset", "the connection is reset", _T.CONNECTION, _T.CONNECTION),
    _broken("truncate", "the body ends against its own framing", _T.CONNECTION, _T.CONNECTION),
    _broken("cut", "a stream ends without its terminal event", _T.CONNECTION, _T.TRUNCATED),
    _broken("malformed_json", "the JSON is broken", _T.SERVER_ERROR, _T.SERVER_ERROR),
    _broken(
        "html", "an HTML page with status 200", _T.SERVER_ERROR, _T.SERVER_ERROR, keeps_text=False
    ),
    _broken(
        "empty", "an empty body with status 200", _T.SERVER_ERROR, _T.SERVER_ERROR, keeps_text=False
    ),
    _broken(
        "error_event",
        "an error event in the midst of a stream; a plain call gets a 500",
        _T.SERVER_ERROR,
        _T.SERVER_ERROR,
        or_streamed=_T.OVERLOADED,
    ),
    _harmless("wrong_content_type", "the content type is text/plain"),
    _harmless("split_emoji", "characters are split across chunks"),
)
"""Fault → what a plain and a streamed call come to, for every provider."""


def fault_table_markdown() -> str:
    """Return `FAULT_TABLE` as a table for the documentation."""
    lines = [
        "| fault | what happens | plain call | stream |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| `{row.fault}` | {row.meaning} | {_cell(row.plain)} | {_cell(row.streamed)} |"
        for row in FAULT_TABLE
    ]
    return "\n".join(lines) + "\n"


def _cell(outcome: Outcome) -> str:
    if outcome.error_type is None:
        return "the whole answer"
    kinds = [kind for kind in (outcome.error_type, outcome.or_type) if kind is not None]
    words = [" or ".join(f"`{kind.value}`" for kind in kinds)]
    words.append("retryable" if outcome.retryable else "not retryable")
    if outcome.keeps_text:
        words.append("partial text kept")
    if outcome.ends_by != "at once":
        words.append(f"ends by the {outcome.ends_by}")
    return ", ".join(words)
