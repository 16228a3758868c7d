"""`asyncio`, imported when it is first used.

It is more than a quarter of what importing a service costs, and only running calls need it: who reads settings, or
shows a command's help, does not wait for it. `from llm_core.later import asyncio` stands for `import asyncio`
in the modules that `import llm_service` loads; a program that imported it itself pays nothing here.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["asyncio"]


class _Later:
    """A module that is imported when its first name is asked for."""

    __slots__ = ("__dict__", "_name")

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        module = importlib.import_module(self._name)
        # Its names are found here from now on, at no cost, and as whoever patches them leaves them.
        self.__dict__ = module.__dict__
        return getattr(module, name)


if TYPE_CHECKING:
    import asyncio
else:
    asyncio = _Later("asyncio")
