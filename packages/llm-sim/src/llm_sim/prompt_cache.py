"""The prompt cache: which part of a prompt was seen before, by whole messages."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from llm_sim import tokens
from llm_sim.exchange import Ask

CACHE_MINIMUM_TOKENS = 1024
"""Shorter prefixes are not cached (OpenAI "Prompt caching"; Anthropic's most common minimum)."""
CACHE_STEP_TOKENS = 128
"""OpenAI counts cached tokens in steps of this size."""
_CACHED_PREFIXES = 4096
"""How many prefixes are remembered; the oldest are forgotten, so memory stays bounded."""


class PromptCache:
    """The prefixes that were seen, of each API key and model apart.

    Without explicit marks every prefix of at least the minimum is remembered, and what was seen
    before counts in whole steps; with marks only the marked prefixes are.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[int, None] = OrderedDict()

    def read_tokens(self, ask: Ask, key: str) -> int:
        """Return the tokens that would be read from the cache, without remembering anything."""
        read = max((size for name, size in _prefixes(ask, key) if name in self._seen), default=0)
        return _counted(ask, read)

    def use(self, ask: Ask, key: str) -> tuple[int, int]:
        """Return the tokens read and written (0 without marks), and remember the prefixes."""
        read = most = 0
        for name, most in _prefixes(ask, key):
            if name in self._seen:
                read = most
                self._seen.move_to_end(name)
            self._seen[name] = None
        while len(self._seen) > _CACHED_PREFIXES:
            self._seen.popitem(last=False)
        return _counted(ask, read), 0 if ask.cache_marks is None else most - read


def _counted(ask: Ask, read: int) -> int:
    return read // CACHE_STEP_TOKENS * CACHE_STEP_TOKENS if ask.cache_marks is None else read


def _prefixes(ask: Ask, key: str) -> Iterator[tuple[int, int]]:
    """Give name and tokens of every prefix that may be cached, the shortest first."""
    # A token has a character at least: most prompts are too short without being counted.
    longest = sum(map(len, ask.texts)) + len(ask.texts) * tokens.MESSAGE_TOKENS
    if ask.cache_marks == () or longest < CACHE_MINIMUM_TOKENS:
        return
    name, size = hash((key, ask.model)), 0
    for place, text in enumerate(ask.texts, start=1):
        name = hash((name, text))
        size += tokens.count(text) + tokens.MESSAGE_TOKENS
        marked = ask.cache_marks is None or place in ask.cache_marks
        if marked and size >= CACHE_MINIMUM_TOKENS:
            yield name, size
