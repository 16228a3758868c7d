"""The declarative form of pipelines: lists of names and parameters, as data or YAML."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llm_core import ConfigurationError, InvalidValue, MissingDependencyError
from llm_pipeline.registry import installed_names, installed_step, named_classes

__all__ = ["read_steps", "write_step"]

Position = tuple[str | int, ...]
"""Where in the configuration: keys and indices from the top."""


_FILE_NAME = re.compile(r"[^\s:{}\[\]][^\n:{}\[\]]*\.(?:ya?ml|json)")


class _Misplaced(ConfigurationError):
    """A fault of the configuration and its position."""

    def __init__(self, message: str, position: Position) -> None:
        super().__init__(message)
        self.position = position


def read_steps(
    config: Any,
    *,
    classes: Mapping[str, Any] | Iterable[type[Any]] = (),
    names: Mapping[str, Any],
) -> list[Any]:
    """Build the steps that `config` describes; raises ConfigurationError with position and closest name."""
    text: str | None = None
    if isinstance(config, Path):
        try:
            text = config.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"pipeline: cannot read {str(config)!r}: {error}") from error
    elif isinstance(config, str):
        text = config
        if _FILE_NAME.fullmatch(config):
            raise ConfigurationError(
                f"pipeline: got the text {config!r}, expected YAML; for a file pass pathlib.Path({config!r})"
            )
    data = config if text is None else _loaded(text)
    try:
        return _Reader(named_classes(classes), names).steps(data, ())
    except _Misplaced as fault:
        line = "" if text is None else _line_of(text, fault.position)
        raise ConfigurationError(
            f"{_shown(fault.position)}{line}: {fault}",
            details={"position": list(fault.position), "fault": str(fault)},
        ) from fault.__cause__
    except RecursionError:
        raise ConfigurationError(
            "pipeline: nested too deeply; does a YAML alias lead back to itself?"
        ) from None


def write_step(step: Any) -> Any:
    """Return one step's declarative form; raises ConfigurationError for a step that has none."""
    to_config = getattr(step, "to_config", None)
    if callable(to_config):
        return to_config()
    raise ConfigurationError(
        f"step {step.name!r}: has no declarative form; derive {type(step).__name__} from llm_pipeline.Step, "
        "or give it a to_config method"
    )


