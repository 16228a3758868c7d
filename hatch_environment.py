"""Give hatch's environment every package's extras and test requirements.

`workspace.members` installs the packages editable, with their plain dependencies. Their optional
ones and their dependency groups are read here, so that adding a folder to `packages/` is enough.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from hatch.env.collectors.plugin.interface import EnvironmentCollectorInterface


class PackageRequirements(EnvironmentCollectorInterface):
    """Append to the default environment what `packages/*/pyproject.toml` ask for."""

    def finalize_config(self, config: dict[str, dict[str, Any]]) -> None:
        """Extend `dependencies` of the environment `default` in place."""
        requirements = config["default"].setdefault("dependencies", [])
        for path in sorted(Path(self.root).glob("packages/*/pyproject.toml")):
            with path.open("rb") as file:
                package = tomllib.load(file)
            project = package["project"]
            if extras := ",".join(project.get("optional-dependencies", ())):
                requirements.append(f"{project['name']}[{extras}]")
            requirements.extend(package.get("dependency-groups", {}).get("test", ()))
