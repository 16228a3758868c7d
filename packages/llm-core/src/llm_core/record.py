"""`Record`: the base of every value here, with its round trip through JSON."""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Mapping
from enum import Enum
from typing import Any, ClassVar, Final, Self

from llm_core._codec import Codec, codec_for
from llm_core.errors import InvalidValue

__all__ = ["UNSET", "CheckedRecord", "Record", "Unset", "require"]


class Unset(Enum):
    """The type of `UNSET`."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET
"""Marks a field that was not given, where None is a value somebody may want to give."""

NOT_JSON: Final = {"json": False}
"""Metadata of a field that `to_dict` leaves out."""


class Record:
    """A frozen, slotted, keyword-only dataclass that round-trips through `json.dumps`.

    `from_dict(json.loads(json.dumps(record.to_dict()))) == record` holds for every record
    whose free-form fields (`Any`) hold JSON values.
    Classes that stand in a union carry a `kind` that `to_dict` writes first.
    """

    __slots__ = ()

    kind: ClassVar[str] = ""

    def to_dict(self) -> dict[str, Any]:
        """Return every field as JSON-able data; unset fields and raw vendor objects are left out."""
        written: dict[str, Any] = {"kind": self.kind} if self.kind else {}
        for name, codec in codecs_of(type(self)).items():
            value = getattr(self, name)
            if value is not UNSET:
                written[name] = codec.encode(value)
        return written

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Build the record that `to_dict` wrote; missing fields take their defaults.

        Raises InvalidValue naming the field for an unknown key, a missing field without default,
        or a value of the wrong type.
        """
        return cls.decode(data, cls.__name__)

    @classmethod
    def decode(cls, data: Any, path: str) -> Self:
        """Do as `from_dict`, calling the record `path` in error messages."""
        if not isinstance(data, Mapping):
            raise InvalidValue.of(path, data, "a mapping")
        codecs = codecs_of(cls)
        values = {}
        for key, value in data.items():
            if key == "kind" and cls.kind and value == cls.kind:
                continue
            if key not in codecs:
                raise InvalidValue.of(path, key, f"only the fields {', '.join(codecs)}")
            values[key] = codecs[key].decode(value, f"{path}.{key}")
        for name in required_of(cls):
            if name not in values:
                raise InvalidValue(f"{path}.{name}: missing, and it has no default")
        return cls(**values)


class CheckedRecord(Record):
    """A record that callers fill in: field types are checked, lists become tuples, mappings are frozen.

    Subclasses put rules beyond the types into `_validate`.
    """

    __slots__ = ()

    def __post_init__(self) -> None:
        owner = type(self).__name__
        for name, codec in codecs_of(type(self)).items():
            value = getattr(self, name)
            if value is None or value is UNSET:
                if name in optional_of(type(self)):
                    continue
                raise InvalidValue.of(f"{owner}.{name}", value, "a value")
            checked = codec.check(value, f"{owner}.{name}")
            if checked is not value:
                object.__setattr__(self, name, checked)
        self._validate()

    def _validate(self) -> None:
        """Check what types cannot say; raise InvalidValue."""


def require(record: object, field: str, condition: bool, expected: str) -> None:  # noqa: FBT001
    """Raise InvalidValue for `record.field` unless `condition` holds."""
    if not condition:
        path = f"{type(record).__name__}.{field}"
        raise InvalidValue.of(path, getattr(record, field), expected)


@functools.cache
def codecs_of(cls: type[Record]) -> Mapping[str, Codec]:
    """Return the codec of every field that is written as JSON, in order."""
    hints = typing.get_type_hints(cls)
    return {
        f.name: codec_for(_without_unset(hints[f.name]))
        for f in dataclasses.fields(cls)  # type: ignore[arg-type]
        if f.metadata.get("json", True)
    }


@functools.cache
def optional_of(cls: type[Record]) -> frozenset[str]:
    """Return the names of the fields that may be None or unset."""
    hints = typing.get_type_hints(cls)
    return frozenset(
        name
        for name in codecs_of(cls)
        if hints[name] in (Any, object)
        or type(None) in typing.get_args(hints[name])
        or Unset in typing.get_args(hints[name])
    )


@functools.cache
def required_of(cls: type[Record]) -> tuple[str, ...]:
    """Return the names of the fields without default."""
    return tuple(
        f.name
        for f in dataclasses.fields(cls)  # type: ignore[arg-type]
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    )


def _without_unset(hint: Any) -> Any:
    arguments = tuple(a for a in typing.get_args(hint) if a is not Unset)
    if len(arguments) == len(typing.get_args(hint)):
        return hint
    return typing.Union[arguments]  # noqa: UP007 - built from a tuple
