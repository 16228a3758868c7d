"""`BatchLedger`: the vendors' batches of a run, so that a restart goes on polling and submits nothing twice.

It lies beside the output as ``OUTPUT.batches``: one line when a batch was submitted, one when its results were
in the journal, each on the disk before anything else is done.
A process killed between the vendor's acceptance and that line leaves one batch that nobody collects.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from llm_core import Value, immutable
from llm_service.cli.request_file import Item, reading

__all__ = ["BatchLedger", "SubmittedBatch", "digest_of"]


@immutable
class SubmittedBatch(Value):
    """A batch at a vendor, and which lines of the input it answers, in the order of submission."""

    id: str
    provider: str
    lines: tuple[int, ...]
    digest: str
    """Over the digests of these lines."""
    submitted_at: datetime
    """When the vendor had accepted it, with its timezone."""

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> SubmittedBatch:
        """Read what `to_json` wrote; raises ValueError, TypeError or KeyError for anything else."""
        submitted_at = datetime.fromisoformat(fields["submitted_at"])
        return cls(**{**fields, "lines": tuple(fields["lines"]), "submitted_at": submitted_at})

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**asdict(self), "submitted_at": self.submitted_at.isoformat()}


class BatchLedger:
    """The batches that were submitted for the output at `output` and not yet collected.

    Reading raises click.ClickException for a file that no run has written.
    """

    def __init__(self, output: Path, *, restart: bool = False) -> None:
        self.path = output.with_name(output.name + ".batches")
        self.forgotten: list[SubmittedBatch] = []
        """What was under way when the run was told to begin anew."""
        self._open = dict(self._read()) if self.path.exists() else {}
        if restart:
            self.forgotten = list(self._open.values())
            self._open.clear()

    @property
    def open_batches(self) -> Sequence[SubmittedBatch]:
        """What is to be collected, in the order of submission."""
        return list(self._open.values())

    def lines(self) -> set[int]:
        """Return the lines of the input that a batch under way will answer."""
        return {line for batch in self._open.values() for line in batch.lines}

    def note_submitted(self, batch: SubmittedBatch) -> None:
        """Write down a batch that the vendor has accepted."""
        self._open[batch.id] = batch
        self._append({"submitted": batch.to_json()})

    def note_collected(self, batch: SubmittedBatch) -> None:
        """Write down that the results of a batch are in the journal."""
        del self._open[batch.id]
        self._append({"collected": batch.id})

    def remove(self) -> None:
        """Forget everything, also on the disk."""
        self._open.clear()
        self.path.unlink(missing_ok=True)

    def _append(self, entry: dict[str, object]) -> None:
        with self.path.open("ab") as stream:
            stream.write(json.dumps(entry).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())

    def _read(self) -> Iterable[tuple[str, SubmittedBatch]]:
        found: dict[str, SubmittedBatch] = {}
        whole = 0
        with reading(self.path) as stream:
            for number, line in enumerate(stream, 1):
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                try:
                    entry = json.loads(line)
                    if "collected" in entry:
                        found.pop(entry["collected"], None)
                        continue
                    batch = SubmittedBatch.from_json(entry["submitted"])
                except (ValueError, TypeError, KeyError):
                    raise click.ClickException(
                        f"{self.path}:{number}: not written by 'llm-service run'"
                    ) from None
                found[batch.id] = batch
        # A line without its end is from a process that was killed while writing it.
        os.truncate(self.path, whole)
        return found.items()


def digest_of(items: Iterable[Item]) -> str:
    """Return a digest over what the items ask, in their order."""
    joined = "".join(item.digest for item in items)
    return hashlib.blake2b(joined.encode(), digest_size=8).hexdigest()
