"""How long somebody else says one should wait, when what he says may be nonsense."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["usable_wait"]

_LONGEST_SECONDS = 366 * 86400.0
"""A year: whoever asks for more is mistaken, and no clock overflows by it."""


def usable_wait(seconds: Any) -> float | None:
    """Return `seconds`, a year at most; None for what is no length of time: a negative, endless or odd value."""
    if not isinstance(seconds, (int, float)) or not 0 <= seconds < math.inf:
        return None
    return min(seconds, _LONGEST_SECONDS)
