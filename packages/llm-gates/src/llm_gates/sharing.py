"""How limits are shared through Redis, and the error when that is not possible."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llm_core import WaitError

__all__ = ["RedisUnavailable", "Sharing"]


class RedisUnavailable(WaitError):
    """The server that keeps the common limits does not answer, and the gate was told to fail then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """How the limits are shared."""

    prefix: str
    """The beginning of all keys; what the sharing processes have in common."""
    make_client: Callable[[], Any]
    lease_seconds: float
    """After how long the slots of a process that has died come back."""
    horizon_seconds: float
    """How far ahead an admission may tell when the call may go."""
    stand_in: float | None
    """The share of the limits that this process has alone while the server is lost; None if calls fail then."""
