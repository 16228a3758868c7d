"""A text file that starts anew when it is full."""

from __future__ import annotations

from io import FileIO
from pathlib import Path

from llm_core import InvalidValue

__all__ = ["RotatingFile"]


class RotatingFile:
    """Appends lines to `path`; when the next line would make it larger than `max_bytes` it becomes
    ``path.1``, what was ``path.1`` becomes ``path.2``, and of these `keep` are kept.

    One writer at a time; it is opened with the first line, and its folder made if need be.
    A line is on its way to the disk when `write` returns: a buffer would be written twice by a
    process that forks, and lines of two processes would mix.
    """

    def __init__(self, path: Path, *, max_bytes: int = 50_000_000, keep: int = 5) -> None:
        if max_bytes < 1:
            raise InvalidValue.of("RotatingFile.max_bytes", max_bytes, "1 or more bytes")
        if keep < 0:
            raise InvalidValue.of("RotatingFile.keep", keep, "0 or more old files")
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self._file: FileIO | None = None
        self._size = 0

    def write(self, line: str) -> None:
        """Append `line` and a newline; raises OSError if the disk does not take it."""
        written = f"{line}\n".encode()
        file = self._file or self._open()
        if self._size and self._size + len(written) > self._max_bytes:
            self._rotate()
            file = self._open()
        while written:  # a disk that is nearly full takes a part
            taken = file.write(written)
            self._size += taken
            written = written[taken:]

    def close(self) -> None:
        """Close the file; the next line opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> FileIO:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("ab", buffering=0)
        self._size = self._file.tell()
        return self._file

    def _rotate(self) -> None:
        self.close()
        if self._keep == 0:
            self._path.unlink()
            return
        for number in range(self._keep - 1, 0, -1):
            old = self._numbered(number)
            if old.exists():
                old.replace(self._numbered(number + 1))
        self._path.replace(self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")
