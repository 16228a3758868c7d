"""A lock on an open file, let go by the operating system when the process ends, however it ends."""

from __future__ import annotations

from typing import IO

__all__ = ["lock"]


def lock(stream: IO[bytes]) -> bool:
    """Lock `stream` for this process alone; returns False if another one has it.

    Where the system has no such locks (Windows), nothing is locked.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
