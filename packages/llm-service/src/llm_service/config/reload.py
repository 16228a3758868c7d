"""Taking over changed settings while the service runs."""

from __future__ import annotations

import logging
import queue
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from llm_core import LLMError, Value, begin_anew_in_children, immutable
from llm_service.config.model import ServiceConfig
from llm_service.config.options import ConfiguredRegistry
from llm_service.config.sources import LoadedConfig
from llm_service.gate_book import Limits

if TYPE_CHECKING:
    from llm_metrics import PriceBook
    from llm_service.service import BaseLLMService

__all__ = ["ConfigChange", "ConfigWatcher", "take_over"]

_log = logging.getLogger("llm_service")

RELOADABLE = frozenset({"limits", "prices", "models", "operations.limits"})
"""The sections, and parts of them, that can change without a restart."""

_Stamp = frozenset[tuple[str, int, int, int]]


@immutable
class ConfigChange(Value):
    """What is different after a reload."""

    loaded: LoadedConfig
    """The new configuration; its sections outside `reloadable` may not be in force before a restart."""
    before: ServiceConfig
    reloadable: frozenset[str]
    """Changed sections that a running service takes over; `prices` also if the price file itself changed."""
    needs_restart: frozenset[str]
    """Changed sections, or parts such as ``models.fallbacks``, that it does not."""


