"""Immutable JSON-like data: a read-only dict, and the way in and out of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NoReturn

__all__ = ["EMPTY", "FrozenDict", "freeze", "thaw"]


class FrozenDict(dict[str, Any]):
    """A dict that cannot be changed, so that it can be shared and nested in frozen values.

    A real dict for reading: `json.dumps`, `isinstance(…, dict)` and equality with plain dicts work.
    Any attempt to change it raises TypeError; `dict(frozen)` or `thaw(frozen)` gives a copy to change.
    Hashable when its values are.
    """

    __slots__ = ()

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("this mapping is immutable; change a copy made by thaw()")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[type[FrozenDict], tuple[dict[str, Any]]]:
        return type(self), (dict(self),)

    def __copy__(self) -> FrozenDict:
        return self

    def __deepcopy__(self, _memo: object) -> FrozenDict:
        return self


EMPTY: Final = FrozenDict()
"""The empty mapping, shared as a default value."""


def freeze(value: Any) -> Any:
    """Return `value` with every mapping in it a FrozenDict and every list a tuple; other values as they are.

    Keys become strings, as they do in JSON. What is frozen already is not copied.
    """
    if isinstance(value, FrozenDict):
        return value
    if isinstance(value, Mapping):
        return FrozenDict({str(key): freeze(item) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return tuple(freeze(item) for item in value)
    return value


def thaw(value: Any) -> Any:
    """Return a plain copy of `value`: dicts and lists that may be changed and sent as JSON."""
    if isinstance(value, Mapping):
        return {key: thaw(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [thaw(item) for item in value]
    return value
