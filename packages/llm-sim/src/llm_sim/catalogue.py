"""Which endpoint is at which path, and whose it is."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from llm_sim import openai_chat, openai_wire
from llm_sim.exchange import Answer, Request, Stamp
from llm_sim.openai_responses import OpenAIResponses
from llm_sim.wire import Dialogue, Resource, Vendor

if TYPE_CHECKING:
    from llm_sim.simulator import Simulator


Answering = Callable[[Request, Stamp], Answer]
"""Answers a request for a stored thing."""


class Catalogue:
    """The endpoints of one simulator, with what they store."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self.reset()

    def reset(self) -> None:
        """Forget everything that is stored."""
        responses = OpenAIResponses()
        self._dialogues: dict[str, Dialogue] = {
            "/v1/chat/completions": openai_chat,
            "/v1/responses": responses,
        }
        self._resources: tuple[Resource, ...] = tuple(
            Resource(method=method, pattern=re.compile(path), vendor=openai_wire, serve=serve)
            for method, path, serve in responses.resources()
        )

    def vendor_of(self, request: Request) -> Vendor:
        """Tell whose endpoint a request is for."""
        return openai_wire

    def find(self, vendor: Vendor, request: Request) -> Dialogue | Answering:
        """Find the endpoint for a request, or refuse a path that is not there."""
        dialogue = self._dialogues.get(request.path)
        if dialogue is not None and request.method == "POST":
            return dialogue
        known = dialogue is not None
        for resource in self._resources:
            if resource.vendor is vendor and (found := resource.pattern.fullmatch(request.path)):
                known = True
                if resource.method == request.method:
                    return partial(resource.serve, **found.groupdict())
        raise vendor.no_such_path(request.method, request.path, known=known)
