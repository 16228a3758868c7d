"""What the caller wants, and what a provider needs to know of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any, Final, Literal

from llm_core.errors import InvalidValue
from llm_core.frozen import EMPTY, FrozenDict
from llm_core.messages import AudioPart, FilePart, ImagePart, Message, Role, TextPart
from llm_core.record import UNSET, CheckedRecord, require
from llm_core.tools import ResponseSchema, Tool, ToolChoice
from llm_core.value import immutable, with_unchecked

__all__ = [
    "AudioOutput",
    "CacheMode",
    "CachePolicy",
    "GenerationRequest",
    "LLMCallRequest",
    "Modality",
    "ReasoningEffort",
    "Sampling",
    "Verbosity",
]


class Modality(StrEnum):
    """A form the answer may take."""

    TEXT = "text"
    AUDIO = "audio"
    IMAGE = "image"


# Before Python 3.12, to name an enum's member costs as much as to build a small record.
_TEXT_ALONE: Final = (Modality.TEXT,)
_USER: Final = Role.USER
# Thirty years, and short enough for every clock and timer that it is given to.
_MOST_SECONDS: Final = 1e9


class ReasoningEffort(StrEnum):
    """How much a reasoning model may think; adapters map it to the vendor's own scale."""

    NONE = "none"
    MINIMAL = "minimal"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    XHIGH = "xhigh"


class Verbosity(StrEnum):
    """How long the answer should be."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class CacheMode(StrEnum):
    """What the response cache may do for a call."""

    OFF = "off"
    USE = "use"
    """Answer from the cache if possible; store a fresh success."""
    REFRESH = "refresh"
    """Do not read; store a fresh success."""


@immutable
class CachePolicy(CheckedRecord):
    """Whether and for how long an answer may be reused."""

    mode: CacheMode = CacheMode.OFF
    ttl_seconds: float | None = None
    """Age up to which an answer is fresh; None takes the cache's own default."""
    stale_seconds: float = 0.0
    """Extra age within which a stale answer may still be given, while or instead of asking."""

    def _validate(self) -> None:
        if self.ttl_seconds is not None:
            _require_positive(self, "ttl_seconds")
        require(self, "stale_seconds", self.stale_seconds >= 0, "zero or more seconds")


@immutable
class Sampling(CheckedRecord):
    """How the next token is drawn; None leaves each to the vendor's default."""

    temperature: float | None = None
    """0 to 2, inclusive; higher is more random (Anthropic takes 0 to 1)."""
    top_p: float | None = None
    """0 to 1, inclusive: the probability mass to draw from."""
    top_k: int | None = None
    """1 or more: the number of candidates to draw from."""
    frequency_penalty: float | None = None
    """-2 to 2, inclusive."""
    presence_penalty: float | None = None
    """-2 to 2, inclusive."""

    def _validate(self) -> None:
        _require_range(self, "temperature", 0.0, 2.0)
        _require_range(self, "top_p", 0.0, 1.0)
        _require_range(self, "top_k", 1, math.inf)
        _require_range(self, "frequency_penalty", -2.0, 2.0)
        _require_range(self, "presence_penalty", -2.0, 2.0)


@immutable
class AudioOutput(CheckedRecord):
    """How a spoken answer should sound."""

    voice: str
    format: str = "wav"


@immutable
class LLMCallRequest(CheckedRecord):
    """One call as a provider sees it: normalised messages and parameters, no service concerns."""

    model: str
    """The vendor's model name, without provider prefix."""
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    response_schema: ResponseSchema | None = None
    output_modalities: tuple[Modality, ...] = _TEXT_ALONE
    audio_output: AudioOutput | None = None
    reasoning_effort: ReasoningEffort | None = None
    verbosity: Verbosity | None = None
    sampling: Sampling | None = None
    max_output_tokens: int | None = None
    """1 or more, reasoning tokens included; None leaves it to the vendor."""
    stop: tuple[str, ...] = ()
    seed: int | None = None
    previous_response_id: str | None = None
    provider_options: Mapping[str, Any] = EMPTY
    """Passed into the wire body as they are, over anything set by the fields above."""
    headers: Mapping[str, str] = EMPTY
    """Extra HTTP headers, such as the W3C trace context."""
    timeout_seconds: float | None = None
    """The longest the provider may take for this attempt; None means the provider's default."""
    on_unsupported: Literal["error", "drop"] = "error"
    """About features the model lacks: raise UnsupportedFeature, or drop and report them."""

    def _validate(self) -> None:
        require(self, "model", bool(self.model), "a model's name")
        has_input = len(self.messages) > 0
        require(self, "messages", has_input, "at least one message")
        _require_call_parameters(self)
        if self.timeout_seconds is not None:
            _require_positive(self, "timeout_seconds")

    def sent_with(
        self, *, headers: Mapping[str, str] = EMPTY, timeout_seconds: float | None = None
    ) -> LLMCallRequest:
        """Return this call with further headers (those that it has win) and, if given, another timeout."""
        return with_unchecked(
            self,
            headers=FrozenDict({**headers, **self.headers}),
            timeout_seconds=self.timeout_seconds if timeout_seconds is None else timeout_seconds,
        )


