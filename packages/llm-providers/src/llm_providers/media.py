"""Images, sound and files on the wire: types told from the bytes, data as base64."""

from __future__ import annotations

import base64
import binascii

from llm_core import FilePart, ImagePart, InvalidValue

__all__ = [
    "as_base64",
    "data_url",
    "file_media_type",
    "from_base64",
    "image_media_type",
]

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"%PDF-", "application/pdf"),
)
"""The first bytes of each format, as its specification gives them."""

_BY_SUFFIX = {
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/markdown",
    "csv": "text/csv",
    "json": "application/json",
    "html": "text/html",
}


def image_media_type(image: ImagePart) -> str:
    """Return the media type that was given, else the one the bytes show; raises InvalidValue if neither."""
    if image.media_type:
        return image.media_type
    found = _detected(image.data or b"")
    if found is None or not found.startswith("image/"):
        raise InvalidValue.of(
            "ImagePart.media_type",
            None,
            "a media type such as 'image/png', as the bytes are of no known image format",
        )
    return found


def file_media_type(file: FilePart) -> str:
    """Return the media type that was given, else by the bytes or the name's ending, else ``text/plain`` for UTF-8 text."""
    if file.media_type:
        return file.media_type
    data = file.data or b""
    suffix = (file.filename or "").rpartition(".")[2].lower()
    found = _detected(data) or _BY_SUFFIX.get(suffix)
    if found is not None:
        return found
    try:
        data.decode()
    except UnicodeDecodeError:
        return "application/octet-stream"
    return "text/plain"


def as_base64(data: bytes) -> str:
    """Return `data` in the standard alphabet with padding, as every vendor takes it."""
    return base64.b64encode(data).decode("ascii")


def from_base64(text: str) -> bytes:
    """Return the bytes of `text`, or none if it is no base64."""
    try:
        return base64.b64decode(text)
    except (binascii.Error, ValueError):
        return b""


def data_url(data: bytes, media_type: str) -> str:
    """Return an RFC 2397 data URL."""
    return f"data:{media_type};base64,{as_base64(data)}"


def _detected(data: bytes) -> str | None:
    for signature, media_type in _SIGNATURES:
        if data.startswith(signature):
            return media_type
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"mif1", b"avif"):
        return "image/avif" if data[8:12] == b"avif" else "image/heic"
    return None
