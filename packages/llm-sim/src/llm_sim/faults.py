"""Faults: the ways in which a vendor's answer can go wrong."""

from __future__ import annotations

FAULTS: dict[str, str] = {}
