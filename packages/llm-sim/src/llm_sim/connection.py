"""One HTTP connection: uvicorn's protocol, opened for faults that happen below HTTP."""

from __future__ import annotations

import logging
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from llm_sim.app import TRANSPORT


class Connection(HttpToolsProtocol):
    """Puts the transport in the scope, and keeps uvicorn's loggers out of the user's process."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.access_log = False
        self.logger = logging.getLogger("llm_sim.connection")

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self.scope["extensions"] = {TRANSPORT: {"transport": self.transport}}
