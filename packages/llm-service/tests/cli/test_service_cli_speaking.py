"""`ask` and `chat` beyond one plain answer: streams, schemas, images, pipes, turns."""

from __future__ import annotations

import json
import signal
import socket
import time
from typing import Any

import pytest

from llm_core import ErrorInfo, ErrorType, GenerationRequest, StreamRestarted
from llm_core.testing import ScriptedProvider
from llm_service import BaseLLMService
from llm_service.cli.speaking import print_stream
from llm_sim import Latency, SimServer
from llm_sim.latency import Constant

ASK = ("ask", "-m", "gpt-5-mini")
CHAT = ("chat", "-m", "gpt-5-mini")
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 32


def asked(sim: SimServer) -> Any:
    """Return the body of the last call."""
    return sim.calls()[-1].body


def test_a_streamed_answer_is_the_answer_and_one_line_feed(shell: Any) -> None:
    done = shell(*ASK, "capital of France?", "--stream")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Paris\n", "")
    assert asked(shell.sim)["stream"] is True


def test_streamed_json_is_an_event_a_line_that_ends_with_the_result(shell: Any) -> None:
    done = shell(*ASK, "capital of France?", "--stream", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["kind"] for event in events][:2] == ["started", "text"]
    assert events[-1]["kind"] == "result"
    assert events[-1]["result"]["content"] == "Paris"


def test_what_is_piped_in_stands_below_the_question(shell: Any) -> None:
    done = shell(*ASK, "Summarise:", stdin="a long text\n")
    assert done.stdout == "Summarise:\n\na long text\n"


def test_a_picture_on_standard_input_is_refused_by_name(shell: Any) -> None:
    assert "standard input: not UTF-8 text" in shell.one_line(shell(*ASK, "?", stdin=PNG))


def test_a_question_that_is_no_text_is_refused(shell: Any) -> None:
    said = shell.one_line(shell(*ASK, "\udcff"))
    assert "'[QUESTION]': not UTF-8 text" in said


def test_a_schema_is_sent_under_its_title(shell: Any) -> None:
    schema = {
        "title": "A city!",
        "type": "object",
        "properties": {"name": {"type": "string"}},
        "required": ["name"],
    }
    shell.write("city.json", json.dumps(schema))
    done = shell(*ASK, "Which city?", "--schema", "city.json")
    assert done.returncode == 0, done.stderr
    assert asked(shell.sim)["text"]["format"]["name"] == "A_city"
    assert set(json.loads(done.stdout)) == {"name"}


def test_images_are_files_or_addresses(shell: Any) -> None:
    (shell.folder / "a.png").write_bytes(PNG)
    done = shell(*ASK, "What?", "--image", "a.png", "--image", "https://example.org/b.png")
    assert done.returncode == 0, done.stderr
    images = [p for p in asked(shell.sim)["input"][-1]["content"] if p["type"] == "input_image"]
    assert images[0]["image_url"].startswith("data:image/png;base64,")
    assert images[1]["image_url"] == "https://example.org/b.png"


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        (["--image", "none.png"], "none.png: no such file"),
        (["--image", "empty"], "empty: an empty file"),
        (["--image", "."], ".: cannot be read"),
        (["--image", ""], "--image: got '', expected a file or URL"),
        (["--image", "long"], "long: holds more than 64 MiB"),
        (["--schema", "long"], "long: holds more than 16 MiB"),
        (["--image", "/dev/zero"], "/dev/zero: holds more than 64 MiB"),
        (["--schema", "/dev/zero"], "/dev/zero: holds more than 16 MiB"),
        (["--config", "/dev/zero"], "/dev/zero: holds more than 4 MiB"),
        (["--system", "\udcff"], "'--system': not UTF-8 text"),
        (["--model", "\udcff"], "'--model': not UTF-8 text"),
        (["--image", "list.json"], "list.json: not an image; expected PNG, JPEG"),
        (
            ["--schema", "typo.json"],
            "--schema typo.json: no JSON Schema: $.properties.a.type: 'objekt' is not one of ['array', ",
        ),
        (["--schema", "empty"], "--schema empty: not JSON"),
        (["--schema", "list.json"], "--schema list.json: expected a JSON Schema, an object"),
        (["--schema", "none.json"], "--schema none.json: expected a JSON Schema, an object"),
        (["--schema", "picture"], "--schema picture: not UTF-8 text (byte 0)"),
        (["--schema", "range.json"], "range.json: no JSON Schema: $.minLength: -1 is less than"),
        (["--temperature", "9"], "'--temperature': 9.0 is not in the range 0<=x<=2"),
        (["--deadline", "0"], "'--deadline': 0.0 is not in the range x>0"),
        (["--max-output-tokens", "0"], "0 is not in the range"),
    ],
)
def test_a_wrong_option_is_one_line(shell: Any, option: list[str], complaint: str) -> None:
    shell.write("list.json", "[]")
    shell.write("none.json", "{}")
    shell.write("typo.json", '{"properties": {"a": {"type": "objekt"}}}')
    shell.write("range.json", '{"minLength": -1}')
    (shell.folder / "empty").write_bytes(b"")
    (shell.folder / "picture").write_bytes(PNG)
    with (shell.folder / "long").open("wb") as stream:
        stream.truncate(64 * 2**20 + 1)
    done = shell(*ASK, "?", *option)
    assert complaint in shell.one_line(done)


