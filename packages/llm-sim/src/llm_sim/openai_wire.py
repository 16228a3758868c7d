"""What OpenAI's endpoints share: error bodies, ids, keys, content parts, usage."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from llm_sim import tokens
from llm_sim.errors import Refusal
from llm_sim.exchange import Json, Tool
from llm_sim.fields import dump

_CODES = {
    "missing": "missing_required_parameter",
    "type": "invalid_type",
    "value": "invalid_value",
    "unknown": "unknown_parameter",
}

_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def refuse(message: str, param: str | None, kind: str) -> Refusal:
    """Make a 400 as OpenAI words it."""
    return Refusal(
        400, message, type="invalid_request_error", code=_CODES.get(kind, kind), param=param
    )


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
