"""`Value`: the base of all that is immutable here, and `@immutable`, which makes its subclasses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields
from operator import attrgetter
from reprlib import recursive_repr
from typing import Any, ClassVar, NoReturn, ParamSpec, Protocol, TypeVar, cast, dataclass_transform

from llm_core._constructor import ConstructorOnDemand

__all__ = ["Value", "drafts_of", "immutable", "unchecked", "with_unchecked"]

C = TypeVar("C", bound=type)
P = ParamSpec("P")
V = TypeVar("V", bound="Value")


class Value:
    """A frozen object, equal to any of its class whose fields are equal.

    A subclass may have a `__post_init__` that checks the fields, or replaces one by
    `object.__setattr__`.
    """

    __slots__ = ()

    # For type checkers: what makes `dataclasses.fields` and `replace` take it.
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    _identity: ClassVar[Callable[[Any], Any]]
    _unchecked: ClassVar[Callable[..., Any]]
    _draft: ClassVar[Callable[[], Any]]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.__dict__.get("__setattr__", object.__setattr__) is not object.__setattr__:
            # `dataclass(frozen=True, slots=True)`, for classes that want more than `immutable` has,
            # writes methods that belong to the class as it was before it got its slots, and that
            # fail with a TypeError for names that are no fields.
            del cls.__setattr__, cls.__delattr__

    def __setattr__(self, name: str, _value: Any) -> NoReturn:
        raise FrozenInstanceError(f"cannot assign to {name!r}: {type(self).__name__} is frozen")

    def __delattr__(self, name: str) -> NoReturn:
        raise FrozenInstanceError(f"cannot delete {name!r}: {type(self).__name__} is frozen")

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        identity = type(self)._identity
        return bool(identity(self) == identity(other))

    def __hash__(self) -> int:
        return hash(type(self)._identity(self))

    @recursive_repr()
    def __repr__(self) -> str:
        shown = (f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if f.repr)
        return f"{type(self).__qualname__}({', '.join(shown)})"

    def __reduce__(self) -> Any:
        return _restored, (
            type(self),
            {f.name: getattr(self, f.name) for f in fields(self) if f.init},
        )


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
def immutable(cls: C) -> C:
    """Make a subclass of `Value` a frozen, slotted, keyword-only dataclass.

    It is what `dataclasses.dataclass` makes, at a third of the time at import and a quarter of
    the time for an instance; `fields`, `replace` and `asdict` of the standard library work.
    Fields take a default or none; raises TypeError for `default_factory` and `init=False`.
    """
    made: Any = dataclass(init=False, repr=False, eq=False, slots=True, kw_only=True)(cls)
    found = fields(made)
    for each in found:
        if each.default_factory is not MISSING or not each.init:
            raise TypeError(
                f"{cls.__name__}.{each.name}: expected a default or none; "
                "values are immutable, so a field needs no factory"
            )
    compared = [each.name for each in found if each.compare]
    made._identity = attrgetter(*compared or ["__class__"])
    made.__new__ = ConstructorOnDemand(made, "__new__")
    made._unchecked = ConstructorOnDemand(made, "_unchecked")
    made._draft = ConstructorOnDemand(made, "_draft")
    return made  # type: ignore[no-any-return]


def _restored(kind: type[V], values: Mapping[str, Any]) -> V:
    """Build the value that was pickled or copied."""
    return kind(**values)


class _Unchecked(Protocol):
    def __call__(self, kind: Callable[P, V], /) -> Callable[P, V]: ...


# No function, because it would cost as much as half of what it returns.
unchecked = cast("_Unchecked", attrgetter("_unchecked"))
"""Return a constructor of a class that takes the same fields and checks nothing: `unchecked(Usage)(input_tokens=3)`.

A call is described anew several times on its way, as a request, attempts, events and a result;
checking each time what was checked before would cost more than all else here.
Containers must be tuples and FrozenDicts already.
"""


def drafts_of(kind: type[Value]) -> Callable[[], Any]:
    """Return what makes drafts of a class: instances that can be changed, and have no field yet.

    For classes of so many fields that Python collects the arguments of a call in a dict (more than
    fifteen keywords), and where even the call of a constructor is too dear. When *every* field is
    set, unchecked as above, ``draft.__class__ = kind`` turns the draft into the value itself.
    """
    return kind._draft


def with_unchecked(value: V, **changes: Any) -> V:
    """Return a copy of a value with some fields changed to others that need no check."""
    kind = type(value)
    made: V = kind._unchecked(**{n: getattr(value, n) for n in kind.__dataclass_fields__} | changes)
    return made