def test_sampling_goes_with_the_question(shell: Any) -> None:
    done = shell(
        "ask", "?", "-m", "gpt-4o", "--temperature", "0.5", "--max-output-tokens", "50", "-q"
    )
    assert done.returncode == 0, done.stderr
    sent = asked(shell.sim)
    assert (sent["temperature"], sent["max_output_tokens"]) == (0.5, 50)


def test_a_stream_that_breaks_keeps_what_came_and_says_why(shell: Any) -> None:
    with SimServer({"default": "one two three four"}, faults=["cut:1"]) as broken:
        shell.environment["OPENAI_BASE_URL"] = broken.openai_base_url
        done = shell(*ASK, "?", "--stream", "--attempts", "1")
    assert done.returncode == 1
    assert done.stdout.startswith("one")
    assert done.stderr.count("\n") == 1


def test_an_answer_without_deltas_is_printed_whole(capsys: pytest.CaptureFixture[str]) -> None:
    failing = ScriptedProvider([ErrorInfo.of(ErrorType.OVERLOADED, "no")])
    request = GenerationRequest(user="?", fallback_value={"a": "ä"}, max_attempts=1)
    with BaseLLMService(model="m", provider=failing) as service:
        result = print_stream(service.stream_sync(request))
    assert result.success
    assert capsys.readouterr().out == '{\n  "a": "ä"\n}\n'


def test_a_stream_that_begins_anew_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with BaseLLMService(model="m", provider=ScriptedProvider(["again"])) as service:
        events = list(service.stream_sync("?"))
    error = ErrorInfo.of(ErrorType.CONNECTION, "lost")
    restarted = (events[1], StreamRestarted(attempt=2, error=error), *events)
    print_stream(event for event in restarted)
    told = capsys.readouterr()
    assert told.out == "again\nagain\n"
    assert told.err == "llm-service: begins anew after connection\n"


@pytest.mark.realtime
def test_ctrl_c_ends_an_answer_with_exit_code_130(shell: Any) -> None:
    """Real time: a signal to a running process."""
    with SimServer(latency=Latency(first_token=Constant(30.0))) as slow:
        shell.environment["OPENAI_BASE_URL"] = slow.openai_base_url
        process = shell.start(*ASK, "?")
        while not slow.calls():
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert "interrupted" in err


def test_a_conversation_goes_on_from_turn_to_turn(shell: Any) -> None:
    done = shell(*CHAT, "--system", "Be brief.", stdin="one\ntwo \\\nthree\n\n/exit\nfour\n")
    assert (done.returncode, done.stdout) == (0, "one\ntwo \nthree\n")
    roles = [(m["role"], m["content"]) for m in asked(shell.sim)["input"]]
    said = [content if isinstance(content, str) else content[0]["text"] for _, content in roles]
    assert said[-3:] == ["one", "one", "two \nthree"]


def test_a_conversation_can_begin_anew_and_ends_with_its_input(shell: Any) -> None:
    done = shell(*CHAT, stdin="one\n/new\n/help\ntwo")
    assert done.stdout == "one\ntwo\n"
    assert "/exit, /quit or Ctrl-D ends" in done.stderr
    assert len(asked(shell.sim)["input"]) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/exti", "no command /exti; did you mean /exit? To send it as it is: //exti"),
        ("/zzz", "no command /zzz; /help tells which there are. To send it as it is: //zzz"),
        ("/new topic", "/new takes nothing after it; to send it as it is: //new …"),
    ],
)
def test_a_mistyped_command_is_refused_and_not_sent(shell: Any, line: str, said: str) -> None:
    before = shell.sim.report().calls
    done = shell(*CHAT, stdin=f"{line}\nhello\n")
    assert (done.returncode, done.stdout) == (1, "hello\n")
    assert done.stderr == f"llm-service: {said}\n"
    assert shell.sim.report().calls - before == 1


def test_two_slashes_send_a_line_that_begins_with_one(shell: Any) -> None:
    done = shell(*CHAT, stdin="//etc/hosts, what is it?\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "/etc/hosts, what is it?\n", "")


def test_a_turn_that_is_no_text_ends_the_conversation_in_one_line(shell: Any) -> None:
    assert "standard input: not UTF-8 text" in shell.one_line(shell(*CHAT, stdin=PNG))


def test_a_turn_without_an_answer_is_forgotten(shell: Any) -> None:
    rules = [{"contains": "bad", "reply": {"text": "x", "fault": "400"}}]
    with SimServer({"rules": rules, "default": "echo"}) as sim:
        shell.environment["OPENAI_BASE_URL"] = sim.openai_base_url
        done = shell(*CHAT, stdin="bad\ngood\n")
        assert len(asked(sim)["input"]) == 1
    assert (done.returncode, done.stdout) == (1, "good\n")
    assert done.stderr.startswith("llm-service: invalid_request: ")


def test_chat_without_a_server_fails_turn_by_turn(shell: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    shell.environment["OPENAI_BASE_URL"] = f"http://127.0.0.1:{port}/v1"
    done = shell(*CHAT, stdin="one\n")
    assert done.returncode == 1
    assert "connection" in done.stderr
