"""What each family of models can do, with the source and date of each statement.

A model without a row is sent everything that its vendor's protocol can say; the vendor then decides.

How far to trust it: what is said of a protocol was read in the vendor's package, of the release named, on the date given.
The vendors' pages were not opened at their addresses on that date: their statements come from copies and quotations
of unknown age, and so do `context_tokens` and `max_output_tokens`. No row has been confirmed by a call to a vendor.
"""

from __future__ import annotations

from datetime import date
from fnmatch import fnmatchcase
from functools import lru_cache

from llm_core import LLMCallRequest, ReasoningEffort, Value, immutable
from llm_providers.features import Feature, FeatureFilter

__all__ = ["CAPABILITIES", "ModelFamily", "family_of", "features_for"]

_F, _E = Feature, ReasoningEffort


@immutable
class ModelFamily(Value):
    """One row of the capability table. A model's row is the first whose pattern fits."""

    provider: str
    pattern: str
    """A shell pattern for the whole name in lower case, such as ``gpt-4o*``."""
    lacks: frozenset[Feature] = frozenset()
    """What the family cannot do though the vendor's protocol can say it."""
    lacks_when_reasoning: frozenset[Feature] = frozenset()
    """What it cannot do, too, when a reasoning effort other than ``none`` is asked for."""
    efforts: frozenset[ReasoningEffort] = frozenset(_E)
    """The reasoning efforts it takes, if it takes any."""
    thinks_in_tokens: bool = False
    """It takes a budget of tokens to think in, not an effort (Anthropic's older models)."""
    explicit_cache: bool = False
    """The end of the part to cache may be marked (OpenAI's newer models; Anthropic's all have it)."""
    always_thinks: bool = False
    """Thinking cannot be turned off."""
    context_tokens: int | None = None
    """Input and output together, in tokens; None if not known."""
    max_output_tokens: int | None = None
    source: str
    """The package this was read in, or the page it goes back to (see the module's docstring)."""
    checked: date
    """When the row was last gone through; not that its page said so on that day."""


_SOUND = frozenset({_F.AUDIO_INPUT, _F.AUDIO_OUTPUT})
_DRAWING = frozenset({_F.TEMPERATURE, _F.TOP_P, _F.FREQUENCY_PENALTY, _F.PRESENCE_PENALTY})
_CLAUDE_DRAWING = frozenset({_F.TEMPERATURE, _F.TOP_P, _F.TOP_K})
_WITHOUT_BUDGET = frozenset({_F.FORCED_TOOLS, _F.TEMPERATURE, _F.TOP_K})
"""What Anthropic's thinking within a budget excludes (its guide «Extended thinking», section «Feature compatibility»)."""
_NOT_REASONING = frozenset({_F.REASONING_EFFORT, _F.VERBOSITY})
_LEVELS = frozenset({_E.LOW, _E.MEDIUM, _E.HIGH})
_CHECKED = date(2026, 11, 22)

_OPENAI_SDK = "openai 3.54.0, docstrings of CompletionCreateParams and ResponseCreateParams"
_REASONING_GUIDE = "https://platform.openai.com/docs/guides/reasoning"
_GPT_5_1 = "https://platform.openai.com/docs/guides/latest-model (as quoted in vercel/ai#10932)"
_EFFORT_LIST = "https://learn.microsoft.com/en-us/javascript/api/@azure/ai-projects/reasoningeffort"
_STRUCTURED_GUIDE = "https://platform.openai.com/docs/guides/structured-outputs"
_AUDIO_GUIDE = "https://platform.openai.com/docs/guides/audio"
_MIGRATION = "https://platform.claude.com/docs/en/about-claude/models/migration-guide"
_CLAUDE_MODELS = "https://platform.claude.com/docs/en/about-claude/models/overview"
_CLAUDE_SDK = "anthropic 2.12.0, MessageCreateParams (no sampling parameters)"


def _openai(pattern: str, source: str, **facts: object) -> ModelFamily:
    return ModelFamily(
        provider="openai",
        pattern=pattern,
        source=source,
        checked=_CHECKED,
        **facts,  # type: ignore[arg-type]
    )


