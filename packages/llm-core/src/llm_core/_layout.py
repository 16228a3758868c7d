"""What a record class knows about its fields, worked out once per class from its type hints."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final

from llm_core._codec import Codec, MappingCodec, OptionalCodec, TupleCodec, codec_for
from llm_core.frozen import freeze

__all__ = ["UNSET", "Layout", "LayoutOnDemand", "Unset"]


class Unset(Enum):
    """The type of `UNSET`."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET
"""Marks a field that was not given, where None is a value somebody may want to give."""


FieldCheck = tuple[str, Any, type | None, Callable[[Any, str], Any], tuple[Unset | None, ...]]
"""Path for messages, default (which needs no check), type of which any value is right, check,
and which of None and UNSET are values."""


_ANYTHING: Final = (Any, object)
"""Type hints of fields that take whatever they are given."""


class Layout:
    """The fields of one record class, in order, as the loops of `Record` want them."""

    __slots__ = ("checks", "codecs", "containers", "encoders", "names", "required")

    def __init__(self, cls: type) -> None:
        fields = dataclasses.fields(cls)
        written = [field for field in fields if field.metadata.get("json", True)]
        hints = typing.get_type_hints(cls)
        self.codecs: Mapping[str, Codec] = types.MappingProxyType(
            {field.name: codec_for(_without_unset(hints[field.name])) for field in written}
        )
        """Field name to codec, of the fields that are written as JSON."""
        self.encoders = tuple(
            (name, _inner(codec).encode if _inner(codec).rewrites else None)
            for name, codec in self.codecs.items()
        )
        """Name, and how a value besides None becomes JSON; None where it is JSON already."""
        self.checks: Mapping[str, FieldCheck] = {
            field.name: (
                f"{cls.__name__}.{field.name}",
                field.default,
                _inner(self.codecs[field.name]).kept,
                # None is no matter of the check, but of the values besides.
                _inner(self.codecs[field.name]).check,
                _values_besides(hints[field.name]),
            )
            for field in written
            if hints[field.name] not in _ANYTHING
        }
        """Field name to its check, of the fields that do not take anything."""
        self.containers: tuple[tuple[str, Any, Callable[[Any], Any]], ...] = tuple(
            (field.name, field.default, _SEALS[type(_inner(self.codecs[field.name]))])
            for field in written
            if type(_inner(self.codecs[field.name])) in _SEALS
        )
        """Name, default, and how a container given for it becomes immutable."""
        self.names = tuple(field.name for field in fields)
        """Names of all fields."""
        self.required = tuple(
            field.name
            for field in fields
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        """Names of the fields without default."""


class LayoutOnDemand:
    """A class attribute that is worked out when it is first read, and then replaced by its value.

    Type hints may name classes that do not exist yet while a record class is being made.
    """

    __slots__ = ()

    def __get__(self, _record: object, cls: type) -> Layout:
        layout = Layout(cls)
        type.__setattr__(cls, "_layout", layout)
        return layout


def _inner(codec: Codec) -> Codec:
    return codec.inner if isinstance(codec, OptionalCodec) else codec


def _tuple_of_list(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


_SEALS: Final[Mapping[type, Callable[[Any], Any]]] = types.MappingProxyType(
    {MappingCodec: freeze, TupleCodec: _tuple_of_list}
)


def _values_besides(hint: Any) -> tuple[Unset | None, ...]:
    """Return which of None and UNSET a field of type `hint` takes besides what its codec checks."""
    arguments = typing.get_args(hint)
    none: tuple[Unset | None, ...] = (None,) if type(None) in arguments else ()
    return (*none, UNSET) if Unset in arguments else none


def _without_unset(hint: Any) -> Any:
    arguments = tuple(a for a in typing.get_args(hint) if a is not Unset)
    if len(arguments) == len(typing.get_args(hint)):
        return hint
    return typing.Union[arguments]  # noqa: UP007 - built from a tuple
