"""What the tests of the pipeline share."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from llm_core import FinishReason, GenerationRequest, ProviderResponse, TextPart
from llm_pipeline import RunContext


def _load_table() -> ModuleType:
    path = Path(__file__).parent / "nasty" / "table.py"
    spec = importlib.util.spec_from_file_location("nasty_table", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["nasty_table"] = module
    spec.loader.exec_module(module)
    return module


TABLE = _load_table()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give every test that asks for a `case` each case of the nasty table."""
    if "case" in metafunc.fixturenames:
        cases = TABLE.load()
        metafunc.parametrize("case", cases, ids=[case.id for case in cases])


@pytest.fixture(scope="session")
def nasty() -> ModuleType:
    """The table of nasty outputs."""
    return TABLE


@pytest.fixture
def reply() -> Any:
    """Build a context whose reply ended for a reason, with or without a model at hand."""

    def build(
        finish: FinishReason = FinishReason.STOP,
        *,
        generate: Any = None,
        request: GenerationRequest | None = None,
    ) -> RunContext:
        response = ProviderResponse(
            provider="scripted", model="m", parts=(TextPart(text="x"),), finish_reason=finish
        )
        return RunContext(request=request, response=response, generate=generate)

    return build
