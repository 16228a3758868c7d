"""Anthropic's Messages as the official package sees them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import pytest

from llm_sim import Limits, SimServer

RULES = [
    {
        "exact": "weather",
        "turns": [
            {
                "text": "Let me look.",
                "tool_calls": [
                    {"name": "look", "arguments": {"city": "Paris"}},
                    {"name": "look", "arguments": {"city": "Rome"}},
                ],
            },
            "Sunny in both.",
        ],
    },
    {"exact": "forbidden", "reply": {"refusal": "I will not."}},
    {"exact": "broken", "reply": {"tool_calls": [{"name": "look", "arguments": "{oops"}]}},
    {"exact": "listed", "reply": {"tool_calls": [{"name": "look", "arguments": "[1]"}]}},
]
LOOK: Any = {
    "name": "look",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


@pytest.fixture(scope="module")
def sim() -> Iterator[SimServer]:
    with SimServer(RULES) as sim:
        yield sim


@pytest.fixture(scope="module")
def client(sim: SimServer) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        base_url=sim.anthropic_base_url, api_key="sk-ant", max_retries=0
    ) as client:
        yield client


def ask(client: anthropic.Anthropic, text: Any, **options: Any) -> anthropic.types.Message:
    given: Any = {"model": "claude-sonnet-5", "max_tokens": 2000, **options}
    message: anthropic.types.Message = client.messages.create(
        messages=[{"role": "user", "content": text}], **given
    )
    return message


def test_a_message_echoes_and_counts(client: anthropic.Anthropic) -> None:
    message = ask(client, "good day", system="be brief")
    assert message.content[0].type == "text"
    assert message.content[0].text == "good day"
    assert message.stop_reason == "end_turn"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (3 + 5 + 5, 2)
    assert message._request_id is not None
    assert message._request_id.startswith("req_")


def test_a_stream_has_the_vendors_events_in_order(client: anthropic.Anthropic) -> None:
    with client.messages.stream(
        model="claude-sonnet-5",
        max_tokens=2000,
        messages=[{"role": "user", "content": "weather"}],
        tools=[LOOK],
        thinking={"type": "enabled", "budget_tokens": 1024},
    ) as stream:
        raw = [event.type for event in stream]
        final = stream.get_final_message()
    assert [kind for kind in dict.fromkeys(raw)][:4] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "thinking",
    ]
    assert raw[-1] == "message_stop"
    assert [block.type for block in final.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert final.stop_reason == "tool_use"
    assert final.content[2].type == "tool_use"
    assert final.content[2].input == {"city": "Paris"}
    assert final.content[0].type == "thinking"
    assert final.content[0].signature
    plain = ask(
        client, "weather", tools=[LOOK], thinking={"type": "enabled", "budget_tokens": 1024}
    )
    assert plain.usage.output_tokens == final.usage.output_tokens
    assert plain.usage.output_tokens_details is not None
    assert plain.usage.output_tokens_details.thinking_tokens > 10


def test_the_raw_events_are_named_as_documented(sim: SimServer) -> None:
    response = httpx.post(
        f"{sim.anthropic_base_url}/v1/messages",
        json={
            "model": "claude-sonnet-5",
            "max_tokens": 100,
            "stream": True,
            "messages": [{"role": "user", "content": "one two"}],
        },
        headers={"x-api-key": "k", "anthropic-version": "2023-06-01"},
    )
    names = [line[7:] for line in response.text.splitlines() if line.startswith("event: ")]
    assert names == [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


def test_a_tool_loop_goes_on_after_the_results(client: anthropic.Anthropic) -> None:
    first = ask(client, "weather", tools=[LOOK])
    results: Any = [
        {"type": "tool_result", "tool_use_id": block.id, "content": content}
        for block, content in zip(
            first.content[1:], ["sun", [{"type": "text", "text": "sun"}]], strict=True
        )
    ]
    assert all(block.id.startswith("toolu_") for block in first.content if block.type == "tool_use")
    second = client.messages.create(
        model="claude-sonnet-5",
        max_tokens=100,
        messages=[
            {"role": "user", "content": "weather"},
            first.to_param(),
            {"role": "user", "content": results},
        ],
    )
    assert second.content[0].type == "text"
    assert second.content[0].text == "Sunny in both."


@pytest.mark.parametrize(
    ("choice", "count"),
    [
        ({"type": "any"}, 2),
        ({"type": "any", "disable_parallel_tool_use": True}, 1),
        ({"type": "tool", "name": "look"}, 1),
        ({"type": "none"}, 0),
        ({"type": "auto"}, 0),
    ],
)
def test_a_demanded_tool_is_called(client: anthropic.Anthropic, choice: Any, count: int) -> None:
    other = {**LOOK, "name": "other"}
    web = {"type": "web_search_20250305", "name": "web_search"}
    message = ask(client, "hello", tools=[LOOK, other, web], tool_choice=choice)
    calls = [block for block in message.content if block.type == "tool_use"]
    assert len(calls) == count
    assert all(call.input == {"city": "city example"} for call in calls)


@pytest.mark.parametrize("text", ["broken", "listed"])
def test_arguments_that_a_script_broke_are_still_an_object(
    client: anthropic.Anthropic, text: str
) -> None:
    (block,) = ask(client, text).content
    assert block.type == "tool_use"
    assert block.input == {}


def test_a_schema_is_satisfied(client: anthropic.Anthropic) -> None:
    form = {"type": "json_schema", "schema": LOOK["input_schema"]}
    message = ask(client, "a city", output_config={"format": form})
    assert message.content[0].type == "text"
    assert message.content[0].text == '{"city": "city example"}'


def test_stop_reasons_are_told(client: anthropic.Anthropic) -> None:
    assert ask(client, "one two three", max_tokens=2).stop_reason == "max_tokens"
    stopped = ask(client, "one two three", stop_sequences=[" two"])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", " two")
    refused = ask(client, "forbidden")
    assert refused.stop_reason == "refusal"
    with client.messages.stream(
        model="c", max_tokens=9, messages=[{"role": "user", "content": "forbidden"}]
    ) as stream:
        assert stream.get_final_text() == "I will not."


def test_thinking_adapts_to_the_effort(client: anthropic.Anthropic) -> None:
    thought = [
        ask(
            client, "hi", thinking={"type": "adaptive"}, output_config={"effort": effort}
        ).usage.output_tokens
        for effort in ("low", "high")
    ]
    assert thought[0] < thought[1]


def test_images_and_documents_are_counted(client: anthropic.Anthropic) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    parts = [
        {"type": "text", "text": "see"},
        {"type": "image", "source": source},
        {"type": "document", "source": {**source, "media_type": "application/pdf"}},
    ]
    assert ask(client, parts).usage.input_tokens == 3 + 4 + 1600 + 1500


def test_the_cache_is_written_where_it_is_marked_and_read_later(
    client: anthropic.Anthropic,
) -> None:
    system = [
        {"type": "text", "text": "a long rule " * 500, "cache_control": {"type": "ephemeral"}}
    ]
    first = ask(client, "one", system=system).usage
    second = ask(client, "two", system=system).usage
    written = 500 * 3 + 1 + 3
    assert (first.cache_creation_input_tokens, first.cache_read_input_tokens) == (written, 0)
    assert (second.cache_creation_input_tokens, second.cache_read_input_tokens) == (0, written)
    assert first.input_tokens == second.input_tokens == 3 + 4
    unmarked = ask(client, "a long rule " * 500).usage
    assert unmarked.cache_creation_input_tokens == 0
    whole = ask(client, "another rule " * 600, cache_control={"type": "ephemeral"}).usage
    assert whole.cache_creation_input_tokens


def test_tokens_are_counted_without_an_answer(client: anthropic.Anthropic) -> None:
    count = client.messages.count_tokens(
        model="claude-sonnet-5", messages=[{"role": "user", "content": "good day"}]
    )
    assert count.input_tokens == ask(client, "good day").usage.input_tokens


def test_models_are_listed(client: anthropic.Anthropic) -> None:
    names = [model.id for model in client.models.list()]
    assert "claude-sonnet-5" in names
    assert client.models.retrieve("claude-x").id == "claude-x"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"max_tokens": None}, "max_tokens: Field required"),
        ({"max_tokens": 0}, "max_tokens: Input should be greater than or equal to 1"),
        ({"model": None}, "model: Field required"),
        ({"model": 5}, "model: Input should be a valid string"),
        ({"messages": []}, "messages: at least one message is required"),
        ({"messages": "x"}, "messages: Input should be a valid list"),
        ({"messages": ["x"]}, "messages.0: Input should be a valid dictionary"),
        ({"messages": [{"role": "me", "content": "x"}]}, "messages.0.role: Input should be"),
        ({"messages": [{"role": "user"}]}, "messages.0.content: Input should be a valid list"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]},
            "text content blocks must be non-empty",
        ),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages.0.content.0.type: Field"),
        ({"temperature": 1.5}, "temperature: Input should be less than or equal to 1"),
        ({"stop_sequences": 5}, "stop_sequences: Input should be a valid list"),
        ({"stream": "yes"}, "stream: Input should be a valid boolean"),
        ({"tools": ["x"]}, "tools.0: Input should be a valid dictionary"),
        ({"tools": [{"input_schema": {}}]}, "tools.0.custom.name: Field required"),
        ({"tools": [{"name": "f"}]}, "tools.0.custom.input_schema: Field required"),
        ({"tools": [{"name": "f", "input_schema": {}}]}, "tools.0.custom.input_schema.type"),
        ({"tool_choice": {"type": "x"}}, "tool_choice: Input tag 'x' found using 'type'"),
        ({"thinking": {"type": "enabled"}}, "thinking.enabled.budget_tokens: Field required"),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 5}},
            "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024",
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 5000}},
            "`max_tokens` must be greater than `thinking.budget_tokens`",
        ),
        ({"output_config": {"format": {"type": "x"}}}, "output_config.format.type"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
    ],
)
def test_a_bad_request_is_refused_as_the_vendor_words_it(
    client: anthropic.Anthropic, body: dict[str, Any], message: str
) -> None:
    given: dict[str, Any] = {
        "model": "claude-sonnet-5",
        "max_tokens": 2000,
        "messages": [{"role": "user", "content": "x"}],
        **body,
    }
    given = {name: value for name, value in given.items() if value is not None}
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.post("/v1/messages", body=given, cast_to=object)
    assert caught.value.type == "invalid_request_error"
    assert message in str(caught.value.api_message)


def test_messages_that_are_missing_are_asked_for(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError, match="messages: Field required"):
        client.post("/v1/messages", body={"model": "c", "max_tokens": 1}, cast_to=object)


@pytest.mark.parametrize(
    ("headers", "status", "kind"),
    [
        ({}, 401, "authentication_error"),
        ({"x-api-key": "k"}, 400, "invalid_request_error"),
        (
            {"authorization": "Bearer k", "anthropic-version": "2023-06-01"},
            400,
            "invalid_request_error",
        ),
        ({"x-api-key": "wrong", "anthropic-version": "2023-06-01"}, 401, "authentication_error"),
    ],
)
def test_key_version_and_json_are_required(headers: dict[str, str], status: int, kind: str) -> None:
    with SimServer(api_keys=["k"]) as sim:
        for body in (b"{", b"[]"):
            response = httpx.post(f"{sim.url}/v1/messages", content=body, headers=headers)
            assert response.status_code == status
            assert response.json()["error"]["type"] == kind
            assert response.json()["request_id"] == response.headers["request-id"]


def test_what_is_not_there_is_refused(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError):
        client.post("/v1/nothing", cast_to=object)
    with pytest.raises(anthropic.APIStatusError, match="Method Not Allowed"):
        client.get("/v1/messages/count_tokens", cast_to=object)
    with (
        SimServer(models=["claude-opus-5"]) as sim,
        anthropic.Anthropic(base_url=sim.url, api_key="k", max_retries=0) as other,
    ):
        with pytest.raises(anthropic.NotFoundError, match="model: claude-x"):
            ask(other, "x", model="claude-x")
        with pytest.raises(anthropic.NotFoundError, match="model: claude-x"):
            other.models.retrieve("claude-x")


def test_limits_are_told_in_the_vendors_headers() -> None:
    with (
        SimServer(limits=Limits(rpm=2, itpm=4000, otpm=2000, algorithm="bucket")) as sim,
        anthropic.Anthropic(base_url=sim.url, api_key="k", max_retries=0) as client,
    ):
        raw = client.messages.with_raw_response.create(
            model="claude-sonnet-5",
            max_tokens=100,
            messages=[{"role": "user", "content": "word " * 600}],
        )
        prefix = "anthropic-ratelimit-"
        told = {
            name.removeprefix(prefix): value
            for name, value in raw.headers.items()
            if name.startswith(prefix)
        }
        assert told["requests-limit"] == "2"
        assert told["requests-remaining"] == "1"
        assert told["input-tokens-remaining"] == "3000"
        assert told["output-tokens-limit"] == "2000"
        assert told["tokens-limit"] == "6000"
        assert told["requests-reset"].endswith("Z")
        ask(client, "x")
        with pytest.raises(anthropic.RateLimitError, match="2 requests per minute") as caught:
            ask(client, "x")
        assert 1 <= int(caught.value.response.headers["retry-after"]) <= 30
        assert caught.value.type == "rate_limit_error"
    with (
        SimServer(limits=Limits(tpm=50)) as sim,
        anthropic.Anthropic(base_url=sim.url, api_key="k", max_retries=0) as client,
        pytest.raises(anthropic.RateLimitError) as caught,
    ):
        ask(client, "x", max_tokens=51)
    assert "retry-after" not in caught.value.response.headers
    assert caught.value.response.headers["anthropic-ratelimit-tokens-limit"] == "50"


@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        ("529", 529, "overloaded_error"),
        ("500", 500, "api_error"),
        ("429", 429, "rate_limit_error"),
        ("403", 403, "permission_error"),
        ("413", 413, "request_too_large"),
    ],
)
def test_faults_come_in_the_vendors_words(
    client: anthropic.Anthropic, fault: str, status: int, kind: str
) -> None:
    with pytest.raises(anthropic.APIStatusError) as caught:
        ask(client, "x", extra_headers={"x-llm-sim-fault": fault})
    assert (caught.value.status_code, caught.value.type) == (status, kind)


def test_an_empty_account_is_not_a_matter_of_waiting(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.RateLimitError) as caught:
        ask(client, "x", extra_headers={"x-llm-sim-fault": "quota"})
    assert caught.value.error_code == "enforced_spend_limit_reached"
    assert "retry-after" not in caught.value.response.headers


def test_an_overload_can_come_mid_stream(client: anthropic.Anthropic) -> None:
    with (
        pytest.raises(anthropic.APIStatusError, match="Overloaded"),
        client.messages.stream(
            model="c",
            max_tokens=10,
            messages=[{"role": "user", "content": "one two three"}],
            extra_headers={"x-llm-sim-fault": "error_event"},
        ) as stream,
    ):
        stream.until_done()


def test_concurrency_is_refused_in_its_own_words() -> None:
    from llm_sim.anthropic_wire import limited
    from llm_sim.limits import Exceeded

    exceeded = Exceeded(name="concurrency", allowed=1, used=1, requested=1, wait_seconds=1.0)
    assert "concurrent connections" in limited(exceeded, "c").message
