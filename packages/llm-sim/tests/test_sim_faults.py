"""Faults, as a client on the wire meets them."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterator

import httpx
import openai
import pytest

from llm_sim import ConfigurationError, Faults, SimServer
from llm_sim.faults import FAULTS, STATUS_FAULTS

BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "one two three été 👍🏽 end"}]}


@pytest.fixture(scope="module")
def sim() -> Iterator[SimServer]:
    with SimServer(
        [{"exact": "flaky", "replies": [{"fault": "503"}, {"fault": "quota"}, "fine"]}],
        faults=Faults(slow_seconds=0.05, stall_seconds=30),
    ) as sim:
        yield sim


def post(
    sim: SimServer, fault: str, *, stream: bool = False, timeout: float = 5.0
) -> httpx.Response:
    return httpx.post(
        f"{sim.openai_base_url}/chat/completions",
        json={**BODY, "stream": stream},
        headers={"authorization": "Bearer k", "x-llm-sim-fault": fault},
        timeout=timeout,
        verify=False,  # spares reading the certificates of a public network
    )


def texts(body: str) -> list[str]:
    """Return the text of every chunk of a stream."""
    events = [line[6:] for line in body.splitlines() if line.startswith("data: {")]
    deltas = [json.loads(event)["choices"][0]["delta"].get("content") for event in events]
    return [delta for delta in deltas if delta]


@pytest.mark.parametrize("name", sorted(STATUS_FAULTS))
def test_a_status_comes_with_an_error_body(sim: SimServer, name: str) -> None:
    response = post(sim, name)
    assert response.status_code == (429 if name == "quota" else int(name))
    error = response.json()["error"]
    assert error["message"]
    assert error["type"]
    if name == "429":
        assert response.headers["retry-after-ms"] == "1000"
    if name == "quota":
        assert error["code"] == "insufficient_quota"
        assert "retry-after" not in response.headers


def test_slow_headers_come_late(sim: SimServer) -> None:
    response = post(sim, "slow_headers")
    assert response.elapsed.total_seconds() >= 0.05
    assert response.json()["choices"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_slow_body_comes_whole(sim: SimServer, stream: bool) -> None:
    response = post(sim, "slow_body", stream=stream)
    if stream:
        assert response.text.endswith("[DONE]\n\n")
    else:
        assert response.json()["choices"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_stall_keeps_the_connection_open(sim: SimServer, stream: bool) -> None:
    with pytest.raises(httpx.ReadTimeout):
        post(sim, "stall", stream=stream, timeout=0.2)


@pytest.mark.parametrize("stream", [False, True])
def test_a_reset_is_a_reset(sim: SimServer, stream: bool) -> None:
    with pytest.raises(httpx.ReadError):
        post(sim, "reset", stream=stream)


def test_a_reset_before_a_plain_answer_sends_nothing(sim: SimServer) -> None:
    body = json.dumps(BODY).encode()
    with socket.create_connection(("127.0.0.1", sim.port)) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer k\r\n"
            b"x-llm-sim-fault: reset\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
        )
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


@pytest.mark.parametrize(
    ("fault", "stream"), [("truncate", False), ("truncate", True), ("cut", False)]
)
def test_a_truncated_body_breaks_its_framing(sim: SimServer, fault: str, stream: bool) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        post(sim, fault, stream=stream)


def test_a_cut_stream_ends_cleanly_without_its_end(sim: SimServer) -> None:
    response = post(sim, "cut", stream=True)
    assert texts(response.text) == ["one", " two", " three", " é"]
    assert 'finish_reason":"stop' not in response.text
    assert "[DONE]" not in response.text


def test_json_is_broken(sim: SimServer) -> None:
    with pytest.raises(json.JSONDecodeError):
        post(sim, "malformed_json").json()
    response = post(sim, "malformed_json", stream=True)
    assert response.text.endswith("[DONE]\n\n")
    with pytest.raises(json.JSONDecodeError):
        texts(response.text)


@pytest.mark.parametrize("stream", [False, True])
def test_a_page_of_html_comes_with_200(sim: SimServer, stream: bool) -> None:
    response = post(sim, "html", stream=stream)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.text.startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("stream", [False, True])
def test_nothing_comes_with_200(sim: SimServer, stream: bool) -> None:
    response = post(sim, "empty", stream=stream)
    assert (response.status_code, response.content) == (200, b"")


def test_a_stream_ends_with_an_error_event(sim: SimServer) -> None:
    response = post(sim, "error_event", stream=True)
    last = json.loads(response.text.strip().splitlines()[-1].removeprefix("data: "))
    assert last["error"]["type"] == "server_error"
    assert post(sim, "error_event").status_code == 500


def test_the_official_client_raises_the_error_event(sim: SimServer) -> None:
    client = openai.OpenAI(
        base_url=sim.openai_base_url,
        api_key="k",
        max_retries=0,
        default_headers={"x-llm-sim-fault": "error_event"},
    )
    with client, pytest.raises(openai.APIError, match="had an error"):
        list(
            client.chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": "one two"}], stream=True
            )
        )


def test_the_content_type_is_wrong(sim: SimServer) -> None:
    response = post(sim, "wrong_content_type")
    assert response.headers["content-type"].startswith("text/plain")
    assert response.json()["choices"]


def test_every_token_comes_twice(sim: SimServer) -> None:
    assert texts(post(sim, "duplicate_chunks", stream=True).text)[:4] == [
        "one",
        "one",
        " two",
        " two",
    ]
    assert post(sim, "duplicate_chunks").json()["choices"]


def test_characters_are_split_across_chunks(sim: SimServer) -> None:
    for stream in (False, True):
        with httpx.stream(
            "POST",
            f"{sim.openai_base_url}/chat/completions",
            json={**BODY, "stream": stream},
            headers={"authorization": "Bearer k", "x-llm-sim-fault": "split_emoji"},
        ) as response:
            parts = list(response.iter_raw())
    broken = 0
    for part in parts:
        try:
            part.decode()
        except UnicodeDecodeError:
            broken += 1
    assert broken
    assert "".join(texts(b"".join(parts).decode())) == "one two three été 👍🏽 end"


def test_a_script_can_ask_for_faults() -> None:
    with (
        SimServer(
            [{"exact": "x", "replies": [{"fault": "503"}, {"fault": "quota"}, "fine"]}]
        ) as sim,
        openai.OpenAI(base_url=sim.openai_base_url, api_key="k", max_retries=0) as client,
    ):
        with pytest.raises(openai.InternalServerError, match="overloaded"):
            client.responses.create(model="m", input="x")
        with pytest.raises(openai.RateLimitError, match="quota"):
            client.responses.create(model="m", input="x")
        assert client.responses.create(model="m", input="x").output_text == "fine"


def test_faults_by_chance_repeat_with_their_seed() -> None:
    def run(seed: int) -> list[int]:
        with (
            SimServer(faults=["429:0.3", "500:0.2"], seed=seed) as sim,
            httpx.Client() as client,
        ):
            return [
                client.post(
                    f"{sim.openai_base_url}/responses",
                    json={"model": "m", "input": "x"},
                    headers={"authorization": "Bearer k"},
                ).status_code
                for _ in range(20)
            ]

    first = run(1)
    assert {200, 429, 500} == set(first)
    assert run(1) == first
    assert run(2) != first


def test_probabilities_are_kept() -> None:
    faults = Faults(probabilities={"429": 0.1, "reset": 0.3})
    rng = random.Random(0)
    drawn = [faults.draw(rng) for _ in range(20_000)]
    assert drawn.count("429") == pytest.approx(2000, rel=0.1)
    assert drawn.count("reset") == pytest.approx(6000, rel=0.1)
    assert drawn.count(None) == pytest.approx(12_000, rel=0.1)


def test_an_unknown_fault_in_the_header_is_refused(sim: SimServer) -> None:
    response = post(sim, "gremlins")
    assert response.status_code == 400
    assert "unknown fault 'gremlins'; there are 400" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        (["gremlins"], "unknown fault 'gremlins'"),
        (["429:2"], "fault '429': the probability must be from 0 to 1, got 2.0"),
        (["429:often"], "fault '429:often': expected NAME:PROBABILITY"),
        (["429:0.6", "500:0.6"], r"add up to 1\.2, above 1"),
    ],
)
def test_a_wrong_fault_is_named(texts: list[str], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        Faults.parse(texts)


def test_times_are_checked_and_scaled() -> None:
    with pytest.raises(ConfigurationError, match="slow_seconds must be 0 or more"):
        Faults(slow_seconds=-1)
    assert Faults(stall_seconds=10, slow_seconds=2).scaled(0.5) == Faults(
        stall_seconds=5, slow_seconds=1
    )


def test_every_fault_is_described() -> None:
    assert all(FAULTS.values())


def test_stored_things_fail_when_asked_to(sim: SimServer) -> None:
    def get(fault: str) -> httpx.Response:
        headers = {"authorization": "Bearer k", "x-llm-sim-fault": fault}
        return httpx.get(f"{sim.openai_base_url}/models", headers=headers, verify=False)

    assert get("503").status_code == 503
    assert get("error_event").status_code == 500
    assert get("empty").content == b""
    assert get("429:0").json()["data"]
