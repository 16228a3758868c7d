"""What a request may ask for that not every model can do, and what happens then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from llm_core import LLMCallRequest, Modality, ReasoningEffort, UnsupportedFeature

__all__ = ["Feature", "FeatureFilter"]


class Feature(StrEnum):
    """Something that a vendor's API or a model may lack."""

    IMAGES = "images"
    AUDIO_INPUT = "audio_input"
    FILES = "files"
    AUDIO_OUTPUT = "audio_output"
    IMAGE_OUTPUT = "image_output"
    TOOLS = "tools"
    FORCED_TOOLS = "forced_tools"
    PARALLEL_TOOLS = "parallel_tools"
    NATIVE_SCHEMA = "native_schema"
    """Never an error: a schema is asked for by tool or by prompt instead."""
    PREFILL = "prefill"
    REASONING_EFFORT = "reasoning_effort"
    VERBOSITY = "verbosity"
    TEMPERATURE = "temperature"
    TOP_P = "top_p"
    TOP_K = "top_k"
    FREQUENCY_PENALTY = "frequency_penalty"
    PRESENCE_PENALTY = "presence_penalty"
    STOP = "stop"
    SEED = "seed"
    PREVIOUS_RESPONSE_ID = "previous_response_id"


_ASKED: Mapping[Feature, Callable[[LLMCallRequest], bool]] = MappingProxyType(
    {
        Feature.VERBOSITY: lambda request: request.verbosity is not None,
        Feature.SEED: lambda request: request.seed is not None,
        Feature.PREVIOUS_RESPONSE_ID: lambda request: request.previous_response_id is not None,
        Feature.AUDIO_OUTPUT: lambda request: Modality.AUDIO in request.output_modalities,
        Feature.IMAGE_OUTPUT: lambda request: Modality.IMAGE in request.output_modalities,
    }
)
"""How a request asks for what a protocol without a field for it would pass over in silence."""


class FeatureFilter:
    """Lets features of one request through, refuses them, or drops them and remembers it.

    `lacking` is what the protocol and the model cannot do, `efforts` the reasoning efforts that the model takes.
    """

    def __init__(
        self,
        request: LLMCallRequest,
        lacking: AbstractSet[Feature],
        *,
        provider: str,
        efforts: AbstractSet[ReasoningEffort] = frozenset(ReasoningEffort),
        explicit_cache: bool = False,
    ) -> None:
        self._request = request
        self._lacking = lacking
        self._provider = provider
        self._efforts = efforts
        self.explicit_cache = explicit_cache
        """Whether the end of a prompt's cached part may be marked; elsewhere vendors cache by themselves."""
        self._dropped: list[str] = []

    @property
    def dropped(self) -> tuple[str, ...]:
        """What was asked for and is left out, in the order it was met."""
        return tuple(self._dropped)

    def has(self, feature: Feature) -> bool:
        """Whether the feature is there, without consequences."""
        return feature not in self._lacking

    def allow(self, feature: Feature, hint: str = "") -> bool:
        """Return True if `feature` may be sent, False if it is dropped; raises UnsupportedFeature otherwise."""
        if feature not in self._lacking:
            return True
        return self.refuse(feature.value, hint)

    def allow_the_rest(self) -> None:
        """Do as `allow` for what a request asks for in fields that only some protocols have."""
        for feature, is_asked in _ASKED.items():
            if is_asked(self._request):
                self.allow(feature)

    def allow_effort(self, effort: ReasoningEffort) -> bool:
        """Do as `allow` for a reasoning effort; ``none`` is given anyway by a model that cannot reason."""
        if effort is ReasoningEffort.NONE and not self.has(Feature.REASONING_EFFORT):
            return False
        if not self.allow(Feature.REASONING_EFFORT):
            return False
        return effort in self._efforts or self.refuse(f"reasoning_effort {effort.value!r}")

    def require_something(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return `messages`; raises UnsupportedFeature if dropping left none."""
        if messages:
            return messages
        raise UnsupportedFeature(
            f"nothing is left to say to model {self._request.model!r} of provider {self._provider!r} "
            f"without {', '.join(self._dropped) or 'what was asked'}",
            details={"dropped": self._dropped, "model": self._request.model},
        )

    def refuse(self, what: str, hint: str = "") -> bool:
        """Drop `what` and return False, or raise UnsupportedFeature, as the request says."""
        if self._request.on_unsupported == "drop":
            if what not in self._dropped:
                self._dropped.append(what)
            return False
        advice = f"{hint}, or " if hint else ""
        raise UnsupportedFeature(
            f"model {self._request.model!r} of provider {self._provider!r} does not support {what}; "
            f"leave it out, {advice}set on_unsupported='drop'",
            details={
                "feature": what,
                "model": self._request.model,
                "provider": self._provider,
            },
        )
