"""Any value as JSON: what a result writes of contents that it knows nothing about."""

from __future__ import annotations

import base64
import dataclasses
import math
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any

__all__ = ["to_json"]


def to_json(value: Any) -> Any:
    """Return a JSON-able form of any value, never raising.

    Records, dataclasses, pydantic models (`model_dump`), mappings, sequences, sets, enums,
    Decimal, datetime and bytes (base64) are written as data.
    Anything else, and a float that is no finite number, is written as its `repr`.
    """
    try:
        return _to_json(value)
    except Exception:  # noqa: BLE001 - foreign code; a result must be writable whatever it holds
        return _shown(value)


def _to_json(value: Any) -> Any:
    if isinstance(value, Enum):
        return _to_json(value.value)
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, Mapping):
        return {str(key): _to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_to_json(item) for item in value]
    return _object_to_json(value)


def _object_to_json(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode("ascii")
    for method in ("to_dict", "model_dump"):
        dump = getattr(value, method, None)
        if callable(dump) and not isinstance(value, type):
            try:
                return _to_json(dump())
            except Exception:  # noqa: BLE001 - as above, and what is around it is still written
                return _shown(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return _shown(value)


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - as above
        return f"<{type(value).__name__}>"