@immutable
class GenerationRequest(CheckedRecord):
    """What the caller wants.

    Either give `user` text (with `system`, `assistant`, `images`, `audio`, `files` as needed), or
    the whole conversation as `messages`; not both.
    Raises InvalidValue, naming the field, for anything that no provider could be asked.
    """

    user: str | None = None
    system: str | None = None
    assistant: str | None = None
    """How the answer must begin (prefill), for models that support it."""
    messages: tuple[Message, ...] = ()
    images: tuple[ImagePart, ...] = ()
    """Shown to the model after the `user` text."""
    audio: tuple[AudioPart, ...] = ()
    """Played to the model after the `user` text."""
    files: tuple[FilePart, ...] = ()
    """Given to the model after the `user` text."""

    model: str | None = None
    """A model name, an alias, or ``provider/model``; None takes the service's default."""
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    response_schema: ResponseSchema | None = None
    output_modalities: tuple[Modality, ...] = _TEXT_ALONE
    audio_output: AudioOutput | None = None
    reasoning_effort: ReasoningEffort | None = None
    verbosity: Verbosity | None = None
    sampling: Sampling | None = None
    max_output_tokens: int | None = None
    """1 or more, reasoning tokens included; None leaves it to the vendor."""
    stop: tuple[str, ...] = ()
    """Up to the vendor's number of texts at which generation ends."""
    seed: int | None = None
    previous_response_id: str | None = None
    """Continue the conversation that the provider stored under this id."""
    provider_options: Mapping[str, Any] = EMPTY
    """Passed into the wire body as they are, over anything set by the fields above."""
    on_unsupported: Literal["error", "drop"] = "error"
    """About features the model lacks: fail with ``invalid_request``, or drop and report them."""

    operation_name: str | None = None
    """The business operation: a dimension of every metric, limit and log line."""
    request_id: str | None = None
    """The caller's id for this call; None lets the service make one."""
    tenant: str | None = None
    """Whom the call is counted for: limits per tenant are kept by this key."""
    priority: int = 0
    """Higher goes first at the gates."""
    deadline_seconds: float | None = None
    """Time for everything (queue, attempts, back-off, refinement), from the call on; at most a billion."""
    max_attempts: int | None = None
    """How often the provider may be asked, 1 or more; None takes the service's retry policy."""
    pipeline: Any = None
    """Steps that turn the raw text into the value: objects, callables, or their declarative form;
    kept as given, not frozen.

    `to_dict` writes steps as their `to_config()`, or as text if they have none.
    """
    fallback_value: Any = UNSET
    """The content to answer with if all else fails; None is a value, leaving it unset is not."""
    cache: CachePolicy | None = None
    """None takes the service's policy, which is not to cache unless it was set up to."""
    metadata: Mapping[str, Any] = EMPTY
    """The caller's own facts: kept in the result, never sent to a provider."""

    def _validate(self) -> None:
        if self.messages:
            self._require_no_single_fields()
        elif not (self.user or self.images or self.audio or self.files):
            raise InvalidValue.of("GenerationRequest.user", self.user, "text, or messages instead")
        if self.model is not None:
            require(self, "model", bool(self.model.strip()), "a model's name")
        if self.deadline_seconds is not None:
            _require_positive(self, "deadline_seconds")
        if self.max_attempts is not None:
            _require_range(self, "max_attempts", 1, math.inf)
        _require_call_parameters(self)

    def _require_no_single_fields(self) -> None:
        names = ("user", "system", "assistant", "images", "audio", "files")
        given = [name for name in names if getattr(self, name)]
        if given:
            raise InvalidValue(
                f"GenerationRequest.messages: given together with {', '.join(given)}; "
                "expected either messages or the single fields",
                details={"field": "GenerationRequest.messages"},
            )

    def to_dict(self) -> dict[str, Any]:
        """Return every field as JSON-able data, pipeline steps in their declarative form."""
        written = CheckedRecord.to_dict(self)
        written["pipeline"] = _pipeline_to_config(self.pipeline)
        return written

    def conversation(self) -> tuple[Message, ...]:
        """Return the messages to send: `messages`, or those that the single fields amount to."""
        if self.messages:
            return self.messages
        text = (TextPart._unchecked(self.user),) if self.user else ()
        said = Message._unchecked(_USER, text + self.images + self.audio + self.files)
        if self.system is None and self.assistant is None:
            return (said,)
        before = () if self.system is None else (_turn(Role.SYSTEM, self.system),)
        after = () if self.assistant is None else (_turn(Role.ASSISTANT, self.assistant),)
        return (*before, said, *after)

    def to_call(self, model: str, *, timeout_seconds: float | None = None) -> LLMCallRequest:
        """Return the provider's view of this request, for `model` as the vendor calls it."""
        if not model:
            raise InvalidValue.of("LLMCallRequest.model", model, "a model's name")
        # In the order of the fields: to name each of the seventeen takes a fifth more instructions.
        made: LLMCallRequest = LLMCallRequest._unchecked(
            model,
            self.conversation(),
            self.tools,
            self.tool_choice,
            self.response_schema,
            self.output_modalities,
            self.audio_output,
            self.reasoning_effort,
            self.verbosity,
            self.sampling,
            self.max_output_tokens,
            self.stop,
            self.seed,
            self.previous_response_id,
            self.provider_options,
            EMPTY,
            timeout_seconds,
            self.on_unsupported,
        )
        return made

    def replace(self, **changes: Any) -> GenerationRequest:
        """Return a copy with some fields changed, checked anew."""
        return replace(self, **changes)


