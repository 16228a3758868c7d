"""`Record`: the base of every value here, with its round trip through JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import FrozenInstanceError
from types import MappingProxyType
from typing import Any, ClassVar, Final, NoReturn, Self

from llm_core._layout import UNSET, FieldCheck, LayoutOnDemand, Unset
from llm_core._unchecked import unchecked
from llm_core.errors import InvalidValue

__all__ = ["NOT_JSON", "UNSET", "CheckedRecord", "Record", "Unset", "require"]

NOT_JSON: Final = MappingProxyType({"json": False})
"""Metadata of a field that `to_dict` leaves out."""


class Record:
    """A frozen, slotted, keyword-only dataclass that round-trips through `json.dumps`.

    `from_dict(json.loads(json.dumps(record.to_dict()))) == record` holds for every record
    whose free-form fields (`Any`) hold JSON values.
    Lists and mappings given for a field are kept as tuples and as deeply frozen mappings.
    Classes that stand in a union carry a `kind` that `to_dict` writes first.
    """

    __slots__ = ()

    kind: ClassVar[str] = ""
    _layout: ClassVar[LayoutOnDemand]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._layout = LayoutOnDemand()
        if "__setattr__" in cls.__dict__:
            # What dataclasses writes here belongs to the class as it was before it got its slots,
            # and fails with a TypeError for names that are no fields: in `GenerationResult[str]()`
            # typing sets such a name and expects an AttributeError.
            cls.__setattr__ = _refuse_assignment  # type: ignore[method-assign]
            cls.__delattr__ = _refuse_deletion  # type: ignore[method-assign]

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


def _refuse_assignment(record: object, name: str, _value: Any, /) -> NoReturn:
    raise FrozenInstanceError(f"cannot assign to {name!r}: {type(record).__name__} is frozen")


def _refuse_deletion(record: object, name: str, /) -> NoReturn:
    raise FrozenInstanceError(f"cannot delete {name!r}: {type(record).__name__} is frozen")


class CheckedRecord(Record):
    """A record that callers fill in: the type of every field is checked, too.

    Subclasses put rules beyond the types into `_validate`.
    """

    __slots__ = ()

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Do as the constructor does with these keywords, but spend nothing on the fields that are not given."""
        made = unchecked(cls)(**fields)
        checks = cls._layout.checks
        made._check([checks[name] for name in fields if name in checks])
        return made

    def __post_init__(self) -> None:
        self._check(self._layout.checks.values())

    def _check(self, checks: Iterable[FieldCheck]) -> None:
        for name, path, default, check, besides in checks:
            value = getattr(self, name)
            if value is default:
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


def require(record: object, field: str, condition: bool, expected: str) -> None:
    """Raise InvalidValue for `record.field` unless `condition` holds."""
    if not condition:
        path = f"{type(record).__name__}.{field}"
        raise InvalidValue.of(path, getattr(record, field), expected)
