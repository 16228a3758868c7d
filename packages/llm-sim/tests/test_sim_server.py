"""Running the simulator: in a thread, as a command, and what goes wrong before it runs."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import openai
import pytest
from click.testing import CliRunner

import llm_sim
from llm_sim import (
    ConfigurationError,
    Constant,
    Latency,
    PortInUseError,
    SimError,
    SimServer,
    server,
)
from llm_sim.app import Application
from llm_sim.cli import main
from llm_sim.server import url_of
from llm_sim.simulator import Settings, Simulator


def test_a_server_takes_a_free_port_and_gives_it_back() -> None:
    with SimServer() as sim:
        assert sim.openai_base_url == f"http://127.0.0.1:{sim.port}/v1"
        port = sim.port
        with pytest.raises(SimError, match="runs already"):
            sim.start()
    with SimServer(port=port) as again:
        assert again.port == port
    again.stop()


def test_a_taken_port_is_a_clear_error() -> None:
    with (
        SimServer() as sim,
        pytest.raises(PortInUseError, match=f"port {sim.port} of 127.0.0.1 is taken"),
    ):
        SimServer(port=sim.port).start()


def test_a_wrong_setting_is_named() -> None:
    with pytest.raises(ConfigurationError, match="port must be from 0 to 65535, got 70000"):
        SimServer(port=70000)
    with pytest.raises(ConfigurationError, match="api_keys must be a list of names, got 'sk'"):
        SimServer(api_keys="sk")
    with pytest.raises(ConfigurationError, match="not an address to listen on: 'no such host'"):
        SimServer(host="no such host").start()
    with pytest.raises(ConfigurationError, match="cannot listen on"):
        SimServer(host="192.0.2.1").start()


def test_stopping_drops_requests_that_wait() -> None:
    slow = SimServer(latency=Latency(first_token=Constant(60)))
    with slow as sim, socket.create_connection(("127.0.0.1", sim.port)) as connection:
        body = b'{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true}'
        head = (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer k\r\n"
            b"content-length: %d\r\n\r\n"
        )
        connection.sendall(head % len(body) + body)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK")
        sim.stop()
        assert b"[DONE]" not in connection.recv(1000)


def test_ipv6_is_written_in_brackets() -> None:
    assert SimServer(host="::1").url == "http://[::1]:0"


@pytest.mark.parametrize(
    ("path", "method", "status", "text"),
    [
        ("/v1/nothing", "POST", 404, "Invalid URL (POST /v1/nothing)"),
        ("/v1/chat/completions", "PUT", 405, "Not allowed to PUT on /v1/chat/completions."),
        ("/v1/chat/completions", "POST", 401, "You didn't provide an API key."),
    ],
)
def test_what_is_not_there_is_refused(path: str, method: str, status: int, text: str) -> None:
    with SimServer() as sim:
        request = urllib.request.Request(sim.url + path, data=b"{}", method=method)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request)
        with caught.value as answer:
            assert answer.status == status
            assert json.load(answer)["error"]["message"].startswith(text)


def test_keys_and_models_can_be_limited() -> None:
    with SimServer(api_keys=["sk-good"], models=["gpt-4o"]) as sim:
        good = openai.OpenAI(base_url=sim.openai_base_url, api_key="sk-good", max_retries=0)
        bad = good.with_options(api_key="sk-bad-and-long")
        with pytest.raises(
            openai.AuthenticationError, match=r"provided: sk-bad-a\*\*\*\*\*\*\*\*long"
        ):
            bad.responses.create(model="gpt-4o", input="x")
        with pytest.raises(openai.NotFoundError) as caught:
            good.responses.create(model="gpt-9", input="x")
        assert caught.value.code == "model_not_found"
        assert good.responses.create(model="gpt-4o", input="x").output_text == "x"
        good.close()


def test_a_body_that_is_not_a_json_object_is_refused() -> None:
    with SimServer() as sim:
        for body in (b"{", b"[1]", b"[" * 100_000):
            request = urllib.request.Request(
                sim.openai_base_url + "/responses", data=body, headers={"authorization": "Bearer k"}
            )
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(request)
            with caught.value as answer:
                assert answer.status == 400
                assert b"could not parse the JSON body" in answer.read()


async def test_latency_is_per_request_and_per_token_and_scaled() -> None:
    waits: list[float] = []
    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        waits.append(round(seconds, 6))
        now += seconds

    latency = Latency(
        first_token=Constant(1.0),
        per_token=Constant(0.1),
        per_input_token_seconds=0.01,
        time_scale=0.5,
    )
    app = Application(Simulator(Settings(latency=latency)), sleep=sleep, monotonic=lambda: now)
    assert await call(app, {"stream": False}) != b""
    assert waits == [0.695]  # half of: 1, 9 prompt tokens of 0.01, 3 tokens of 0.1
    waits.clear()
    body = await call(app, {"stream": True})
    assert body.endswith(b"data: [DONE]\n\n")
    assert waits == [0.545, 0.05, 0.05, 0.05]


async def test_a_stream_stops_when_its_client_is_gone() -> None:
    app = Application(
        Simulator(Settings(latency=Latency(per_token=Constant(0.001)))),
    )
    assert b"[DONE]" not in await call(app, {"stream": True}, leaves=True)


async def call(app: Application, body: dict[str, object], *, leaves: bool = False) -> bytes:
    """Ask for three tokens, straight through ASGI."""
    body = {"model": "m", "messages": [{"role": "user", "content": "one two three"}], **body}
    sent: list[bytes] = []
    data = json.dumps(body).encode()
    messages = [
        {"type": "http.request", "body": data[:10], "more_body": True},
        {"type": "http.request", "body": data[10:], "more_body": False},
    ]

    async def receive() -> dict[str, object]:
        if messages:
            return messages.pop(0)
        if leaves:
            return {"type": "http.disconnect"}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: object) -> None:
        assert isinstance(message, dict)
        sent.append(message.get("body", b""))

    await app(
        {
            "method": "POST",
            "path": "/v1/chat/completions",
            "headers": [(b"authorization", b"Bearer k")],
            "query_string": b"",
        },
        receive,
        send,
    )
    return b"".join(sent)


async def test_a_client_that_leaves_before_its_body_is_whole_is_not_answered() -> None:
    app = Application(Simulator())
    for messages in (
        [{"type": "http.disconnect"}],
        [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}],
    ):
        queue = list(messages)

        async def receive(queue: list[dict[str, object]] = queue) -> dict[str, object]:
            return queue.pop(0)

        async def send(message: object) -> None:
            raise AssertionError(message)

        await app({}, receive, send)


def test_the_command_says_where_it_listens(tmp_path: Path) -> None:
    script = tmp_path / "replies.yaml"
    script.write_text("rules: [{exact: ping, reply: pong}]", encoding="utf-8")
    command = [sys.executable, "-m", "llm_sim", "serve", "--port", "0", "--script", str(script)]
    command += [
        "--api-key",
        "k",
        "--model",
        "m",
        "--quota-usd",
        "5",
        "--rpm",
        "9",
        "--fault",
        "500:0",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = line.split("OPENAI_BASE_URL=")[1].split()[0]
        with openai.OpenAI(base_url=url, api_key="k", max_retries=0) as client:
            assert client.responses.create(model="m", input="ping").output_text == "pong"
        process.terminate()
        last = process.stdout.read().strip()
        assert process.wait(10) == 0
    assert last.startswith("1 calls, 0 violations of limits, 0 retries (0 early, 0 futile), 8 tok")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--script", "none.yaml"], "llm-sim: none.yaml: cannot read the script: No such file"),
        (
            ["--script", "bad.yaml"],
            "llm-sim: bad.yaml:1: unknown key 'rulez' in the script; did you mean 'rules'?",
        ),
        (["--first-token", "fast"], "llm-sim: --first-token: not a latency: 'fast'"),
        (
            ["--per-token", "-1"],
            "llm-sim: --per-token: Constant.seconds must be a number from 0 up, got -1.0",
        ),
        (
            ["--quota-usd", "much"],
            "llm-sim: --quota-usd: expected dollars such as 0.50, got 'much'",
        ),
        (["--quota-usd", "NaN"], "llm-sim: quota_usd must be a Decimal above 0, got"),
        (
            ["--fault", "429:0.6", "--fault", "429:0.6"],
            "llm-sim: fault '429' is given twice; give it once",
        ),
        (
            ["--time-scale", "-1"],
            "llm-sim: Latency.time_scale must be a number from 0 up, got -1.0",
        ),
        (["--host", "192.0.2.1"], "llm-sim: cannot listen on 192.0.2.1:8399"),
    ],
)
def test_the_command_refuses_a_wrong_setting_in_one_line(
    arguments: list[str], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.yaml").write_text("rulez: []\n", encoding="utf-8")
    result = CliRunner().invoke(main, ["serve", *arguments])
    assert result.exit_code == 2
    assert result.stderr.startswith(problem)
    assert result.stderr.count("\n") == 1


def test_the_command_refuses_a_taken_port() -> None:
    with SimServer() as sim:
        result = CliRunner().invoke(main, ["serve", "--port", str(sim.port)])
    assert result.exit_code == 2
    assert "is taken" in result.stderr


def test_an_ipv6_address_is_written_in_brackets() -> None:
    assert url_of("::1", 80) == "http://[::1]:80"
    assert url_of("127.0.0.1", 80) == "http://127.0.0.1:80"


def test_an_idle_connection_outlives_the_clients_own_patience(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert server._KEEP_ALIVE_SECONDS > 5  # httpx gives up after 5: the client must be first
    monkeypatch.setattr(server, "_KEEP_ALIVE_SECONDS", 0.05)
    with SimServer() as sim, socket.create_connection(("127.0.0.1", sim.port), 5) as connection:
        connection.sendall(b"GET /api/version HTTP/1.1\r\nhost: x\r\n\r\n")
        while connection.recv(4096):  # until the server closes it
            pass


def test_importing_loads_nothing_heavy_and_exports_what_it_says() -> None:
    code = (
        "import sys, llm_sim; "
        "print([m for m in ('starlette', 'uvicorn', 'httptools', 'yaml', 'click', 'multipart') "
        "if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    assert sorted(llm_sim.__all__) == sorted(
        name
        for name, value in vars(llm_sim).items()
        if not name.startswith("_")
        and name != "annotations"
        and not hasattr(value, "__path__")
        and type(value).__name__ != "module"
    )


def test_a_server_that_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn.config", None)
    sim = SimServer()
    with pytest.raises(ImportError):
        sim.start()
    monkeypatch.undo()
    with sim:
        assert sim.report().calls == 0
