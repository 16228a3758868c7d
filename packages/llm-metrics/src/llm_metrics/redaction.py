"""Taking secrets out of what is written down."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["REDACTED", "redact", "redact_text"]

REDACTED: Final = "[redacted]"

# Keys of vendors and of the web, by the shapes their makers document; and what follows a name
# that says "secret". A hit too many costs a word of a log line, a miss costs a key.
# What a long run of letters might begin again and again is bounded, or a megabyte of them would take minutes.
_SECRETS: Final = re.compile(
    r"""
      (?P<name>(?:api[_-]?key|authorization|password|passwd|secret|access[_-]?token|auth[_-]?token)
        \\?["']?\s*[=:]\s*\\?["']?(?:(?:bearer|basic|token|apikey|api-key)\s+)?)
        [^\s"'\\,;&}]{4,}                                            # api_key=..., "password": "..."
    | (?P<query>[?&](?:key|token|sig|signature|x-(?:amz|goog)-(?:signature|credential|security-token))
        =)[^\s"'\\&#]+                                               # signed and keyed URLs
    | (?P<bearer>\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}         # Authorization headers
    | \b(?:(?:sk|pk|rk|gsk|xai|pplx|nvapi|glpat|xox[abprs])[-_]|(?:hf|r8|gh[opsu]|github_pat)_|AIza)
        [A-Za-z0-9_*-]{12,}
    | \bya29\.[A-Za-z0-9_-]{12,}                                     # Google's access tokens
    | \bA[KS]IA[0-9A-Z]{12,}                                         # AWS access keys
    | \beyJ[A-Za-z0-9_-]{8,2048}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*      # JSON web tokens
    | -----BEGIN[ ][A-Z ]*PRIVATE[ ]KEY-----.*?(?:-----END[ ][A-Z ]*PRIVATE[ ]KEY-----|\Z)
    | (?P<url>[a-z][a-z0-9+.-]{0,30}://[^\s/:@]*:)[^\s/@]+(?=@)           # scheme://user:password@host
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_SECRET_NAMES: Final = re.compile(
    r"api[_-]?key|authorization|cookie|credential|password|passwd|private[_-]?key|secret"
    r"|(?:access|functions|subscription)[_-]?key|(?:api|access|auth|refresh|id|session)[_-]?token"
    r"|(?:^|[_-])token$|signature$|^sig$",
    re.IGNORECASE,
)


def redact_text(text: str) -> str:
    """Return `text` with everything that looks like a key, token or password replaced."""
    return _SECRETS.sub(_keep_name, text)


def redact(value: Any) -> Any:
    """Return JSON-like data with secrets replaced: in texts by shape, in mappings also by name.

    What JSON has no type for becomes its redacted `repr`: a vendor's object may show its key there.
    """
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        return {
            key: REDACTED if _SECRET_NAMES.search(str(key)) and item else redact(item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [redact(item) for item in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return redact_text(repr(value))


def _keep_name(found: re.Match[str]) -> str:
    kept = found["bearer"] or found["name"] or found["query"] or found["url"] or ""
    return kept + REDACTED
