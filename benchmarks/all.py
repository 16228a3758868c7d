"""Every benchmark that writes a page, one after the other.

    hatch run bench all                      # about twenty minutes on a quiet machine
    hatch run bench all gates imports        # only these
    hatch run bench full_path                # not among them: eight minutes against the simulator
    hatch run bench audio                    # nor this: it needs a sound server

The exit code is 1 if any of them missed a target or failed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

PAGES = (
    "flood",
    "gates",
    "imports",
    "metrics",
    "overhead",
    "pipeline",
    "providers",
    "run",
    "sim",
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PAGES))
    names = parser.parse_args().names or PAGES
    if unknown := set(names) - set(PAGES):
        parser.error(f"no page {', '.join(sorted(unknown))!r}; there are {', '.join(PAGES)}")
    ended = []
    for name in names:
        began = time.monotonic()
        code = subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode
        ended.append((name, code, time.monotonic() - began))
    print()
    for name, code, seconds in ended:
        print(f"{name:12}{seconds:6.0f} s  {'targets met' if not code else 'MISSED or failed'}")
    return int(any(code for _, code, _ in ended))


if __name__ == "__main__":
    sys.exit(main())
