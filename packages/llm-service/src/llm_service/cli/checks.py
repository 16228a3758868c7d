"""What `doctor` looks at: each check says what it found, and what would help."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from email.utils import parsedate_to_datetime
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from llm_core import (
    ConfigurationError,
    ErrorInfo,
    ErrorType,
    LLMError,
    MissingCredentials,
    MissingDependencyError,
    Value,
    immutable,
)
from llm_providers import ProviderRegistry
from llm_service.cli.model_names import told_error

if TYPE_CHECKING:
    from llm_service.config import LoadedConfig

__all__ = ["Finding", "State", "examine"]

_NETWORK_SECONDS = 5.0
_MOST_CLOCK_SECONDS = 10.0
"""A clock further off than this misreads Retry-After dates and, by minutes, certificates."""
_FEWEST_FILES = 1024
"""Each call in flight holds a connection, which is an open file."""


class State(StrEnum):
    """How a check came out."""

    WORKS = "works"
    ABSENT = "absent"
    """Not installed or not configured, which is nobody's fault."""
    FAULTY = "faulty"
    """Configured, and does not work."""


@immutable
class Finding(Value):
    """What one check found."""

    area: str
    subject: str
    state: State
    said: str
    advice: str = ""
    """What to do about it; empty if nothing needs to be done."""

    def to_dict(self) -> dict[str, str]:
        """Return it as JSON values."""
        return asdict(self)


class _Extra(NamedTuple):
    module: str
    package: str
    """What to install: the third party's own name, as ours belong to strangers on the index."""
    purpose: str


_EXTRAS = (
    _Extra("openai", "openai", "OpenAI and compatible servers"),
    _Extra("anthropic", "anthropic", "Anthropic"),
    _Extra("ollama", "ollama", "models on one's own machine"),
    _Extra("tiktoken", "tiktoken", "exact token counts for OpenAI"),
    _Extra("redis", "redis", "limits shared between processes"),
    _Extra("langchain_core", "langchain-core", "LangChain's templates"),
    _Extra("soundfile", "soundfile", "FLAC, OGG and MP3 files"),
    _Extra("sounddevice", "sounddevice", "microphone and speaker"),
)
_REDIS_PORT = 6379
_PROVIDER_HOSTS = (
    ("OPENAI_API_KEY", "OPENAI_BASE_URL", "https://api.openai.com/v1"),
    ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "https://api.anthropic.com"),
)


async def examine(
    environment: Mapping[str, str],
    *,
    config_file: Path | None = None,
    env_file: str | None = None,
    offline: bool,
    sound: Iterable[Finding],
) -> list[Finding]:
    """Look at everything; sends at most a list of models per vendor and a greeting to Redis, no tokens.

    With `offline` nothing is sent at all. `sound` is what `devices` found: PortAudio, whose start mutes stderr and
    must not meet the end of the process, cannot be left to a thread that is let go.
    """
    loaded, config_finding = configuration(environment, config_file, env_file)
    checks: list[Awaitable[Iterable[Finding]]] = [
        _in_thread(packages),
        _in_thread(extras),
        _in_thread(lambda: [config_finding]),
        _in_thread(lambda: telemetry(environment, loaded)),
        providers(environment, loaded, offline=offline),
        _known(sound),
        services(environment, offline=offline),
        clock(environment, offline=offline),
        _in_thread(limits),
    ]
    return [finding for found in await asyncio.gather(*checks) for finding in found]


async def _in_thread(check: Callable[[], Iterable[Finding]]) -> Iterable[Finding]:
    return await asyncio.to_thread(check)


async def _known(findings: Iterable[Finding]) -> Iterable[Finding]:
    return findings


def packages() -> list[Finding]:
    """Look at Python and at this toolkit's packages: llm-core, and what says that it needs it."""
    here = sorted(
        {
            f"{package.name} {package.version}"
            for package in distributions()
            if any(
                name.startswith("llm-core") for name in (package.name, *(package.requires or ()))
            )
        }
    )
    python = ".".join(map(str, sys.version_info[:3]))
    return [
        Finding(area="packages", subject="Python", state=State.WORKS, said=python),
        Finding(area="packages", subject="toolkit", state=State.WORKS, said=", ".join(here)),
    ]


def extras() -> list[Finding]:
    """Look at the optional packages, without importing them."""
    found = []
    for extra in _EXTRAS:
        there = importlib.util.find_spec(extra.module) is not None
        found.append(
            Finding(
                area="extras",
                subject=extra.package,
                state=State.WORKS if there else State.ABSENT,
                said=_version(extra.package) if there else f"not installed: {extra.purpose}",
                advice="" if there else f"pip install {extra.package}",
            )
        )
    return found


