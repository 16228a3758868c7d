"""What a forked child begins anew."""

from __future__ import annotations

import os
import runpy

import pytest

from llm_core import forks


class Counted:
    """A part that counts its beginnings."""

    def __init__(self) -> None:
        self.beginnings = 0

    def begin_anew(self) -> None:
        self.beginnings += 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
# Python 3.12 warns of a fork beside other threads, which a test before may have left to end.
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_part_begins_anew_in_a_forked_child_and_not_in_the_parent() -> None:
    part = Counted()
    forks.begin_anew_in_children(part)
    child = os.fork()
    if child == 0:
        os._exit(part.beginnings)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 1
    assert part.beginnings == 0


def test_where_there_is_no_fork_a_part_is_taken_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "register_at_fork", raising=False)
    part = Counted()
    runpy.run_path(forks.__file__)["begin_anew_in_children"](part)
    assert part.beginnings == 0
