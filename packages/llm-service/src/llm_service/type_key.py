"""Types as keys, where `==` says too little.

``int | str`` equals ``str | int``, ``Annotated[int, 1]`` equals ``Annotated[int, True]``, and a pydantic model that was
rebuilt equals itself, although each has another schema.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from types import EllipsisType, GenericAlias, NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

__all__ = ["TypeKey"]


@dataclass(frozen=True, slots=True)
class TypeKey:
    """A type that equals another one if it is made of the same classes, values and metadata in the same order."""

    parts: Hashable
    kind: Any = field(compare=False)

    @classmethod
    def of(cls, kind: Any) -> TypeKey | None:
        """Return the key of a type; None for one that may mean something else the next time, or is unknown here.

        Such are names of types that are yet to be found, and aliases that are evaluated late.
        """
        try:
            made = cls(_parts(kind), kind)
            hash(made)
        except (_Unknown, TypeError):  # TypeError: `Literal` takes what has no hash
            return None
        return made


class _Unknown(Exception):
    """A part that no key can be made of."""


class _Same:
    """An object that equals nothing but itself, and lives as long as the key."""

    __slots__ = ("it",)

    def __init__(self, it: object) -> None:
        self.it = it

    def __hash__(self) -> int:
        return id(self.it)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.it is other.it


def _parts(kind: Any) -> tuple[Hashable, ...]:
    origin = get_origin(kind)
    if origin is None:
        if isinstance(kind, type):
            # A pydantic model that is rebuilt gets another validator, and may have another schema.
            return _Same(kind), _Same(getattr(kind, "__pydantic_validator__", None))
        if kind is Any or isinstance(kind, NoneType | EllipsisType):
            return (_Same(kind),)
        raise _Unknown
    if origin is Annotated:
        metadata = (_Same(value) for value in kind.__metadata__)
        return (Annotated, _parts(kind.__origin__), *metadata)
    if origin is Literal:
        return (Literal, *((type(value), value) for value in get_args(kind)))
    if origin is Union or isinstance(kind, UnionType):
        return (Union, *map(_parts, get_args(kind)))
    if isinstance(origin, type):
        # ``Dict[str, int]`` is called otherwise than ``dict[str, int]``, which the name of its schema shows.
        return (isinstance(kind, GenericAlias), _parts(origin), *map(_parts, get_args(kind)))
    raise _Unknown
