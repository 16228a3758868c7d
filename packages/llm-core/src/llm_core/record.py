"""`Record`: the base of every value here, with its round trip through JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final, Self

from llm_core._layout import UNSET, LayoutOnDemand, Unset
from llm_core.errors import InvalidValue
from llm_core.value import Value

__all__ = ["NOT_JSON", "UNSET", "CheckedRecord", "Record", "Unset", "require"]

NOT_JSON: Final = MappingProxyType({"json": False})
"""Metadata of a field that `to_dict` leaves out."""


class Record(Value):
    """A value that round-trips through `json.dumps`.

    `from_dict(json.loads(json.dumps(record.to_dict()))) == record` holds for every record
    whose free-form fields (`Any`) hold JSON values.
    Lists and mappings given for a field are kept as tuples and as deeply frozen mappings.
    Classes that stand in a union carry a `kind` that `to_dict` writes first.
    Subclasses are decorated with `@immutable`, as those of any `Value`.
    """

    __slots__ = ()

    kind: ClassVar[str] = ""
    _layout: ClassVar[LayoutOnDemand]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._layout = LayoutOnDemand()

    def __post_init__(self) -> None:
        for name, default, seal in self._layout.containers:
            value = getattr(self, name)
            if value is not default:
                sealed = seal(value)
                if sealed is not value:
                    object.__setattr__(self, name, sealed)

    def to_dict(self) -> dict[str, Any]:
        """Return every field as JSON-able data, without unset fields and raw vendor objects."""
        written: dict[str, Any] = {"kind": self.kind} if self.kind else {}
        for name, encode in self._layout.encoders:
            value = getattr(self, name)
            if value is not UNSET:
                written[name] = value if value is None or encode is None else encode(value)
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
        codecs = cls._layout.codecs
        values = {}
        for key, value in data.items():
            if key in codecs:
                values[key] = codecs[key].decode(value, f"{path}.{key}")
            elif key == "kind" and cls.kind:
                if value != cls.kind:
                    raise InvalidValue.of(f"{path}.kind", value, repr(cls.kind))
            else:
                raise InvalidValue.of(path, key, f"only the fields {', '.join(codecs)}")
        for name in cls._layout.required:
            if name not in values:
                field = f"{path}.{name}"
                message = f"{field}: got nothing, expected a value, as it has no default"
                raise InvalidValue(message, details={"field": field})
        return cls(**values)


class CheckedRecord(Record):
    """A record that callers fill in: the type of every field is checked, too.

    Subclasses put rules beyond the types into `_validate`.
    """

    __slots__ = ()

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Do as the constructor does with these keywords, but spend nothing on the fields that are not given."""
        made: Self = cls._unchecked(**fields)
        made._check(fields)
        return made

    def __post_init__(self) -> None:
        self._check(self._layout.checks)

    def _check(self, names: Iterable[str]) -> None:
        checks = self._layout.checks
        for name in names:
            known = checks.get(name)
            if known is None:
                continue
            path, default, kept, check, besides = known
            value = getattr(self, name)
            if value is default or type(value) is kept:
                continue
            if value is None or value is UNSET:
                if value in besides:
                    continue
                raise InvalidValue.of(path, value, "a value")
            checked = check(value, path)
            if checked is not value:
                object.__setattr__(self, name, checked)
        self._validate()

    def _validate(self) -> None:
        """Check what types cannot say; raise InvalidValue."""


def require(owner: object, name: str, condition: bool, expected: str) -> None:
    """Raise InvalidValue for the field `name` of `owner` unless `condition` holds."""
    if not condition:
        path = f"{type(owner).__name__}.{name}"
        raise InvalidValue.of(path, getattr(owner, name), expected)
