"""Put the repository's examples into the wheel, so that `llm-service demo` works where it is installed.

In the repository they are in `examples/` at the root; in a source distribution beside this file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ExamplesHook(BuildHookInterface):
    """Adds the folder `examples` to what is being built."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the folder's place in the wheel or source distribution."""
        if version == "editable":
            return
        here = Path(self.root)
        places = (here / "examples", here.parent.parent / "examples")
        source = next(place for place in places if place.is_dir())
        target = "examples" if self.target_name == "sdist" else "llm_service/examples"
        for path in sorted(source.iterdir()):
            if path.is_file():
                build_data["force_include"][str(path)] = f"{target}/{path.name}"