def _turn(role: Role, text: str) -> Message:
    made: Message = Message._unchecked(role, (TextPart._unchecked(text),))
    return made


def _pipeline_to_config(pipeline: Any) -> Any:
    if isinstance(pipeline, (list, tuple)):
        return [_pipeline_to_config(step) for step in pipeline]
    if isinstance(pipeline, Mapping):
        return {str(key): _pipeline_to_config(item) for key, item in pipeline.items()}
    to_config = getattr(pipeline, "to_config", None)
    if callable(to_config):
        return _pipeline_to_config(to_config())
    if pipeline is None or isinstance(pipeline, (str, int, float, bool)):
        return pipeline
    return str(getattr(pipeline, "__name__", None) or pipeline)


def _require_call_parameters(record: GenerationRequest | LLMCallRequest) -> None:
    if record.max_output_tokens is not None:
        _require_range(record, "max_output_tokens", 1, math.inf)
    if record.stop:
        require(record, "stop", all(record.stop), "texts, none of them empty")
    named = record.tool_choice.name if record.tool_choice else None
    if named is not None:
        offered = [tool.name for tool in record.tools]
        require(record, "tool_choice", named in offered, f"the name of one of the tools {offered}")
    if record.output_modalities != _TEXT_ALONE and Modality.AUDIO in record.output_modalities:
        expected = "an AudioOutput, as output_modalities asks for audio"
        require(record, "audio_output", record.audio_output is not None, expected)
    if record.messages:
        answerable = any(message.role is not Role.SYSTEM for message in record.messages)
        require(record, "messages", answerable, "something besides system messages")


def _require_range(record: object, field: str, low: float, high: float) -> None:
    """Require None, or low <= value <= high."""
    value = getattr(record, field)
    if value is None or low <= value <= high:
        return
    bounds = f"{low} or more" if high == math.inf else f"{low} to {high}"
    raise InvalidValue.of(f"{type(record).__name__}.{field}", value, bounds)


def _require_positive(record: object, field: str) -> None:
    value = getattr(record, field)
    require(record, field, value > 0, "a number of seconds above 0")
    require(record, field, value <= _MOST_SECONDS, "a billion seconds at most")
