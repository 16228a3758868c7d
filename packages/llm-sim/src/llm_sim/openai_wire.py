"""What OpenAI's endpoints share: error bodies, ids, keys, content parts, usage."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from llm_sim import tokens
from llm_sim.errors import Refusal
from llm_sim.exchange import Header, Json, Tool
from llm_sim.fields import dump, json_type
from llm_sim.limits import Exceeded, LimitName, Reading

_CODES = {
    "missing": "missing_required_parameter",
    "type": "invalid_type",
    "value": "invalid_value",
    "unknown": "unknown_parameter",
}

_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def read_json(body: bytes) -> Json:
    """Read a JSON object; refuse anything else."""
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


def no_such_path(method: str, path: str, *, known: bool) -> Refusal:
    """Make the refusal of a path that is not there, or of a method that it does not know."""
    if known:
        return Refusal(
            405,
            f"Not allowed to {method} on {path}.",
            type="invalid_request_error",
            code="method_not_supported",
        )
    return Refusal(404, f"Invalid URL ({method} {path})", type="invalid_request_error")


def refuse(message: str, param: str | None, kind: str) -> Refusal:
    """Make a 400 as OpenAI words it."""
    return Refusal(
        400, message, type="invalid_request_error", code=_CODES.get(kind, kind), param=param
    )


class _Wording:
    """Errors of single fields in OpenAI's words."""

    def unknown(self, name: str) -> Refusal:
        return refuse(f"Unknown parameter: '{name}'.", name, "unknown")

    def missing(self, name: str) -> Refusal:
        return refuse(f"Missing required parameter: '{name}'.", name, "missing")

    def wrong_type(self, name: str, value: object, expected: str) -> Refusal:
        got = json_type(value)
        article = "an" if got[0] in "aio" else "a"
        return refuse(
            f"Invalid type for '{name}': expected {expected}, but got {article} {got} instead.",
            name,
            "type",
        )

    def below(self, name: str, value: float, least: float) -> Refusal:
        return refuse(
            f"Invalid '{name}': {json_type(value)} below minimum value. "
            f"Expected a value >= {least:g}, but got {value} instead.",
            name,
            "value",
        )

    def above(self, name: str, value: float, most: float) -> Refusal:
        return refuse(
            f"Invalid '{name}': {json_type(value)} above maximum value. "
            f"Expected a value <= {most:g}, but got {value} instead.",
            name,
            "value",
        )


WORDING = _Wording()


def error_body(refusal: Refusal, request_id: str) -> bytes:
    """Render the error object; the request id goes in a header."""
    return dump(
        {
            "error": {
                "message": refusal.message,
                "type": refusal.type,
                "param": refusal.param,
                "code": refusal.code,
            }
        }
    )


def key_of(headers: Mapping[bytes, bytes]) -> str:
    """Return the API key of a request; refuse one without."""
    scheme, _, key = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Refusal(
            401,
            "You didn't provide an API key. You need to provide your API key in an Authorization "
            "header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
            type="invalid_request_error",
        )
    return key.strip()


def unknown_key(key: str) -> Refusal:
    """Make the 401 for a key that is not known."""
    shown = key if len(key) < 12 else f"{key[:8]}{'*' * 8}{key[-4:]}"
    return Refusal(
        401,
        f"Incorrect API key provided: {shown}. You can find your API key at "
        "https://platform.openai.com/account/api-keys.",
        type="invalid_request_error",
        code="invalid_api_key",
    )


def unknown_model(model: str) -> Refusal:
    """Make the 404 for a model that does not exist."""
    return Refusal(
        404,
        f"The model `{model}` does not exist or you do not have access to it.",
        type="invalid_request_error",
        code="model_not_found",
    )


class Prompt:
    """What the messages or items of a request hold, collected one after the other."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.user_text = ""
        """The user's last message."""
        self.assistant_turns = 0
        self.image_tokens = 0
        self.audio_tokens = 0


def role(message: Mapping[str, Any], roles: Collection[str], param: str) -> str:
    """Return whose message it is; raise Refusal for none of `roles`."""
    said = message.get("role")
    if said not in roles:
        listed = ", ".join(f"'{word}'" for word in roles)
        words = f"Invalid value: '{said}'. Supported values are: {listed}."
        raise refuse(words, f"{param}.role", "value")
    return str(said)


def image_tokens(detail: object) -> int:
    """Count an image by its level of detail."""
    return tokens.LOW_DETAIL_IMAGE_TOKENS if detail == "low" else tokens.IMAGE_TOKENS


def audio_tokens(data: object) -> int:
    """Count base64 sound."""
    seconds = tokens.count_audio_seconds(data) if isinstance(data, str) else 0.0
    return math.ceil(seconds * tokens.AUDIO_INPUT_TOKENS_PER_SECOND)


def effort(value: object, param: str) -> str | None:
    """Check a reasoning effort; None for no reasoning."""
    if value is None:
        return None
    if value not in _EFFORTS:
        listed = ", ".join(f"'{word}'" for word in _EFFORTS)
        raise refuse(f"Invalid value: '{value}'. Supported values are: {listed}.", param, "value")
    return None if value in ("none", "minimal") else str(value)


def tool(value: object, param: str) -> Tool:
    """Read a function's name and parameters."""
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise refuse(f"Missing required parameter: '{param}.name'.", f"{param}.name", "missing")
    schema = value.get("parameters") or {"type": "object"}
    kind = schema.get("type", "object") if isinstance(schema, dict) else None
    if kind != "object":
        raise refuse(
            f"Invalid schema for function '{value['name']}': schema must be a JSON Schema of "
            f"'type: \"object\"', got 'type: \"{kind}\"'.",
            f"{param}.parameters",
            "invalid_function_parameters",
        )
    return Tool(name=value["name"], schema=schema)


