"""What every contender asks, and what it must get."""

from __future__ import annotations

from typing import Any

MODEL = "gpt-4o"
QUESTION = "Say something."
MESSAGES: Any = [{"role": "user", "content": QUESTION}]
ANSWER_START = "The quick brown fox"
CHUNKS = 400
POPULATION = 134_000
"""Of the city that a structured call gets."""
PER_MINUTE = 10_000_000
"""A limit that is never reached, so that its bookkeeping is measured and no wait."""
