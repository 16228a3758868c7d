"""What the books remember of our own calls, against a plain list of them."""

from __future__ import annotations

import random

import pytest

from llm_gates import sent
from llm_gates.sent import Note, Sent, Weights

TOKENS = 1
KEPT = 1_000


class Plain:
    """All calls ever, walked through for every answer."""

    def __init__(self) -> None:
        self.calls: dict[Note, tuple[int, int]] = {}

    def between(self, place: int, since: int, until: int) -> int:
        if until < since:
            return -self.between(place, until, since)
        return sum(costs[place] for (_, left), costs in self.calls.items() if since < left <= until)


def remembered() -> tuple[Sent, Weights]:
    calls = Sent()
    calls._keep_ns = KEPT
    return calls, calls._weigh(TOKENS)


@pytest.mark.parametrize("seed", range(20))
def test_sums_are_those_of_all_calls_however_they_were_corrected(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sent, "_TRIM_EVERY", 50)
    source = random.Random(seed)
    calls, tokens = remembered()
    plain = Plain()
    running: list[Note] = []
    now = 0
    for _ in range(600):
        # Several may leave at the same time.
        now += source.choice((0, 0, 1, 5, 20))
        act = source.random()
        if act < 0.5 or not running:
            costs = (1, source.randrange(100))
            note = calls.note(now, costs)
            plain.calls[note] = costs
            running.append(note)
        elif act < 0.8:
            note = source.choice(running)
            after = (1, source.randrange(100))
            calls.correct(note, plain.calls[note], after)
            plain.calls[note] = after
        elif act < 0.9:
            note = running.pop(source.randrange(len(running)))
            calls.forget(note, plain.calls[note])
            plain.calls[note] = (0, 0)
        else:
            since, until = (now - source.randrange(KEPT) for _ in range(2))
            assert calls.requests_between(since, until) == plain.between(0, since, until)
            assert tokens.between(since, until) == plain.between(TOKENS, since, until)
    assert len(calls._stamps) < len(plain.calls)


def test_a_call_is_forgotten_when_no_reply_is_compared_with_it_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sent, "_TRIM_EVERY", 4)
    calls, tokens = remembered()
    old = calls.note(0, (1, 70))
    for now in (KEPT + 1, KEPT + 2, KEPT + 3, KEPT + 4):
        calls.note(now, (1, 10))
    assert len(calls._stamps) == len(tokens.each) == 4
    calls.correct(old, (1, 70), (1, 90))
    assert tokens.between(KEPT, KEPT + 4) == 40


def test_how_long_calls_take_is_learned_slowly() -> None:
    calls, _ = remembered()
    for _ in range(100):
        calls.ended(1_000_000, calls.note(0, (1, 1)))
    assert 999_900 < calls.mean_ns <= 1_000_000
    calls.ended(0, calls.note(0, (1, 1)))
    assert 899_000 < calls.mean_ns < 901_000
