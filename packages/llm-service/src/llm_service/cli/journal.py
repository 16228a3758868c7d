"""`Journal`: the finished requests of a run, so that `kill -9` loses none and repeats none.

It lies beside the output as ``OUTPUT.journal`` and holds one line per finished request, in the order in which
they finished: the result as it will stand in the output.
A line is handed to the operating system before the next result is taken, so it outlives the process; it is on
the disk a second later at most (`SYNC_SECONDS`), which is all that a power cut can take.
A line that was being written at that moment has no end, and is cut off when the run goes on.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Self

import click

from llm_core import GenerationResult
from llm_service.cli.lock import lock
from llm_service.cli.request_file import Item, reading
from llm_service.cli.tally import Tally

__all__ = ["SYNC_SECONDS", "AnswerIndex", "Journal"]

SYNC_SECONDS = 1.0


class AnswerIndex:
    """Which lines of the input a file of results answers, and where: 16 bytes for a line of input.

    Reading raises click.ClickException for a line that no run has written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tally = Tally()
        self.size = 0
        """Bytes of whole lines."""
        self._offsets = array("Q")
        self._digests = array("Q")

    @classmethod
    def read(cls, path: Path) -> AnswerIndex:
        """Index the file at `path`; one that is not there answers nothing."""
        index = cls(path)
        if path.exists():
            for number, (line, result) in enumerate(_results(path), 1):
                metadata = _metadata_of(result)
                if metadata is None:
                    raise click.ClickException(
                        f"{path}:{number}: not written by 'llm-service run'; "
                        "--restart replaces the file"
                    )
                index.add(*metadata, len(line))
                index.tally.add(result)
        return index

    def __len__(self) -> int:
        return self.tally.results

    def add(self, line: int, digest: str, length: int) -> None:
        """Note that the next `length` bytes answer `line` of the input."""
        missing = line + 1 - len(self._offsets)
        if missing > 0:
            self._offsets.extend([0] * missing)
            self._digests.extend([0] * missing)
        self._offsets[line] = self.size + 1
        self._digests[line] = int(digest, 16)
        self.size += length

    def answers(self, item: Item) -> bool:
        """Whether `item` is answered; raises click.ClickException if another text stood in its line."""
        if item.line >= len(self._offsets) or not self._offsets[item.line]:
            return False
        if self._digests[item.line] != int(item.digest, 16):
            raise click.ClickException(
                f"line {item.line} is not what was answered in {self.path} (it, --model or --template "
                "has changed since); --restart answers everything anew"
            )
        return True

    def in_order(self) -> Iterator[int]:
        """Yield where each answer begins, in the order of the input."""
        return (offset - 1 for offset in self._offsets if offset)


