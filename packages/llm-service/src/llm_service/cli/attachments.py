"""What a command line hands to a model besides its words: images, schemas, piped text."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from llm_core import ImagePart, InvalidValue, ResponseSchema
from llm_pipeline import JsonSchemaValidation
from llm_providers.media import image_media_type
from llm_service.bounded_file import MEBIBYTE, read_bounded

__all__ = ["read_image", "read_piped", "read_schema"]

_MOST_IMAGE_BYTES = 64 * MEBIBYTE
_MOST_SCHEMA_BYTES = 16 * MEBIBYTE


def read_image(source: str) -> ImagePart:
    """Return the image at a path or URL; a ClickException for a file that cannot be read or is none."""
    if re.match(r"https?://|data:", source):
        return ImagePart(url=source)
    if not source:
        raise click.UsageError("--image: got '', expected a file or URL")
    data = _read(Path(source), _MOST_IMAGE_BYTES)
    if not data:
        raise click.ClickException(f"{source}: an empty file, expected an image")
    image = ImagePart(data=data)
    try:
        return ImagePart(data=data, media_type=image_media_type(image))
    except InvalidValue:
        raise click.ClickException(
            f"{source}: not an image; expected PNG, JPEG, GIF, WebP or another known format"
        ) from None


def read_schema(path: Path) -> ResponseSchema:
    """Return the JSON Schema in a file, named by its title or its file name; a ClickException for what is none."""
    try:
        schema: Any = json.loads(_read(path, _MOST_SCHEMA_BYTES).decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise click.ClickException(
            f"--schema {path}: not UTF-8 text (byte {error.start})"
        ) from None
    except (ValueError, RecursionError) as error:
        raise click.ClickException(f"--schema {path}: not JSON: {error}") from None
    if not isinstance(schema, dict) or not schema:
        raise click.ClickException(
            f"--schema {path}: expected a JSON Schema, an object such as "
            '{"type": "object", "properties": …}'
        )
    title = str(schema.get("title") or path.stem)
    name = re.sub(r"[^a-zA-Z0-9_-]+", "_", title)[:64].strip("_") or "answer"
    try:
        JsonSchemaValidation(schema=schema)
        return ResponseSchema(name=name, json_schema=schema)
    except InvalidValue as error:
        raise click.ClickException(f"--schema {path}: {_fault(error)}") from None


def read_piped(advice: str = "") -> str:
    """Return the text on standard input; a ClickException, which ends with `advice`, for what is no text."""
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        place = f"standard input: not UTF-8 text (byte {error.start})"
        raise click.ClickException(f"{place}{advice}") from None
    except OSError as error:
        raise click.ClickException(f"standard input: cannot be read: {error.strerror}") from None


def _fault(error: InvalidValue) -> str:
    """Return what is wrong in a schema, and where, without the step that found it."""
    violation = error.details.get("violation")
    if not isinstance(violation, Mapping):
        return str(error)
    return f"no JSON Schema: {violation['path']}: {violation['message']}"


def _read(path: Path, most_bytes: int) -> bytes:
    try:
        return read_bounded(path, most_bytes)
    except FileNotFoundError:
        raise click.ClickException(f"{path}: no such file") from None
    except OSError as error:
        raise click.ClickException(f"{path}: cannot be read: {error.strerror}") from None
    except InvalidValue as error:
        raise click.ClickException(f"{path}: {error}") from None
