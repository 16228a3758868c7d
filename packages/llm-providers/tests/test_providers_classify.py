from __future__ import annotations

import json
import socket
import ssl
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from llm_core import ErrorType
from llm_providers.classify import classify_failure, classify_reply, find_error
from llm_providers.connection_errors import transport_failure
from llm_providers.wire import TransportFailure, WireReply

T = ErrorType
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def info_of(status: int, body: Any, **headers: str) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    reply = WireReply(status=status, headers=named, content=content)
    return classify_reply(reply, provider="p", model="m", now=NOW)


def openai(**error: Any) -> dict[str, Any]:
    return {"error": {"message": "told", **error}}


def anthropic(kind: str, message: str = "told", **details: Any) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message, "details": details}}


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        # one status, several meanings: the code decides
        (429, openai(code="rate_limit_exceeded", type="requests"), T.RATE_LIMITED),
        (429, openai(code="insufficient_quota", type="insufficient_quota"), T.QUOTA_EXHAUSTED),
        (429, openai(type="insufficient_quota"), T.QUOTA_EXHAUSTED),
        (429, anthropic("rate_limit_error"), T.RATE_LIMITED),
        (
            429,
            anthropic("rate_limit_error", error_code="enforced_spend_limit_reached"),
            T.QUOTA_EXHAUSTED,
        ),
        (429, anthropic("rate_limit_error", error_code="ramp_limit_exceeded"), T.RATE_LIMITED),
        (400, anthropic("billing_error"), T.QUOTA_EXHAUSTED),
        (402, {}, T.QUOTA_EXHAUSTED),
        (
            400,
            anthropic("invalid_request_error", "Your credit balance is too low to access the API"),
            T.QUOTA_EXHAUSTED,
        ),
        # a status within the body counts where HTTP says that all is well
        (200, openai(code=429), T.RATE_LIMITED),
        (200, openai(code=503), T.OVERLOADED),
        (200, openai(code=400, type="BadRequestError"), T.INVALID_REQUEST),
        (200, openai(code=7), T.SERVER_ERROR),
        (401, openai(code=500), T.AUTHENTICATION),
        (503, openai(code="slow_down"), T.RATE_LIMITED),
        (529, anthropic("overloaded_error"), T.OVERLOADED),
        (200, anthropic("overloaded_error"), T.OVERLOADED),
        (503, openai(type="server_error"), T.OVERLOADED),
        (503, b"<html>", T.OVERLOADED),
        (500, anthropic("api_error"), T.SERVER_ERROR),
        (500, openai(type="server_error"), T.SERVER_ERROR),
        (504, anthropic("timeout_error"), T.TIMEOUT_READ),
        (408, {}, T.TIMEOUT_READ),
        (401, openai(code="invalid_api_key"), T.AUTHENTICATION),
        (401, {}, T.AUTHENTICATION),
        (403, anthropic("permission_error"), T.PERMISSION),
        (403, {}, T.PERMISSION),
        (403, openai(code="unsupported_country_region_territory"), T.UNSUPPORTED_REGION),
        (404, openai(code="model_not_found"), T.MODEL_NOT_FOUND),
        (404, anthropic("not_found_error", "model: claude-x"), T.MODEL_NOT_FOUND),
        (404, openai(param="model"), T.MODEL_NOT_FOUND),
        (404, {"detail": "Not Found"}, T.INVALID_REQUEST),
        (400, openai(code="context_length_exceeded"), T.CONTEXT_TOO_LONG),
        (400, openai(code="content_filter"), T.CONTENT_FILTERED),
        (
            400,
            openai(innererror={"code": "ResponsibleAIPolicyViolation"}, code="x"),
            T.CONTENT_FILTERED,
        ),
        (400, openai(code="invalid_prompt"), T.CONTENT_FILTERED),
        (400, openai(code="unknown_parameter", type="invalid_request_error"), T.INVALID_REQUEST),
        (413, anthropic("request_too_large"), T.INVALID_REQUEST),
        (422, {"detail": [{"loc": ["body"]}]}, T.INVALID_REQUEST),
        (302, b"", T.SERVER_ERROR),
        (500, b"\xff\x00", T.SERVER_ERROR),
        (400, [{"error": {"code": 400, "message": "google's list"}}], T.INVALID_REQUEST),
        (
            400,
            {"object": "error", "type": "BadRequestError", "message": "old vLLM", "code": 400},
            T.INVALID_REQUEST,
        ),
        # words alone decide nothing
        (400, openai(message="rate limit quota overloaded"), T.INVALID_REQUEST),
        (500, openai(message="prompt is too long: 5 tokens > 4 maximum"), T.SERVER_ERROR),
    ],
)
def test_errors_are_told_apart(status: int, body: Any, expected: ErrorType) -> None:
    info = info_of(status, body)
    assert info.type is expected
    assert info.status_code == status
    assert (info.provider, info.model) == ("p", "m")
    assert info.message


