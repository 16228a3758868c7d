"""What the package shows, and what importing it does."""

from __future__ import annotations

import subprocess
import sys

import pytest

import llm_pipeline

HEAVY = (
    "asyncio",
    "jiter",
    "json_repair",
    "jsonpath",
    "jsonschema",
    "llm_pipeline.ladder",
    "pydantic",
    "string2dict",
    "yaml",
)


def test_all_is_exactly_what_is_public() -> None:
    shown = {
        name
        for name, value in vars(llm_pipeline).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("llm_pipeline")
    }
    assert set(llm_pipeline.__all__) == shown | {"StepLike"}
    for name in llm_pipeline.__all__:
        assert hasattr(llm_pipeline, name)


@pytest.mark.parametrize("module", HEAVY)
def test_importing_the_package_leaves_heavy_modules_alone(module: str) -> None:
    code = f"import llm_pipeline, sys; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