def configuration(
    environment: Mapping[str, str], file: Path | None, env_file: str | None
) -> tuple[LoadedConfig | None, Finding]:
    """Look at the configuration, if there is one, together with the variables that go before it.

    Returns what can be used of it, None if it is wrong.
    """
    from llm_service.config import find_config, load_config

    def finding(state: State, said: str, advice: str = "") -> Finding:
        area = "configuration"
        return Finding(area=area, subject="file", state=state, said=said, advice=advice)

    path = file or find_config(environment)
    try:
        loaded = load_config(path, env_file=env_file, environ=environment)
    except ConfigurationError as error:
        first, _, more = str(error).partition("\n")
        advice = f"llm-service config check {path}" if more and path else ""
        return None, finding(State.FAULTY, first, advice)
    if path is None:
        absent = "no llm-service.yaml here, and LLM_SERVICE_CONFIG is not set"
        return loaded, finding(State.ABSENT, absent)
    return loaded, finding(State.WORKS, f"{path} is good")


def telemetry(environment: Mapping[str, str], loaded: LoadedConfig | None = None) -> list[Finding]:
    """Look at which backend will be told of calls, without making one."""
    from llm_metrics import installed_telemetry

    installed = installed_telemetry()
    known = sorted({"jsonl", "none", *installed})
    asked = [name.strip() for name in environment.get("LLM_TELEMETRY", "").split(",")]
    names = [name for name in asked if name]
    configured = loaded.config.telemetry.backends if loaded else None
    if configured is not None:
        names = list(configured) or ["none"]
    unknown = [name for name in names if name not in known]
    state, said, advice = State.WORKS, ", ".join(names or installed) or "none", ""
    if unknown:
        state, said = State.FAULTY, f"no backend is called {unknown[0]!r}"
        advice = f"LLM_TELEMETRY: one or more of {', '.join(known)}"
    elif not names and len(installed) > 1:
        state, said = State.FAULTY, f"several are installed and none is chosen: {said}"
        advice = "set LLM_TELEMETRY to one, to several with commas, or to none"
    area = "configuration"
    return [Finding(area=area, subject="telemetry", state=state, said=said, advice=advice)]


async def providers(
    environment: Mapping[str, str], loaded: LoadedConfig | None = None, *, offline: bool
) -> list[Finding]:
    """Look at every vendor's key and those of the configured providers, by asking for the list of models."""
    from llm_service.config import ConfiguredRegistry

    configured = loaded.config.providers if loaded else {}
    made = ConfiguredRegistry(loaded.config, secrets=loaded.secrets) if loaded else None
    async with made or ProviderRegistry() as registry:
        asked = [
            _provider(
                registry, name, environment, is_configured=name in configured, offline=offline
            )
            for name in registry.names()
        ]
        found = list(await asyncio.gather(*asked))
        if loaded is None:
            model, named_by = environment.get("LLM_SERVICE_MODEL"), "LLM_SERVICE_MODEL"
        else:
            model = loaded.config.models.default
            named_by = str(loaded.settings.origin_of(("models", "default")))
        if model:
            found.append(_default_model(registry, model, named_by))
    return found


async def _provider(
    registry: ProviderRegistry,
    name: str,
    environment: Mapping[str, str],
    *,
    is_configured: bool = False,
    offline: bool,
) -> Finding:
    def finding(state: State, said: str, advice: str = "") -> Finding:
        return Finding(area="keys", subject=name, state=state, said=said, advice=advice)

    try:
        provider: Any = registry.get(name)
        if hasattr(provider, "check"):
            provider.check()
    except (MissingCredentials, MissingDependencyError) as error:
        state = State.FAULTY if is_configured else State.ABSENT
        return finding(state, _first(told_error(error)), _last(told_error(error)))
    except Exception as error:  # noqa: BLE001 - a third party's provider may raise anything
        return finding(State.FAULTY, f"{type(error).__name__}: {error}")
    if offline or not hasattr(provider, "list_models"):
        return finding(State.WORKS, "ready, not tried")
    failure = await _failure_of(provider.list_models())
    if failure is None:
        return finding(State.WORKS, "answers")
    if failure.status_code is not None and failure.type not in _KEY_FAULTS:
        return finding(State.WORKS, f"answers, but lists no models ({failure.type})")
    if name == "ollama" and not (is_configured or environment.get("OLLAMA_HOST")):
        return finding(State.ABSENT, "no server on this machine", "ollama serve")
    is_key = failure.type in _KEY_FAULTS
    advice = "check the key" if is_key else "check the address and the network"
    return finding(State.FAULTY, f"{failure.type}: {failure.message}", advice)


_KEY_FAULTS = (ErrorType.AUTHENTICATION, ErrorType.PERMISSION)


async def _failure_of(call: Awaitable[Any]) -> ErrorInfo | None:
    try:
        async with asyncio.timeout(_NETWORK_SECONDS):
            await call
    except Exception as error:  # noqa: BLE001 - as above
        return ErrorInfo.from_exception(error)
    return None


def _default_model(registry: ProviderRegistry, model: str, named_by: str) -> Finding:
    state, said, advice = State.WORKS, model, ""
    try:
        said = f"{model}, answered by {registry.resolve(model).provider.name}"
    except LLMError as error:
        state, said, advice = State.FAULTY, _first(told_error(error)), "name it as provider/model"
    return Finding(area="keys", subject=named_by, state=state, said=said, advice=advice)


