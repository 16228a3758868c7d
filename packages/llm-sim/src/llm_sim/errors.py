"""What can go wrong before a request is answered, and how a request is refused.

SimError                 everything this package raises on purpose
├── ConfigurationError   a setting, a file or a key is wrong: change it      (CLI exit code 2)
│   └── ScriptError      … in a script file: names file, line and key
└── PortInUseError       the port is taken: choose another one               (CLI exit code 2)

Refusal                  an answer that is an error, in the vendor's own words
"""

from __future__ import annotations


class SimError(Exception):
    """The root of the errors that this package raises on purpose."""


class ConfigurationError(SimError, ValueError):
    """A setting is wrong; the message is one line that names it."""


class ScriptError(ConfigurationError):
    """A script is wrong; the message is one line that names file, line and key."""


class PortInUseError(SimError, OSError):
    """The port to listen on is taken."""


class Refusal(Exception):
    """A request is answered with an HTTP error, in the vendor's own words.

    `type`, `code` and `param` are the vendor's fields of the error body; `None` is sent as null or
    left out, as the vendor does. `headers` are added to the response; `retry_after_seconds` is what
    they tell the client to wait, for the referee.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str | None = None,
        code: str | None = None,
        param: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.code = code
        self.param = param
        self.headers = headers
        self.retry_after_seconds = retry_after_seconds

    @property
    def final(self) -> bool:
        """Whether repeating is futile: the request, the key or the account is wrong."""
        passing = self.status in (408, 409, 429) or self.status >= 500
        return not passing or self.code in ("insufficient_quota", "enforced_spend_limit_reached")
