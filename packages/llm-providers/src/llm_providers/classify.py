"""From a vendor's failure to an `ErrorInfo`.

The order of evidence: the body's own code, its type, the HTTP status.
The words of a message never decide alone; they only refine what code, type or status have said already
(Anthropic has no code for a prompt that is too long, for one).

Sources: OpenAI's guide «Error codes», Anthropic's «Errors» and «Rate limits» with the error details of anthropic 2.12,
Ollama's ``docs/api/errors``,
and the error objects of vLLM, llama.cpp and Azure OpenAI.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from llm_core import ErrorInfo, ErrorType, ProviderResponse, RateLimitFacts, Value, immutable
from llm_providers.json_reading import (
    MalformedBody,
    dict_at,
    parse_json,
    shown,
    text_at,
)
from llm_providers.rate_limit_headers import read_rate_limits, read_retry_after
from llm_providers.wire import TransportFailure, WireReply

__all__ = [
    "VendorError",
    "classify",
    "classify_failure",
    "classify_reply",
    "find_error",
]

_T = ErrorType

_BY_WORD: Mapping[str, ErrorType] = {
    # limits
    "rate_limit_exceeded": _T.RATE_LIMITED,
    "rate_limit_error": _T.RATE_LIMITED,
    "rate_limit_reached": _T.RATE_LIMITED,
    "too_many_requests": _T.RATE_LIMITED,
    "slow_down": _T.RATE_LIMITED,
    "ramp_limit_exceeded": _T.RATE_LIMITED,
    "insufficient_quota": _T.QUOTA_EXHAUSTED,
    "billing_hard_limit_reached": _T.QUOTA_EXHAUSTED,
    "billing_not_active": _T.QUOTA_EXHAUSTED,
    "billing_error": _T.QUOTA_EXHAUSTED,
    "enforced_spend_limit_reached": _T.QUOTA_EXHAUSTED,
    "contract_spend_limit_reached": _T.QUOTA_EXHAUSTED,
    "linked_organization_spend_limit_reached": _T.QUOTA_EXHAUSTED,
    "linked_organization_billing_unavailable": _T.QUOTA_EXHAUSTED,
    # capacity and faults of the server
    "overloaded_error": _T.OVERLOADED,
    "overloaded": _T.OVERLOADED,
    "server_overloaded": _T.OVERLOADED,
    "server_is_overloaded": _T.OVERLOADED,
    "engine_overloaded": _T.OVERLOADED,
    "service_unavailable": _T.OVERLOADED,
    "server_error": _T.SERVER_ERROR,
    "internal_error": _T.SERVER_ERROR,
    "internal_server_error": _T.SERVER_ERROR,
    "api_error": _T.SERVER_ERROR,
    "timeout_error": _T.TIMEOUT_READ,
    "request_timeout": _T.TIMEOUT_READ,
    # who is asking, and from where
    "invalid_api_key": _T.AUTHENTICATION,
    "authentication_error": _T.AUTHENTICATION,
    "permission_error": _T.PERMISSION,
    "permission_denied": _T.PERMISSION,
    "insufficient_permissions": _T.PERMISSION,
    "account_deactivated": _T.PERMISSION,
    "organization_on_hold": _T.PERMISSION,
    "unsupported_country_region_territory": _T.UNSUPPORTED_REGION,
    # what is asked
    "model_not_found": _T.MODEL_NOT_FOUND,
    "context_length_exceeded": _T.CONTEXT_TOO_LONG,
    "exceed_context_size_error": _T.CONTEXT_TOO_LONG,
    "content_filter": _T.CONTENT_FILTERED,
    "content_policy_violation": _T.CONTENT_FILTERED,
    "image_content_policy_violation": _T.CONTENT_FILTERED,
    "moderation_blocked": _T.CONTENT_FILTERED,
    "responsibleaipolicyviolation": _T.CONTENT_FILTERED,
    "invalid_prompt": _T.CONTENT_FILTERED,
    "request_too_large": _T.INVALID_REQUEST,
}
"""Error codes and types that mean one thing whoever sends them."""

_VAGUE_TYPES = frozenset({"server_error", "internal_error", "internal_server_error", "api_error"})
"""Types that say less than the status they came with."""

_BY_STATUS: Mapping[int, ErrorType] = {
    401: _T.AUTHENTICATION,
    402: _T.QUOTA_EXHAUSTED,
    403: _T.PERMISSION,
    408: _T.TIMEOUT_READ,
    429: _T.RATE_LIMITED,
    503: _T.OVERLOADED,
    529: _T.OVERLOADED,
}

_TOO_LONG = (
    re.compile(r"(?P<got>\d+) tokens? > (?P<limit>\d+) maximum"),
    re.compile(
        r"maximum context length is (?P<limit>\d+) tokens.*?(?:resulted in|requested|has|contains) "
        r"(?:about )?(?P<got>\d+)",
        re.DOTALL,
    ),
    re.compile(r"exceed context limit: (?P<a>\d+) \+ (?P<b>\d+) > (?P<limit>\d+)"),
    re.compile(
        r"\(?(?P<got>\d+) tokens\)?.* context (?:size|window|length).*?(?P<limit>\d+)",
        re.DOTALL,
    ),
)
_TOO_LONG_HINT = re.compile(
    r"prompt is too long|exceeds? context limit|maximum context length|context window|context size",
    re.IGNORECASE,
)
_USAGE_LIMIT = re.compile(r"usage limit|quota", re.IGNORECASE)
"""Ollama's cloud has no error codes: its 429 for a spent contingent differs from other 429s by its words alone."""
_NO_CREDIT = re.compile(r"credit balance is too low", re.IGNORECASE)
"""Anthropic's words for an empty account, which come as a plain ``invalid_request_error``."""
_ONE_REQUEST_TOO_LARGE = re.compile(r"Limit:? (?P<limit>\d+), Requested:? (?P<requested>\d+)")


