"""Ollama as the official package sees it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import ollama
import pytest

from llm_sim import Limits, SimServer

RULES = [
    {
        "exact": "weather",
        "turns": [
            {
                "tool_calls": [
                    {"name": "look", "arguments": {"city": "Paris"}},
                    {"name": "look", "arguments": "{oops"},
                ]
            },
            "Sunny.",
        ],
    },
    {"exact": "think", "reply": {"text": "42", "reasoning": "six times seven"}},
]
LOOK: Any = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@pytest.fixture(scope="module")
def sim() -> Iterator[SimServer]:
    with SimServer(RULES) as sim:
        yield sim


@pytest.fixture(scope="module")
def client(sim: SimServer) -> Iterator[ollama.Client]:
    with ollama.Client(host=sim.ollama_base_url) as client:
        yield client


def chat(client: ollama.Client, text: str, **options: Any) -> Any:
    return client.chat(model="llama3.2", messages=[{"role": "user", "content": text}], **options)


def test_a_chat_echoes_and_counts(client: ollama.Client) -> None:
    reply = chat(client, "good day")
    assert reply.message.content == "good day"
    assert (reply.done, reply.done_reason) == (True, "stop")
    assert (reply.prompt_eval_count, reply.eval_count) == (8, 2)
    assert (
        reply.total_duration
        == reply.load_duration + reply.prompt_eval_duration + reply.eval_duration
    )


def test_a_stream_is_one_line_a_token(client: ollama.Client) -> None:
    parts = list(chat(client, "one two\nthree 👍🏽", stream=True))
    assert "".join(part.message.content for part in parts) == "one two\nthree 👍🏽"
    assert [part.done for part in parts].count(True) == 1
    assert parts[-1].eval_count == len(parts) - 1


def test_streaming_is_the_default_on_the_wire(sim: SimServer) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    response = httpx.post(f"{sim.url}/api/chat", json=body)
    assert response.headers["content-type"] == "application/x-ndjson"
    assert len([json.loads(line) for line in response.text.splitlines()]) == 2


@pytest.mark.parametrize("stream", [False, True])
def test_tools_are_called_with_objects(client: ollama.Client, stream: bool) -> None:
    made = chat(client, "weather", tools=[LOOK], stream=stream)
    parts = list(made) if stream else [made]
    (calls,) = [part.message.tool_calls for part in parts if part.message.tool_calls]
    assert [call.function.arguments for call in calls] == [{"city": "Paris"}, {}]
    if not stream:
        messages = [{"role": "user", "content": "weather"}, made.message]
        messages.append({"role": "tool", "content": "sun", "tool_name": "look"})
        assert client.chat(model="m", messages=messages).message.content == "Sunny."


@pytest.mark.parametrize("stream", [False, True])
def test_thinking_stands_apart(client: ollama.Client, stream: bool) -> None:
    made = chat(client, "think", think=True, stream=stream)
    parts = list(made) if stream else [made]
    assert "".join(part.message.thinking or "" for part in parts) == "six times seven"
    assert "".join(part.message.content or "" for part in parts) == "42"
    assert parts[-1].eval_count == 4
    assert chat(client, "hi", think="high").message.thinking


def test_output_is_shaped_by_a_schema_or_by_the_word_json(client: ollama.Client) -> None:
    assert json.loads(chat(client, "x", format=SCHEMA).message.content) == {"city": "city example"}
    assert json.loads(chat(client, "x", format="json").message.content) == {"text": "x"}


def test_options_end_the_reply(client: ollama.Client) -> None:
    cut = chat(client, "one two three", options={"num_predict": 2})
    assert (cut.message.content, cut.done_reason) == ("one two", "length")
    stopped = chat(client, "one two three", options={"stop": [" three"], "num_predict": -1})
    assert (stopped.message.content, stopped.done_reason) == ("one two", "stop")
    httpx_like = chat(client, "one two", options={"stop": " two"})
    assert httpx_like.message.content == "one"


def test_images_are_counted(client: ollama.Client) -> None:
    reply = client.chat(
        model="llava", messages=[{"role": "user", "content": "see", "images": [b"abc"]}]
    )
    assert reply.prompt_eval_count == 3 + 4 + 576


@pytest.mark.parametrize("stream", [False, True])
def test_generate_answers_a_prompt(client: ollama.Client, stream: bool) -> None:
    made: Any = client.generate(model="m", prompt="one two", system="brief", stream=stream)
    parts = list(made) if stream else [made]
    assert "".join(part.response for part in parts) == "one two"
    assert parts[-1].done_reason == "stop"
    assert parts[-1].context
    thought: Any = client.generate(model="m", prompt="think", think=True, stream=stream)
    parts = list(thought) if stream else [thought]
    assert "".join(part.thinking or "" for part in parts) == "six times seven"


def test_without_a_prompt_a_model_is_loaded_or_unloaded(client: ollama.Client) -> None:
    assert client.generate(model="m").done_reason == "load"
    assert client.generate(model="m", keep_alive=0).done_reason == "unload"
    assert client.chat(model="m", messages=[]).done_reason == "load"


def test_vectors_of_texts(client: ollama.Client) -> None:
    made = client.embed(model="nomic-embed-text", input=["a red cat", "a red cat", "blue dogs"])
    assert len(made.embeddings) == 3
    assert len(made.embeddings[0]) == 768
    assert made.embeddings[0] == made.embeddings[1] != made.embeddings[2]
    assert made.prompt_eval_count == 3 + 3 + 2
    assert len(client.embed(model="m", input="x", dimensions=16).embeddings[0]) == 16
    assert len(client.embeddings(model="m", prompt="x").embedding) == 768
    assert client.embeddings(model="m", prompt=None).embedding == []


def test_models_are_listed_and_shown(client: ollama.Client) -> None:
    names = [model.model for model in client.list().models]
    assert "llama3.2:latest" in names
    assert not any(name and name.startswith(("gpt", "claude")) for name in names)
    shown = client.show("qwen3:8b")
    assert shown.details is not None
    assert (shown.details.family, shown.details.parameter_size) == ("qwen", "8B")
    assert shown.capabilities is not None
    assert "tools" in shown.capabilities
    chat(client, "hi")
    running = {model.model for model in client.ps().models}
    assert "llama3.2:latest" in running


def test_the_version_is_told(sim: SimServer) -> None:
    assert httpx.get(sim.url).text == "Ollama is running"
    assert httpx.head(sim.url).status_code == 200
    assert httpx.get(f"{sim.url}/api/version").json()["version"]


def test_only_pulled_models_answer() -> None:
    with SimServer(models=["llama3.2:latest"]) as sim, ollama.Client(host=sim.url) as client:
        assert client.chat(model="llama3.2", messages=[]).done
        for call in (
            lambda: client.chat(model="other", messages=[]),
            lambda: client.show("other"),
        ):
            with pytest.raises(ollama.ResponseError, match="model 'other' not found") as caught:
                call()
            assert caught.value.status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("chat", b"", 400, "missing request body"),
        ("chat", b"{", 400, "invalid request body"),
        ("chat", b"[]", 400, "cannot unmarshal array"),
        ("chat", b"{}", 400, "model is required"),
        ("embed", b"{}", 400, "model is required"),
        ("embeddings", b"{}", 400, "model is required"),
        ("show", b"{}", 400, "model is required"),
        (
            "chat",
            b'{"model":5}',
            400,
            "cannot unmarshal number into Go struct field .model of type string",
        ),
        ("chat", b'{"model":"m","messages":["x"]}', 400, "cannot unmarshal string"),
        ("chat", b'{"model":"m","tools":["x"]}', 400, "cannot unmarshal string"),
        ("chat", b'{"model":"m","format":5}', 400, "invalid format: 5"),
        ("chat", b'{"model":"m","think":"much"}', 400, 'invalid think value: "much"'),
        ("embed", b'{"model":"m","input":"x","dimensions":0}', 400, "invalid dimensions: 0"),
        ("nothing", b"{}", 404, "404 page not found"),
        ("tags", b"{}", 405, "405 method not allowed"),
    ],
)
def test_a_bad_request_is_refused(
    sim: SimServer, path: str, body: bytes, status: int, error: str
) -> None:
    response = httpx.post(f"{sim.url}/api/{path}", content=body)
    assert response.status_code == status
    assert error in response.json()["error"]


def test_unknown_fields_are_ignored(sim: SimServer) -> None:
    body = {"model": "m", "prompt": "x", "stream": False, "colour": "red"}
    assert httpx.post(f"{sim.url}/api/generate", json=body).json()["response"] == "x"


def test_keys_and_limits_apply() -> None:
    with SimServer(api_keys=["k"], limits=Limits(rpm=1)) as sim:
        body = {"model": "m", "prompt": "x", "stream": False}
        url = f"{sim.url}/api/generate"
        assert httpx.post(url, json=body).status_code == 401
        keyed = {"authorization": "Bearer k"}
        assert httpx.post(url, json=body, headers=keyed).status_code == 200
        refused = httpx.post(url, json=body, headers=keyed)
        assert (refused.status_code, refused.json()) == (429, {"error": "too many requests"})


@pytest.mark.parametrize(("fault", "status"), [("503", 503), ("quota", 429), ("404", 404)])
def test_faults_come_in_its_words(sim: SimServer, fault: str, status: int) -> None:
    client = ollama.Client(host=sim.url, headers={"x-llm-sim-fault": fault})
    with client, pytest.raises(ollama.ResponseError) as caught:
        client.chat(model="m", messages=[{"role": "user", "content": "x"}])
    assert caught.value.status_code == status


def test_an_error_can_come_mid_stream(sim: SimServer) -> None:
    client = ollama.Client(host=sim.url, headers={"x-llm-sim-fault": "error_event"})
    with client, pytest.raises(ollama.ResponseError, match="had an error"):
        list(chat(client, "one two", stream=True))


def test_a_full_queue_is_a_503() -> None:
    from llm_sim.limits import Exceeded
    from llm_sim.ollama_wire import WORDING, limited

    exceeded = Exceeded(name="concurrency", allowed=1, used=1, requested=1, wait_seconds=1.0)
    assert limited(exceeded, "m").status == 503
    assert "unknown field" in WORDING.unknown("x").message
    assert WORDING.missing("x").message == "x is required"
    assert "at most 1" in WORDING.above("x", 2, 1).message


def test_log_probabilities_are_those_of_the_tokens(client: ollama.Client) -> None:
    whole = chat(client, "one two", logprobs=True, top_logprobs=2)
    assert [entry.token for entry in whole.logprobs] == ["one", " two"]
    assert len(whole.logprobs[0].top_logprobs) == 2
    parts = chat(client, "one two", logprobs=True, stream=True)
    assert [part.logprobs[0].token for part in parts if part.logprobs] == ["one", " two"]
    made = client.generate(model="m", prompt="one two", logprobs=True)
    assert made.logprobs is not None
    assert made.logprobs[0].token == "one"


def test_a_format_that_is_no_schema_is_refused(sim: SimServer) -> None:
    body = {"model": "m", "prompt": "x", "format": {"type": "string", "pattern": "["}}
    response = httpx.post(f"{sim.url}/api/generate", json=body)
    assert response.status_code == 400
    assert response.json()["error"].startswith("Invalid schema: ")
