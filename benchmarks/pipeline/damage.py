"""JSON texts with a sign of structure lost, doubled or changed, made by dice."""

from __future__ import annotations

import json
import random
from types import ModuleType
from typing import Any

_WORDS = (
    "",
    "x",
    "it's",
    'say "hi"',
    "a, b: c",
    "{x}",
    "02139",
    "http://a/b",
    "// no",
    "# no",
    "é",
    "...",
)


def _random_value(dice: random.Random, depth: int = 0) -> Any:
    kind = dice.random()
    if depth < 3 and kind < 0.25:
        keys = dice.sample(("a", "b", "name", "x y", "it's"), dice.randint(0, 4))
        return {key: _random_value(dice, depth + 1) for key in keys}
    if depth < 3 and kind < 0.4:
        return [_random_value(dice, depth + 1) for _ in range(dice.randint(0, 4))]
    if kind < 0.75:
        return dice.choice(_WORDS)
    return dice.choice((0, 1, -1, 42, 3.5, 1e10, True, False, None, 12345678901234567890))


DICE = 20261122
"""The dice of the published figures; the reader was developed with an eye on what they gave."""


def damaged_documents(
    table: ModuleType, count: int = 3000, *, seed: int = DICE
) -> list[tuple[str, Any]]:
    """Return JSON texts with one sign of structure lost, doubled or changed, and what they were.

    Made by dice; texts that are still whole JSON are left out.
    """
    dice = random.Random(seed)
    made: list[tuple[str, Any]] = []
    while len(made) < count:
        document = {"id": dice.randint(0, 99), "r": _random_value(dice), "s": _random_value(dice)}
        text = json.dumps(document, indent=dice.choice((None, 1)))
        at = dice.choice(table.structural(text))
        sign = dice.choice(("", text[at] * 2, dice.choice("{}[],:")))
        damaged = text[:at] + sign + text[at + 1 :]
        if dice.random() < 0.3:
            damaged = f"Sure: {damaged} Done."
        try:
            json.loads(damaged)
        except ValueError:
            made.append((damaged, document))
    return made
