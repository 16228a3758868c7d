"""How each field type is checked, written as JSON and read back.

A codec is chosen once per field from its type hint, so that `Record` needs no per-class code.
`path` in every method is the dotted name of the field, for error messages.
"""

from __future__ import annotations

import base64
import functools
import math
import operator
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, ClassVar, Protocol

from llm_core._json_form import to_json
from llm_core.errors import InvalidValue
from llm_core.frozen import freeze

if typing.TYPE_CHECKING:
    from llm_core.record import Record

__all__ = ["Codec", "codec_for"]


class Codec(Protocol):
    """One field type's three operations."""

    @property
    def rewrites(self) -> bool:
        """Whether `encode` gives something else than the value itself."""

    @property
    def kept(self) -> type | None:
        """The type whose values `check` takes as they are, one and all; None if there is none."""

    def check(self, value: Any, path: str) -> Any:
        """Return `value`, made immutable where needed; raise InvalidValue for a wrong type."""

    def encode(self, value: Any) -> Any:
        """Return the JSON form of a valid value."""

    def decode(self, value: Any, path: str) -> Any:
        """Return the value of a JSON form; raise InvalidValue if it is not one."""


class AnyCodec:
    """Whatever the caller put there: kept by reference, written as well as JSON allows."""

    rewrites: ClassVar = True
    kept: ClassVar[type | None] = None

    def check(self, value: Any, path: str) -> Any:
        return value

    def encode(self, value: Any) -> Any:
        return to_json(value)

    def decode(self, value: Any, path: str) -> Any:
        return value


class ScalarCodec:
    """str, bool, int and finite float; a bool is no number, an int is a valid float."""

    rewrites: ClassVar = False

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.kept = None if kind is float else kind
        self.accepted = (int, float) if kind is float else (kind,)

    def check(self, value: Any, path: str) -> Any:
        if not isinstance(value, self.accepted) or (
            isinstance(value, bool) and self.kind is not bool
        ):
            raise InvalidValue.of(path, value, f"a value of type {self.kind.__name__}")
        if self.kind is float and not math.isfinite(typing.cast("float", value)):
            raise InvalidValue.of(path, value, "a finite number")
        return value

    def encode(self, value: Any) -> Any:
        return value

    decode = check


class EnumCodec:
    """A string enum, also given by its value."""

    rewrites: ClassVar = True

    def __init__(self, kind: type[Enum]) -> None:
        self.kind = self.kept = kind

    def check(self, value: Any, path: str) -> Any:
        if type(value) is self.kind:  # spares the enum's call, which costs more than all else here
            return value
        try:
            return self.kind(value)
        except ValueError:
            choices = ", ".join(repr(member.value) for member in self.kind)
            raise InvalidValue.of(path, value, f"one of {choices}") from None

    def encode(self, value: Any) -> Any:
        return value.value

    decode = check


class LiteralCodec:
    """One of a few constants."""

    rewrites: ClassVar = False
    kept: ClassVar[type | None] = None

    def __init__(self, choices: tuple[Any, ...]) -> None:
        self.choices = choices

    def check(self, value: Any, path: str) -> Any:
        if isinstance(value, str) and value in self.choices:
            return value
        raise InvalidValue.of(path, value, f"one of {', '.join(map(repr, self.choices))}")

    def encode(self, value: Any) -> Any:
        return value

    decode = check


class DecimalCodec:
    """Money: a finite Decimal, written as a string so that no digit is lost."""

    rewrites: ClassVar = True
    kept: ClassVar[type | None] = None

    def check(self, value: Any, path: str) -> Any:
        if isinstance(value, Decimal) and value.is_finite():
            return value
        raise InvalidValue.of(path, value, "a finite Decimal")

    def encode(self, value: Decimal) -> Any:
        return str(value)

    def decode(self, value: Any, path: str) -> Any:
        try:
            return self.check(Decimal(value if isinstance(value, str) else "NaN"), path)
        except (InvalidOperation, InvalidValue):
            raise InvalidValue.of(path, value, "a decimal number written as a string") from None


