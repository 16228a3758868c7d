"""Where a model thinks aloud."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["thinking_zones"]

_TAG = re.compile(
    r"<(/?)(think|thinking|thought|thoughts|reasoning|reflection|scratchpad)\b[^<>]{0,80}>", re.I
)


def thinking_zones(text: str, data: Iterable[tuple[int, int]] = ()) -> list[tuple[int, int]]:
    """Return the spans of `text` in which the model thinks aloud, tags included.

    A closing tag without its opening one ends a thought that began with the text; an opening tag that is never
    closed begins one that goes on to the end. Tags inside the spans `data`, given in order, are no tags.
    """
    zones: list[tuple[int, int]] = []
    opened: int | None = None
    spans = iter(data)
    span = next(spans, None)
    for tag in _TAG.finditer(text):
        while span is not None and span[1] <= tag.start():
            span = next(spans, None)
        if span is not None and span[0] <= tag.start():
            continue
        if not tag.group(1):
            opened = tag.start() if opened is None else opened
        elif opened is not None:
            zones.append((opened, tag.end()))
            opened = None
        else:
            zones = [(0, tag.end())]
    if opened is not None:
        zones.append((opened, len(text)))
    return zones