def schema_of(value: Mapping[str, Any], param: str) -> Mapping[str, Any]:
    """Read a named JSON schema of a response format."""
    if not isinstance(value.get("name"), str):
        raise refuse(f"Missing required parameter: '{param}.name'.", f"{param}.name", "missing")
    schema = value.get("schema")
    if not isinstance(schema, dict) or schema.get("type") != "object":
        got = schema.get("type") if isinstance(schema, dict) else None
        raise refuse(
            f"Invalid schema for response_format '{value['name']}': schema must be a JSON Schema "
            f"of 'type: \"object\"', got 'type: \"{got}\"'.",
            param.removesuffix(".json_schema"),
            "value",
        )
    return schema


def function_tokens(tools: list[Json]) -> int:
    """Count the definitions of tools by their JSON."""
    return sum(tokens.count(dump(tool).decode()) for tool in tools)


_LIMIT_WORDS = {
    "rpm": ("requests", "requests per min (RPM)"),
    "rpd": ("requests", "requests per day (RPD)"),
    "tpm": ("tokens", "tokens per min (TPM)"),
    "itpm": ("tokens", "input tokens per min (ITPM)"),
    "otpm": ("tokens", "output tokens per min (OTPM)"),
    "concurrency": ("requests", "concurrent requests"),
}


def limited(exceeded: Exceeded, model: str) -> Refusal:
    """Make the 429 of a limit, with the headers that say how long to wait."""
    kind, words = _LIMIT_WORDS[exceeded.name]
    numbers = f"Limit {exceeded.allowed}, Used {exceeded.used}, Requested {exceeded.requested}."
    if exceeded.wait_seconds == math.inf:
        numbers = f"Limit {exceeded.allowed}, Requested {exceeded.requested}."
        message = (
            f"Request too large for {model} in organization org-llmsim on {words}: {numbers} "
            "The input or output tokens must be reduced in order to run successfully. "
            "Visit https://platform.openai.com/account/rate-limits to learn more."
        )
        return Refusal(429, message, type=kind, code="rate_limit_exceeded")
    wait_ms = math.ceil(exceeded.wait_seconds * 1000)
    message = (
        f"Rate limit reached for {model} in organization org-llmsim on {words}: {numbers} "
        f"Please try again in {duration(wait_ms / 1000)}. "
        "Visit https://platform.openai.com/account/rate-limits to learn more."
    )
    return Refusal(
        429,
        message,
        type=kind,
        code="rate_limit_exceeded",
        headers=(
            ("retry-after", str(math.ceil(wait_ms / 1000))),
            ("retry-after-ms", str(wait_ms)),
        ),
        retry_after_seconds=wait_ms / 1000,
    )


def out_of_money() -> Refusal:
    """Make the 429 that no waiting helps."""
    return Refusal(
        429,
        "You exceeded your current quota, please check your plan and billing details. "
        "For more information on this error, read the docs: "
        "https://platform.openai.com/docs/guides/error-codes/api-errors.",
        type="insufficient_quota",
        code="insufficient_quota",
    )


_FAULTS: dict[int, tuple[str, str, str | None]] = {
    400: ("Invalid request (simulated).", "invalid_request_error", None),
    401: ("Incorrect API key provided (simulated).", "invalid_request_error", "invalid_api_key"),
    403: (
        "Country, region, or territory not supported",
        "request_forbidden",
        "unsupported_country_region_territory",
    ),
    404: ("The model does not exist (simulated).", "invalid_request_error", "model_not_found"),
    408: ("Request timed out.", "timeout", None),
    409: ("The request conflicts with another one.", "conflict_error", None),
    413: ("Request body too large.", "invalid_request_error", "request_too_large"),
    422: ("The request could not be processed.", "unprocessable_entity_error", None),
    503: (
        "That model is currently overloaded with other requests. You can retry your request, or "
        "contact us through our help center at help.openai.com if the error persists.",
        "server_error",
        None,
    ),
}


def failure(status: int) -> Refusal:
    """Make the error of a status, as it would come of itself."""
    message, kind, code = _FAULTS.get(
        status,
        (
            "The server had an error while processing your request. Sorry about that!",
            "server_error",
            None,
        ),
    )
    return Refusal(status, message, type=kind, code=code)


def limit_headers(readings: Mapping[LimitName, Reading], wall_time: float) -> Iterator[Header]:
    """Give the `x-ratelimit-*` headers; of requests a minute if limited, else of those a day."""
    for names, unit in ((("rpm", "rpd"), b"requests"), (("tpm",), b"tokens")):
        reading = next((readings[name] for name in names if name in readings), None)  # type: ignore[index]
        if reading is not None:
            yield b"x-ratelimit-limit-" + unit, b"%d" % reading.allowed
            yield b"x-ratelimit-remaining-" + unit, b"%d" % reading.remaining
            yield b"x-ratelimit-reset-" + unit, duration(reading.reset_seconds).encode()


def request_headers(request_id: str, seconds: float) -> Iterator[Header]:
    """Give the headers that every answer has."""
    yield b"x-request-id", request_id.encode()
    yield b"openai-organization", b"org-llmsim"
    yield b"openai-version", b"2020-10-01"
    yield b"openai-processing-ms", b"%d" % (seconds * 1000)


def duration(seconds: float) -> str:
    """Write a duration as OpenAI does, rounded up to milliseconds: `17ms`, `8.64s`, `6m0s`."""
    ms = math.ceil(round(seconds * 1000, 6))
    if ms < 1000:
        return f"{ms}ms"
    minutes, rest = divmod(ms, 60_000)
    text = f"{rest / 1000:g}s"
    if not minutes:
        return text
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}"