class DatetimeCodec:
    """A timezone-aware time, written as ISO 8601."""

    rewrites: ClassVar = True
    kept: ClassVar[type | None] = None

    def check(self, value: Any, path: str) -> Any:
        if isinstance(value, datetime) and value.tzinfo is not None:
            return value
        raise InvalidValue.of(path, value, "a timezone-aware datetime")

    def encode(self, value: datetime) -> Any:
        return value.isoformat()

    def decode(self, value: Any, path: str) -> Any:
        try:
            return self.check(datetime.fromisoformat(value), path)
        except (TypeError, ValueError):
            raise InvalidValue.of(path, value, "an ISO 8601 time with its UTC offset") from None


class BytesCodec:
    """Binary data, kept as bytes and written as base64."""

    rewrites: ClassVar = True
    kept: ClassVar[type | None] = bytes

    def check(self, value: Any, path: str) -> Any:
        if isinstance(value, bytes):
            return value
        if isinstance(value, (bytearray, memoryview)):
            return bytes(value)
        raise InvalidValue.of(path, value, "a value of type bytes")

    def encode(self, value: bytes) -> Any:
        return base64.b64encode(value).decode("ascii")

    def decode(self, value: Any, path: str) -> Any:
        try:
            if isinstance(value, str):
                return base64.b64decode(value, validate=True)
        except ValueError:  # which binascii.Error is, too
            pass
        raise InvalidValue.of(path, value, "base64 text")


class MappingCodec:
    """JSON object, kept as a deeply immutable mapping; values of a given type are checked."""

    rewrites: ClassVar = True
    kept: ClassVar[type | None] = None

    def __init__(self, item: Codec) -> None:
        self.item = item

    def check(self, value: Any, path: str) -> Any:
        if not isinstance(value, Mapping):
            raise InvalidValue.of(path, value, "a mapping")
        try:
            if isinstance(self.item, AnyCodec):
                return freeze(value)
        except RecursionError:
            raise InvalidValue.of(path, value, "a mapping that does not contain itself") from None
        return freeze({key: self.item.check(v, f"{path}[{key!r}]") for key, v in value.items()})

    def encode(self, value: Mapping[str, Any]) -> Any:
        return {key: self.item.encode(item) for key, item in value.items()}

    def decode(self, value: Any, path: str) -> Any:
        if not isinstance(value, Mapping):
            raise InvalidValue.of(path, value, "a mapping")
        return freeze({k: self.item.decode(item, f"{path}[{k!r}]") for k, item in value.items()})


class TupleCodec:
    """Any sequence but text, kept as a tuple and written as an array."""

    rewrites: ClassVar = True
    kept: ClassVar[type | None] = None

    def __init__(self, item: Codec) -> None:
        self.item = item

    def _items(self, value: Any, path: str) -> Sequence[Any]:
        if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
            raise InvalidValue.of(path, value, "a list or tuple")
        return value

    def check(self, value: Any, path: str) -> Any:
        items = self._items(value, path)
        checked = [self.item.check(item, f"{path}[{i}]") for i, item in enumerate(items)]
        unchanged = isinstance(value, tuple) and all(map(operator.is_, checked, value))
        return value if unchanged else tuple(checked)

    def encode(self, value: tuple[Any, ...]) -> Any:
        return [self.item.encode(item) for item in value]

    def decode(self, value: Any, path: str) -> Any:
        items = self._items(value, path)
        return tuple([self.item.decode(item, f"{path}[{i}]") for i, item in enumerate(items)])


class RecordCodec:
    """A nested record of one class."""

    rewrites: ClassVar = True

    def __init__(self, kind: type[Record]) -> None:
        self.kind = self.kept = kind

    def check(self, value: Any, path: str) -> Any:
        if isinstance(value, self.kind):
            return value
        raise InvalidValue.of(path, value, f"a {self.kind.__name__}")

    def encode(self, value: Record) -> Any:
        return value.to_dict()

    def decode(self, value: Any, path: str) -> Any:
        return self.kind.decode(value, path)


