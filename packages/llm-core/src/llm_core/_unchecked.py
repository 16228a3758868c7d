"""Records made of values that are known to be good, for what is on the way of every call.

A call is described anew several times: as a request, a provider call, attempts, events, a result.
Checking and sealing each time what was checked and sealed before would cost more than all else here.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar, cast

__all__ = ["unchecked", "with_unchecked"]

P = ParamSpec("P")
R = TypeVar("R")


class _Unchecked(Protocol):
    def __call__(self, kind: Callable[P, R], /) -> Callable[P, R]: ...


def _constructor(kind: Any) -> Callable[..., Any]:
    """Return a constructor of a record class that checks nothing and seals nothing.

    What `dataclass` writes for a frozen class calls `object.__setattr__` for each field, five times the price of an
    assignment. So the fields are assigned to an object of a class with the same slots that is not frozen,
    which then becomes one of `kind`.
    """
    fields = dataclasses.fields(kind)
    names = [field.name for field in fields]
    open_class: Any = type(kind.__name__, (kind.__base__,), {"__slots__": kind.__slots__})
    open_class.__setattr__ = object.__setattr__
    lines = [
        f"def __init__(*, {', '.join(names)}):",
        "    made = open_class()",
        *[f"    made.{name} = {name}" for name in names],
        "    made.__class__ = kind",
        "    return made",
    ]
    made: dict[str, Any] = {"open_class": open_class, "kind": kind}
    exec("\n".join(lines), made)
    constructor: Any = made["__init__"]
    constructor.__qualname__ = f"{kind.__qualname__}.__init__"
    constructor.__kwdefaults__ = {
        field.name: field.default for field in fields if field.default is not dataclasses.MISSING
    }
    return cast("Callable[..., Any]", constructor)


unchecked = cast("_Unchecked", functools.cache(_constructor))
"""``unchecked(Usage)(input_tokens=3)``: a record whose fields are taken as they are, defaults for those not given.

Containers must be tuples and FrozenDicts already.
"""


def with_unchecked(record: R, **changes: Any) -> R:
    """Return a copy of a record with some fields changed to values that need no check."""
    kind: Any = type(record)
    fields = {name: getattr(record, name) for name in kind._layout.names}
    made: R = unchecked(kind)(**{**fields, **changes})
    return made
