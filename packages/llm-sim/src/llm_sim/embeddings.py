"""Embeddings: `POST /v1/embeddings` of OpenAI, `/api/embed` and `/api/embeddings` of Ollama.

The vectors are made of the words (feature hashing): equal texts are equal, texts that share words
are near, texts that share none are about orthogonal. All have length 1.
"""

from __future__ import annotations

import base64
import math
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from llm_sim import ollama_wire, openai_wire
from llm_sim.exchange import Ask, Chunk, Reply, Request, Stamp
from llm_sim.fields import Fields, dump
from llm_sim.wire import JSON

_OPENAI_FIELDS = frozenset(["dimensions", "encoding_format", "input", "model", "user"])
_OPENAI_DIMENSIONS = {"text-embedding-3-large": 3072}
_OPENAI_DEFAULT_DIMENSIONS = 1536
_OLLAMA_DIMENSIONS = 768
_MOST_DIMENSIONS = 4096
_MOST_INPUTS = 2048
"""OpenAI: "any array must be 2048 dimensions or less"."""

_WORD = re.compile(r"\w+")


def embed(text: str, dimensions: int) -> list[float]:
    """Make the vector of a text."""
    vector = [0.0] * dimensions
    for word in _WORD.findall(text.lower()) or [text]:
        number = zlib.crc32(word.encode("utf-8", "replace"))
        vector[number % dimensions] += 1.0 if number & 0x8000_0000 else -1.0
    length = math.sqrt(sum(value * value for value in vector))
    if not length:  # words that cancelled each other out
        vector[0] = length = 1.0
    return [value / length for value in vector]


class OpenAIEmbeddings:
    """`POST /v1/embeddings`."""

    def read(self, request: Request) -> Ask:
        """Read a request; raise Refusal as the vendor does."""
        fields = Fields(openai_wire.read_json(request.body), openai_wire.WORDING)
        fields.known(_OPENAI_FIELDS)
        model = fields.text("model")
        fields.count("dimensions", most=_MOST_DIMENSIONS)
        form = fields.body.get("encoding_format", "float")
        if form not in ("float", "base64"):
            raise openai_wire.refuse(
                f"Invalid value: '{form}'. Supported values are: 'float' and 'base64'.",
                "encoding_format",
                "value",
            )
        return Ask(
            operation="embeddings",
            model=model,
            texts=_texts(fields.body.get("input")),
            user_text="",
            silent=True,
            cache_marks=(),
            body=fields.body,
        )

    def content_type(self, ask: Ask) -> bytes:
        """Name the media type of the answer."""
        return JSON

    def render(self, ask: Ask, reply: Reply, stamp: Stamp) -> bytes:
        """Write the vectors."""
        default = _OPENAI_DIMENSIONS.get(ask.model, _OPENAI_DEFAULT_DIMENSIONS)
        dimensions = ask.body.get("dimensions") or default
        packed = ask.body.get("encoding_format") == "base64"
        data = []
        for index, text in enumerate(ask.texts):
            vector: Any = embed(text, dimensions)
            if packed:
                vector = base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode()
            data.append({"object": "embedding", "index": index, "embedding": vector})
        count = reply.usage.input_tokens
        usage = {"prompt_tokens": count, "total_tokens": count}
        return dump({"object": "list", "data": data, "model": ask.model, "usage": usage})

    def stream(self, ask: Ask, reply: Reply, stamp: Stamp) -> Iterator[Chunk]:
        """Write nothing: vectors are not streamed."""
        return iter(())

    def error_event(self, message: str) -> bytes:
        """Write nothing, for the same reason."""
        return b""


class OllamaEmbed(OpenAIEmbeddings):
    """`POST /api/embed`."""

    def read(self, request: Request) -> Ask:
        """Read a request; several inputs or one."""
        fields = Fields(ollama_wire.read_json(request.body), ollama_wire.WORDING)
        if not fields.body.get("model"):
            raise ollama_wire.refuse("model is required")
        fields.count("dimensions", most=_MOST_DIMENSIONS)
        return self._ask(fields, fields.words("input"))

    def render(self, ask: Ask, reply: Reply, stamp: Stamp) -> bytes:
        """Write the vectors."""
        dimensions = ask.body.get("dimensions") or _OLLAMA_DIMENSIONS
        vectors = [embed(text, dimensions) for text in ask.texts]
        return dump(
            {
                "model": ask.model,
                "embeddings": vectors,
                "total_duration": 1_000_000,
                "load_duration": 500_000,
                "prompt_eval_count": reply.usage.input_tokens,
            }
        )

    def _ask(self, fields: Fields, texts: tuple[str, ...]) -> Ask:
        return Ask(
            operation="embed",
            model=fields.text("model"),
            texts=texts,
            user_text="",
            silent=True,
            cache_marks=(),
            body=fields.body,
        )


class OllamaEmbeddings(OllamaEmbed):
    """`POST /api/embeddings`, the older form for one text."""

    def read(self, request: Request) -> Ask:
        """Read a request."""
        fields = Fields(ollama_wire.read_json(request.body), ollama_wire.WORDING)
        if not fields.body.get("model"):
            raise ollama_wire.refuse("model is required")
        return self._ask(fields, fields.words("prompt"))

    def render(self, ask: Ask, reply: Reply, stamp: Stamp) -> bytes:
        """Write the vector."""
        vector = embed(ask.texts[0], _OLLAMA_DIMENSIONS) if ask.texts else []
        return dump({"embedding": vector})


def _texts(given: Any) -> tuple[str, ...]:
    """Read OpenAI's input: a text, several, or tokens, which stand for words."""
    if isinstance(given, str):
        items: list[Any] = [given]
    elif isinstance(given, list) and given and all(isinstance(n, int) for n in given):
        items = [given]
    elif isinstance(given, list):
        items = given
    else:
        raise openai_wire.refuse(
            "'$.input' is invalid. Please check the API reference.", "input", "value"
        )
    if not 1 <= len(items) <= _MOST_INPUTS:
        raise openai_wire.refuse(
            f"Invalid 'input': array of 1 to {_MOST_INPUTS} items expected, got {len(items)}.",
            "input",
            "value",
        )
    texts = []
    for place, item in enumerate(items):
        if isinstance(item, list) and item and all(isinstance(n, int) for n in item):
            item = " ".join(f"t{number}" for number in item)
        if not isinstance(item, str) or not item:
            raise openai_wire.refuse(
                "'$.input' is invalid. Please check the API reference.", f"input[{place}]", "value"
            )
        texts.append(item)
    return tuple(texts)
