"""A YAML file as settings that know their lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from llm_core import ConfigurationError, InvalidValue
from llm_service.bounded_file import MEBIBYTE, read_bounded
from llm_service.config.problems import InvalidConfig, Problem
from llm_service.config.tree import Origin, OriginKind, SettingPath, Settings

__all__ = ["read_yaml"]

_DEEPEST = 100
"""How many levels may stand within each other: far more than settings have, and fewer than Python can work with."""

_MOST_BYTES = 4 * MEBIBYTE
_MOST_VALUES = 100_000
"""How many values may be in a file in which every alias is written out: a few lines of aliases can mean billions."""


def read_yaml(path: Path) -> Settings:
    """Read the file, or pipe; keys are taken as they are written, so that `on` and `1` stay names.

    Raises ConfigurationError if it cannot be read, InvalidConfig naming the line if it is no YAML mapping
    or says something twice.
    """
    try:
        text = read_bounded(path, _MOST_BYTES).decode("utf-8-sig")
    except InvalidValue as error:
        raise ConfigurationError(f"{path}: {error}") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: not UTF-8 text (byte {error.start})") from None
    return _Reader(path).read(text)


class _Reader:
    """Turns YAML's nodes into plain values and notes the line of each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._settings = Settings()
        self._open: list[yaml.Node] = []

    def read(self, text: str) -> Settings:
        try:
            self._loader = yaml.SafeLoader(text)
            root = self._loader.get_single_node()
            if root is None:
                return self._settings
            if _count(root, {}) > _MOST_VALUES:
                raise self._error(None, f"its aliases stand for more than {_MOST_VALUES:,} values")
            if not isinstance(root, yaml.MappingNode):
                raise self._error(root, "expected a mapping of settings")
            self._settings.values = self._mapping(root, ())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise self._error(mark, error.problem or str(error.context)) from None
        except yaml.YAMLError as error:
            raise self._error(None, " ".join(str(error).split())) from None
        except RecursionError:
            raise self._error(None, "nested too deeply") from None
        return self._settings

    def _value(self, node: yaml.Node, path: SettingPath) -> Any:
        if node in self._open:
            raise self._error(node, "refers to itself")
        if len(self._open) >= _DEEPEST:
            raise self._error(node, "nested too deeply")
        self._open.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return [self._item(child, (*path, i)) for i, child in enumerate(node.value)]
            return self._scalar(node)
        finally:
            self._open.pop()

    def _scalar(self, node: yaml.Node) -> Any:
        try:
            value = self._loader.construct_object(node, deep=True)
            repr(value)  # a number may be too long to be told
        except yaml.YAMLError:
            raise
        except Exception:  # noqa: BLE001 - PyYAML lets pass whatever int, date and the like raise
            kind = node.tag.rpartition(":")[2]
            raise self._error(node, f"cannot be read as {kind}; in quotes it is text") from None
        return value

    def _item(self, node: yaml.Node, path: SettingPath) -> Any:
        self._settings.origins[path] = self._origin(node)
        return self._value(node, path)

    def _mapping(self, node: yaml.MappingNode, path: SettingPath) -> dict[str, Any]:
        own_keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        self._loader.flatten_mapping(node)
        values: dict[str, Any] = {}
        for key, child in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._error(key, "a key must be a name")
            if own_keys.count(key.value) > 1:
                raise self._error(key, f"key {key.value!r} appears twice")
            below = (*path, key.value)
            self._settings.origins[below] = self._origin(key)
            values[key.value] = self._value(child, below)
        return values

    def _origin(self, node: yaml.Node) -> Origin:
        line = node.start_mark.line + 1
        return Origin(
            kind=OriginKind.FILE,
            place=f"{self._path}:{line}",
            folder=self._path.absolute().parent,
        )

    def _error(self, at: yaml.Node | yaml.Mark | None, message: str) -> InvalidConfig:
        mark = at.start_mark if isinstance(at, yaml.Node) else at
        place = str(self._path) if mark is None else f"{self._path}:{mark.line + 1}"
        return InvalidConfig([Problem(place=place, setting="", message=message)])


def _count(node: yaml.Node, counts: dict[int, int]) -> int:
    """Return how many values there are with every alias written out; one that leads back to itself counts once."""
    if id(node) not in counts:
        counts[id(node)] = 1
        children = (
            [part for pair in node.value for part in pair]
            if isinstance(node, yaml.MappingNode)
            else node.value
        )
        if isinstance(node, yaml.CollectionNode):
            counts[id(node)] += sum(_count(child, counts) for child in children)
    return counts[id(node)]
