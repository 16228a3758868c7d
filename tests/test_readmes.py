"""Every example of every README and of docs/ runs as it stands, and the pictures are those that the code draws."""

from __future__ import annotations

import shutil
import socket
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
        *ROOT.glob("packages/*/docs/*.md"),
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
        timeout=110,
        check=False,
    )


@pytest.mark.timeout(120)  # a page may start a dozen programs, on a machine that is busy with others
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_run(
    document: Path, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "REDIS_URL" in document.read_text("utf-8"):
        monkeypatch.setenv("REDIS_URL", request.getfixturevalue("redis_url"))
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


@pytest.mark.parametrize(
    ("examples", "complaint"),
    [
        ("```console run\n$ echo a\n$ echo b\nc\n```\n", ":3: WrongOutput: $ echo b"),
        ("Text.\n\n```console run\n$ false\n```\n", ":4: WrongOutput: $ false"),
        (
            "```yaml\n# rules.yaml\na: 1\n```\n",
            ":2: UnusedFile: no later example uses 'rules.yaml'",
        ),
    ],
)
def test_a_wrong_shell_example_is_named_with_its_line(
    examples: str, complaint: str, tmp_path: Path
) -> None:
    document = tmp_path / "README.md"
    document.write_text(examples)
    ran = run(document, tmp_path)
    assert ran.returncode == 1
    assert complaint in ran.stderr


def test_shell_examples_share_one_shell_and_what_was_saved(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text(
        "```python\n# say.py\nimport os\nprint(os.environ['WHAT'], 1)\nprint(2)\n```\n"
        "```console run\n$ export WHAT=hello\n```\n"
        "```console run\n$ python say.py\nhel… 1\n2\n$ printf '1\\n2\\n3\\n'\n…\n3\n"
        "$ for n in 1 2; do\n> echo $n; done\n1\n2\n"
        "$ (sleep 0.1; echo ready) &\nready\n$ cat\n```\n"
        "```console\n$ false\n```\n"
    )
    ran = run(document, tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_what_a_shell_example_starts_ends_with_it(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text(
        "```console run\n$ python -m http.server 8399 --bind 127.0.0.1 2> /dev/null &\n"
        "$ curl -s --retry 20 --retry-connrefused http://127.0.0.1:8399/ -o page\n$ echo 8399 > port\n```\n"
    )
    assert run(document, tmp_path).returncode == 0
    port = int((tmp_path / "port").read_text())
    assert port != 8399
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_the_pictures_are_what_the_code_draws(tmp_path: Path) -> None:
    pictures = ROOT / "docs" / "pictures"
    for code in pictures.glob("*.py"):
        shutil.copy(code, tmp_path)
    subprocess.run([sys.executable, str(tmp_path / "draw.py")], check=True, timeout=50)
    drawn = {path.name: path.read_text("utf-8") for path in tmp_path.glob("*.svg")}
    kept = {path.name: path.read_text("utf-8") for path in pictures.glob("*.svg")}
    assert drawn == kept, "run python docs/pictures/draw.py"


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
