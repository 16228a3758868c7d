"""Ask the model again on behalf of a step, through the call's own ledger."""

from __future__ import annotations

from typing import Any

from llm_core import (
    UNSET,
    Generate,
    GenerationRequest,
    GenerationResult,
    Message,
    OutputError,
    ResponseSchema,
    StepContext,
    Value,
    immutable,
)

__all__ = ["Answer", "ask", "ask_again", "require_model"]


@immutable
class Answer(Value):
    """What the model said to a step."""

    text: str
    content: Any
    """The parsed content, if the service parsed it; else the text."""
    request_id: str
    result: GenerationResult[Any]


def _helper(request: GenerationRequest | None, **changes: Any) -> GenerationRequest:
    """Return a request for a helper call: the original's model, tenant and deadline, but not its payload.

    Pipeline, fallback value and cache policy stay behind, as a step's own call must not start the pipeline again.
    """
    payload: dict[str, Any] = {
        "user": None,
        "system": None,
        "assistant": None,
        "messages": (),
        "images": (),
        "audio": (),
        "files": (),
        "tools": (),
        "tool_choice": None,
        "pipeline": None,
        "fallback_value": UNSET,
        "cache": None,
        "previous_response_id": None,
        **changes,
    }
    if request is None:
        return GenerationRequest(**{k: v for k, v in payload.items() if v is not UNSET})
    return request.replace(**payload)


async def ask(
    context: StepContext,
    prompt: str,
    *,
    purpose: str,
    response_schema: ResponseSchema | None = None,
    model: str | None = None,
) -> Answer:
    """Send one prompt; raises OutputError, or the call's own error, if there is no answer."""
    changes: dict[str, Any] = {"user": prompt, "response_schema": response_schema, "stop": ()}
    if model is not None:
        changes["model"] = model
    if context.request is not None and context.request.audio_output is not None:
        changes |= {"audio_output": None, "output_modalities": ("text",)}
    return await _send(context, _helper(context.request, **changes), purpose)


async def ask_again(context: StepContext, answer: str, complaint: str, *, purpose: str) -> Answer:
    """Send the conversation so far, the answer, and what is wrong with it.

    Raises OutputError, or the call's own error, if there is no new answer.
    """
    request = context.request
    changes: dict[str, Any] = {}
    said: tuple[Message, ...] = ()
    if request is not None:
        said = request.conversation()
        # Vendors refuse a conversation with tool calls in it whose tools are not declared.
        changes = {"tools": request.tools, "tool_choice": request.tool_choice}
        if request.assistant:
            said = said[:-1]  # the prefill was the beginning of this very answer
            answer = answer if answer.startswith(request.assistant) else request.assistant + answer
    changes["messages"] = (*said, Message.assistant(answer or "(empty)"), Message.user(complaint))
    return await _send(context, _helper(request, **changes), purpose)


def require_model(context: StepContext, asker: str) -> Generate:
    """Return the context's way to ask a model; raises OutputError, which names `asker`, where there is none."""
    if context.generate is None:
        raise OutputError(
            f"{asker}: no model is at hand; run the pipeline through a service, "
            "or with a context that has `generate`"
        )
    return context.generate


async def _send(context: StepContext, request: GenerationRequest, purpose: str) -> Answer:
    generate = require_model(context, purpose)
    result = await generate(request, purpose=purpose)
    if not result.success:
        message = result.error.message if result.error is not None else "no reason given"
        error = OutputError(f"{purpose}: the model gave no answer: {message}")
        if result.error is not None:
            error.error_type = result.error.type
            error.retry_after = result.error.retry_after
        raise error
    text = result.raw_content
    if text is None:
        text = result.content if isinstance(result.content, str) else ""
    return Answer(
        text=text,
        content=result.content,
        request_id=result.request_id,
        result=result,
    )
