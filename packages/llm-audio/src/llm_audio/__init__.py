"""Sound in and out for language models: clips, files, microphone, loudspeaker, and where speech begins and ends."""

from llm_audio.clip import AudioClip
from llm_audio.codecs import FORMATS, format_of_bytes
from llm_audio.devices import Device, list_devices
from llm_audio.errors import (
    AudioDependencyMissing,
    AudioError,
    AudioFormatError,
    DeviceError,
    DeviceLost,
    EmptyAudio,
    NoDevice,
    NotAudio,
    TruncatedAudio,
    UnsupportedCodec,
)
from llm_audio.level import LevelMeter
from llm_audio.microphone import Microphone
from llm_audio.playable import PlayableAudio
from llm_audio.playback import Playback, play, play_async, play_stream
from llm_audio.recording import Recording, RecordingEnd, StopSignal, record, record_async
from llm_audio.sentences import split_text
from llm_audio.silences import ClipPiece, find_silences, speech_span, split_at_silences
from llm_audio.speaker import Speaker
from llm_audio.transcripts import merge_transcripts
from llm_audio.voice import (
    EndOfSpeech,
    EnergyDetector,
    SpeechState,
    VoiceDetector,
    WebRtcDetector,
)

__all__ = [
    "FORMATS",
    "AudioClip",
    "AudioDependencyMissing",
    "AudioError",
    "AudioFormatError",
    "ClipPiece",
    "Device",
    "DeviceError",
    "DeviceLost",
    "EmptyAudio",
    "EndOfSpeech",
    "EnergyDetector",
    "LevelMeter",
    "Microphone",
    "NoDevice",
    "NotAudio",
    "PlayableAudio",
    "Playback",
    "Recording",
    "RecordingEnd",
    "Speaker",
    "SpeechState",
    "StopSignal",
    "TruncatedAudio",
    "UnsupportedCodec",
    "VoiceDetector",
    "WebRtcDetector",
    "find_silences",
    "format_of_bytes",
    "list_devices",
    "merge_transcripts",
    "play",
    "play_async",
    "play_stream",
    "record",
    "record_async",
    "speech_span",
    "split_at_silences",
    "split_text",
]