def _claude(pattern: str, source: str, **facts: object) -> ModelFamily:
    return ModelFamily(
        provider="anthropic",
        pattern=pattern,
        source=source,
        checked=_CHECKED,
        **facts,  # type: ignore[arg-type]
    )


CAPABILITIES: tuple[ModelFamily, ...] = (
    _openai(
        "o[134]*",
        _REASONING_GUIDE,
        lacks=_DRAWING | _SOUND | {_F.VERBOSITY, _F.STOP},
        efforts=_LEVELS,
        context_tokens=200_000,
        max_output_tokens=100_000,
    ),
    _openai("gpt-5-chat*", _REASONING_GUIDE, lacks=_NOT_REASONING | _SOUND, context_tokens=128_000),
    _openai(
        "gpt-5-pro*",
        _EFFORT_LIST,
        lacks=_DRAWING | _SOUND | {_F.STOP},
        efforts=frozenset({_E.HIGH}),
        context_tokens=400_000,
    ),
    _openai(
        "gpt-5.1*",
        _GPT_5_1,
        lacks=_SOUND,
        lacks_when_reasoning=_DRAWING,
        efforts=_LEVELS | {_E.NONE, _E.XHIGH},
        context_tokens=400_000,
        max_output_tokens=128_000,
    ),
    _openai(
        "gpt-5.[2-5]*",
        _EFFORT_LIST,
        lacks=_SOUND,
        lacks_when_reasoning=_DRAWING,
        efforts=_LEVELS | {_E.NONE, _E.XHIGH},
    ),
    _openai(
        "gpt-5.6*",
        "https://github.com/itzcrazykns/vane/issues/1173; " + _OPENAI_SDK,
        lacks=_DRAWING | _SOUND,
        explicit_cache=True,
    ),
    _openai("gpt-6*", _OPENAI_SDK, explicit_cache=True),
    _openai(
        "gpt-5*",
        _EFFORT_LIST,
        lacks=_DRAWING | _SOUND | {_F.STOP},
        efforts=_LEVELS | {_E.MINIMAL},
        context_tokens=400_000,
        max_output_tokens=128_000,
    ),
    _openai("gpt-4o*audio*", _AUDIO_GUIDE, lacks=_NOT_REASONING | {_F.IMAGES, _F.NATIVE_SCHEMA}),
    _openai("gpt-audio*", _AUDIO_GUIDE, lacks=_NOT_REASONING | {_F.IMAGES, _F.NATIVE_SCHEMA}),
    _openai(
        "gpt-4o-2024-05-13",
        _STRUCTURED_GUIDE,
        lacks=_NOT_REASONING | _SOUND | {_F.NATIVE_SCHEMA},
        context_tokens=128_000,
        max_output_tokens=4096,
    ),
    _openai(
        "gpt-4o*",
        _OPENAI_SDK,
        lacks=_NOT_REASONING | _SOUND,
        context_tokens=128_000,
        max_output_tokens=16_384,
    ),
    _openai(
        "gpt-4.1*",
        _OPENAI_SDK,
        lacks=_NOT_REASONING | _SOUND,
        context_tokens=1_047_576,
        max_output_tokens=32_768,
    ),
    _openai(
        "gpt-4-turbo*",
        _STRUCTURED_GUIDE,
        lacks=_NOT_REASONING | _SOUND | {_F.NATIVE_SCHEMA},
        context_tokens=128_000,
        max_output_tokens=4096,
    ),
    _openai(
        "gpt-4*",
        _STRUCTURED_GUIDE,
        lacks=_NOT_REASONING | _SOUND | {_F.NATIVE_SCHEMA, _F.IMAGES, _F.FILES},
        context_tokens=8192,
        max_output_tokens=8192,
    ),
    _openai(
        "gpt-3.5*",
        _STRUCTURED_GUIDE,
        lacks=_NOT_REASONING | _SOUND | {_F.NATIVE_SCHEMA, _F.IMAGES, _F.FILES},
        context_tokens=16_385,
        max_output_tokens=4096,
    ),
    _claude(
        "claude-haiku-4-5*",
        _CLAUDE_MODELS,
        thinks_in_tokens=True,
        context_tokens=200_000,
        max_output_tokens=64_000,
    ),
    _claude(
        "claude-sonnet-4-5*",
        _CLAUDE_MODELS,
        thinks_in_tokens=True,
        context_tokens=200_000,
        max_output_tokens=64_000,
    ),
    _claude(
        "claude-opus-4-5*",
        _CLAUDE_MODELS,
        thinks_in_tokens=True,
        context_tokens=200_000,
        max_output_tokens=64_000,
    ),
    _claude(
        "claude-opus-4-6*",
        _MIGRATION,
        lacks=frozenset({_F.PREFILL}),
        efforts=_LEVELS | {_E.NONE, _E.MINIMAL},
        context_tokens=1_000_000,
        max_output_tokens=128_000,
    ),
    _claude(
        "claude-sonnet-4-6*",
        _MIGRATION,
        lacks=frozenset({_F.PREFILL}),
        efforts=_LEVELS | {_E.NONE, _E.MINIMAL},
        context_tokens=1_000_000,
        max_output_tokens=64_000,
    ),
    _claude(
        "claude-opus-4-[78]*",
        _CLAUDE_SDK,
        lacks=_CLAUDE_DRAWING | {_F.PREFILL},
        context_tokens=1_000_000,
        max_output_tokens=128_000,
    ),
    _claude(
        "claude-mythos*",
        _CLAUDE_SDK,
        lacks=_CLAUDE_DRAWING | {_F.PREFILL},
        always_thinks=True,
    ),
    _claude("claude-*-5", _CLAUDE_SDK, lacks=_CLAUDE_DRAWING | {_F.PREFILL}),
    _claude("claude-*-5-[0-9]*", _CLAUDE_SDK, lacks=_CLAUDE_DRAWING | {_F.PREFILL}),
    _claude(
        "claude-*-4*",
        _CLAUDE_MODELS,
        lacks=frozenset({_F.NATIVE_SCHEMA}),
        thinks_in_tokens=True,
        context_tokens=200_000,
        max_output_tokens=32_000,
    ),
    _claude(
        "claude-3-7*",
        _CLAUDE_MODELS,
        lacks=frozenset({_F.NATIVE_SCHEMA}),
        thinks_in_tokens=True,
        context_tokens=200_000,
        max_output_tokens=64_000,
    ),
    _claude(
        "claude-3*",
        _CLAUDE_MODELS,
        lacks=frozenset({_F.NATIVE_SCHEMA, _F.REASONING_EFFORT}),
        context_tokens=200_000,
        max_output_tokens=4096,
    ),
)
"""The table. Newer rows that say less are not gaps in the models but in what could be read about them."""


@lru_cache(maxsize=1024)
def family_of(provider: str, model: str) -> ModelFamily | None:
    """Return the row for `model` as `provider` names it, or None: then everything the API can say is sent."""
    name = model.lower()
    for family in CAPABILITIES:
        if family.provider == provider and fnmatchcase(name, family.pattern):
            return family
    return None


def features_for(
    request: LLMCallRequest, protocol_lacks: frozenset[Feature], *, vendor: str
) -> FeatureFilter:
    """Return the filter for `request`: what the protocol lacks and what `vendor`'s model lacks."""
    family = family_of(vendor, request.model)
    if family is None:
        return FeatureFilter(request, protocol_lacks, provider=vendor)
    lacking = protocol_lacks | family.lacks
    if request.reasoning_effort not in (None, ReasoningEffort.NONE):
        lacking |= family.lacks_when_reasoning
        if family.thinks_in_tokens:
            lacking |= _WITHOUT_BUDGET
    return FeatureFilter(
        request,
        lacking,
        provider=vendor,
        efforts=family.efforts,
        explicit_cache=family.explicit_cache,
    )
