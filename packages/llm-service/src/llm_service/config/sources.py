"""Where settings come from: a YAML file, the environment, `.env` and arguments, each going before the last."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from llm_core import Value, immutable
from llm_service.config.model import ServiceConfig
from llm_service.config.problems import InvalidConfig, Problem, problems_of
from llm_service.config.secrets import SecretReader
from llm_service.config.shape import SHORT_NAMES, field_names
from llm_service.config.soundness import unsound
from llm_service.config.tree import Origin, OriginKind, SettingPath, Settings, dotted
from llm_service.config.yaml_file import read_yaml
from llm_service.environment import env_file_values

__all__ = ["LoadedConfig", "find_config", "load_config"]

PREFIX = "LLM_SERVICE_"

# Not settings: the file's own place, and what Kubernetes sets for a service called `llm` or `llm-service`.
_FOREIGN = re.compile(r"CONFIG|(SERVICE_)?(HOST|PORT(_.+)?)")

_MOST_ROUNDS = 3
"""How often what is malformed is taken away to look at the rest: a section's own rules hold after its settings'."""

_DEFAULT_FILES = ("llm-service.yaml", "llm-service.yml")


@immutable
class LoadedConfig(Value):
    """A configuration and its origins."""

    config: ServiceConfig
    settings: Settings
    """What was given, before it was checked, with the origin of each value."""
    secrets: SecretReader
    files: tuple[Path, ...]
    """The files that it was made from, and those that it names: what to watch for changes."""


def find_config(
    environ: Mapping[str, str] | None = None, *, folder: Path | None = None
) -> Path | None:
    """Return the file that LLM_SERVICE_CONFIG names, else `llm-service.yaml` in `folder`, else None."""
    named = (os.environ if environ is None else environ).get(f"{PREFIX}CONFIG")
    if named:
        return Path(named)
    places = [(folder or Path()) / name for name in _DEFAULT_FILES]
    return next((place for place in places if place.is_file()), None)


def load_config(
    path: str | Path | None = None,
    *,
    env_file: str | Path | None = ".env",
    environ: Mapping[str, str] | None = None,
    arguments: Mapping[str, Any] | None = None,
    own_models: bool = False,
) -> LoadedConfig:
    """Read the settings; what comes later in this list goes before what comes earlier.

    The YAML file at `path`; the variables of `environ` (None: those of this process) that begin with ``LLM_SERVICE_``,
    levels parted by ``__``, such as ``LLM_SERVICE_LIMITS__MAX_RPM``; the same from `env_file` if it is there;
    `arguments`, nested or with levels parted by ``__`` as well. With `own_models` the program brings a provider or
    registry of its own, and models are not looked for among those that are known here.

    Raises InvalidConfig with every problem found, each naming line, variable or argument.
    """
    variables = dict(os.environ if environ is None else environ)
    from_env_file = _read_env_file(env_file)
    settings = Settings() if path is None else read_yaml(Path(path))
    problems = _put_variables(settings, variables, OriginKind.VARIABLE, "")
    problems += _put_variables(settings, from_env_file, OriginKind.ENV_FILE, f" in {env_file}")
    _put_arguments(settings, arguments or {})
    _anchor_paths(settings)
    config, faults = _checked(settings, with_models=not own_models)
    problems += faults
    if problems:
        raise InvalidConfig(problems)
    files = [Path(path)] if path is not None else []
    files += [config.prices.overrides] if config.prices.overrides is not None else []
    return LoadedConfig(
        config=config,
        settings=settings,
        secrets=SecretReader(from_env_file, environ=environ),
        files=tuple(files),
    )


def _checked(settings: Settings, *, with_models: bool) -> tuple[ServiceConfig, list[Problem]]:
    """Return the configuration and all that is wrong with it; of what is malformed, without that.

    Raises nothing: pydantic's own text could show a secret in the wrong place, also as the cause in a traceback.
    """
    try:
        config = ServiceConfig.model_validate(settings.values)
    except ValidationError as error:
        problems = problems_of(error, settings)
        sound, left_out = _without_faults(settings.values, error)
        problems += [
            problem
            for problem in unsound(sound, settings, with_models=with_models)
            # What is not there because it was malformed is not missing.
            if not any(problem.setting.startswith(dotted(path)) for path in left_out)
        ]
        return sound, problems
    return config, unsound(config, settings, with_models=with_models)


def _without_faults(
    values: Mapping[str, Any], error: ValidationError
) -> tuple[ServiceConfig, list[SettingPath]]:
    """Return what is well-formed of `values`, and what was left out of it."""
    kept = copy.deepcopy(dict(values))
    left_out: list[SettingPath] = []
    for _ in range(_MOST_ROUNDS):
        for details in error.errors(include_url=False, include_input=False):
            path = _leave_out(kept, details["loc"], missing=details["type"] == "missing")
            left_out.append(path)
        try:
            return ServiceConfig.model_validate(kept), left_out
        except ValidationError as another:
            error = another
    return ServiceConfig(), [()]


def _leave_out(values: dict[str, Any], path: SettingPath, *, missing: bool) -> SettingPath:
    """Take the setting at `path` away, of a list the whole list; return what was taken."""
    length = next((i for i, key in enumerate(path) if isinstance(key, int)), len(path))
    path = path[: length - (missing and length == len(path))]
    here: Any = values
    for key in path[:-1]:
        here = here.get(str(key)) if isinstance(here, dict) else None
    if isinstance(here, dict):
        here.pop(str(path[-1]), None)
    return path


def _read_env_file(env_file: str | Path | None) -> dict[str, str]:
    try:
        return env_file_values(env_file)
    except UnicodeDecodeError as error:
        message = f"not UTF-8 text (byte {error.start})"
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
    raise InvalidConfig([Problem(place=str(env_file), setting="", message=message)])


def _put_variables(
    settings: Settings, variables: Mapping[str, str], kind: OriginKind, where: str
) -> list[Problem]:
    problems = []
    for name, text in sorted(variables.items()):
        rest = name.removeprefix(PREFIX)
        # An empty variable is how shells and compose files say «not set».
        if rest == name or not text.strip() or _FOREIGN.fullmatch(rest):
            continue
        origin = Origin(kind=kind, place=name + where)
        try:
            value = _flow(text) if text.strip()[0] in "[{" else text.strip()
        except yaml.YAMLError:
            message = "begins like a list or mapping but is none"
            problems.append(Problem(place=str(origin), setting="", message=message))
        except Exception:  # noqa: BLE001 - PyYAML lets pass whatever int, date and the like raise
            message = "holds a value that cannot be read, or too many levels"
            problems.append(Problem(place=str(origin), setting="", message=message))
        else:
            settings.put(_path_of_variable(rest, settings), value, origin)
    return problems


def _flow(text: str) -> Any:
    # A few aliases can mean billions of values, and a line has no use for them.
    if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
        raise yaml.YAMLError("an alias")
    return yaml.safe_load(text)


def _path_of_variable(name: str, settings: Settings) -> SettingPath:
    """Find the setting that a variable's name means.

    Variables are written in capitals and without dots or hyphens, so names are compared without these.
    """
    segments = [segment.lower() for segment in name.split("__")]
    if len(segments) == 1 and segments[0] in SHORT_NAMES:
        return SHORT_NAMES[segments[0]]
    path: SettingPath = ()
    here: Any = settings.values
    for segment in segments:
        known = field_names(path) or (list(here) if isinstance(here, dict) else [])
        key = next((name for name in known if _plain(name) == _plain(segment)), segment)
        path = (*path, key)
        here = here.get(key) if isinstance(here, dict) else None
    return path


def _plain(name: str) -> str:
    return re.sub(r"\W", "_", name.lower())


def _put_arguments(settings: Settings, arguments: Mapping[str, Any]) -> None:
    for name, value in arguments.items():
        if value is None:
            continue
        path = SHORT_NAMES.get(name) or tuple(name.split("__"))
        settings.put(path, value, Origin(kind=OriginKind.ARGUMENT, place=f"argument {name}"))


def _anchor_paths(settings: Settings) -> None:
    """Make relative paths of files absolute: in a YAML file they start at its folder."""
    for path, value in list(settings.leaves()):
        origin = settings.origin_of(path)
        if origin is None or origin.folder is None or not isinstance(value, str):
            continue
        if path == ("prices", "overrides"):
            settings.put(path, str(origin.folder / Path(value).expanduser()), origin)
        elif path[-1] == "api_key" and value.startswith("file:"):
            place = origin.folder / Path(value.removeprefix("file:").strip()).expanduser()
            settings.put(path, f"file:{place}", origin)
