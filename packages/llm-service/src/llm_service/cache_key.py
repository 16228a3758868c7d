"""When two calls are the same call."""

from __future__ import annotations

import hashlib
import json

from llm_core import LLMCallRequest

__all__ = ["cache_key"]

# What says how a call is carried out, not what it asks.
_NOT_ASKED = ("timeout_seconds", "headers")


def cache_key(provider: str, call: LLMCallRequest, *, tenant: str | None) -> str:
    """Return a key that is equal for calls that ask the same of the same model for the same tenant."""
    asked = {key: value for key, value in call.to_dict().items() if key not in _NOT_ASKED}
    canonical = json.dumps([provider, tenant, asked], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
