"""What a page says about where and when it was measured."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

LOAD_AT_START = os.getloadavg()[0]
"""Programs that wanted the processor in the minute before this process measured anything."""


def conditions() -> str:
    """Return day, machine, system, Python and how busy the machine was."""
    return (
        f"{datetime.now(UTC).date()}, {_processor()}, {os.cpu_count()} cores, {platform.system()} "
        f"{platform.machine()}, Python {platform.python_version()}, load {LOAD_AT_START:.1f} before the start"
    )


def resident_megabytes(process_id: int | None = None) -> float:
    """Return the memory that a process holds, this one if none is named (Linux only)."""
    pages = int(Path(f"/proc/{process_id or 'self'}/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")