@immutable
class VendorError(Value):
    """An error object, in whatever shape it was sent."""

    message: str = ""
    code: str = ""
    type: str = ""
    param: str = ""
    detail_code: str = ""
    """A finer code inside, such as Anthropic's ``details.error_code``."""
    limit_tokens: int | None = None
    got_tokens: int | None = None
    status: int | None = None
    """The HTTP status, where the body repeats it: OpenRouter, vLLM and llama.cpp put it into ``code``."""


def find_error(payload: Any) -> VendorError | None:
    """Return the error inside a body or stream event, or None if it holds none.

    Knows ``{"error": {...}}``, ``{"error": "text"}``, a flat ``{"type": "error", "message": …}``,
    ``{"object": "error", …}``, ``{"detail": …}``, ``{"response": {"error": {...}}}``, and a list around any of them.
    """
    if isinstance(payload, list) and payload:
        payload = payload[0]
    if not isinstance(payload, dict):
        return None
    error = payload.get("error")
    if error is None and isinstance(payload.get("response"), dict):
        error = payload["response"].get("error")
    if isinstance(error, str) and error:
        return VendorError(message=error, code=text_at(payload, "code"))
    if isinstance(error, dict) and error:
        return _read_error(error)
    if payload.get("type") == "error" or payload.get("object") == "error":
        return _read_error({**payload, "type": ""})
    detail = payload.get("detail")
    if detail:
        return VendorError(message=detail if isinstance(detail, str) else str(detail)[:500])
    return None


def _read_error(error: dict[str, Any]) -> VendorError:
    code = error.get("code")
    details = dict_at(error, "details")
    limit, got = error.get("n_ctx"), error.get("n_prompt_tokens")
    return VendorError(
        message=text_at(error, "message"),
        code=code if isinstance(code, str) else "",
        type=text_at(error, "type"),
        param=text_at(error, "param"),
        detail_code=text_at(details, "error_code") or text_at(error, "innererror", "code"),
        limit_tokens=limit if isinstance(limit, int) else None,
        got_tokens=got if isinstance(got, int) else None,
        status=code if type(code) is int and 400 <= code <= 599 else None,
    )


def classify_reply(
    reply: WireReply, *, provider: str, model: str | None, now: datetime
) -> ErrorInfo:
    """Describe a reply that is a failure: a status of 300 or more, or an error body with status 200."""
    try:
        error = find_error(parse_json(reply.content))
    except MalformedBody:
        error = None
    if error is None:
        body = shown(reply.content) if reply.content else "an empty body"
        error = VendorError(message=f"HTTP {reply.status} with {body}")
    return classify(
        error,
        status=reply.status,
        headers=reply.headers,
        provider=provider,
        model=model,
        now=now,
    )