@dataclasses.dataclass(slots=True)
class _Reader:
    classes: dict[str, type[Any]]
    names: Mapping[str, Any]

    def steps(self, data: Any, position: Position) -> list[Any]:
        """Read a list of steps; a single step stands for a list of one."""
        if isinstance(data, (str, Mapping)):
            return [self.step(data, position)]
        if not isinstance(data, Sequence) or isinstance(data, bytes):
            raise _Misplaced(f"got {data!r:.80}, expected a list of steps", position)
        return [self.step(item, (*position, i)) for i, item in enumerate(data)]

    def step(self, data: Any, position: Position) -> Any:
        """Read one step: a name, or a mapping from its name to its parameters."""
        if isinstance(data, str):
            return self._built(data, {}, position)
        if not isinstance(data, Mapping):
            if hasattr(data, "run") or callable(data):
                return data
            raise _Misplaced(
                f"got {data!r:.80}, expected a step's name, or name: parameters", position
            )
        if len(data) != 1:
            found = ", ".join(map(repr, data)) or "nothing"
            raise _Misplaced(f"got {found}, expected one step's name with its parameters", position)
        [(name, parameters)] = data.items()
        return self._built(str(name), parameters, (*position, str(name)))

    def _built(self, name: str, parameters: Any, position: Position) -> Any:
        cls = self.classes.get(name) or installed_step(name)
        if cls is None:
            if name in self.names:
                return self.names[name]
            known = sorted({*self.classes, *self.names, *installed_names()})
            raise _Misplaced(f"no step is called {name!r}{_closest(name, known)}", position)
        known_parameters = _parameters_of(cls)
        if parameters is None:
            parameters = {}
        elif not isinstance(parameters, Mapping) or not parameters.keys() & known_parameters.keys():
            parameters = self._positional(cls, parameters, position)
        given = {}
        for key, value in parameters.items():
            if key not in known_parameters:
                hint = _closest(str(key), list(known_parameters))
                raise _Misplaced(f"{name} has no parameter {key!r}{hint}", (*position, str(key)))
            given[key] = self._value(value, known_parameters[key], (*position, key))
        try:
            return cls(**given)
        except InvalidValue as error:
            raise _Misplaced(str(error), position) from error
        except TypeError as error:
            missing = [repr(key) for key in _required_of(cls) if key not in given]
            fault = f"missing {', '.join(missing)}" if missing else str(error)
            raise _Misplaced(f"{name}: {fault}", position) from error

    def _positional(self, cls: type[Any], value: Any, position: Position) -> Mapping[str, Any]:
        name = getattr(cls, "positional", "")
        if not name:
            if isinstance(value, Mapping):
                return value
            raise _Misplaced(f"got {value!r:.80}, expected parameters by name", position)
        if isinstance(value, Mapping) and name not in ("schema", "steps", "alternatives"):
            return value
        if name == "schema" and not _like_a_schema(value):
            return value if isinstance(value, Mapping) else {name: value}
        return {name: value}

    def _value(self, value: Any, metadata: Mapping[str, Any], position: Position) -> Any:
        if metadata.get("named") and isinstance(value, str):
            if value in self.names:
                return self.names[value]
            if not metadata.get("steps"):
                hint = _closest(value, list(self.names))
                raise _Misplaced(f"no function or model is named {value!r}{hint}", position)
        if metadata.get("steps") == "each":
            if not isinstance(value, Sequence) or isinstance(value, str):
                raise _Misplaced(f"got {value!r:.80}, expected a list of alternatives", position)
            return [self.steps(item, (*position, i)) for i, item in enumerate(value)]
        if metadata.get("steps"):
            return self.steps(value, position)
        return value


def _like_a_schema(value: Any) -> bool:
    keys = {
        "type",
        "properties",
        "items",
        "anyOf",
        "allOf",
        "oneOf",
        "enum",
        "const",
        "$ref",
        "$schema",
    }
    return isinstance(value, Mapping) and bool(keys & value.keys())


def _parameters_of(cls: type[Any]) -> dict[str, Mapping[str, Any]]:
    """Return a step class's parameters with their metadata."""
    if dataclasses.is_dataclass(cls):
        return {f.name: f.metadata for f in dataclasses.fields(cls) if f.init}
    return {key: {} for key in inspect.signature(cls).parameters}


def _required_of(cls: type[Any]) -> list[str]:
    """Return the parameters that a step class cannot do without."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(cls).parameters.values()
    return [p.name for p in parameters if p.default is p.empty and p.kind in named]


def _closest(name: str, known: list[str]) -> str:
    lowered = {each.lower(): each for each in known}
    close = difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.5)
    if close:
        return f"; did you mean {lowered[close[0]]!r}?"
    return f"; known are {', '.join(sorted(known))}" if known else ""


def _shown(position: Position) -> str:
    shown = "pipeline"
    for part in position:
        shown += f"[{part}]" if isinstance(part, int) else f".{part}"
    return shown


def _yaml() -> Any:
    try:
        import yaml
    except ImportError as error:
        raise MissingDependencyError(
            "pipelines in YAML need PyYAML: install the extra llm-pipeline[yaml]"
        ) from error
    return yaml


def _loaded(text: str) -> Any:
    yaml = _yaml()
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"pipeline: no YAML: {error}") from error


def _line_of(text: str, position: Position) -> str:
    """Return where `position` stands in the YAML text, as ``, line 3``; empty if it cannot be told."""
    yaml = _yaml()
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if node is None:
        return ""
    line = node.start_mark.line
    for part in position:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == part:
                    line, node = key.start_mark.line, value
                    break
    return f" (line {line + 1})"
