"""asyncio, imported when it is first used."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from llm_core import later


def run(code: str) -> str:
    """Return what a new interpreter prints that runs `code`."""
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True)
    return ran.stdout.strip()


def test_it_is_imported_by_the_first_use_and_not_before() -> None:
    shown = run(
        "import sys; from llm_core.later import asyncio; print('asyncio' in sys.modules); "
        "loop = asyncio.new_event_loop(); print(loop.run_until_complete(asyncio.sleep(0, 7))); loop.close()"
    )
    assert shown.split() == ["False", "7"]


def test_its_names_are_those_of_the_module_also_when_they_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert later.asyncio.Future is asyncio.Future
    monkeypatch.setattr(asyncio, "Future", object)  # as `nest_asyncio` does in notebooks
    assert later.asyncio.Future is object


def test_a_name_that_it_has_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        later.asyncio.no_such_name  # type: ignore[attr-defined]  # noqa: B018 - the asking is it
