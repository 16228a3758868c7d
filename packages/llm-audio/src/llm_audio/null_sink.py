"""A sound system for machines without sound hardware: a private PulseAudio daemon whose loudspeaker is its microphone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

__all__ = ["NullSink"]

_START_SECONDS = 10.0


class NullSink:
    """A PulseAudio daemon of one's own, with null sinks: what is played to one is heard at its monitor.

    ::

        with NullSink() as sound, sound.activated():
            play(clip)

    It listens on a socket in a folder of its own and is stopped with the `with`; other daemons are not touched.
    The first of `sinks` is the default loudspeaker, and its monitor the default microphone.
    """

    def __init__(self, *sinks: str) -> None:
        self._sinks = sinks or ("loop",)
        self._folder: str | None = None
        self._daemon: subprocess.Popen[bytes] | None = None

    @staticmethod
    def why_not() -> str:
        """Say why it cannot be started on this machine, and what would help; empty if it can."""
        if shutil.which("pulseaudio") is None:
            return "no pulseaudio: apt-get install pulseaudio libasound2-plugins libportaudio2"
        try:
            import sounddevice  # type: ignore[import-untyped]  # noqa: F401
        except (ImportError, OSError) as error:
            return f"no PortAudio ({error}): apt-get install libportaudio2"
        return ""

    @property
    def environment(self) -> Mapping[str, str]:
        """What a program needs in its environment to use it."""
        return {
            "PULSE_SERVER": f"unix:{self._folder}/native",
            # Shorter buffers run dry on a busy machine.
            "PULSE_LATENCY_MSEC": "60",
        }

    @contextmanager
    def activated(self) -> Iterator[None]:
        """Make this process use it: PortAudio looks for devices once, so it is loaded anew."""
        before = {name: os.environ.get(name) for name in self.environment}
        os.environ.update(self.environment)
        _reload_portaudio()
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
            _reload_portaudio()

    def kill(self) -> None:
        """End the daemon at once, as when a device is unplugged."""
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon.wait()

    def __enter__(self) -> Self:
        self._folder = tempfile.mkdtemp(prefix="null-sink-")
        modules = [f"module-null-sink sink_name={name} rate=48000" for name in self._sinks]
        modules.append(f"module-native-protocol-unix socket={self._folder}/native auth-anonymous=1")
        options = [word for module in modules for word in ("-L", module)]
        self._daemon = subprocess.Popen(
            # `-n` reads no configuration; a system-wide daemon is never wanted, also not by root.
            [
                "pulseaudio",
                "--system=false",
                "-n",
                "--exit-idle-time=-1",
                "--daemonize=no",
                *options,
            ],
            env={**os.environ, "HOME": self._folder, "XDG_RUNTIME_DIR": self._folder},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + _START_SECONDS
        while not Path(self._folder, "native").exists():
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise RuntimeError(f"pulseaudio did not start within {_START_SECONDS} s")
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _reload_portaudio() -> None:
    sounddevice: Any = sys.modules.get("sounddevice")
    if sounddevice is not None:
        sounddevice._terminate()
        sounddevice._initialize()