@pytest.mark.parametrize(
    ("body", "limit", "got"),
    [
        (
            anthropic(
                "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"
            ),
            200_000,
            210_000,
        ),
        (
            anthropic(
                "invalid_request_error",
                "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
            ),
            200_000,
            210_000,
        ),
        (
            openai(
                code="context_length_exceeded",
                message="This model's maximum context length is 8192 tokens. However, your "
                "messages resulted in 10000 tokens.",
            ),
            8192,
            10_000,
        ),
        (
            openai(
                type="BadRequestError",
                message="This model's maximum context length is 4096 tokens. However, you "
                "requested 5000 tokens (4000 in the messages).",
            ),
            4096,
            5000,
        ),
        (
            openai(type="exceed_context_size_error", n_ctx=4096, n_prompt_tokens=5000),
            4096,
            5000,
        ),
    ],
)
def test_a_context_too_long_tells_both_numbers(body: Any, limit: int, got: int) -> None:
    info = info_of(400, body)
    assert info.type is T.CONTEXT_TOO_LONG
    assert (info.details["limit_tokens"], info.details["got_tokens"]) == (limit, got)


def test_a_context_too_long_without_numbers_says_none() -> None:
    info = info_of(400, openai(code="context_length_exceeded"))
    assert info.details == {}


def test_one_request_above_the_whole_limit_is_not_retried() -> None:
    message = "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 40000."
    info = info_of(429, openai(code="rate_limit_exceeded", type="tokens", message=message))
    assert (info.type, info.retryable) == (T.RATE_LIMITED, False)
    assert info.details["limit_tokens"] == 30_000
    usual = "Rate limit reached: Limit 30000, Used 29999, Requested 400."
    assert info_of(429, openai(code="rate_limit_exceeded", message=usual)).retryable


def test_growing_too_fast_is_marked_so() -> None:
    ramp = info_of(429, anthropic("rate_limit_error", error_code="ramp_limit_exceeded"))
    assert ramp.details["scope"] == "acceleration"
    assert ramp.code == "ramp_limit_exceeded"
    assert info_of(503, openai(code="slow_down")).details["scope"] == "acceleration"


def test_the_provider_may_say_itself_whether_to_retry() -> None:
    assert not info_of(500, {}, x_should_retry="false").retryable
    assert info_of(400, {}, x_should_retry="true").retryable
    assert info_of(409, {}).retryable


def test_ids_codes_and_waits_are_kept() -> None:
    info = info_of(
        429,
        openai(code="rate_limit_exceeded", type="tokens", param="input"),
        x_request_id="req_1",
        retry_after="2.5",
    )
    assert (info.code, info.provider_request_id, info.retry_after) == (
        "rate_limit_exceeded",
        "req_1",
        2.5,
    )
    assert info.details == {"param": "input", "vendor_type": "tokens"}


def test_a_page_of_html_is_shown_in_part() -> None:
    info = info_of(502, b"<html>" + b"x" * 1000)
    assert info.message.startswith("HTTP 502 with '<html>xxx")
    assert len(info.message) < 200
    assert info_of(500, b"").message == "HTTP 500 with an empty body"


@pytest.mark.parametrize("payload", [None, 3, [], "x", {}, {"error": None}, {"error": 3}])
def test_what_holds_no_error(payload: Any) -> None:
    assert find_error(payload) is None


