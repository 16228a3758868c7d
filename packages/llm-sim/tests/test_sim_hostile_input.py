"""Whatever JSON a client sends, it gets an answer: never a crash of the simulator."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_sim.exchange import Request
from llm_sim.simulator import Simulator

WORDS = st.sampled_from(
    "role user assistant tool content type text image_url input_text input_image tool_calls "  # noqa: SIM905
    "function name arguments parameters schema json_schema properties format data input_audio id "
    "tool_use tool_result thinking cache_control items required anyOf enum minimum pattern [ ( "
    "string object array integer number message function_call function_call_output output "
    "summary".split()
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 300)
    | st.floats(allow_nan=False)
    | WORDS
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)

CHAT = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "tool_choice": "required",
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": {"type": "object"}},
    },
    "stop": ["x"],
    "audio": {"format": "wav"},
    "modalities": ["text"],
    "stream_options": None,
    "logprobs": None,
    "top_logprobs": None,
    "n": 1,
    "reasoning_effort": "low",
    "stream": False,
}
RESPONSES = {
    "model": "gpt-5",
    "input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
    "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
    "tool_choice": "required",
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
    "reasoning": {"effort": "low", "summary": "auto"},
    "include": [],
    "instructions": "x",
    "previous_response_id": None,
    "metadata": {},
    "stream": True,
    "top_logprobs": 1,
}
MESSAGES = {
    "model": "claude-opus-5",
    "max_tokens": 100,
    "system": [{"type": "text", "text": "x"}],
    "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    "tools": [{"name": "f", "input_schema": {"type": "object"}}],
    "tool_choice": {"type": "any"},
    "thinking": {"type": "adaptive"},
    "output_config": {"effort": "low"},
    "stop_sequences": ["x"],
    "cache_control": None,
    "stream": True,
}
OLLAMA_CHAT = {
    "model": "llama3.2",
    "messages": [{"role": "user", "content": "hi", "images": ["AAAA"]}],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "format": {"type": "object"},
    "options": {"num_predict": 5, "stop": ["x"]},
    "think": True,
    "keep_alive": 0,
    "stream": True,
    "logprobs": True,
    "top_logprobs": 1,
}
GENERATE = {
    "model": "m",
    "prompt": "hi",
    "system": "x",
    "images": [],
    "format": "json",
    "options": {},
}
ENDPOINTS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", CHAT),
    ("/v1/responses", RESPONSES),
    ("/v1/responses/input_tokens", {k: v for k, v in RESPONSES.items() if k != "stream"}),
    ("/v1/embeddings", {"model": "m", "input": "x", "dimensions": 5, "encoding_format": "float"}),
    (
        "/v1/audio/speech",
        {
            "model": "m",
            "input": "x",
            "voice": "v",
            "speed": 1,
            "response_format": "pcm",
            "stream_format": "sse",
        },
    ),
    (
        "/v1/batches",
        {
            "input_file_id": "f",
            "endpoint": "/v1/responses",
            "completion_window": "24h",
            "metadata": {},
        },
    ),
    ("/v1/messages", MESSAGES),
    (
        "/v1/messages/count_tokens",
        {k: MESSAGES[k] for k in ("model", "messages", "system", "tools")},
    ),
    ("/v1/messages/batches", {"requests": [{"custom_id": "a", "params": MESSAGES}]}),
    ("/api/chat", OLLAMA_CHAT),
    ("/api/generate", GENERATE),
    ("/api/embed", {"model": "m", "input": ["x"], "dimensions": 5}),
    ("/api/embeddings", {"model": "m", "prompt": "x"}),
    ("/api/show", {"model": "m"}),
]
HEADERS = {b"authorization": b"Bearer k", b"x-api-key": b"k"}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List the paths to everything inside a value."""
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """Return a copy of a value with something else at a place."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = put(value[path[0]], path[1:], new)
    return copy


@pytest.mark.parametrize(("path", "body"), ENDPOINTS, ids=[path for path, _ in ENDPOINTS])
@given(data=st.data())
@settings(max_examples=25, deadline=None, derandomize=True)
def test_every_json_gets_an_answer(path: str, body: dict[str, Any], data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 2))):
        spot = data.draw(st.sampled_from(places(body)))
        body = put(body, spot, data.draw(VALUES))
    headers = dict(HEADERS)
    if path.startswith("/v1/messages"):
        headers[b"anthropic-version"] = b"2023-06-01"
    simulator = Simulator()
    sent = json.dumps(body).encode()
    answer = simulator.answer(Request(method="POST", path=path, headers=headers, body=sent))
    assert answer.status < 500
    if answer.body is None:
        assert b"".join(chunk.data for chunk in answer.chunks)
    elif answer.content_type == b"application/json":
        json.loads(answer.body)
    simulator.finish(answer)
    if path.endswith("batches") and answer.status == 200 and isinstance(answer.body, bytes):
        name = json.loads(answer.body)["id"]
        looked = Request(method="GET", path=f"{path}/{name}", headers=headers)
        assert simulator.answer(looked).status == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "/v1/chat/completions",
            {
                **CHAT,
                "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": 5}]}],
            },
        ),
        (
            "/v1/messages/count_tokens",
            {
                "model": "m",
                "messages": [
                    {"role": "user", "content": [{"type": "tool_result", "content": [5]}]}
                ],
            },
        ),
    ],
)
def test_a_wrong_value_deep_inside_is_a_wrong_request(path: str, body: dict[str, Any]) -> None:
    headers = {**HEADERS, b"anthropic-version": b"1"} if "messages/" in path else HEADERS
    request = Request(method="POST", path=path, headers=headers, body=json.dumps(body).encode())
    answer = Simulator().answer(request)
    assert answer.status == 400
    assert b"invalid_request_error" in (answer.body or b"")
