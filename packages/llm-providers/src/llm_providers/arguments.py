"""What a provider is made with, checked before it is used: a wrong value is told by name, not by the first call."""

from __future__ import annotations

from llm_core import InvalidValue

__all__ = ["check_http_client", "check_seconds", "check_texts"]


def check_texts(owner: str, **given: object) -> None:
    """Raise InvalidValue for what is neither a text nor None."""
    for name, value in given.items():
        if value is not None and not isinstance(value, str):
            raise InvalidValue.of(f"{owner}.{name}", value, "a text")


def check_seconds(owner: str, **given: object) -> None:
    """Raise InvalidValue for what is no number above zero."""
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            raise InvalidValue.of(f"{owner}.{name}", value, "more than 0 seconds")


def check_http_client(owner: str, client: object) -> None:
    """Raise InvalidValue for what is neither an async client nor None, as far as can be told without importing httpx2."""
    is_made = callable(getattr(client, "aclose", None)) and not isinstance(client, type)
    if client is not None and not is_made:
        raise InvalidValue.of(f"{owner}.http_client", client, "an httpx2.AsyncClient")
