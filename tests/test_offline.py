"""No test can leave this machine, and a service that is missing says so."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# 192.0.2.0/24 is reserved for documentation (RFC 5737): nobody answers there.
OUTSIDE = ("192.0.2.1", 80)


def test_connecting_outside_is_refused() -> None:
    with socket.socket() as client, pytest.raises(RuntimeError, match=r"192\.0\.2\.1.*refused"):
        client.connect(OUTSIDE)


def test_sending_a_datagram_outside_is_refused() -> None:
    with (
        socket.socket(type=socket.SOCK_DGRAM) as client,
        pytest.raises(RuntimeError, match=r"192\.0\.2\.1.*refused"),
    ):
        client.sendto(b"x", OUTSIDE)


def test_resolving_a_name_outside_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"'example\.org' refused"):
        socket.getaddrinfo("example.org", 443)


@pytest.mark.parametrize("name", ["host.invalid", "no such host"])
def test_a_name_that_cannot_exist_is_unknown_as_everywhere(name: str) -> None:
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo(name, 443)


def test_an_address_is_no_name_to_look_up() -> None:
    assert socket.getaddrinfo(*OUTSIDE)[0][4] == OUTSIDE


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_is_open(host: str) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection((host, server.getsockname()[1]), timeout=5) as client,
    ):
        assert client.getpeername()[0] == "127.0.0.1"


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no AF_UNIX")
def test_a_unix_socket_is_open(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path)
        server.listen()
        client.connect(path)
        assert client.getpeername() == path


def test_a_child_process_is_refused_too() -> None:
    code = f"import socket; socket.create_connection({OUTSIDE!r}, timeout=1)"
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert "OutsideNetworkError" in child.stderr


def run_pytest(
    folder: Path, code: str, *options: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `code` as a test file below `folder` under the repository's conftest and settings."""
    (folder / "test_inner.py").write_text(code)
    settings = ["-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "conftest", *settings, *options, str(folder)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_only_a_live_test_may_go_outside(tmp_path: Path) -> None:
    code = """
import socket
import pytest

@pytest.mark.live
def test_live():
    with socket.socket() as client, pytest.raises(OSError):
        client.settimeout(0.01)
        client.connect(("192.0.2.1", 80))

def test_plain():
    with socket.socket() as client, pytest.raises(RuntimeError):
        client.connect(("192.0.2.1", 80))
"""
    assert "1 passed, 1 deselected" in run_pytest(tmp_path, code).stdout
    assert "2 passed" in run_pytest(tmp_path, code, "-m", "live or not live").stdout


NEEDS_REDIS = "def test_redis(redis_url): pass\n"


def test_without_redis_a_newcomer_sees_a_skip_and_how_to_start_one(tmp_path: Path) -> None:
    ran = run_pytest(tmp_path, NEEDS_REDIS, REDIS_URL="redis://127.0.0.1:1")
    assert "1 skipped" in ran.stdout
    assert "no Redis at redis://127.0.0.1:1" in ran.stdout
    assert "start one with: redis-server" in ran.stdout


def test_without_redis_continuous_integration_fails(tmp_path: Path) -> None:
    ran = run_pytest(tmp_path, NEEDS_REDIS, REDIS_URL="redis://127.0.0.1:1", CI="true")
    assert ran.returncode == 1
    assert "no Redis at redis://127.0.0.1:1" in ran.stdout


def test_a_redis_that_answers_is_used(tmp_path: Path) -> None:
    code = "def test_redis(redis_url): assert redis_url == 'redis://127.0.0.1:{}'\n"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        answer = (
            "import socket, sys; c, _ = socket.socket(fileno=int(sys.argv[1])).accept(); "
            "c.recv(6); c.sendall(b'+PONG')"
        )
        with subprocess.Popen(
            [sys.executable, "-c", answer, str(server.fileno())], pass_fds=[server.fileno()]
        ):
            ran = run_pytest(
                tmp_path, code.format(port), REDIS_URL=f"redis://127.0.0.1:{port}", CI="true"
            )
    assert "1 passed" in ran.stdout