class Journal:
    """The journal of the output at `output`: closed by `with`, and locked against a second run meanwhile.

    Nothing is written before `open`.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.path = output.with_name(output.name + ".journal")
        self.index = AnswerIndex(self.path)
        self._stream: IO[bytes] | None = None
        self._is_open = False
        self._is_synced = True

    @classmethod
    def resume(cls, output: Path, *, restart: bool = False) -> Journal:
        """Read what there is: the journal of a run that was stopped, else the output of one that ended.

        With `restart` neither counts. Raises click.ClickException if another run is writing the journal.
        """
        journal = cls(output)
        there = output
        if journal.path.exists():
            journal._take()
            there = journal.path
        if not restart:
            try:
                journal.index = AnswerIndex.read(there)
            except BaseException:
                journal.close()
                raise
        return journal

    @property
    def is_published(self) -> bool:
        """Whether what was found is the finished output of an earlier run."""
        return self.index.path == self.output and len(self.index) > 0

    def forget(self, unwanted: Callable[[Mapping[str, Any]], bool]) -> None:
        """Drop the answers that are `unwanted`, so that their requests are sent again."""
        fresh = self.path.with_name(self.path.name + ".new")
        try:
            with fresh.open("wb") as stream:
                for line, result in _results(self.index.path):
                    if not unwanted(result):
                        stream.write(line)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(fresh, self.path)
        finally:
            fresh.unlink(missing_ok=True)
        self._take()
        self.index = AnswerIndex.read(self.path)

    def open(self) -> None:
        """Begin to write, after what is there."""
        if self.is_published:
            self.forget(lambda result: False)
        if self._stream is None:
            self._take()
            assert self._stream is not None
            if self._stream.tell() > 0:
                raise click.ClickException(f"{self.path}: another run has begun it just now")
        self._stream.truncate(self.index.size)
        self._is_open = True

    def _take(self) -> None:
        """Open the journal, made if need be, and lock it."""
        if self._stream is not None:
            self._stream.close()
        self._stream = self.path.open("ab", buffering=0)
        if not lock(self._stream):
            self._stream.close()
            self._stream = None
            raise click.ClickException(f"{self.path}: another run is writing it")

    def add(self, result: GenerationResult[Any]) -> None:
        """Append one result, which is safe from then on if this process dies.

        Its request must be of a `RequestFile`, whose `metadata` say what the result answers.
        """
        assert self._stream is not None, "open() comes first"
        written = result.to_dict()
        encoded = _encode(written)
        rest = memoryview(encoded)
        while rest:
            rest = rest[self._stream.write(rest) :]
        metadata = written["request"]["metadata"]
        self.index.add(metadata["input_line"], metadata["input_hash"], len(encoded))
        self.index.tally.add(written)
        self._is_synced = False

    def sync(self) -> None:
        """Make sure that a power cut loses nothing of what was added so far."""
        if self._stream is not None and not self._is_synced:
            self._is_synced = True
            os.fsync(self._stream.fileno())

    def publish(self, *, in_input_order: bool) -> None:
        """Make the output appear, whole, and remove the journal."""
        if not self._is_open:
            self.open()
        self.sync()
        if in_input_order:
            partial = self.output.with_name(self.output.name + ".partial")
            try:
                self._write_in_order(partial)
                os.replace(partial, self.output)
            finally:
                partial.unlink(missing_ok=True)
            self.path.unlink()
        else:
            os.replace(self.path, self.output)
        _sync_folder(self.output.parent)

    def _write_in_order(self, target: Path) -> None:
        with target.open("wb") as sink:
            sink.writelines(self._lines_in_order())
            sink.flush()
            os.fsync(sink.fileno())

    def _lines_in_order(self) -> Iterator[bytes]:
        with reading(self.path) as source:
            for offset in self.index.in_order():
                source.seek(offset)
                yield source.readline()

    def close(self) -> None:
        """Let go of the journal; an empty one is removed."""
        if self._stream is None:
            return
        self.sync()
        if self._is_open and self.index.size == 0:
            self.path.unlink(missing_ok=True)
        self._stream.close()
        self._stream = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _encode(result: Mapping[str, Any]) -> bytes:
    """Return a result's line, its end included."""
    try:
        return json.dumps(result, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:
        # Half of a surrogate pair, which models write at times, has no UTF-8 form.
        return json.dumps(result).encode() + b"\n"


def _results(path: Path) -> Iterator[tuple[bytes, Mapping[str, Any]]]:
    """Yield each whole line and what it holds; an empty mapping for a line that is no JSON object."""
    with reading(path) as stream:
        for line in stream:
            if not line.endswith(b"\n"):
                return
            try:
                result = json.loads(line)
            except (ValueError, RecursionError):
                result = {}
            yield line, result if isinstance(result, dict) else {}


def _metadata_of(result: Mapping[str, Any]) -> tuple[int, str] | None:
    """Return the input's line and hash that a result tells, or None if it does not."""
    try:
        metadata = result["request"]["metadata"]
        line, digest = metadata["input_line"], metadata["input_hash"]
        int(digest, 16)
    except (KeyError, TypeError, ValueError):
        return None
    return (line, digest) if isinstance(line, int) and line > 0 else None


def _sync_folder(folder: Path) -> None:
    """Make the renaming last; where folders cannot be opened, as on Windows, it does so by itself."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