def classify(
    error: VendorError,
    *,
    status: int,
    headers: Mapping[str, str],
    provider: str,
    model: str | None,
    now: datetime,
    partial: ProviderResponse | None = None,
) -> ErrorInfo:
    """Describe an error object that came with `status` and `headers` (200 when in the midst of a stream).

    Where the status says that all is well, the one that the error itself names counts.
    """
    told = error.status if error.status is not None and status < 400 else status
    error_type = _type_of(error, told)
    details = _details_of(error, error_type)
    retryable = error_type.traits.retryable or told == 409
    advice = headers.get("x-should-retry")
    if advice in ("true", "false"):
        retryable = advice == "true"
    if details.get("requested_tokens", 0) > details.get("limit_tokens", 0):
        retryable = False
    return ErrorInfo(
        type=error_type,
        message=error.message or f"HTTP {status}",
        retryable=retryable,
        retry_after=read_retry_after(headers, now),
        status_code=status,
        code=error.detail_code or error.code or error.type or None,
        provider=provider,
        model=model,
        provider_request_id=request_id_of(headers),
        rate_limits=read_rate_limits(headers, now),
        details=details,
        partial=partial,
    )


def classify_failure(
    failure: TransportFailure,
    *,
    provider: str,
    model: str | None,
    partial: ProviderResponse | None = None,
    status: int | None = None,
    provider_request_id: str | None = None,
    rate_limits: RateLimitFacts | None = None,
) -> ErrorInfo:
    """Describe a call that got no whole reply; the last three are known if its headers came."""
    return ErrorInfo.of(
        failure.error_type,
        str(failure),
        provider=provider,
        model=model,
        details=failure.details,
        partial=partial,
        status_code=status,
        provider_request_id=provider_request_id,
        rate_limits=rate_limits,
    )


def request_id_of(headers: Mapping[str, str]) -> str | None:
    """Return the vendor's id of the HTTP request (OpenAI ``x-request-id``, Anthropic ``request-id``)."""
    return headers.get("x-request-id") or headers.get("request-id")


def _type_of(error: VendorError, status: int) -> ErrorType:
    for word in (error.detail_code, error.code, error.type):
        found = _BY_WORD.get(word.lower())
        if found is None or (word in _VAGUE_TYPES and status in _BY_STATUS):
            continue
        return found
    if status == 404 or error.type == "not_found_error":
        named = (
            error.type == "not_found_error" or error.param == "model" or "model" in error.message
        )
        return _T.MODEL_NOT_FOUND if named else _T.INVALID_REQUEST
    if status == 429 and not (error.code or error.type) and _USAGE_LIMIT.search(error.message):
        return _T.QUOTA_EXHAUSTED
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 400 <= status < 500 or error.type == "invalid_request_error":
        if _NO_CREDIT.search(error.message):
            return _T.QUOTA_EXHAUSTED
        too_long = _TOO_LONG_HINT.search(error.message)
        return _T.CONTEXT_TOO_LONG if too_long else _T.INVALID_REQUEST
    return _T.SERVER_ERROR


def _details_of(error: VendorError, error_type: ErrorType) -> dict[str, Any]:
    details: dict[str, Any] = {}
    if error.param:
        details["param"] = error.param
    if error.type and error.type != (error.detail_code or error.code):
        details["vendor_type"] = error.type
    if error_type is _T.CONTEXT_TOO_LONG:
        details.update(_context_numbers(error))
    if error_type is _T.RATE_LIMITED:
        if "slow_down" in (error.code, error.type) or error.detail_code == "ramp_limit_exceeded":
            details["scope"] = "acceleration"  # usage grows too fast; ramp up gradually
        sizes = _ONE_REQUEST_TOO_LARGE.search(error.message)
        if sizes:  # a server may send any number of digits, and Python refuses to read thousands
            limit, requested = int(sizes["limit"][:18]), int(sizes["requested"][:18])
            if requested > limit:
                details |= {"limit_tokens": limit, "requested_tokens": requested}
    return details


def _context_numbers(error: VendorError) -> dict[str, int]:
    """Return ``limit_tokens`` and ``got_tokens`` as far as the error tells them."""
    limit, got = error.limit_tokens, error.got_tokens
    for pattern in _TOO_LONG if limit is None else ():
        found = pattern.search(error.message[:2000])
        if found is None:
            continue
        numbers = found.groupdict()
        limit = int(numbers["limit"][:18])
        got = (
            int(numbers["got"][:18]) if "got" in numbers else int(numbers["a"]) + int(numbers["b"])
        )
        break
    numbered = {"limit_tokens": limit, "got_tokens": got}
    return {name: number for name, number in numbered.items() if number is not None}
