"""Reading a file of requests as a stream: JSON lines or CSV, one line in memory at a time."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

import click

from llm_core import GenerationRequest, InvalidValue, Value, immutable
from llm_service.cli.row import TextTemplate, request_fields, spread_columns

__all__ = ["LINES_AT_ONCE", "FileFormat", "Item", "RequestFile", "reading"]

FileFormat = Literal["jsonl", "csv"]

LINES_AT_ONCE = 1_000
"""How many lines a loop may read before it looks for signals again: some ten milliseconds."""

_BOM = "\ufeff"


@immutable
class Item(Value):
    """One request of a file, and how to know it again."""

    line: int
    """Where it begins in the file, counted from 1."""
    digest: str
    """Eight bytes in hexadecimal over the line and the settings that change what is asked."""
    request: GenerationRequest
    """Its `metadata` tells `input_line` and `input_hash`, and so does every result."""


class RequestFile:
    """A file of requests; iterating reads it from the start, as often as wanted, in constant memory.

    JSON lines hold one object a line with the fields of `GenerationRequest`; blank lines are skipped.
    In CSV (and tab-separated text) each column is such a field, see `row.spread_columns`.
    With `template` the user's text is made of it, and columns that are no fields go to `metadata`.
    `settings` are whatever else decides what is asked, such as the model: part of every digest.

    Iterating raises click.ClickException, one line naming file and line, for a file that cannot be read,
    a line that is no JSON object, or an object that is no request.
    """

    def __init__(
        self,
        path: Path,
        *,
        file_format: FileFormat | None = None,
        template: str | None = None,
        settings: str = "",
    ) -> None:
        self.path = path
        tabular = path.suffix.lower() in (".csv", ".tsv", ".tab")
        self._format = file_format or ("csv" if tabular else "jsonl")
        self._template = TextTemplate(template) if template is not None else None
        self._salt = "\0".join((settings, template or "")).encode(errors="surrogateescape")

    def __iter__(self) -> Iterator[Item]:
        rows = self._csv_rows() if self._format == "csv" else self._json_rows()
        empty = True
        for line, content, data in rows:
            empty = False
            yield self._item(line, content, data)
        if empty:
            kind = "a header and rows" if self._format == "csv" else "one JSON object a line"
            raise click.ClickException(f"{self.path}: holds no requests, expected {kind}")

    def _item(self, line: int, content: str, data: Mapping[str, Any]) -> Item:
        digest = hashlib.blake2b(content.encode(), digest_size=8, key=_key(self._salt)).hexdigest()
        try:
            fields = request_fields(data, self._template)
            metadata = fields.get("metadata") or {}
            if isinstance(metadata, Mapping):
                fields["metadata"] = {**metadata, "input_line": line, "input_hash": digest}
            request = GenerationRequest.from_dict(fields)
        except InvalidValue as error:
            raise click.ClickException(f"{self.path}:{line}: {error}") from None
        return Item(line=line, digest=digest, request=request)

    def _json_rows(self) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
        for number, line in enumerate(self._lines(), 1):
            text = line.strip()
            if text:
                yield number, text, self._parse(text, number)

    def _parse(self, text: str, number: int) -> Mapping[str, Any]:
        place = f"{self.path}:{number}"
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise click.ClickException(f"{place}: not JSON: {error}") from None
        if not isinstance(data, dict):
            raise click.ClickException(f"{place}: got {text[:40]}, expected a JSON object")
        return data

    def _csv_rows(self) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
        # The module's limit of 128 KiB a cell is for untrusted input; a prompt may be longer.
        csv.field_size_limit(2**31 - 1)
        lines = self._lines()
        first = next(lines, "")
        reader = csv.reader(_chain(first, lines), delimiter=self._delimiter(first), strict=True)
        number = 1
        header: list[str] = []
        try:
            for row in reader:
                start, number = number, reader.line_num + 1
                if not header:
                    header = self._header(row)
                elif row:
                    yield start, "\x1f".join((*header, *row)), self._cells(header, row, start)
        except csv.Error as error:
            raise click.ClickException(f"{self.path}:{number}: not CSV: {error}") from None

    def _header(self, row: list[str]) -> list[str]:
        names = [name.strip() for name in row]
        place = f"{self.path}:1"
        if not all(names):
            raise click.ClickException(f"{place}: a column without a name in the header")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise click.ClickException(f"{place}: two columns are called {twice!r}")
        return names

    def _cells(self, header: list[str], row: list[str], line: int) -> Mapping[str, Any]:
        if len(row) != len(header):
            counts = f"cells: got {len(row)}, expected {len(header)} as in the header"
            raise click.ClickException(f"{self.path}:{line}: {counts}")
        try:
            return spread_columns(dict(zip(header, row, strict=True)))
        except InvalidValue as error:
            raise click.ClickException(f"{self.path}:{line}: {error}") from None

    def _delimiter(self, header: str) -> str:
        if self.path.suffix.lower() in (".tsv", ".tab"):
            return "\t"
        # Spreadsheets write semicolons where the comma is the decimal sign.
        return ";" if ";" in header and "," not in header else ","

    def _lines(self) -> Iterator[str]:
        """Yield the lines with their ends; only line feeds end one, as U+2028 may stand in JSON."""
        with reading(self.path) as stream:
            for number, line in enumerate(stream, 1):
                try:
                    text = line.decode("utf-8")
                except UnicodeDecodeError as error:
                    place = f"{self.path}:{number}"
                    raise click.ClickException(
                        f"{place}: not UTF-8 text (byte {error.start})"
                    ) from None
                yield text.removeprefix(_BOM) if number == 1 else text


@contextmanager
def reading(path: Path) -> Iterator[IO[bytes]]:
    """Open the file at `path` to read bytes; what fails in doing so is a click.ClickException that names it."""
    try:
        with path.open("rb") as stream:
            yield stream
    except FileNotFoundError:
        raise click.ClickException(f"{path}: no such file") from None
    except OSError as error:
        raise click.ClickException(f"{path}: cannot be read: {error.strerror}") from None


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    if first:
        yield first
    yield from rest


def _key(salt: bytes) -> bytes:
    """Return a key for blake2b, which takes up to 64 bytes."""
    return salt if len(salt) <= 64 else hashlib.blake2b(salt, digest_size=32).digest()
