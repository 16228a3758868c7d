"""Printing an answer while it comes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Any, cast

import click

from llm_core import (
    ErrorInfo,
    GenerationResult,
    StreamEvent,
    StreamRestarted,
    StreamResult,
    TextDelta,
)
from llm_service.cli.console import tell
from llm_service.cli.model_names import told
from llm_service.cli.tally import Tally, shown_cost

__all__ = ["echo_error", "footer", "print_stream", "shown_content"]


def print_stream(
    events: Iterable[StreamEvent], *, on_event: Callable[[StreamEvent], None] | None = None
) -> GenerationResult[Any]:
    """Print the text of a service's stream as it arrives, ended by a line feed; returns its result.

    What arrived without deltas (from a cache, or a fallback value) is printed at the end.
    With `on_event` nothing is printed, and it gets every event instead.
    Closes the stream, also when it is interrupted.
    """
    printed = ""
    result: GenerationResult[Any] | None = None
    with closing(cast("Any", events)):
        for event in events:
            if on_event is not None:
                on_event(event)
            elif isinstance(event, TextDelta):
                click.echo(event.text, nl=False)
                printed = (printed + event.text)[-1:] or printed
            elif isinstance(event, StreamRestarted):
                click.echo("\n" if printed else "", nl=False)
                tell(f"begins anew after {event.error.type}")
                printed = ""
            if isinstance(event, StreamResult):
                result = event.result
    assert result is not None, "a service's stream ends with its result"
    if on_event is None:
        if not printed and result.success:
            click.echo(shown_content(result.content))
        elif printed and printed != "\n":
            click.echo()
    return result


def shown_content(content: Any) -> str:
    """Return an answer as text: JSON, unless it is text already."""
    if isinstance(content, str):
        return content
    from llm_core import to_json

    return json.dumps(to_json(content), ensure_ascii=False, indent=2)


def echo_error(error: ErrorInfo) -> None:
    """Tell a failed call in one line on stderr."""
    words = told(error.message, error.exception, error.details)
    tell(f"{error.type}: {' '.join(words.split())}")


def footer(result: GenerationResult[Any]) -> str:
    """Return in one line what an answer took."""
    tally = Tally()
    tally.add(result.to_dict())
    words = [
        str(result.model or "no model"),
        f"{result.usage.input_tokens} tokens in, {result.usage.output_tokens} out",
        f"{result.timestamps.total_seconds or 0.0:.1f} s",
    ]
    if tally.costs:
        words.append(shown_cost(tally))
    return " · ".join(words)
