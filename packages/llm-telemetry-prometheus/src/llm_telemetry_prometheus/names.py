"""The conventions' names in Prometheus form, and label values that stay few.

https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["OTHER", "BoundedValues", "prometheus_name"]

OTHER: Final = "(other)"

# UCUM units that Prometheus spells out; units in braces are remarks and are left out.
_UNITS: Final = {"s": "seconds"}


def prometheus_name(name: str, unit: str = "") -> str:
    """Return an OpenTelemetry name as Prometheus has it: ``a.b`` in ``s`` is ``a_b_seconds``."""
    flat = re.sub(r"[^a-zA-Z0-9_:]", "_", name)
    suffix = _UNITS.get(unit)
    return f"{flat}_{suffix}" if suffix and not flat.endswith(f"_{suffix}") else flat


class BoundedValues:
    """Lets the first `limit` values of each label through; later ones become ``(other)``."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._seen: dict[str, set[str]] = {}

    def of(self, label: str, value: str) -> str:
        """Return `value`, or ``(other)`` if the label has its fill.

        Threads that meet here may let a value too many through for each of them, not more.
        """
        seen = self._seen.setdefault(label, set())
        if value in seen:
            return value
        if len(seen) >= self._limit:
            return OTHER
        seen.add(value)
        return value
