"""The libraries that repair, bounded and held against the text.

They are asked last, about short texts only, and nothing that they invent gets through (`evidence.unfounded`).
"""

from __future__ import annotations

import ast
import logging
import warnings
from typing import Any

from llm_pipeline.evidence import NotPlain, plain, unfounded

__all__ = ["LONGEST_REPAIR", "Unrepaired", "by_json_repair", "by_python_literal", "by_string2dict"]

LONGEST_REPAIR = 16_384
"""Characters beyond which the repairers are not asked: json-repair needs up to 0.1 ms for one."""
_MOST_BRACKETS_OPEN = 60
"""Nesting beyond which they are not asked: json-repair and the Python parser recurse."""


class Unrepaired(ValueError):
    """A repairer had no answer, or one that the text does not bear out."""


def by_json_repair(text: str) -> tuple[Any, list[str]]:
    """Return what json-repair makes of `text` and its log, one sentence per repair."""
    _require_tractable(text)
    import json_repair

    try:
        value, log = json_repair.repair_json(
            text, return_objects=True, skip_json_loads=True, logging=True
        )
    except (ValueError, RecursionError, IndexError, TypeError) as error:
        raise Unrepaired(f"{type(error).__name__}: {error}") from error
    return _founded(value, text), [str(entry.get("text", ""))[:120] for entry in log[:20]]


def by_string2dict(text: str) -> Any:
    """Return what string2dict makes of `text`."""
    _require_tractable(text)
    from string2dict import String2Dict

    converter = String2Dict()
    # It logs each failure as an error; here a failure is one rung of many.
    converter.logger = logging.Logger("string2dict.quiet", logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            value = converter.run(text)
    except (ValueError, RecursionError, MemoryError, SyntaxError, TypeError) as error:
        raise Unrepaired(f"{type(error).__name__}: {error}") from error
    return _founded(value, text)


def by_python_literal(text: str) -> Any:
    """Return the dict or list that `text` is as a Python literal; sets, bytes and `...` are refused."""
    _require_tractable(text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(text.strip(), mode="eval")
            _require_distinct_keys(tree)
            value = ast.literal_eval(tree)
        value = plain(value)
    except (ValueError, RecursionError, MemoryError, SyntaxError, TypeError) as error:
        raise Unrepaired(f"{type(error).__name__}: {error}") from error
    if not isinstance(value, (dict, list)):
        raise Unrepaired("no dict or list")
    return value


def _require_distinct_keys(tree: ast.AST) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            keys = [ast.dump(key) for key in node.keys if key is not None]
            if len(keys) != len(set(keys)):
                raise NotPlain("duplicate keys")


def _require_tractable(text: str) -> None:
    if len(text) > LONGEST_REPAIR:
        raise Unrepaired(f"longer than {LONGEST_REPAIR} characters")
    deepest = depth = 0
    for char in text:
        if char in "{[(":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "}])":
            depth = max(depth - 1, 0)
    if deepest > _MOST_BRACKETS_OPEN:
        raise Unrepaired(f"nested deeper than {_MOST_BRACKETS_OPEN} levels")


def _founded(value: Any, text: str) -> Any:
    try:
        value = plain(value)
    except NotPlain as error:
        raise Unrepaired(str(error)) from error
    if not isinstance(value, (dict, list)) or not value:
        raise Unrepaired("no dict or list in it")
    invented = unfounded(value, text)
    if invented is not None:
        raise Unrepaired(f"{invented} is not in the text")
    return value
