"""What cannot work in settings that are well-formed: files, names and steps that are not there."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from llm_core import LLMError, UnknownModel
from llm_service.closest import closest
from llm_service.config.model import ProviderKind, ServiceConfig
from llm_service.config.options import ConfiguredRegistry
from llm_service.config.problems import Problem
from llm_service.config.tree import SettingPath, Settings, dotted

__all__ = ["unanswered", "unsound"]

_ALIKE = 0.7
"""How alike two names must be for one to be taken for the other mistyped."""


def unsound(
    config: ServiceConfig, settings: Settings, *, with_models: bool = True
) -> list[Problem]:
    """Return all that no service could work with.

    Of models only names that are nearly those of a provider or an alias count as mistyped: a program may register
    further providers. Without `with_models` they are not looked at.
    """
    faults = [
        *_providers(config),
        *_prices(config),
        *_telemetry(config),
        *_pipelines(config),
        *(_models(config) if with_models else ()),
    ]
    return [
        Problem(
            place=str(settings.origin_of(path) or "configuration"),
            setting=dotted(path),
            message=message,
        )
        for path, message in faults
    ]


def unanswered(config: ServiceConfig, settings: Settings) -> list[Problem]:
    """Return the models that nobody is known for, which a program may register a provider for."""
    return [
        Problem(
            place=str(settings.origin_of(path) or "configuration"),
            setting=dotted(path),
            message=f"no provider is known for {model!r}",
        )
        for path, model, _ in _unanswered(config)
    ]


_Faults = Iterator[tuple[SettingPath, str]]


def _providers(config: ServiceConfig) -> _Faults:
    for name, provider in config.providers.items():
        path = ("providers", name)
        if not name or "/" in name:
            yield path, f"got {name!r}, expected a name without '/'"
        kind = provider.kind or _kind_of(name)
        if kind is None:
            yield (
                (*path, "kind"),
                "is missing, as the name is not that of a known vendor; "
                "expected openai, anthropic, ollama or compatible",
            )
        elif kind is ProviderKind.COMPATIBLE and provider.base_url is None:
            yield (
                (*path, "base_url"),
                "is missing, as a compatible server has no address of its own; "
                "expected a URL such as 'https://host/v1'",
            )
    known = _known_providers(config)
    for name in config.limits.providers:
        if name not in known:
            # A typing error would lift the limit in silence.
            yield ("limits", "providers", name), f"no such provider{closest(name, known)}"


def _kind_of(name: str) -> ProviderKind | None:
    vendors = (ProviderKind.OPENAI, ProviderKind.ANTHROPIC, ProviderKind.OLLAMA)
    return next((kind for kind in vendors if kind == name), None)


def _known_providers(config: ServiceConfig) -> list[str]:
    from llm_providers import ProviderRegistry

    return sorted({*ProviderRegistry().names(), *config.providers})


def _prices(config: ServiceConfig) -> _Faults:
    path, file = ("prices", "overrides"), config.prices.overrides
    if file is None:
        return
    from llm_metrics import PriceOverrides

    if file.exists() and not file.is_file():
        # A pipe could not be read again, and a device not to its end.
        yield path, f"{file}: is no regular file"
        return
    try:
        PriceOverrides.read(file)
    except OSError as error:
        yield path, f"{file}: cannot be read: {error.strerror or error}"
    except UnicodeDecodeError as error:
        yield path, f"{file}: not UTF-8 text (byte {error.start})"
    except (LLMError, ValueError) as error:  # ValueError: no path at all
        yield path, " ".join(str(error).split())


def _telemetry(config: ServiceConfig) -> _Faults:
    backends = config.telemetry.backends
    if not backends:
        return
    from llm_metrics import installed_telemetry

    path = ("telemetry", "backends")
    known = sorted({"jsonl", "none", *installed_telemetry()})
    for name in backends:
        if name not in known:
            yield path, f"no backend is called {name!r}{closest(name, known)}"
    if "none" in backends and len(set(backends)) > 1:
        yield path, "'none' stands beside backends, expected it alone"


def _pipelines(config: ServiceConfig) -> _Faults:
    for name, operation in config.operations.items():
        if operation.pipeline is None:
            continue
        from llm_core import SystemClock
        from llm_service.refinement import pipeline_of

        path = ("operations", name, "pipeline")
        # One by one, so that every fault is told.
        for number, step in enumerate(operation.pipeline):
            try:
                pipeline_of([step], SystemClock())
            except LLMError as error:
                _, *below = error.details.get("position") or [0]
                yield (*path, number, *below), str(error.details.get("fault") or error)


def _models(config: ServiceConfig) -> _Faults:
    for path, model, error in _unanswered(config):
        meant = _meant(model, config)
        if meant:
            yield path, f"no provider is known for {model!r}; did you mean {meant!r}?"
        elif not str(error).startswith("no provider"):
            yield path, str(error)


def _unanswered(config: ServiceConfig) -> Iterator[tuple[SettingPath, str, UnknownModel]]:
    own = {name: one for name, one in config.providers.items() if name and "/" not in name}
    registry = ConfiguredRegistry(config.model_copy(update={"providers": own}))
    for path, model in _named_models(config):
        if model in config.models.aliases:
            continue
        try:
            registry.route(model)
        except UnknownModel as error:
            yield path, model, error


def _named_models(config: ServiceConfig) -> Iterator[tuple[SettingPath, str]]:
    if config.models.default is not None:
        yield ("models", "default"), config.models.default
    for alias, model in config.models.aliases.items():
        yield ("models", "aliases", alias), model
    for number, rung in enumerate(config.models.fallbacks):
        yield ("models", "fallbacks", number, "model"), rung.model
    for model in config.limits.models:
        yield ("limits", "models", model), model
    for name, operation in config.operations.items():
        if operation.model is not None:
            yield ("operations", name, "model"), operation.model


def _meant(model: str, config: ServiceConfig) -> str:
    """Return the name that `model` is nearly, empty if there is none."""
    prefix, slash, rest = model.partition("/")
    names = _known_providers(config) if slash else list(config.models.aliases)
    near = difflib.get_close_matches(prefix.lower(), names, n=1, cutoff=_ALIKE)
    return f"{near[0]}{slash}{rest}" if near else ""
