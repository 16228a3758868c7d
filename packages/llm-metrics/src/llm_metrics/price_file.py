"""The file that `update_prices` writes: published prices as they came, and where from."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_core import Value, immutable

if TYPE_CHECKING:
    from genai_prices.types import Provider as Vendor

__all__ = ["PriceFile", "default_prices_path"]

_FORMAT = 1


def default_prices_path(environ: Mapping[str, str] | None = None) -> Path:
    """Return where fetched prices are kept: ``LLM_PRICES_PATH``, else in the user's cache folder."""
    environ = os.environ if environ is None else environ
    if named := environ.get("LLM_PRICES_PATH"):
        return Path(named)
    cache = environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "llm-metrics" / "prices.json"


@immutable
class PriceFile(Value):
    """One copy of the published prices."""

    raw: list[Any]
    """The providers as published, not checked."""
    url: str
    fetched_at: str
    """ISO 8601, UTC."""
    etag: str | None = None
    """What the server called this version; sent back to ask whether there is another."""

    @property
    def version(self) -> str:
        """The day it was fetched and eight digits of its contents' hash."""
        digest = hashlib.sha256(json.dumps(self.raw, sort_keys=True).encode()).hexdigest()
        return f"{self.fetched_at[:10]}.{digest[:8]}"

    def providers(self) -> list[Vendor]:
        """Return the prices as genai-prices reads them; raises ValueError if they are no prices."""
        # The library has no public way from its published JSON to prices without fetching it anew.
        from genai_prices.types import _providers_from_raw  # noqa: PLC2701

        if not isinstance(self.raw, list):
            raise ValueError(f"got {type(self.raw).__name__}, expected a list of providers")
        return _providers_from_raw(self.raw)

    @classmethod
    def read(cls, path: Path) -> PriceFile:
        """Read a file that `write` wrote; raises OSError, or ValueError for anything else."""
        data = json.loads(path.read_text("utf-8"))
        if not isinstance(data, dict) or data.get("format") != _FORMAT:
            raise ValueError(f"{path} is no price file of format {_FORMAT}")
        try:
            return cls(
                raw=data["providers"],
                url=data["url"],
                fetched_at=data["fetched_at"],
                etag=data["etag"],
            )
        except KeyError as missing:
            raise ValueError(f"{path} lacks {missing}") from missing

    def write(self, path: Path) -> None:
        """Replace `path` in one step: a reader sees the old or the new file, never a half."""
        path.parent.mkdir(parents=True, exist_ok=True)
        data = {
            "format": _FORMAT,
            "url": self.url,
            "fetched_at": self.fetched_at,
            "etag": self.etag,
            "providers": self.raw,
        }
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".new")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(data, file)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
