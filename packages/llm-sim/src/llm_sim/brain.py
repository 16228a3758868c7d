"""What the simulated model says: an `Ask` in, a `Reply` out, nothing else touched."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from llm_sim import sound, tokens
from llm_sim.errors import Refusal
from llm_sim.exchange import Ask, FinishReason, Reply, Stamp, ToolCall, Usage
from llm_sim.json_schema import InvalidSchema, example
from llm_sim.prompt_cache import PromptCache
from llm_sim.script import Draft, Script

_THOUGHT = "The user wants an answer; I say what is known and keep it short."
_THOUGHTS = {"low": 1, "medium": 2, "high": 4, "xhigh": 8, "max": 8}


class Brain:
    """Answers requests by a script, else by making up the least that fits what was asked."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self._uses: dict[int, int] = {}
        self.cache = PromptCache()

    def reset(self, script: Script | None = None) -> None:
        """Forget how often rules were used and what was cached; take a new script if given."""
        self.script = self.script if script is None else script
        self._uses.clear()
        self.cache = PromptCache()

    def reply(self, ask: Ask, stamp: Stamp, key: str = "") -> Reply:
        """Answer one request of an API key."""
        draft = self.script.find(ask, self._use) or Draft()
        calls = tuple(
            ToolCall(id=stamp.id(ask.call_prefix, place), name=name, arguments=arguments)
            for place, (name, arguments) in enumerate(draft.tool_calls or _made_calls(ask, draft))
        )
        text = _text(ask, draft, bool(calls))
        reasoning = draft.reasoning
        if reasoning is None:
            reasoning = " ".join([_THOUGHT] * _THOUGHTS.get(ask.effort or "", 0) * (not ask.silent))
        finish: FinishReason = draft.finish_reason or (
            "tool_calls" if calls else "refusal" if draft.refusal else "stop"
        )
        stopped_by = None
        for stop in ask.stop:
            place = text.find(stop) if stop else -1
            if place >= 0:
                text, stopped_by, finish = text[:place], stop, "stop_sequence"
        pieces = tokens.split(text)
        spent = tokens.count(reasoning)
        if ask.max_output_tokens is not None:
            left = max(ask.max_output_tokens - spent, 0)
            if spent > ask.max_output_tokens:
                reasoning = "".join(tokens.split(reasoning)[: ask.max_output_tokens])
                spent = ask.max_output_tokens
            if len(pieces) > left:
                pieces, stopped_by, finish = pieces[:left], None, "length"
        audio = sound.speak(pieces) if ask.wants_audio else b""
        return Reply(
            pieces=tuple(pieces),
            tool_calls=calls,
            reasoning=reasoning,
            refusal=draft.refusal,
            audio=audio,
            finish_reason=finish,
            stop_sequence=stopped_by,
            usage=_usage(ask, pieces, calls, spent, draft.refusal, audio, self.cache.use(ask, key)),
            delay_seconds=draft.delay_seconds,
            fault=draft.fault,
        )

    def _use(self, rule: int) -> int:
        used = self._uses.get(rule, 0)
        self._uses[rule] = used + 1
        return used


def count_input(ask: Ask) -> int:
    """Count the tokens of the prompt, its overhead, images and sound included."""
    if ask.silent:
        return sum(map(tokens.count, ask.texts))
    size = tokens.PRIMING_TOKENS + ask.extra_tokens + ask.audio_tokens
    for text in ask.texts:
        size += tokens.count(text) + tokens.MESSAGE_TOKENS
    return size


def _usage(
    ask: Ask,
    pieces: list[str],
    calls: tuple[ToolCall, ...],
    reasoning_tokens: int,
    refusal: str,
    audio: bytes,
    cache: tuple[int, int],
) -> Usage:
    output = len(pieces) + reasoning_tokens + tokens.count(refusal)
    for call in calls:
        output += tokens.count(call.name) + tokens.count(call.arguments)
    sound_tokens = math.ceil(
        len(audio) / 2 / sound.SAMPLE_RATE * tokens.AUDIO_OUTPUT_TOKENS_PER_SECOND
    )
    cached, written = cache
    return Usage(
        input_tokens=count_input(ask),
        cached_tokens=cached,
        cache_write_tokens=written,
        audio_input_tokens=ask.audio_tokens,
        image_tokens=ask.image_tokens,
        output_tokens=(output + sound_tokens) * ask.choices,
        reasoning_tokens=reasoning_tokens * ask.choices,
        audio_output_tokens=sound_tokens * ask.choices,
    )


def _text(ask: Ask, draft: Draft, has_calls: bool) -> str:
    if draft.text is not None:
        return draft.text
    if has_calls or draft.refusal or ask.silent:
        return ""
    if ask.schema is not None:
        made = _example(ask.schema) if ask.schema else {"text": ask.user_text}
        return json.dumps(made, ensure_ascii=False)
    return ask.user_text


def _made_calls(ask: Ask, draft: Draft) -> list[tuple[str, str]]:
    """Call what must be called: the named tool, or every tool (the first if not parallel)."""
    if draft.text is not None or draft.refusal or ask.tool_choice in ("auto", "none"):
        return []
    chosen = [tool for tool in ask.tools if ask.tool_choice in ("required", tool.name)]
    if not ask.parallel_tools:
        chosen = chosen[:1]
    return [(tool.name, json.dumps(_example(tool.schema or {"type": "object"}))) for tool in chosen]


def _example(schema: Mapping[str, Any]) -> Any:
    try:
        return example(schema)
    except InvalidSchema as error:
        raise Refusal(
            400,
            f"Invalid schema: {error}",
            type="invalid_request_error",
            code="invalid_json_schema",
        ) from error
