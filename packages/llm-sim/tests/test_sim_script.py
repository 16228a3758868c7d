"""Scripts: which rule answers, with what, and what is said about a wrong file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llm_sim import Draft, Script, ScriptError
from llm_sim.brain import Brain
from llm_sim.exchange import Ask, Stamp

STAMP = Stamp(serial=1, created=0)


def ask(text: str, **options: Any) -> Ask:
    return Ask(operation="chat", model="gpt-4o", texts=(text,), user_text=text, **options)


def say(script: object, *texts: str) -> list[str]:
    brain = Brain(Script.of(script))
    return [brain.reply(ask(text), STAMP).text for text in texts]


def test_the_first_rule_that_fits_answers() -> None:
    script = [
        {"exact": " ping ", "reply": "pong"},
        {"contains": "pin", "reply": "pinned"},
        {"any": True, "reply": "else"},
    ]
    assert say(script, "ping", "ping\n", "spinning", "x") == ["pong", "pong", "pinned", "else"]


def test_without_a_rule_the_default_answers() -> None:
    assert say({"default": "nothing on {{text}}"}, "x") == ["nothing on x"]
    assert say({"default": "echo"}, "x") == ["x"]
    assert say({}, "x") == ["x"]


def test_captured_groups_stand_by_name_and_number() -> None:
    script = [
        {"regex": r"(\w+) and (?P<b>\w+)( or c)?", "reply": "{{b}},{{1}},{{3}},{{0}},{{text}}"}
    ]
    assert say(script, "do a and b now") == ["b,a,,a and b,do a and b now"]


def test_captured_groups_stay_valid_json_in_arguments() -> None:
    script = [
        {
            "regex": "say (.+)",
            "reply": {"tool_calls": [{"name": "f", "arguments": {"x": "{{1}}", "y": 1}}]},
        }
    ]
    reply = Brain(Script.of(script)).reply(ask('say "hi"'), STAMP)
    assert reply.tool_calls[0].arguments == '{"x": "\\"hi\\"", "y": 1}'


def test_replies_follow_one_another_and_the_last_stays() -> None:
    assert say([{"any": True, "replies": ["a", "b"]}], "x", "x", "x") == ["a", "b", "b"]


def test_turns_follow_the_conversation_not_the_calls() -> None:
    brain = Brain(Script.of([{"any": True, "turns": ["a", "b"]}]))
    said = [brain.reply(ask("x", assistant_turns=n), STAMP).text for n in (1, 0, 1, 5)]
    assert said == ["b", "a", "b", "b"]


def test_a_reset_starts_replies_again() -> None:
    brain = Brain(Script.of([{"any": True, "replies": ["a", "b"]}]))
    assert brain.reply(ask("x"), STAMP).text == "a"
    brain.reset()
    assert brain.reply(ask("x"), STAMP).text == "a"
    brain.reset(Script.of([{"any": True, "reply": "new"}]))
    assert brain.reply(ask("x"), STAMP).text == "new"


def test_a_rule_can_be_for_some_models() -> None:
    assert say([{"any": True, "model": "claude-*", "reply": "c"}], "x") == ["x"]
    assert say([{"any": True, "model": "gpt-*", "reply": "g"}], "x") == ["g"]


def test_a_reply_can_be_json() -> None:
    assert say([{"any": True, "reply": {"json": {"a": [1, "é"]}}}], "x") == ['{"a": [1, "é"]}']


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "replies.yaml"
    path.write_text("rules:\n  - {exact: a, reply: b}\n", encoding="utf-8")
    assert say(str(path), "a") == ["b"]
    assert say(path, "a") == ["b"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "rules:\n  - exact: a\n    reply: b\n    repyl: c\n",
            "f.yaml:4: unknown key 'repyl' in a rule; did you mean 'reply'?",
        ),
        (
            "rules:\n  - exact: a\n    reply: {txet: b}\n",
            "f.yaml:3: unknown key 'txet' in a reply; did you mean 'text'?",
        ),
        ("zzz: 1\n", "f.yaml:1: unknown key 'zzz' in the script; expected 'rules', 'default'"),
        ("rules:\n  - reply: b\n", "f.yaml:2: a rule needs a condition: exactly one of 'exact'"),
        ("rules:\n  - {exact: a, contains: b, reply: c}\n", "got 'exact', 'contains'"),
        ("rules:\n  - exact: a\n", "f.yaml:2: a rule needs an answer"),
        ("rules:\n  - exact: 5\n    reply: c\n", "f.yaml:2: key 'exact': expected text, got 5"),
        (
            "rules:\n  - exact: a\n    reply: 5\n",
            "f.yaml:3: key 'reply': expected text, got 5; put it in quotes",
        ),
        (
            "rules:\n  - exact: a\n    replies: []\n",
            "f.yaml:3: key 'replies': expected a list of replies, got []",
        ),
        (
            "rules:\n  - regex: '('\n    reply: x\n",
            "f.yaml:2: key 'regex': not a regular expression",
        ),
        (
            "rules:\n  - regex: 'a'\n    reply: '{{b}}'\n",
            "f.yaml:3: key 'reply': {{b}} is not captured; there is '0', 'text'",
        ),
        (
            "rules:\n  - any: true\n    reply: {text: a, json: b}\n",
            "f.yaml:3: key 'json': a reply has either",
        ),
        (
            "rules:\n  - any: true\n    reply: {json: 2026-01-01}\n",
            "f.yaml:3: key 'json': expected a JSON value",
        ),
        ("rules:\n  - any: true\n    reply: {tool_calls: 5}\n", "expected a list of calls, got 5"),
        (
            "rules:\n  - any: true\n    reply: {tool_calls: [{nam: f}]}\n",
            "unknown key 'nam' in a tool call",
        ),
        (
            "rules:\n  - any: true\n    reply: {tool_calls: [{}]}\n",
            "key 'name': expected text, got None",
        ),
        (
            "rules:\n  - any: true\n    reply: {finish_reason: x}\n",
            "key 'finish_reason': expected one of 'stop'",
        ),
        (
            "rules:\n  - any: true\n    reply: {delay_seconds: -1}\n",
            "expected seconds from 0 to a day, got -1",
        ),
        ("rules:\n  - any: true\n    reply: {text: '{{x}}'}\n", "{{x}} is not captured"),
        ("rules: 5\n", "f.yaml:1: key 'rules': expected a list of rules, got 5"),
        ("rules: [5]\n", "a rule must be a mapping with 'exact'"),
        ("- 5\n", "f.yaml: the script must be a mapping"),
        ("rules:\n  - [\n", "f.yaml:3: "),
        ("a: 1\na: 2\n", "f.yaml:2: key 'a' appears twice"),
        ("[1]: 2\n", "f.yaml:1: a key must be a plain value"),
        ("\x00", "f.yaml: "),
    ],
)
def test_a_wrong_file_is_one_line_that_names_file_line_and_key(text: str, problem: str) -> None:
    with pytest.raises(ScriptError) as caught:
        Script.parse(text, name="f.yaml")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match=r"none\.yaml: cannot read the script: No such file"):
        Script.load(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ScriptError, match="not UTF-8"):
        Script.load(tmp_path / "latin.yaml")


def test_a_function_answers_what_it_likes() -> None:
    def answer(ask: Ask) -> Draft | str | None:
        if ask.user_text == "echo":
            return None
        return Draft(refusal="no") if ask.user_text == "refuse" else ask.user_text.upper()

    assert say(answer, "hello", "echo") == ["HELLO", "echo"]
    assert Brain(Script.of(answer)).reply(ask("refuse"), STAMP).refusal == "no"


def test_drafts_of_rules_keep_all_they_hold() -> None:
    rule = {"text": "a", "reasoning": "b", "delay_seconds": 2, "finish_reason": "length"}
    reply = Brain(Script.of([{"any": True, "reply": rule}])).reply(ask("x"), STAMP)
    assert (reply.text, reply.reasoning, reply.delay_seconds) == ("a", "b", 2.0)
    assert reply.finish_reason == "length"
