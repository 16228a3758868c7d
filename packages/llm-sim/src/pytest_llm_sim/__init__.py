"""The pytest fixture `llm_sim`: a simulator for one test.

A package of its own, so that pytest, which loads every plugin at its start, does not load `llm_sim`
for suites that never ask for the fixture, nor before coverage measures.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from llm_sim import SimServer

__all__ = ["llm_sim", "pytest_configure"]

_MARKER = (
    "llm_sim(script=None, **settings): settings of the test's simulator, as SimServer takes them"
)


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture
def llm_sim(request: pytest.FixtureRequest) -> Iterator[SimServer]:
    """Give a running `SimServer`; `@pytest.mark.llm_sim(script, limits=…)` says how it behaves."""
    from llm_sim import SimError, SimServer

    marker = request.node.get_closest_marker("llm_sim")
    arguments, settings = (marker.args, marker.kwargs) if marker else ((), {})
    try:
        server = SimServer(*arguments, **settings)
    except (SimError, TypeError) as error:  # the marker is wrong: its user needs no traceback
        pytest.fail(f"@pytest.mark.llm_sim: {error}", pytrace=False)
    with server as sim:
        yield sim
