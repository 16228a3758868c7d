"""The parts of the reference that are read out of the packages while the site is built.

A page says where they go by a comment, which a code-hosting page does not show:

    <!-- contents: tutorial how-to/* -->  the pages below this one, for the menu
    <!-- face: llm_gates -->              every name of a module's `__all__`, by where it stands
    <!-- commands: llm-sim llm_sim.cli:main -->
    <!-- errors -->                       the error table
    <!-- configuration -->                every key of the configuration file
"""

from __future__ import annotations

import ast
import enum
import importlib
import inspect
import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

MARKER = re.compile(
    r"^<!-- (contents|face|commands|errors|configuration):? ?(.*?) -->$", re.MULTILINE
)


def fill_in(page: str) -> str:
    """Return the Markdown of `page` with what its comments ask for in their place."""
    return MARKER.sub(lambda found: "\n".join(_WRITERS[found[1]](*shlex.split(found[2]))), page)


def _rst(*lines: str) -> str:
    return "\n".join(["", "```{eval-rst}", *lines, "```", ""])


def write_contents(*pages: str) -> Iterator[str]:
    """Yield the pages that the menu shows below this one."""
    yield _rst(".. toctree::", "   :hidden:", "   :glob:", "", *(f"   {page}" for page in pages))


def write_face(name: str) -> Iterator[str]:
    """Yield an entry for every name of `__all__`, under the module that the package takes it from."""
    module = importlib.import_module(name)
    homes = _homes(module)
    depth = "###" if "." in name else "##"
    by_home: dict[str, list[str]] = {}
    for public in module.__all__:
        by_home.setdefault(_home_of(module, public, homes), []).append(public)
    for home, names in sorted(by_home.items()):
        if len(by_home) > 1:
            yield f"\n{depth} {home.rpartition('.')[2].strip('_').replace('_', ' ').capitalize()}\n"
        for public in names:
            yield _entry(module, home, public)


def _homes(module: ModuleType) -> dict[str, str]:
    """Return the module that each name is imported from, by the import statements, lazy ones included."""
    tree = ast.parse(Path(inspect.getfile(module)).read_bytes())
    return {
        alias.asname or alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


def _home_of(module: ModuleType, name: str, imported_from: Mapping[str, str]) -> str:
    value = getattr(module, name)
    return value.__name__ if inspect.ismodule(value) else imported_from.get(name, module.__name__)


def _entry(module: ModuleType, home: str, name: str) -> str:
    value = getattr(module, name)
    if inspect.ismodule(value):
        return _rst(f".. automodule:: {value.__name__}", "   :members:")
    if inspect.isclass(value):
        plain = enum.Enum in value.__mro__ or value.__bases__ == (object,)
        bases = () if plain else ("   :show-inheritance:",)
        return _rst(f".. autoclass:: {module.__name__}.{name}", "   :members:", *bases)
    if inspect.isroutine(value):
        return _rst(f".. autofunction:: {module.__name__}.{name}")
    return _rst(f".. autodata:: {home}.{name}", "   :no-value:")


def write_commands(program: str, place: str) -> Iterator[str]:
    """Yield the help of every command of a click program."""
    yield _rst(f".. click:: {place}", f"   :prog: {program}", "   :nested: full")


def write_errors() -> Iterator[str]:
    """Yield the error table of llm-core with what each type means."""
    from sphinx.pycode import ModuleAnalyzer

    from llm_core import ERROR_TABLE, ErrorType

    meanings = ModuleAnalyzer.for_module("llm_core.error_types").find_attr_docs()
    yield "| `ErrorType` | meaning | retried | trips the breaker | may fall back | used up quota |"
    yield "|---|---|---|---|---|---|"
    for kind, traits in ERROR_TABLE.items():
        meaning = " ".join(meanings[ErrorType.__name__, kind.name]).strip()
        answers = (
            traits.retryable,
            traits.trips_breaker,
            traits.may_fall_back,
            traits.consumes_quota,
        )
        yield _row(f"`{kind}`", meaning, *("yes" if answer else "" for answer in answers))
    yield ""


def write_configuration() -> Iterator[str]:
    """Yield a table for each part of the configuration file."""
    from llm_service.config import ServiceConfig

    schema = ServiceConfig.model_json_schema()
    parts: Mapping[str, Any] = schema["$defs"]
    yield from _write_part("The file", schema, parts)
    for name, part in parts.items():
        if "properties" in part:
            yield from _write_part(name, part, parts)


def _write_part(name: str, part: Mapping[str, Any], parts: Mapping[str, Any]) -> Iterator[str]:
    yield f"\n## {name}\n"
    yield f"{part.get('description', '')}\n"
    yield "| key | value | default | meaning |"
    yield "|---|---|---|---|"
    for key, field in part["properties"].items():
        default = field.get("default")
        plain = isinstance(default, str | int | float)
        meaning = field.get("description") or _named_part(field, parts).get("description", "")
        yield _row(
            f"`{key}`",
            _kind(field, parts),
            f"`{json.dumps(default)}`" if plain else "",
            " ".join(meaning.split()),
        )
    yield ""


def _named_part(field: Mapping[str, Any], parts: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part that a key holds, or nothing if it holds no part."""
    choices = [field, *field.get("anyOf", ())]
    names = [choice["$ref"].rpartition("/")[2] for choice in choices if "$ref" in choice]
    return parts[names[0]] if names else {}


def _kind(field: Mapping[str, Any], parts: Mapping[str, Any]) -> str:
    """Return in words what a key's value may be."""
    if place := field.get("$ref"):
        name = place.rpartition("/")[2]
        if "properties" in parts[name]:
            return f"[{name}](#{name.lower()})"
        return _kind(parts[name], parts)
    if choices := field.get("anyOf"):
        kinds = [_kind(choice, parts) for choice in choices if choice.get("type") != "null"]
        return " or ".join(kinds)
    if values := field.get("enum"):
        return ", ".join(f"`{value}`" for value in values)
    kind = str(field.get("type", "anything"))
    if kind == "array":
        return f"list of {_kind(field.get('items', {}), parts)}"
    if kind == "object" and isinstance(field.get("additionalProperties"), Mapping):
        return f"mapping of names to {_kind(field['additionalProperties'], parts)}"
    bounds = {
        "gt": ">",
        "exclusiveMinimum": ">",
        "ge": "≥",
        "minimum": "≥",
        "le": "≤",
        "maximum": "≤",
    }
    limits = [f"{sign} {field[word]}" for word, sign in bounds.items() if word in field]
    return ", ".join([kind, *limits])


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


_WRITERS: Mapping[str, Callable[..., Iterator[str]]] = {
    "contents": write_contents,
    "face": write_face,
    "commands": write_commands,
    "errors": write_errors,
    "configuration": write_configuration,
}
