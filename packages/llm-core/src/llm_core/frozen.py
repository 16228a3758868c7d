"""Immutable JSON-like data: a read-only dict, and the way in and out of it."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, Final, NoReturn

__all__ = ["EMPTY", "FrozenDict", "freeze", "thaw"]


class FrozenDict(dict[str, Any]):
    """A dict that cannot be changed, so that it can be shared and nested in frozen values.

    A real dict for reading: `json.dumps`, `isinstance(…, dict)` and equality with plain dicts work.
    Any attempt to change it raises TypeError; `dict(frozen)` (shallow) or `thaw(frozen)` (deep)
    gives a copy to change.
    Hashable when its values are. Built directly it keeps its values as they are:
    `freeze` goes deep.
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

# Most of what stands in JSON; to ask whether it is a Mapping costs more than all else here.
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})


def freeze(value: Any) -> Any:
    """Return `value` with its mappings as FrozenDicts, lists as tuples and sets as frozensets.

    Nested ones, too; other values stay as they are. Keys become strings by `str`, as JSON has no
    others. What is frozen already is not copied.
    Raises RecursionError for a value that contains itself.
    """
    if type(value) in _SCALARS:
        return value
    if isinstance(value, FrozenDict):
        items = {key: freeze(item) for key, item in value.items()}
        same = all(items[key] is item for key, item in value.items())
        return value if same else FrozenDict(items)
    if isinstance(value, Mapping):
        return FrozenDict({str(key): freeze(item) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        parts = [freeze(item) for item in value]
        same = isinstance(value, tuple) and all(map(operator.is_, parts, value))
        return value if same else tuple(parts)
    if isinstance(value, set):
        return frozenset(value)
    return value


def thaw(value: Any) -> Any:
    """Return a plain copy of `value`: dicts and lists that may be changed and sent as JSON.

    Tuples become lists; anything that is no mapping, list or tuple is the same object.
    """
    if type(value) in _SCALARS:
        return value
    if isinstance(value, Mapping):
        return {key: thaw(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [thaw(item) for item in value]
    return value
