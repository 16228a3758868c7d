"""Fail when a package's coverage is below its floor in root pyproject.toml, [tool.coverage-floors].

Run after the tests by `hatch run cov`; `coverage report --include 'packages/llm-gates/*'` then
shows the lines that are missing.
"""

from __future__ import annotations

import sys
import tomllib
from io import StringIO
from pathlib import Path

from coverage import Coverage
from coverage.exceptions import NoDataError

ROOT = Path(__file__).parents[1]


def main() -> int:
    """Print each package's percentage beside its floor and return the exit code."""
    floors = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["coverage-floors"]
    measured = Coverage(config_file=str(ROOT / "pyproject.toml"))
    measured.load()
    too_low = []
    for path in sorted(ROOT.glob("packages/*/pyproject.toml")):
        name = path.parent.name
        floor = floors.get(name, floors["default"])
        missing = StringIO()
        try:
            percent = measured.report(include=[f"packages/{name}/src/*"], file=missing)
        except NoDataError:
            percent = 0.0
        print(f"{name:28} {percent:7.2f} %   floor {floor} %")
        if percent < floor:
            too_low.append(name)
            print(missing.getvalue())
    if too_low:
        print(f"coverage below its floor: {', '.join(too_low)}", file=sys.stderr)
    return 1 if too_low else 0


if __name__ == "__main__":
    sys.exit(main())
