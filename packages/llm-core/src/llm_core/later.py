"""`asyncio`, imported when it is first used.

It is more than a quarter of what importing a service costs, and only running calls need it: who reads settings, or
shows a command's help, does not wait for it. `from llm_core.later import asyncio` stands for `import asyncio`
in the modules that `import llm_service` loads; a program that imported it itself pays nothing here.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["asyncio"]


class _Module:
    """A module's names, as whoever patches them leaves them."""

    __slots__ = ("__dict__", "_name")


class _Later(_Module):
    """A module that is imported when its first name is asked for."""

    __slots__ = ()

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        module = importlib.import_module(self._name)
        self.__dict__ = module.__dict__
        # Without `__getattr__`, which makes CPython 3.11 look every name up the long way.
        self.__class__ = _Module  # type: ignore[assignment]  # of the same layout
        return getattr(module, name)


if TYPE_CHECKING:
    import asyncio
else:
    asyncio = _Later("asyncio")
