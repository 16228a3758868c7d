"""How many tokens a call will take, before it is made."""

from __future__ import annotations

from llm_core import AudioPart, FilePart, ImagePart, LLMCallRequest, Part, TextPart

__all__ = ["estimate_text_tokens", "estimate_tokens"]

# OpenAI's help centre, «What are tokens and how to count them?»: about four characters of English a token.
_CHARACTERS_PER_TOKEN = 4
# OpenAI's cookbook counts 3 tokens a message besides its text; one more for the role.
_TOKENS_PER_MESSAGE = 4
# OpenAI's vision guide: 85 base tokens and 170 a tile; a 1024 x 1024 image has four tiles.
_TOKENS_PER_IMAGE = 765
# OpenAI's audio guide: one token for 100 ms of input; at the 32 kB/s of 16 kHz 16-bit mono that is 3,200 bytes.
_AUDIO_BYTES_PER_TOKEN = 3_200
# Without a limit from the caller: a page of text.
_DEFAULT_OUTPUT_TOKENS = 500


def estimate_tokens(call: LLMCallRequest) -> tuple[int, int]:
    """Return the tokens to reserve for input and for output.

    A rough count without a tokeniser: right within a factor of two for English text.
    The gates correct it by the reported usage when the call is over.
    """
    input_tokens = 0
    if call.response_schema or call.tools:
        input_tokens = _declared_tokens(call)
    for message in call.messages:
        input_tokens += _TOKENS_PER_MESSAGE
        for part in message.content:
            input_tokens += (
                -(-len(part.text) // _CHARACTERS_PER_TOKEN)
                if type(part) is TextPart
                else _part_tokens(part)
            )
    return input_tokens, call.max_output_tokens or _DEFAULT_OUTPUT_TOKENS


def _declared_tokens(call: LLMCallRequest) -> int:
    characters = len(str(call.response_schema.json_schema)) if call.response_schema else 0
    for tool in call.tools:
        characters += len(tool.name) + len(tool.description) + len(str(tool.parameters))
    return _tokens_of(characters)


def _part_tokens(part: Part) -> int:
    if isinstance(part, ImagePart):
        return _TOKENS_PER_IMAGE
    if isinstance(part, AudioPart):
        return -(-len(part.data) // _AUDIO_BYTES_PER_TOKEN)
    if isinstance(part, FilePart):
        return _tokens_of(len(part.data or b""))
    text = getattr(part, "text", "") or getattr(part, "content", "")
    return estimate_text_tokens(text or getattr(part, "arguments_text", ""))


def estimate_text_tokens(text: str) -> int:
    """Return about how many tokens a text has, rounded up."""
    return _tokens_of(len(text))


def _tokens_of(characters: int) -> int:
    return -(-characters // _CHARACTERS_PER_TOKEN)