class ConfigWatcher:
    """Reads the configuration again when one of its files changes or SIGHUP arrives.

    `load` gives the configuration anew, such as ``lambda: load_config("llm.yaml")``.
    `on_change` is called on the watcher's thread, with changes that can be taken over; what is in flight is its concern.
    A file that cannot be used is logged and changes nothing: the settings before it stay in force.
    A forked child has no such thread before it calls `start` itself.
    """

    def __init__(
        self,
        load: Callable[[], LoadedConfig],
        on_change: Callable[[ConfigChange], None],
        *,
        current: LoadedConfig | None = None,
        interval_seconds: float = 2.0,
    ) -> None:
        """Remember the state of the files; `current` is what the service runs with, None to load it now."""
        self._load = load
        self._on_change = on_change
        self._current = current or load()
        self._interval_seconds = interval_seconds
        self._stamp = self._look()
        self._previous_handler: Any = None
        self.begin_anew()
        begin_anew_in_children(self)

    def begin_anew(self) -> None:
        """Have no thread: in a forked child there is none."""
        self._thread: threading.Thread | None = None
        # SimpleQueue.put may be called from a signal handler that interrupted another put or get.
        self._wishes: queue.SimpleQueue[bool] = queue.SimpleQueue()

    @property
    def current(self) -> LoadedConfig:
        """The last configuration that could be used."""
        return self._current

    def poll(self, *, force: bool = False) -> ConfigChange | None:
        """Load anew if a file has changed (or by `force`), and tell of it; return the change if there is one."""
        stamp = self._look()
        if stamp == self._stamp and not force:
            return None
        changed_files = {path for path, *_ in stamp ^ self._stamp}
        self._stamp = stamp
        try:
            loaded = self._load()
            change = self._compare(loaded, changed_files)
        except Exception as error:  # noqa: BLE001 - whatever a load may raise, the next one may go well
            told = error if isinstance(error, LLMError) else repr(error)
            _log.error("the changed configuration is not taken over: %s", told)
            return None
        self._current = loaded
        # The new configuration may name other files.
        self._stamp = self._look()
        if not change.reloadable and not change.needs_restart:
            return None
        if change.needs_restart:
            sections = ", ".join(sorted(change.needs_restart))
            _log.warning("changed settings that need a restart: %s", sections)
        if change.reloadable:
            self._tell(change)
        return change

    def reload(self) -> None:
        """Have the files read again at once, on the watcher's thread; a signal handler may call it."""
        self._wishes.put(True)

    def start(self, *, on_signal: bool = True) -> None:
        """Begin to watch on a daemon thread, and, from the main thread, to answer SIGHUP (where there is one)."""
        if self._thread is not None:
            return
        self._thread = threading.Thread(
            target=self._watch, name="llm-service configuration", daemon=True
        )
        self._thread.start()
        in_main_thread = threading.current_thread() is threading.main_thread()
        # A forked child has its parent's handlers.
        if (
            on_signal
            and in_main_thread
            and hasattr(signal, "SIGHUP")
            and signal.getsignal(signal.SIGHUP) != self._on_signal
        ):
            self._previous_handler = signal.signal(signal.SIGHUP, self._on_signal)

    def stop(self) -> None:
        """End the thread and, from the main thread, give SIGHUP back; may be called more than once."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        in_main_thread = threading.current_thread() is threading.main_thread()
        if self._previous_handler is not None and in_main_thread:
            signal.signal(signal.SIGHUP, self._previous_handler)
            self._previous_handler = None
        self._wishes.put(False)
        if thread is not threading.current_thread():
            thread.join()

    def _watch(self) -> None:
        while True:
            try:
                wished = self._wishes.get(timeout=self._interval_seconds)
            except queue.Empty:
                self.poll()
                continue
            if not wished:
                return
            self.poll(force=True)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.reload()
        if callable(self._previous_handler):
            self._previous_handler(number, frame)

    def _tell(self, change: ConfigChange) -> None:
        try:
            self._on_change(change)
        except Exception:  # noqa: BLE001 - the user's code; the watcher must outlive it
            _log.exception("a changed configuration could not be taken over")

    def _compare(self, loaded: LoadedConfig, changed_files: set[str]) -> ConfigChange:
        before, after = self._current.config, loaded.config
        names = set(ServiceConfig.model_fields)
        changed = {name for name in names if getattr(before, name) != getattr(after, name)}
        restart = set(changed - RELOADABLE)
        restart.discard("operations")
        if _apart_from_limits(before) != _apart_from_limits(after):
            restart.add("operations")
        if _limits_of_operations(before) != _limits_of_operations(after):
            changed.add("operations.limits")
        # By the models that are meant: an alias may have changed.
        if before.fallbacks() != after.fallbacks():
            restart.add("models.fallbacks")
        if str(after.prices.overrides) in changed_files:
            changed.add("prices")
        return ConfigChange(
            loaded=loaded,
            before=before,
            reloadable=frozenset(changed & RELOADABLE),
            needs_restart=frozenset(restart),
        )

    def _look(self) -> _Stamp:
        return frozenset(_stamp_of(path) for path in self._current.files)


def _stamp_of(path: Path) -> tuple[str, int, int, int]:
    """Return what differs when a file was written, replaced or removed."""
    try:
        stat = path.stat()
    except (OSError, ValueError):  # ValueError: no path at all, such as one with a null character
        return str(path), 0, 0, 0
    return str(path), stat.st_mtime_ns, stat.st_size, stat.st_ino


def _limits_of_operations(config: ServiceConfig) -> dict[str, Limits]:
    return {
        name: own.limits.limits()
        for name, own in config.operations.items()
        if own.limits is not None
    }


def _apart_from_limits(config: ServiceConfig) -> dict[str, Any]:
    """Return what is set for the operations that say more than limits, without these; aliases resolved."""
    said = {
        name: own.model_dump(exclude={"limits"}, exclude_unset=True)
        for name, own in config.operations.items()
    }
    for own in said.values():
        if own.get("model") is not None:
            own["model"] = config.models.resolve(own["model"])
    return {name: own for name, own in said.items() if own}


def take_over(
    change: ConfigChange,
    service: BaseLLMService,
    *,
    registry: ConfiguredRegistry | None = None,
    price_book: PriceBook | None = None,
) -> None:
    """Give a running service the limits, the default model, the aliases and the prices of `change`.

    `registry` and `price_book` are those that `service_options` gave for it. Calls in flight are not touched.
    Raises what a wrong file of prices raises; the rest has been taken over then.
    """
    config, before = change.loaded.config, change.before
    if config.limits != before.limits or config.limits_by_name() != before.limits_by_name():
        service.use_limits(config.limits.limits(), config.limits_by_name())
    if config.models != before.models:
        if registry is not None:
            registry.use_models(config.models)
        if config.models.default is not None:
            service.use_model(config.models.resolve(config.models.default))
    if "prices" in change.reloadable and price_book is not None:
        price_book.use_overrides(config.prices.overrides)
