"""Reading multipart forms: uploads and the fields beside them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llm_sim import openai_wire as wire
from llm_sim.exchange import Request
from llm_sim.fields import Fields


@dataclass(frozen=True, slots=True)
class Upload:
    """A file in a form."""

    filename: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of a form; those named `name[]` are lists."""

    fields: Mapping[str, Any]
    uploads: Mapping[str, Upload] = field(default_factory=dict)

    def upload(self, name: str) -> Upload:
        """Return a file that must be there."""
        if name not in self.uploads:
            raise wire.WORDING.missing(name)
        return self.uploads[name]

    def checked(self) -> Fields:
        """Return the fields for reading one by one."""
        return Fields(dict(self.fields), wire.WORDING)


def read_form(request: Request) -> Form:
    """Read a multipart form; refuse anything else."""
    from python_multipart import parse_form
    from python_multipart.exceptions import FormParserError

    fields: dict[str, Any] = {}
    uploads: dict[str, Upload] = {}

    def on_field(part: Any) -> None:
        name = part.field_name.decode("utf-8", "replace")
        value = (part.value or b"").decode("utf-8", "replace")
        if name.endswith("[]"):
            fields.setdefault(name[:-2], []).append(value)
        else:
            fields[name] = value

    def on_file(part: Any) -> None:
        part.file_object.seek(0)
        name = (part.file_name or b"").decode("utf-8", "replace")
        uploads[part.field_name.decode()] = Upload(name, part.file_object.read())

    content_type = request.headers.get(b"content-type", b"")
    if not content_type.startswith(b"multipart/form-data"):
        raise wire.refuse(
            "Invalid content type: a request with Content-Type 'multipart/form-data' is expected.",
            None,
            "type",
        )
    headers = {"Content-Type": content_type}
    try:
        parse_form(headers, io.BytesIO(request.body), on_field, on_file)
    except FormParserError as error:
        raise wire.refuse(f"Could not parse multipart form: {error}", None, "value") from error
    return Form(fields, uploads)
