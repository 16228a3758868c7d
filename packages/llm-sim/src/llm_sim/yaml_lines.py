"""YAML that remembers its lines, so that an error can name them."""

from __future__ import annotations

from typing import Any

import yaml

from llm_sim.errors import ScriptError


class Lines(dict[Any, Any]):
    """A mapping of a YAML file that knows the line of each of its keys, counted from 1."""

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: dict[Any, int] = {}


def load(text: str, *, name: str) -> Any:
    """Read YAML into plain values with `Lines` for mappings; raise ScriptError naming the line."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ScriptError(f"{name}:{line}: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ScriptError(f"{name}: {' '.join(str(error).split())}") from error


class _Loader(yaml.SafeLoader):
    """The safe loader, with line numbers and without silently doubled keys."""


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> Lines:
    loader.flatten_mapping(node)
    mapping = Lines(node.start_mark.line + 1)
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str | int | float | bool | None):
            raise yaml.constructor.ConstructorError(
                None, None, "a key must be a plain value", key_node.start_mark
            )
        if key in mapping:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key!r} appears twice", key_node.start_mark
            )
        mapping.lines[key] = key_node.start_mark.line + 1
        mapping[key] = loader.construct_object(value_node, deep=True)
    return mapping


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)