class TaggedUnionCodec:
    """One of several record classes, told apart by the `kind` each writes."""

    rewrites: ClassVar = True
    kept: ClassVar[type | None] = None

    def __init__(self, kinds: tuple[type[Record], ...]) -> None:
        self.kinds = {kind.kind: kind for kind in kinds}
        self.names = " or ".join(kind.__name__ for kind in kinds)
        self.classes = kinds

    def check(self, value: Any, path: str) -> Any:
        if isinstance(value, self.classes):
            return value
        raise InvalidValue.of(path, value, f"a {self.names}")

    def encode(self, value: Record) -> Any:
        return value.to_dict()

    def decode(self, value: Any, path: str) -> Any:
        tag = value.get("kind") if isinstance(value, Mapping) else None
        if not isinstance(tag, str) or tag not in self.kinds:
            choices = ", ".join(map(repr, self.kinds))
            raise InvalidValue.of(path, value, f"an object whose 'kind' is one of {choices}")
        return self.kinds[tag].decode(value, path)


class AlternativesCodec:
    """One of several plain types, such as ``int | Decimal``: the first that takes the value."""

    rewrites: ClassVar = True
    kept: ClassVar[type | None] = None

    def __init__(self, members: tuple[Codec, ...]) -> None:
        self.members = members

    def check(self, value: Any, path: str) -> Any:
        return self._first("check", value, path)

    def encode(self, value: Any) -> Any:
        return to_json(value)

    def decode(self, value: Any, path: str) -> Any:
        return self._first("decode", value, path)

    def _first(self, operation: str, value: Any, path: str) -> Any:
        refusals = []
        for member in self.members:
            try:
                return getattr(member, operation)(value, path)
            except InvalidValue as refusal:
                refusals.append(str(refusal).partition("expected ")[2])
        raise InvalidValue.of(path, value, " or ".join(refusals))


class OptionalCodec:
    """None, or what the inner codec takes."""

    rewrites: ClassVar = True
    kept: ClassVar[type | None] = None

    def __init__(self, inner: Codec) -> None:
        self.inner = inner

    def check(self, value: Any, path: str) -> Any:
        return None if value is None else self.inner.check(value, path)

    def encode(self, value: Any) -> Any:
        return None if value is None else self.inner.encode(value)

    def decode(self, value: Any, path: str) -> Any:
        return None if value is None else self.inner.decode(value, path)


_SIMPLE: Mapping[Any, Codec] = types.MappingProxyType(
    {
        Any: AnyCodec(),
        object: AnyCodec(),
        str: ScalarCodec(str),
        bool: ScalarCodec(bool),
        int: ScalarCodec(int),
        float: ScalarCodec(float),
        Decimal: DecimalCodec(),
        datetime: DatetimeCodec(),
        bytes: BytesCodec(),
    }
)


@functools.cache
def codec_for(hint: Any) -> Codec:
    """Choose the codec of a type hint; TypeError for a hint that records do not support."""
    from llm_core.record import Record  # the two know each other; records come first for readers

    if hint in _SIMPLE:
        return _SIMPLE[hint]
    if isinstance(hint, typing.TypeVar):
        return AnyCodec()
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _union_codec(arguments)
    if origin is typing.Literal:
        return LiteralCodec(arguments)
    if origin is tuple:
        return TupleCodec(codec_for(arguments[0]))
    if origin is Mapping:
        return MappingCodec(codec_for(arguments[1]))
    if origin in (type, Callable):
        return AnyCodec()
    kind = origin or hint
    if isinstance(kind, type) and issubclass(kind, Enum):
        return EnumCodec(kind)
    if isinstance(kind, type) and issubclass(kind, Record):
        return RecordCodec(kind)
    raise TypeError(f"records do not support fields of type {hint!r}")


def _union_codec(arguments: tuple[Any, ...]) -> Codec:
    members = tuple(a for a in arguments if a is not type(None))
    inner = codec_for(members[0]) if len(members) == 1 else _codec_of_several(members)
    return OptionalCodec(inner) if len(members) < len(arguments) else inner


def _codec_of_several(members: tuple[Any, ...]) -> Codec:
    from llm_core.record import Record

    if all(isinstance(member, type) and issubclass(member, Record) for member in members):
        return TaggedUnionCodec(members)
    return AlternativesCodec(tuple(map(codec_for, members)))