def devices() -> list[Finding]:
    """Look for a microphone and a speaker, if the package for them is installed."""
    try:
        sounddevice: Any = importlib.import_module("sounddevice")
    except ImportError:
        return []
    except OSError as error:
        advice = "apt-get install libportaudio2, or your system's PortAudio"
        return [_device("sound", State.ABSENT, str(error), advice)]
    found = []
    for subject, kind in (("microphone", "input"), ("speaker", "output")):
        try:
            device = sounddevice.query_devices(kind=kind)
        except (ValueError, sounddevice.PortAudioError):
            found.append(_device(subject, State.ABSENT, "none found", ""))
        else:
            found.append(_device(subject, State.WORKS, str(device["name"]), ""))
    return found


def _device(subject: str, state: State, said: str, advice: str) -> Finding:
    return Finding(area="devices", subject=subject, state=state, said=said, advice=advice)


async def services(environment: Mapping[str, str], *, offline: bool) -> list[Finding]:
    """Look at the Redis that REDIS_URL names, which workers may share their limits in: whether it answers."""

    def finding(state: State, said: str, advice: str = "") -> list[Finding]:
        return [Finding(area="services", subject="Redis", state=state, said=said, advice=advice)]

    url = environment.get("REDIS_URL")
    if not url:
        return finding(State.ABSENT, "not configured (REDIS_URL is not set)")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "localhost", parts.port or _REDIS_PORT
    except ValueError:
        return finding(State.FAULTY, "REDIS_URL holds no URL")
    # Never the URL itself, which may hold a password.
    place = f"{host}:{port}"
    if offline:
        return finding(State.WORKS, f"{place}, not tried")
    try:
        async with asyncio.timeout(_NETWORK_SECONDS):
            if importlib.util.find_spec("redis") is not None:
                await _ping_redis(url)
            else:
                _, writer = await asyncio.open_connection(host, port)
                writer.close()
    except Exception as error:  # noqa: BLE001 - foreign clients raise what they like; a finding says it
        words = str(error) or type(error).__name__
        return finding(State.FAULTY, f"{place}: {words}", "start it, or correct REDIS_URL")
    return finding(State.WORKS, f"{place} answers")


async def _ping_redis(url: str) -> None:
    redis: Any = importlib.import_module("redis.asyncio")
    client = redis.Redis.from_url(url)
    try:
        await client.ping()
    finally:
        await client.aclose()


async def clock(environment: Mapping[str, str], *, offline: bool) -> list[Finding]:
    """Compare this machine's clock with that of a vendor whose key is there."""
    resolution = time.get_clock_info("monotonic").resolution

    def finding(state: State, said: str, advice: str = "") -> list[Finding]:
        return [Finding(area="clock", subject="clock", state=state, said=said, advice=advice)]

    ticks = f"ticks every {resolution * 1e9:g} ns"
    urls = [
        environment.get(base) or default
        for key, base, default in _PROVIDER_HOSTS
        if environment.get(key)
    ]
    seconds = None if offline or not urls else await asyncio.to_thread(_seconds_behind, urls)
    if seconds is None:
        return finding(State.WORKS, f"{ticks}; not compared with another")
    if abs(seconds) > _MOST_CLOCK_SECONDS:
        way = "behind" if seconds > 0 else "ahead"
        said = f"{abs(seconds):.0f} s {way} of the vendor's"
        return finding(State.FAULTY, said, "synchronise it, for example with timedatectl")
    return finding(State.WORKS, f"{ticks}; agrees with the vendor's")


def _seconds_behind(urls: Sequence[str]) -> float | None:
    """Return how far this clock is behind that of the first server that tells; None if none does."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    for url in urls:
        if not url.startswith(("http://", "https://")):
            continue
        try:
            with urlopen(Request(url, method="HEAD"), timeout=_NETWORK_SECONDS) as answer:
                said = answer.headers.get("date")
        except HTTPError as refused:
            said = refused.headers.get("date")
            refused.close()
        except OSError:
            continue
        if said:
            try:
                return parsedate_to_datetime(said).timestamp() - time.time()
            except ValueError:
                continue
    return None


def limits() -> list[Finding]:
    """Look at how many files, and so connections, this process may open."""
    try:
        import resource
    except ImportError:
        return []
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        said, enough = "no limit", True
    else:
        said, enough = f"{soft:,}", soft >= _FEWEST_FILES
    return [
        Finding(
            area="limits",
            subject="open files",
            state=State.WORKS if enough else State.FAULTY,
            said=f"{said}; each call in flight needs one",
            advice="" if enough else f"ulimit -n {_FEWEST_FILES}",
        )
    ]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _first(message: str) -> str:
    return message.partition("; ")[0]


def _last(message: str) -> str:
    return message.partition("; ")[2]
