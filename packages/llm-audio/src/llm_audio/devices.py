"""Sound devices: which there are, and which one is meant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from llm_audio.errors import AudioDependencyMissing, DeviceError, NoDevice
from llm_core import Value, immutable

__all__ = ["Device", "Direction", "device_errors", "find_device", "list_devices", "load_system"]

Direction = Literal["input", "output"]
"""``input`` for microphones, ``output`` for loudspeakers."""


@immutable
class Device(Value):
    """A sound device as PortAudio lists it."""

    index: int
    name: str
    host_api: str
    """The system it is reached by: ``ALSA``, ``Core Audio``, ``Windows WASAPI``, …"""
    input_channels: int
    """0 for what is no microphone."""
    output_channels: int
    """0 for what is no loudspeaker."""
    default_sample_rate_hz: int
    is_default_input: bool = False
    is_default_output: bool = False

    def channels(self, direction: Direction) -> int:
        """Return how many channels it has in that direction."""
        return self.input_channels if direction == "input" else self.output_channels

    def is_default(self, direction: Direction) -> bool:
        """Tell whether it is what the system uses when none is named."""
        return self.is_default_input if direction == "input" else self.is_default_output


def list_devices(*, system: Any = None) -> tuple[Device, ...]:
    """Return all devices that were there when PortAudio was loaded.

    `system` is the module sounddevice, or a stand-in (see `llm_audio.testing`).
    Raises AudioDependencyMissing without the extra ``device`` or without PortAudio.
    """
    system = system or load_system()
    with device_errors(system, "the sound system"):
        apis = system.query_hostapis()
        default_input, default_output = system.default.device
        return tuple(
            Device(
                index=index,
                name=row["name"],
                host_api=apis[row["hostapi"]]["name"],
                input_channels=row["max_input_channels"],
                output_channels=row["max_output_channels"],
                default_sample_rate_hz=round(row["default_samplerate"]),
                is_default_input=index == default_input,
                is_default_output=index == default_output,
            )
            for index, row in enumerate(system.query_devices())
        )


def find_device(wanted: int | str | None, direction: Direction, *, system: Any = None) -> Device:
    """Return the device of that index, or whose name is or alone contains `wanted`; None for the system's default.

    Raises NoDevice, listing what there is, for none or for several.
    """
    devices = list_devices(system=system)
    fitting = [device for device in devices if device.channels(direction)]
    if wanted is None:
        # With a default that cannot be used, the first that can is better than none.
        chosen = [d for d in fitting if d.is_default(direction)] or fitting[:1]
    elif isinstance(wanted, int):
        chosen = [device for device in fitting if device.index == wanted]
    else:
        name = wanted.casefold()
        chosen = [d for d in fitting if d.name.casefold() == name] or [
            d for d in fitting if name in d.name.casefold()
        ]
    if len(chosen) == 1:
        return chosen[0]
    raise NoDevice(_complaint(wanted, direction, chosen or fitting, several=bool(chosen)))


def _complaint(
    wanted: int | str | None, direction: Direction, listed: list[Device], *, several: bool
) -> str:
    kind = "microphone" if direction == "input" else "loudspeaker"
    names = ", ".join(f"{device.index}: {device.name!r}" for device in listed) or "none at all"
    if several:
        return f"device: {wanted!r} fits several {kind}s ({names}); name one by its index"
    if wanted is None:
        return f"no {kind} found; connect one, or start a sound server (PulseAudio, PipeWire)"
    return f"device: got {wanted!r}, expected one of the {kind}s: {names}"


def load_system() -> Any:
    """Return the module sounddevice; AudioDependencyMissing says what to install without it."""
    try:
        import sounddevice  # type: ignore[import-untyped]
    except ImportError as error:
        raise AudioDependencyMissing(
            "microphone and loudspeaker need the package sounddevice: install the extra llm-audio[device]"
        ) from error
    except OSError as error:
        raise AudioDependencyMissing(
            f"microphone and loudspeaker need the library PortAudio ({error}): "
            "apt-get install libportaudio2, or brew install portaudio"
        ) from error
    return sounddevice


@contextmanager
def device_errors(system: Any, name: str) -> Iterator[None]:
    """Turn PortAudio's errors into `DeviceError`."""
    try:
        yield
    except system.PortAudioError as error:
        raise DeviceError(f"{name} cannot be used: {error}") from error
