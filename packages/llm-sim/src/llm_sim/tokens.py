"""How tokens are counted: a deterministic rule that anyone can check by hand.

A vendor's tokeniser is a vocabulary of megabytes per model family; the simulator cuts text by one
rule instead, close to real counts for English (about 0.75 words a token) and the same on every
machine. A piece is, first rule that fits:

- up to seven ASCII letters, with the space before them;
- up to three digits;
- up to two other characters (punctuation, CJK, emoji), with the space before them;
- a run of white space.

A stream sends one piece per chunk, so the chunks of a stream and its usage agree.

Messages cost `MESSAGE_TOKENS` each and every prompt `PRIMING_TOKENS`, the overhead that OpenAI's
cookbook gives for chat models ("How to count tokens with tiktoken": 3 per message, 3 to prime the
reply). Images cost what OpenAI's vision guide gives for a low-detail image (85) and for one of
1024 by 1024 pixels in high detail (85 + 4·170); sound costs 10 tokens a second going in and 20
coming out, the rates of OpenAI's audio models.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct

MESSAGE_TOKENS = 3
PRIMING_TOKENS = 3
LOW_DETAIL_IMAGE_TOKENS = 85
IMAGE_TOKENS = 765
AUDIO_INPUT_TOKENS_PER_SECOND = 10
AUDIO_OUTPUT_TOKENS_PER_SECOND = 20

COMPRESSED_AUDIO_BYTES_PER_SECOND = 16_000
"""128 kbit/s, assumed for sound that is not WAV."""

_PIECE = re.compile(r" ?[A-Za-z]{1,7}|\d{1,3}| ?[^\sA-Za-z\d]{1,2}|\s+")


def split(text: str) -> list[str]:
    """Cut text into its tokens; joined they are the text again."""
    return _PIECE.findall(text)


def count(text: str) -> int:
    """Count the tokens of a text."""
    return len(_PIECE.findall(text))


def count_audio_seconds(data: str) -> float:
    """Estimate the length of base64 sound: exact for PCM WAV, by 128 kbit/s for the rest."""
    size = len(data) * 3 // 4 - data[-2:].count("=")
    try:
        head = base64.b64decode(data[:64])
    except (binascii.Error, ValueError):
        head = b""
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE" and len(head) >= 32:
        (bytes_per_second,) = struct.unpack_from("<I", head, 28)
        return max(size - 44, 0) / (bytes_per_second or COMPRESSED_AUDIO_BYTES_PER_SECOND)
    return size / COMPRESSED_AUDIO_BYTES_PER_SECOND
