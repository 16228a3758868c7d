"""Files that are read whole, and so must have an end that memory can hold."""

from __future__ import annotations

from pathlib import Path

from llm_core import InvalidValue

__all__ = ["MEBIBYTE", "read_bounded"]

MEBIBYTE = 2**20


def read_bounded(path: Path, most_bytes: int) -> bytes:
    """Return what is in a file, or comes out of a pipe; of a device no more is read than `most_bytes`.

    Raises OSError, and InvalidValue, which does not name the file, if there is more.
    """
    with path.open("rb") as stream:
        content = stream.read(most_bytes + 1)
    if len(content) > most_bytes:
        size = f"{most_bytes // MEBIBYTE} MiB" if most_bytes >= MEBIBYTE else f"{most_bytes} bytes"
        raise InvalidValue(f"holds more than {size}")
    return content
