"""Every Python example of every README and of docs/ runs as it stands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUNNER = ROOT / "tests" / "markdown_examples.py"
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("packages/*/README.md"),
        *ROOT.glob("docs/**/*.md"),
    ]
)


def run(document: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the examples of `document` in a process of its own that works in `folder`."""
    return subprocess.run(
        [sys.executable, str(RUNNER), str(document)],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_run(document: Path, tmp_path: Path) -> None:
    ran = run(document, tmp_path)
    if ran.returncode:
        pytest.fail(f"{ran.stderr.strip().splitlines()[-1]}\n\n{ran.stderr}", pytrace=False)


@pytest.mark.parametrize(
    ("examples", "complaint"),
    [
        (
            "```python\nx = 1\n```\n\n```python\nassert x == 2, 'x is 1'\n```\n",
            ":6: AssertionError",
        ),
        ("```python\nx = (\n```\n", ":2: SyntaxError"),
        ("Text.\n\n```py\nraise SystemExit(0)\n```\n", "exit(0)"),
        ("```python\nimport warnings\nwarnings.warn('old')\n```\n", ":3: UserWarning: old"),
        ("- item\n\n  ```python no-run\n  1 / 0\n  ```\n", ":4: ZeroDivisionError"),
    ],
)
def test_a_wrong_example_is_named_with_its_line(
    examples: str, complaint: str, tmp_path: Path
) -> None:
    document = tmp_path / "README.md"
    document.write_text(examples)
    ran = run(document, tmp_path)
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].startswith(str(document))
    assert complaint in ran.stderr.splitlines()[-1]


def test_examples_of_a_file_share_names_and_one_event_loop(tmp_path: Path) -> None:
    document = tmp_path / "README.md"
    document.write_text(
        "```python\nimport asyncio\nlock = asyncio.Lock()\nawait lock.acquire()\n```\n"
        "```console\n$ false\n```\n"
        "```python\nwaiting = asyncio.wait_for(lock.acquire(), 0.01)\n"
        "try:\n    await waiting\nexcept TimeoutError:\n    print('held')\n```\n"
    )
    ran = run(document, tmp_path)
    assert (ran.returncode, ran.stdout) == (0, "held\n")
