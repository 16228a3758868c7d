"""`ResponseLog`: every finished call as a file, to look into."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llm_core import GenerationFinished, InvalidValue, TelemetryEvent
from llm_core.forks import begin_anew_in_children
from llm_metrics.redaction import redact

__all__ = ["ResponseLog"]


class ResponseLog:
    """A telemetry backend that writes each result to a file of its own, contents included.

    ``<folder>/<request id>.json``, the request, the vendor's raw reply and every attempt in it, keys
    and passwords replaced. Of the files that one log wrote at most `keep` stay, the oldest go;
    what was in the folder before is left alone. It writes on the calling thread: wrap it in
    `QueuedTelemetry` where that matters.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        keep: int = 1_000,
        redact: Callable[[Any], Any] = redact,
    ) -> None:
        if keep < 1:
            raise InvalidValue.of("ResponseLog.keep", keep, "1 or more files")
        self._folder = Path(folder)
        self._keep = keep
        self._redact = redact
        self._written: dict[Path, None] = {}
        self.begin_anew()
        begin_anew_in_children(self)

    def begin_anew(self) -> None:
        """Wait for no thread that is writing: in a forked child there is none."""
        self._lock = threading.Lock()

    def emit(self, event: TelemetryEvent) -> None:
        """Write the result of a finished call; raises OSError if the disk does not take it."""
        if not isinstance(event, GenerationFinished):
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        data = event.result.to_dict() | {"raw": event.result.raw}
        text = json.dumps(self._redact(data), ensure_ascii=False, indent=2, default=repr)
        # A request id may be the caller's: it must not lead out of the folder.
        name = re.sub(r"[^\w.-]", "_", event.request_id).lstrip(".")[:120] or "call"
        path = self._folder / f"{name}.json"
        path.write_text(text + "\n", encoding="utf-8")
        with self._lock:
            self._written.pop(path, None)
            self._written[path] = None
            while len(self._written) > self._keep:
                oldest = next(iter(self._written))
                del self._written[oldest]
                oldest.unlink(missing_ok=True)

    def close(self, timeout: float | None = None) -> None:
        """Do nothing: every file is complete already."""
