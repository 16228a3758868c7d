"""Files and batches as the official packages see them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from llm_sim import SimServer


@pytest.fixture(scope="module")
def sim() -> Iterator[SimServer]:
    with SimServer([{"exact": "ping", "reply": "pong"}]) as sim:
        yield sim


@pytest.fixture(scope="module")
def client(sim: SimServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=sim.openai_base_url, api_key="k", max_retries=0) as client:
        yield client


def line(name: str, **changes: Any) -> dict[str, Any]:
    body = {"model": "gpt-5", "messages": [{"role": "user", "content": "ping"}]}
    return {
        "custom_id": name,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": body,
        **changes,
    }


def start(client: openai.OpenAI, lines: list[Any]) -> Any:
    text = "\n".join(item if isinstance(item, str) else json.dumps(item) for item in lines)
    file = client.files.create(file=("in.jsonl", text.encode()), purpose="batch")
    return client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"job": "x"},
    )


def test_files_are_kept_listed_and_deleted(client: openai.OpenAI) -> None:
    data = bytes(range(256)) * 10
    file = client.files.create(file=("a.bin", data), purpose="user_data")
    assert (file.filename, file.bytes) == ("a.bin", 2560)
    assert client.files.content(file.id).read() == data
    assert client.files.retrieve(file.id) == file
    assert [item.id for item in client.files.list(purpose="user_data")] == [file.id]
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError, match="No such File object"):
        client.files.retrieve(file.id)
    with pytest.raises(openai.BadRequestError, match="is not one of"):
        client.files.create(file=b"x", purpose="nothing")  # type: ignore[arg-type]


def test_a_batch_is_answered_line_by_line(client: openai.OpenAI) -> None:
    wrong = line("b")
    wrong["body"] = {"model": "gpt-5", "messages": []}
    batch = start(client, [line("a"), wrong, "", line("c")])
    assert batch.status == "validating"
    batch = client.batches.retrieve(batch.id)
    assert batch.status == "completed"
    assert (batch.request_counts.completed, batch.request_counts.failed) == (2, 1)
    assert batch.usage.output_tokens == 2
    rows = [json.loads(row) for row in client.files.content(batch.output_file_id).text.splitlines()]
    assert [row["custom_id"] for row in rows] == ["a", "c"]
    assert rows[0]["response"]["body"]["choices"][0]["message"]["content"] == "pong"
    (error,) = client.files.content(batch.error_file_id).text.splitlines()
    assert json.loads(error)["response"]["status_code"] == 400
    assert batch.id in [item.id for item in client.batches.list()]
    with pytest.raises(openai.ConflictError, match="status 'completed'"):
        client.batches.cancel(batch.id)


def test_a_wrong_file_fails_the_batch_and_names_its_lines(client: openai.OpenAI) -> None:
    batch = start(
        client,
        [
            "{",
            line("a"),
            line("a"),
            {"method": "POST"},
            line("b", method="GET"),
            line("c", url="/v1/responses"),
            line("d", body=None),
        ],
    )
    batch = client.batches.retrieve(batch.id)
    assert batch.status == "failed"
    assert [(error.line, error.code) for error in batch.errors.data] == [
        (1, "invalid_json_line"),
        (3, "duplicate_custom_id"),
        (4, "missing_required_parameter"),
        (5, "invalid_method"),
        (6, "mismatched_endpoint"),
        (7, "missing_required_parameter"),
    ]
    assert client.batches.retrieve(start(client, [""]).id).errors.data[0].code == "empty_file"  # type: ignore[union-attr,index]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"endpoint": "/v1/x"}, openai.BadRequestError),
        ({"completion_window": "1h"}, openai.BadRequestError),
        ({"input_file_id": "file-none"}, openai.NotFoundError),
    ],
)
def test_a_wrong_batch_is_refused(
    client: openai.OpenAI, options: dict[str, Any], error: type[Exception]
) -> None:
    given: dict[str, Any] = {
        "input_file_id": "file-none",
        "endpoint": "/v1/responses",
        "completion_window": "24h",
        **options,
    }
    with pytest.raises(error):
        client.batches.create(**given)
    with pytest.raises(openai.NotFoundError, match="No batch found"):
        client.batches.retrieve("batch_none")


def test_a_batch_takes_its_time_and_can_be_cancelled() -> None:
    with (
        SimServer(batch_seconds=3600, models=["gpt-5"]) as sim,
        openai.OpenAI(base_url=sim.openai_base_url, api_key="k", max_retries=0) as client,
    ):
        batch = start(client, [line("a")])
        assert client.batches.retrieve(batch.id).status == "in_progress"
        assert client.batches.cancel(batch.id).status == "cancelled"
    with (
        SimServer() as sim,
        openai.OpenAI(base_url=sim.openai_base_url, api_key="k", max_retries=0) as client,
    ):
        client.batches.retrieve(start(client, [line("a"), line("b")]).id)
        report = sim.report()
        assert (report.batched, report.by_model) == (2, {})
        # Twice 7 tokens in and 1 out, at half of 1.25 and 10 dollars a million.
        assert str(report.cost_usd) == "0.00001875"
        assert report.usage.total_tokens == 16
    with (
        SimServer(models=["gpt-4o"]) as sim,
        openai.OpenAI(base_url=sim.openai_base_url, api_key="k", max_retries=0) as client,
    ):
        batch = client.batches.retrieve(start(client, [line("a")]).id)
        assert batch.request_counts is not None
        assert batch.request_counts.failed == 1


def requests(*names: str) -> Any:
    params = {
        "model": "claude-opus-5",
        "max_tokens": 10,
        "messages": [{"role": "user", "content": "ping"}],
    }
    return [{"custom_id": name, "params": params} for name in names]


def test_message_batches_are_answered(sim: SimServer) -> None:
    with anthropic.Anthropic(base_url=sim.url, api_key="k", max_retries=0) as client:
        wrong = {"custom_id": "w", "params": {"model": "claude-opus-5"}}
        batch = client.messages.batches.create(requests=[*requests("a", "b"), wrong])
        assert batch.processing_status == "in_progress"
        batch = client.messages.batches.retrieve(batch.id)
        assert batch.processing_status == "ended"
        assert (batch.request_counts.succeeded, batch.request_counts.errored) == (2, 1)
        results = {row.custom_id: row.result for row in client.messages.batches.results(batch.id)}
        first, error = results["a"], results["w"]
        assert first.type == "succeeded"
        assert first.message.content[0].type == "text"
        assert first.message.content[0].text == "pong"
        assert error.type == "errored"
        assert error.error.error.type == "invalid_request_error"
        assert [item.id for item in client.messages.batches.list()] == [batch.id]
        assert client.messages.batches.cancel(batch.id).processing_status == "ended"
        assert client.messages.batches.delete(batch.id).id == batch.id
        with pytest.raises(anthropic.NotFoundError):
            client.messages.batches.retrieve(batch.id)


def test_message_batches_take_their_time_and_can_be_cancelled() -> None:
    with (
        SimServer(batch_seconds=3600) as sim,
        anthropic.Anthropic(base_url=sim.url, api_key="k", max_retries=0) as client,
    ):
        batch = client.messages.batches.create(requests=requests("a"))
        with pytest.raises(anthropic.BadRequestError, match="while it is being processed"):
            client.messages.batches.delete(batch.id)
        with pytest.raises(anthropic.NotFoundError):
            client.get(f"/v1/messages/batches/{batch.id}/results", cast_to=object)
        assert client.messages.batches.cancel(batch.id).request_counts.canceled == 1
        (row,) = client.messages.batches.results(batch.id)
        assert row.result.type == "canceled"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({}, "requests: Field required"),
        ({"requests": []}, "at least one request"),
        ({"requests": [{"custom_id": "a"}]}, "requests.0.params: Field required"),
        ({"requests": [{"params": {}}]}, "requests.0.custom_id: Field required"),
        ({"requests": requests("a", "a")}, "custom_id must be unique"),
        ({"requests": requests("a"), "colour": 1}, "colour: Extra inputs"),
    ],
)
def test_a_wrong_message_batch_is_refused(
    sim: SimServer, body: dict[str, Any], problem: str
) -> None:
    with (
        anthropic.Anthropic(base_url=sim.url, api_key="k", max_retries=0) as client,
        pytest.raises(anthropic.BadRequestError, match=problem),
    ):
        client.post("/v1/messages/batches", body=body, cast_to=object)
