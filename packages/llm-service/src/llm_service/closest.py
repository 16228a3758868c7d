"""What somebody meant who wrote a name that is not known."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["closest"]


def closest(given: Any, names: Iterable[str]) -> str:
    """Return ``; did you mean …?`` with the name nearest to `given`, or all names if none is near."""
    import difflib  # needed by faults alone

    known = [name for name in names if name]
    near = difflib.get_close_matches(str(given).lower(), known, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; expected one of {', '.join(known)}" if known else ""