class ConnectTimeout(Exception):
    """Named like httpx's."""


class ReadError(Exception):
    """Named like httpx's."""


def chained(outer: Exception, inner: BaseException) -> Exception:
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("error", "expected", "reason"),
    [
        (ConnectTimeout(), T.TIMEOUT_CONNECT, None),
        (chained(RuntimeError("sdk"), ConnectTimeout()), T.TIMEOUT_CONNECT, None),
        (chained(RuntimeError(), ReadError()), T.CONNECTION, None),
        (chained(RuntimeError(), ConnectionRefusedError(111, "refused")), T.CONNECTION, "refused"),
        (chained(RuntimeError(), socket.gaierror(-2, "no such name")), T.CONNECTION, "dns"),
        (chained(RuntimeError(), ssl.SSLCertVerificationError(1, "bad")), T.CONNECTION, "tls"),
        (chained(ReadError(), ConnectionResetError(104, "reset")), T.CONNECTION, "reset"),
        (
            ExceptionGroup("all tried", [ConnectionRefusedError(), OSError()]),
            T.CONNECTION,
            "refused",
        ),
    ],
)
def test_broken_connections(error: Exception, expected: ErrorType, reason: str | None) -> None:
    failure = transport_failure(error)
    assert failure is not None
    assert failure.error_type is expected
    assert failure.details.get("reason") == reason
    info = classify_failure(failure, provider="p", model="m")
    assert info.retryable
    assert info.status_code is None


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("http://user:secret@127.0.0.1:9/v1/x?key=1", "http://127.0.0.1:9"),
        ("https://[::1]:9/v1", "https://[::1]:9"),
    ],
)
def test_a_server_that_cannot_be_reached_is_named_without_its_secrets(
    address: str, told: str
) -> None:
    error = httpx2.ConnectError("refused", request=httpx2.Request("POST", address))
    failure = transport_failure(error)
    assert failure is not None
    assert str(failure) == f"could not connect: {told}: refused"


def test_a_failed_connection_to_nobody_knows_where_is_told_without_a_server() -> None:
    failure = transport_failure(httpx2.ConnectError("refused"))
    assert failure is not None
    assert str(failure) == "could not connect: refused"


def test_what_is_no_broken_connection() -> None:
    assert transport_failure(ValueError("x")) is None
    loop = ValueError("a")
    loop.__context__ = KeyError("b")
    loop.__context__.__context__ = loop
    assert transport_failure(loop) is None


def test_a_transport_failure_keeps_its_words() -> None:
    info = classify_failure(TransportFailure(T.CONNECTION, "gone"), provider="p", model=None)
    assert info.message == "gone"


def test_numbers_of_any_length_are_read_without_harm() -> None:
    digits = "9" * 5000
    error = openai(code="rate_limit_exceeded", message=f"Limit: {digits}, Requested: {digits}")
    info = info_of(429, error)
    assert info.type is T.RATE_LIMITED
    assert info.details.get("requested_tokens") is None


def test_a_header_that_cannot_be_sent_is_not_quoted() -> None:
    error = type("LocalProtocolError", (Exception,), {})("Illegal header value b'Bearer hush'")
    failure = transport_failure(error)
    assert failure is not None
    assert failure.error_type is T.INVALID_REQUEST
    assert "hush" not in str(failure)


@pytest.mark.parametrize(
    ("error", "sent"),
    [
        (chained(RuntimeError(), ConnectionRefusedError(111, "refused")), False),
        (chained(RuntimeError(), socket.gaierror(-2, "no such name")), False),
        (ConnectTimeout(), False),
        (ReadError(), True),
        (chained(ReadError(), ConnectionResetError(104, "reset")), True),
        (chained(ReadError(), ssl.SSLError(1, "bad record")), True),
    ],
)
def test_a_connection_that_never_was_is_told_from_one_that_broke(
    error: Exception, sent: bool
) -> None:
    failure = transport_failure(error)
    assert failure is not None
    assert failure.details.get("sent", True) is sent
