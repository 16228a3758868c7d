"""Readers of damaged JSON under one interface, ours among them: `python -m benchmarks.peers.json_readers NAME`."""

from __future__ import annotations

import base64
import pickle
import sys
from collections.abc import Callable
from typing import Any

from benchmarks.peers.worker import Batch, serve

Reader = Callable[[str], Any]


def llm_pipeline() -> Reader:
    from llm_pipeline import convert

    return lambda text: convert(text).value


def llm_pipeline_cut() -> Reader:
    from llm_pipeline import convert

    return lambda text: convert(text, cut=True).value


def json_repair() -> Reader:
    import json_repair

    return json_repair.loads


def fast_json_repair() -> Reader:
    import fast_json_repair

    reader: Reader = fast_json_repair.loads
    return reader


def string2dict() -> Reader:
    from string2dict import String2Dict

    reader = String2Dict()
    # It logs every failure as an error, which is not what is measured.
    reader.logger.disabled = True
    run: Reader = reader.run
    return run


def dirtyjson() -> Reader:
    import dirtyjson

    return lambda text: plain(dirtyjson.loads(text))


def json5() -> Reader:
    import json5

    reader: Reader = json5.loads
    return reader


def partial_json_parser() -> Reader:
    import partial_json_parser

    reader: Reader = partial_json_parser.loads
    return reader


def langchain_core() -> Reader:
    from langchain_core.utils.json import parse_json_markdown

    return parse_json_markdown


def pydantic_core() -> Reader:
    from pydantic_core import from_json

    return lambda text: from_json(text, allow_partial=True)


def standard_library() -> Reader:
    import json

    return json.loads


READERS: dict[str, Callable[[], Reader]] = {
    "llm-pipeline": llm_pipeline,
    "llm-pipeline, cut": llm_pipeline_cut,
    "json-repair": json_repair,
    "fast-json-repair": fast_json_repair,
    "string2dict": string2dict,
    "dirtyjson": dirtyjson,
    "json5": json5,
    "partial-json-parser": partial_json_parser,
    "langchain-core": langchain_core,
    "pydantic-core": pydantic_core,
    "json (standard library)": standard_library,
}


def plain(value: Any) -> Any:
    """Return dirtyjson's own dicts and lists as ordinary ones."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def answers(reader: Reader, texts: list[str]) -> str:
    """Return [value] for each text that is read as a dict or list, and [] for the others; pickled, in base 64.

    Pickled since values may be what JSON has not, such as tuples.
    Whatever a reader raises is its answer that it cannot read the text.
    """
    found: list[Any] = []
    for text in texts:
        try:
            value = reader(text)
        except Exception:  # noqa: BLE001 - other readers may raise anything
            found.append([])
        else:
            found.append([value] if isinstance(value, (dict, list)) else [])
    return base64.b64encode(pickle.dumps(found)).decode()


def reading(reader: Reader, text: str) -> Batch:
    """Return a batch of readings of one text; a failure counts as one as well."""

    async def run(times: int) -> int:
        for _ in range(times):
            try:
                reader(text)
            except Exception:  # noqa: BLE001 - other readers may raise anything
                continue
        return times

    return run


ROW = '{"id": 1, "name": "row with a name", "ok": true, "value": 3.25}'
SMALL = '{"city": "Bern", "zip": "3000", "tags": ["capital", "old town"], "people": 134000}'
TEXTS = {
    "whole": SMALL,
    "fenced": f"Here it is:\n```json\n{SMALL}\n```\nDone.",
    "trailing comma": SMALL[:-1] + ",}",
    "single quotes": SMALL.replace('"', "'"),
    "broken off": "[" + ", ".join([ROW] * 40)[:-20],
    "800 kB broken off": ("[" + f"{ROW}, " * 13_000)[:800_000],
}


if __name__ == "__main__":
    name = sys.argv[1]
    reader = READERS[name]()
    serve(
        {kind: lambda text=text: reading(reader, text) for kind, text in TEXTS.items()},  # type: ignore[misc]
        {"values": lambda texts: answers(reader, texts)},
    )
