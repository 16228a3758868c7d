"""What a price costs: the first one, which imports genai-prices, and those after it."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime

from benchmarks.harness import Finding, spread, take_turns

from llm_core import Usage
from llm_metrics import PriceBook


def price_findings(rounds: int) -> list[Finding]:
    book, usage, at = PriceBook(), Usage(input_tokens=900, output_tokens=40), datetime.now(UTC)
    started = time.perf_counter()
    book.price(usage, provider="openai", model="gpt-5-mini", at=at)
    first = time.perf_counter() - started

    def later() -> float:
        started = time.thread_time()
        for number in range(1_000):
            changed = replace(usage, output_tokens=number)
            book.price(changed, provider="openai", model="gpt-5-mini", at=at)
        return (time.thread_time() - started) * 1e3

    (measured,) = take_turns({"price": later}, rounds=rounds)
    return [
        Finding(what="the first price (imports genai-prices)", found=f"{first * 1e3:.0f} ms"),
        Finding(what="every later one", found=spread(measured, 0, " µs")),
    ]
