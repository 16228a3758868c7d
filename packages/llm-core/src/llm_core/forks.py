"""What a forked child begins anew: locks that a thread of the parent may hold, and what its calls had taken."""

from __future__ import annotations

import functools
import os
import weakref
from typing import Protocol

__all__ = ["Forkable", "begin_anew_in_children"]


class Forkable(Protocol):
    """Something that belongs to the calls of one process."""

    def begin_anew(self) -> None:
        """Forget what belongs to the parent; runs in the child before anything else does."""


def begin_anew_in_children(part: Forkable) -> None:
    """Call ``part.begin_anew()`` in every child that this process forks, as long as `part` lives."""
    _parts().add(part)


@functools.cache
def _parts() -> weakref.WeakSet[Forkable]:
    # At first use, because importing registers nothing; the system keeps such a function for good.
    parts: weakref.WeakSet[Forkable] = weakref.WeakSet()

    def begin_anew() -> None:
        for part in list(parts):
            part.begin_anew()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=begin_anew)
    return parts
