"""Hears from Redis that another process has given something back."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from llm_gates.redis_script import RedisScript

__all__ = ["Listener"]

_logger = logging.getLogger(__name__)

_LISTEN_SECONDS = 0.5
"""How long one call waits for mail; then it is looked whether that is still wanted."""


class Listener:
    """A thread that waits for mail as long as it is `wanted`, and calls `heard` for each; both under the lock.

    If the server does not answer it calls `heard` as well, and ends.
    """

    def __init__(
        self,
        script: RedisScript,
        process: str,
        lock: AbstractContextManager[Any],
        *,
        wanted: Callable[[], bool],
        heard: Callable[[], None],
    ) -> None:
        self._make_client = script.make_client
        self._mail = f"{script.prefix}:mail:{process}"
        self._lock = lock
        self._wanted = wanted
        self._heard = heard
        self._thread: threading.Thread | None = None

    def listen(self) -> None:
        """Begin, if it has not; the lock is held."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name="llm-gates listener", daemon=True
            )
            self._thread.start()

    def _run(self) -> None:
        client: Any = None
        try:
            client = self._make_client()
            while self._goes_on():
                if client.blpop([self._mail], timeout=_LISTEN_SECONDS) is not None:
                    with self._lock:
                        self._heard()
        except Exception as error:  # noqa: BLE001 - the courier finds out what it is and decides
            _logger.debug("no mail in %s: %s", self._mail, error)
            # Whoever waits for long would otherwise learn late that the server is gone.
            time.sleep(_LISTEN_SECONDS)
            with self._lock:
                self._thread = None
                if self._wanted():
                    self._heard()
        finally:
            if client is not None:
                client.close()

    def _goes_on(self) -> bool:
        with self._lock:
            if not self._wanted():
                self._thread = None
                return False
            return True
