"""How a record comes into being: immutable ever after, at the price of a mutable one."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, Final

__all__ = ["ConstructorOnDemand"]

_SOURCE: Final = """\
def __new__(cls, {parameters}):
    if cls is not record:
        return slowly(cls, {{{items}}})
    self = blank(draft)
    {assignments}
    self.__class__ = record
    {check}
    return self

def _unchecked({in_order}):
    self = blank(draft)
    {assignments}
    self.__class__ = record
    return self
"""


class ConstructorOnDemand:
    """A class attribute that is compiled when it is first read, and then replaced by its value.

    It stands for `__new__`, which takes the fields by name and runs `__post_init__`; for
    `_unchecked`, which does not run it and takes them in order as well, those without a default
    first: the interpreter looks up each default of a keyword that is not given; and for `_draft`,
    which takes none and leaves it to its caller to set them. Compiling costs 0.2 ms a class, and
    few programs use all classes.
    """

    __slots__ = ("name", "record")

    def __init__(self, record: type, name: str) -> None:
        self.record = record
        self.name = name

    def __get__(self, _instance: object, _cls: type) -> Any:
        made = _constructors_of(self.record)
        for name, constructor in made.items():
            type.__setattr__(self.record, name, constructor)
        return made[self.name]


def _constructors_of(record: Any) -> dict[str, Any]:
    """Return `__new__`, `_unchecked` and `_draft` of a record class.

    What dataclasses writes for a frozen class sets each field through `object.__setattr__`, at ten
    times the cost of setting a field of a mutable class, and a call through the service makes
    dozens of records of a dozen fields. So the fields are set on a draft, an instance of a
    subclass that may be changed and has the same layout, which then turns into the record itself.
    """
    fields = dataclasses.fields(record)
    # Both methods: the interpreter keeps them in one place, and sets fields fast where both are its own.
    changeable = {"__setattr__": object.__setattr__, "__delattr__": object.__delattr__}
    draft = type(record)(
        record.__name__,
        (record,),
        {"__slots__": (), "__module__": record.__module__, **changeable},
    )
    names = [field.name for field in fields]
    source = _SOURCE.format(
        parameters=", ".join(["*", *map(_parameter, fields)]) if fields else "",
        in_order=", ".join(map(_parameter, sorted(fields, key=_has_default))),
        items=", ".join(f"{name!r}: {name}" for name in names),
        check="self.__post_init__()" if hasattr(record, "__post_init__") else "",
        assignments="; ".join(f"self.{name} = {name}" for name in names) or "pass",
    )
    scope: dict[str, Any] = {f"default_{field.name}": field.default for field in fields}
    scope |= {"record": record, "draft": draft, "blank": object.__new__, "slowly": _slowly}
    exec(source, scope)
    for name in ("__new__", "_unchecked"):
        scope[name].__qualname__ = record.__qualname__  # the name in messages about wrong arguments
        scope[name].__module__ = record.__module__
    constructor = scope["__new__"]
    constructor.__annotations__ = {field.name: field.type for field in fields}
    blank = partial(object.__new__, draft)
    return {"__new__": constructor, "_unchecked": scope["_unchecked"], "_draft": blank}


def _parameter(field: dataclasses.Field[Any]) -> str:
    return f"{field.name}=default_{field.name}" if _has_default(field) else field.name


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING


def _slowly(cls: type, values: dict[str, Any]) -> Any:
    """Make an instance of a subclass, which may have a layout of its own."""
    made: Any = object.__new__(cls)
    for name, value in values.items():
        object.__setattr__(made, name, value)
    if hasattr(cls, "__post_init__"):
        made.__post_init__()
    return made
