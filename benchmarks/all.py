"""Every page, one after the other, whatever becomes of one of them.

    hatch run bench all                        # about twenty minutes on a quiet machine
    hatch run bench all gates imports          # only these
    hatch run bench all --rounds=1 --dry-run   # whether each works: options are handed on

At the end stands what became of each, with the targets that were missed; a page that failed stays as it was.
The exit code is 1 if any of them missed a target, failed or was ended after ten minutes.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from benchmarks.harness.environments import ROOT
from benchmarks.harness.pages import FOLDER, missed_on

PAGES = (
    "audio",
    "flood",
    "full_path",
    "gates",
    "imports",
    "metrics",
    "overhead",
    "pipeline",
    "providers",
    "run",
    "sim",
)
LONGEST_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of one benchmark."""

    name: str
    seconds: float
    words: str
    well: bool


def run(name: str, options: Sequence[str]) -> Ended:
    """Run one benchmark with what it starts; end all of it when it takes too long."""
    page = FOLDER / f"{name}.md"
    before = page.stat().st_mtime_ns if page.exists() else 0
    began = time.monotonic()
    command = [sys.executable, "-m", f"benchmarks.{name}", *options]
    # In a group of its own, so that servers and contenders end with it.
    process = subprocess.Popen(command, cwd=ROOT, process_group=0)
    try:
        code = process.wait(LONGEST_SECONDS)
    except subprocess.TimeoutExpired:
        words = f"FAILED: ended after {LONGEST_SECONDS:g} s"
    else:
        is_new = page.exists() and page.stat().st_mtime_ns != before
        if not code:
            words = "targets met"
        elif is_new:
            words = "\n".join(("MISSED", *(f"    {target}" for target in missed_on(page))))
        elif "--dry-run" in options:
            words = "MISSED or FAILED, see above"
        else:
            words = f"FAILED with exit code {code}: the page is the old one"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return Ended(name, time.monotonic() - began, words, words == "targets met")


def main() -> int:
    """Run all that are asked for, then say what became of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PAGES))
    given, options = parser.parse_known_args()
    names = given.names or PAGES
    if unknown := set(names) - set(PAGES):
        parser.error(f"no page {', '.join(sorted(unknown))!r}; there are {', '.join(PAGES)}")
    ended: list[Ended] = []
    try:
        for number, name in enumerate(names, 1):
            print(f"\n=== {name}, {number} of {len(names)} ===\n", flush=True)
            ended.append(run(name, options))
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
    print()
    for one in ended:
        print(f"{one.name:12}{one.seconds:6.0f} s  {one.words}")
    print(f"{'all':12}{sum(one.seconds for one in ended):6.0f} s")
    return int(len(ended) < len(names) or not all(one.well for one in ended))


if __name__ == "__main__":
    sys.exit(main())
