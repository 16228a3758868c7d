"""Keys: from an argument or the environment, and never shown."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from llm_core import ConfigurationError, MissingCredentials

__all__ = ["Secret", "resolve_key", "shown_url"]


class Secret:
    """A text that does not appear in `repr`, `str`, logs or tracebacks' locals.

    Raises ConfigurationError, without showing it, for one that cannot be sent.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise ConfigurationError(
                f"an API key is of type {type(text).__name__}; expected a text (str)"
            )
        text = text.strip()  # keys read from files end in a newline
        if not (text.isascii() and text.isprintable()):
            raise ConfigurationError(
                "an API key holds a character that no HTTP header can carry; expected printable ASCII"
            )
        self._text = text

    @classmethod
    def of(cls, text: str | None) -> Secret | None:
        """Return the secret `text`, or None if there is none."""
        return None if text is None or text == "" else cls(text)

    def reveal(self) -> str:
        """Return the text, to be passed straight to where it is used."""
        return self._text

    def __repr__(self) -> str:
        return "Secret('…')"

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled; make the provider anew where it is needed")


def resolve_key(
    given: Secret | None, *, variable: str | None, provider: str, optional: bool
) -> Secret:
    """Return the key given, else the environment's `variable`, else (if `optional`) a placeholder.

    Raises MissingCredentials naming the variable.
    """
    if given is not None:
        return given
    found = os.environ.get(variable, "").strip() if variable else ""
    if found:
        return Secret(found)
    if optional or variable is None:
        return Secret("no-key-needed")
    raise MissingCredentials(
        f"no API key for provider {provider!r}: set {variable} in the environment or .env, "
        "or pass api_key=…"
    )


def shown_url(url: str | None) -> str | None:
    """Return `url` without user name, password and query, which may be secrets."""
    if url is None:
        return None
    try:
        parts = urlsplit(url if "://" in url else "//" + url)
    except ValueError:  # it is no URL, so nobody knows what in it is secret
        return "…"
    host = parts.netloc.rpartition("@")[2]
    scheme = f"{parts.scheme}://" if parts.scheme else ""
    return f"{scheme}{host}{parts.path}"
