"""The fixture `llm_sim`, used as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import openai
import pytest

from llm_sim import Limits, SimServer


def test_the_fixture_is_a_running_simulator(llm_sim: SimServer) -> None:
    with openai.OpenAI(base_url=llm_sim.openai_base_url, api_key="k") as client:
        assert client.responses.create(model="m", input="hello").output_text == "hello"
    assert llm_sim.report().calls == 1


@pytest.mark.llm_sim([{"exact": "ping", "reply": "pong"}], limits=Limits(rpm=1))
def test_the_marker_says_how_it_behaves(llm_sim: SimServer) -> None:
    client = openai.OpenAI(base_url=llm_sim.openai_base_url, api_key="k", max_retries=0)
    with client:
        assert client.responses.create(model="m", input="ping").output_text == "pong"
        with pytest.raises(openai.RateLimitError):
            client.responses.create(model="m", input="ping")


def test_every_test_has_its_own(llm_sim: SimServer) -> None:
    assert httpx.get(f"{llm_sim.url}/_sim/report").json()["calls"] == 0


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("[{'exakt': 'a'}]", "unknown key 'exakt' in a rule; did you mean 'exact'?"),
        ("limitz=3", "unexpected keyword argument 'limitz'"),
    ],
)
def test_a_wrong_marker_is_told_in_one_line(arguments: str, problem: str, tmp_path: Path) -> None:
    test = tmp_path / "test_wrong.py"
    test.write_text(
        f"import pytest\n\n@pytest.mark.llm_sim({arguments})\ndef test_it(llm_sim): pass\n",
        encoding="utf-8",
    )
    options = ["-c", os.devnull, "--rootdir", str(tmp_path), "-p", "no:cacheprovider"]
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *options, str(test)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert found.returncode == 1
    (line,) = [line for line in found.stdout.splitlines() if line.startswith("@pytest.mark")]
    assert problem in line
    assert "Traceback" not in found.stdout
