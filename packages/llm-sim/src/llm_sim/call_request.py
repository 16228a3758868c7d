"""Reading `llm_core` requests: from a provider's view of a call to an `Ask`."""

from __future__ import annotations

import base64
from collections.abc import Iterable

from llm_core import (
    AudioPart,
    FilePart,
    ImagePart,
    LLMCallRequest,
    Message,
    Modality,
    ReasoningPart,
    Role,
    TextPart,
    ToolCall,
    ToolChoiceMode,
    ToolResult,
    UnsupportedFeature,
    Value,
    immutable,
    thaw,
)
from llm_sim import openai_wire
from llm_sim.exchange import Ask, Tool
from llm_sim.sound import FORMATS


@immutable
class Turns(Value):
    """A conversation so far, as far as the simulator looks at it."""

    texts: tuple[str, ...] = ()
    user_text: str = ""
    assistant_turns: int = 0


def ask_of(request: LLMCallRequest, earlier: Turns, *, stream: bool) -> Ask:
    """Read a call that goes on from earlier turns."""
    turns = _after(earlier, request.messages)
    marks = [
        len(earlier.texts) + place
        for place, message in enumerate(request.messages, start=1)
        if message.cache
    ]
    image_tokens = sum(map(_image_tokens, request.messages))
    audio_tokens = sum(map(_audio_tokens, request.messages))
    tools = [{"name": tool.name, "parameters": thaw(tool.parameters)} for tool in request.tools]
    schema = request.response_schema
    effort = request.reasoning_effort
    if Modality.IMAGE in request.output_modalities:
        raise UnsupportedFeature("output_modalities: the simulator makes no images")
    spoken = Modality.AUDIO in request.output_modalities and request.audio_output
    if spoken and spoken.format not in FORMATS:
        raise UnsupportedFeature(
            f"audio_output.format: got {spoken.format!r}, the simulator speaks wav, mp3 and pcm16"
        )
    return Ask(
        operation="chat",
        model=request.model,
        texts=turns.texts,
        user_text=turns.user_text,
        assistant_turns=turns.assistant_turns,
        tools=tuple(
            Tool(name=tool["name"], schema=tool["parameters"] or {"type": "object"})
            for tool in tools
        ),
        tool_choice=_tool_choice(request),
        parallel_tools=request.tool_choice is None or request.tool_choice.parallel,
        schema=thaw(schema.json_schema) if schema is not None else None,
        max_output_tokens=request.max_output_tokens,
        stop=request.stop,
        stream=stream,
        effort=openai_wire.effort(effort.value if effort else None, "reasoning_effort"),
        extra_tokens=image_tokens + openai_wire.function_tokens(tools),
        image_tokens=image_tokens,
        audio_tokens=audio_tokens,
        wants_audio=spoken.format if spoken else None,
        cache_marks=tuple(marks) or None,
    )


def _after(earlier: Turns, messages: Iterable[Message]) -> Turns:
    """Go on with a conversation."""
    texts, user_text, turns = [*earlier.texts], earlier.user_text, earlier.assistant_turns
    for message in messages:
        texts.append("".join(map(_text, message.content)))
        if message.role is Role.USER:
            user_text = message.text
        turns += message.role is Role.ASSISTANT
    return Turns(texts=tuple(texts), user_text=user_text, assistant_turns=turns)


def _text(part: object) -> str:
    match part:
        case TextPart(text=text) | ReasoningPart(text=text) | ToolResult(content=text):
            return text
        case ToolCall(name=name, arguments_text=arguments):
            return name + arguments
        case FilePart(filename=filename):
            return filename or ""
    return ""


def _image_tokens(message: Message) -> int:
    images = (part for part in message.content if isinstance(part, ImagePart))
    return sum(openai_wire.image_tokens(image.detail) for image in images)


def _audio_tokens(message: Message) -> int:
    sounds = (part for part in message.content if isinstance(part, AudioPart))
    return sum(openai_wire.audio_tokens(base64.b64encode(sound.data).decode()) for sound in sounds)


def _tool_choice(request: LLMCallRequest) -> str:
    choice = request.tool_choice
    if choice is None:
        return "auto"
    if choice.mode is ToolChoiceMode.NAMED:
        return choice.name or "auto"
    return choice.mode.value
