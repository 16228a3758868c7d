"""`ServiceConfig`: everything that can be said about a service without writing code."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)

from llm_core import CacheMode, CachePolicy, ErrorType
from llm_gates import BreakerPolicy
from llm_service.config.secrets import SecretReference
from llm_service.gate_book import Limits
from llm_service.hedging import HedgePolicy
from llm_service.ladder import Fallback
from llm_service.retry import RetryPolicy

__all__ = [
    "BreakerConfig",
    "CacheConfig",
    "CachePolicyConfig",
    "FallbackConfig",
    "HedgeConfig",
    "LimitsConfig",
    "ModelsConfig",
    "OperationConfig",
    "PricesConfig",
    "ProviderConfig",
    "ProviderKind",
    "RateLimits",
    "RetryConfig",
    "ServiceConfig",
    "TelemetryConfig",
]

T = TypeVar("T")

_MOST_SECONDS = 1_000_000_000
"""As much as a request's deadline may have: some thirty years, which a clock's nanoseconds can still count."""
_MOST = 1_000_000_000_000_000
"""Far more than anybody counts here, and few enough for a float to tell it from the next number."""


def _number(value: object) -> object:
    # To pydantic `true` is the number 1.
    if isinstance(value, bool):
        raise ValueError("expected a number")
    return value


def _countable(value: int) -> int:
    if value > _MOST:
        raise ValueError(f"expected at most {_MOST}")
    return value


def _listed(value: object) -> object:
    if isinstance(value, str):
        return [name.strip() for name in value.split(",") if name.strip()]
    return value


def _model_name(name: str) -> str:
    if not name.strip():
        raise ValueError("expected a model's name, an alias, or provider/model")
    return name.strip()


def _address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected a URL such as 'https://host/v1'")
    if parts.username or parts.password:
        raise ValueError("expected a URL without user and password: secrets go into api_key")
    return url


# Not by `le`: the schema and the reference are for people, who would wonder at such a bound.
Count = Annotated[int, BeforeValidator(_number), Field(ge=1), AfterValidator(_countable)]
Seconds = Annotated[
    float, BeforeValidator(_number), Field(gt=0, le=_MOST_SECONDS, allow_inf_nan=False)
]
ZeroOrMoreSeconds = Annotated[
    float, BeforeValidator(_number), Field(ge=0, le=_MOST_SECONDS, allow_inf_nan=False)
]
Amount = Annotated[float, BeforeValidator(_number), Field(gt=0, le=_MOST, allow_inf_nan=False)]
Part = Annotated[float, BeforeValidator(_number), Field(gt=0, le=1, allow_inf_nan=False)]
Listed = Annotated[tuple[T, ...], BeforeValidator(_listed)]
ModelName = Annotated[str, AfterValidator(_model_name)]
Url = Annotated[str, AfterValidator(_address)]
ApiKey = Annotated[
    SecretReference,
    PlainValidator(SecretReference.parse),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": "^(env|file):.+"}),
]


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        # A mistyped section may hold a key; what is wrong is told by `problems`, without it.
        hide_input_in_errors=True,
    )


class FallbackConfig(_Section):
    """A model that answers when the ones before it could not."""

    model: ModelName
    """A model's name, an alias, or provider/model."""
    when: Listed[ErrorType] | None = None
    """The error types after which it is asked; left out: all that the error table lets fall back."""


class ModelsConfig(_Section):
    """Which models are used, and what they are called here."""

    default: ModelName | None = None
    """For requests that name none: a model's name, an alias, or provider/model."""
    aliases: Mapping[str, ModelName] = Field(default_factory=dict)
    """Own names for models: alias → model's name, provider/model, or another alias."""
    fallbacks: tuple[FallbackConfig, ...] = ()
    """Asked in this order when a model fails."""

    @model_validator(mode="after")
    def _aliases_end(self) -> Self:
        for alias in self.aliases:
            self.resolve(alias)
        return self

    def resolve(self, name: str) -> str:
        """Return the model that `name` stands for; a name that is no alias is returned as it is."""
        passed = [name]
        while passed[-1] in self.aliases:
            following = self.aliases[passed[-1]]
            if following in passed:
                raise ValueError(f"the aliases {' → '.join([*passed, following])} have no end")
            passed.append(following)
        return passed[-1]


class ProviderKind(StrEnum):
    """Whose API a provider speaks."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    OLLAMA = "ollama"
    COMPATIBLE = "compatible"
    """OpenAI's Chat Completions, as vLLM, llama.cpp, OpenRouter and others have it."""


class ProviderConfig(_Section):
    """How a provider is reached."""

    kind: ProviderKind | None = None
    """Left out: the provider's own name says it."""
    base_url: Url | None = None
    """Where its API is, such as https://host/v1; left out: the vendor's own address."""
    api_key: ApiKey | None = None
    """Where the key is: env:NAME or file:PATH. Left out: the vendor's usual variable."""
    timeout_seconds: Seconds | None = None
    """The longest that one attempt may take."""
    connect_seconds: Seconds | None = None
    """The longest that connecting may take."""
    idle_timeout_seconds: Seconds | None = None
    """The longest silence within a stream."""
    patterns: Listed[str] = ()
    """Shell patterns of model names that this provider answers for, besides name/…."""


class RateLimits(_Section):
    """How much may go to one model of one provider; left out: unlimited."""

    max_rpm: Count | None = None
    """Requests in any minute."""
    max_tpm: Count | None = None
    """Tokens, input and output together, in any minute."""
    max_concurrent_requests: Count | None = None
    """Requests in flight at the same time."""

    def limits(self) -> Limits:
        """Return the limits that a service takes."""
        return Limits(
            max_rpm=self.max_rpm,
            max_tpm=self.max_tpm,
            max_concurrent_requests=self.max_concurrent_requests,
        )

    def over(self, general: RateLimits) -> RateLimits:
        """Return `general` with what is said here in its place; null lifts a limit."""
        said = {name: getattr(self, name) for name in self.model_fields_set}
        return RateLimits(**{**general.limits_said(), **said})

    def limits_said(self) -> dict[str, int | None]:
        """Return the limits that were given, by name."""
        names = self.model_fields_set & set(RateLimits.model_fields)
        return {name: getattr(self, name) for name in names}


class LimitsConfig(RateLimits):
    """The limits of each model, and those of single providers and models, which start from them."""

    providers: Mapping[str, RateLimits] = Field(default_factory=dict)
    """For each model of a provider, by the provider's name."""
    models: Mapping[str, RateLimits] = Field(default_factory=dict)
    """By alias, model's name, or provider/model."""


class RetryConfig(_Section):
    """How failed attempts are repeated; what is left out is as in `RetryPolicy`."""

    max_attempts: Count | None = None
    """All attempts together; 1 never retries."""
    initial_seconds: ZeroOrMoreSeconds | None = None
    """The longest first pause; each further one may be twice as long."""
    max_seconds: ZeroOrMoreSeconds | None = None
    """The longest pause of our own making."""
    max_retry_after_seconds: ZeroOrMoreSeconds | None = None
    """A provider that asks for a longer pause is not asked again."""
    budget: Amount | None = None
    """The capacity of each provider's retry budget: half as many failures in a row stop all retries to it."""
    budget_ratio: Part | None = None
    """How much of a retry each success earns."""

    def policy(self) -> RetryPolicy:
        """Return the policy that these settings amount to."""
        return RetryPolicy(**self.model_dump(exclude_none=True))


class HedgeConfig(_Section):
    """A second attempt beside an unusually slow one; nothing is hedged unless this section is there."""

    after_seconds: Seconds | None = None
    """How long to wait for the first sign of life; left out: learnt from the latest calls."""
    budget_ratio: Part = 0.05
    """The part of all calls that may be hedged."""

    def policy(self) -> HedgePolicy:
        """Return the policy that these settings amount to."""
        return HedgePolicy(after_seconds=self.after_seconds, budget_ratio=self.budget_ratio)


class BreakerConfig(_Section):
    """When a model that keeps failing is left alone; what is left out is as in `BreakerPolicy`."""

    enabled: bool = True
    """Whether models are left alone at all."""
    failure_rate: Part | None = None
    """The part of calls that must fail."""
    least_calls: Count | None = None
    """How many calls must have ended in the window before any rate means something."""
    window_seconds: Seconds | None = None
    """How far back calls count."""
    slow_seconds: Seconds | None = None
    """From which duration on a call is slow."""
    slow_rate: Part | None = None
    """The part of calls that must be slow."""
    open_seconds: Seconds | None = None
    """How long the model is left alone the first time."""
    most_open_seconds: Seconds | None = None
    """The longest that the model is left alone, however often the probes fail."""
    probes: Count | None = None
    """How many calls are let through to try, and must succeed."""

    def policy(self) -> BreakerPolicy | None:
        """Return the policy that these settings amount to; None if nothing is ever left alone."""
        if not self.enabled:
            return None
        return BreakerPolicy(**self.model_dump(exclude={"enabled"}, exclude_none=True))


class CachePolicyConfig(_Section):
    """Whether answers are given again, and for how long."""

    mode: CacheMode = CacheMode.OFF
    """use: what is in the cache answers; refresh: every request is sent. Both keep the answer, off does neither."""
    ttl_seconds: Seconds | None = None
    """The age up to which an answer is fresh."""
    stale_seconds: ZeroOrMoreSeconds = 0.0
    """The extra age within which an old answer may still be given."""

    def policy(self) -> CachePolicy:
        """Return the policy of a request under these settings."""
        return CachePolicy(
            mode=self.mode, ttl_seconds=self.ttl_seconds, stale_seconds=self.stale_seconds
        )


class CacheConfig(CachePolicyConfig):
    """The cache of answers, and the policy of requests that have none of their own."""

    max_entries: Count = 1024
    """How many answers are kept; the one unused for longest goes first."""


class TelemetryConfig(_Section):
    """Who is told of every call."""

    backends: Listed[str] | None = None
    """Names of installed backends, jsonl, or none; left out: LLM_TELEMETRY or what is installed."""


class PricesConfig(_Section):
    """What tokens cost where the known prices are not one's own."""

    overrides: Path | None = None
    """A file of prices that go before the built-in ones; a relative path starts at this file's folder."""


class OperationConfig(_Section):
    """What holds for one business operation, in place of the service's own settings."""

    model: ModelName | None = None
    """A model's name, an alias, or provider/model."""
    deadline_seconds: Seconds | None = None
    """Time for everything: queue, attempts, pauses, refinement; for all calls of a method under `@operation` together."""
    max_attempts: Count | None = None
    """All attempts together; 1 never retries."""
    limits: RateLimits | None = None
    """What this operation may use of all models together, besides the models' own limits."""
    pipeline: tuple[Any, ...] | None = None
    """Steps in their declarative form."""
    cache: CachePolicyConfig | None = None


class ServiceConfig(_Section):
    """The settings of a service."""

    models: ModelsConfig = ModelsConfig()
    providers: Mapping[str, ProviderConfig] = Field(default_factory=dict)
    """By the name that stands before the slash of provider/model."""
    limits: LimitsConfig = LimitsConfig()
    retry: RetryConfig = RetryConfig()
    hedge: HedgeConfig | None = None
    breaker: BreakerConfig = BreakerConfig()
    restart_streams: bool = False
    """Whether a stream that fails after its first token may begin anew; never after a tool call."""
    cache: CacheConfig = CacheConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    prices: PricesConfig = PricesConfig()
    operations: Mapping[str, OperationConfig] = Field(default_factory=dict)
    """By the operation's name."""

    def operation(self, name: str) -> OperationConfig:
        """Return what is set for the operation, an empty section if nothing is."""
        return self.operations.get(name) or OperationConfig()

    def uses_cache(self) -> bool:
        """Say whether any request may be answered from a cache."""
        policies = [self.cache, *[own.cache for own in self.operations.values() if own.cache]]
        return any(policy.mode is not CacheMode.OFF for policy in policies)

    def named_models(self) -> list[str]:
        """Return the models that are asked by default, as fallbacks and in operations, as they are written."""
        names = [self.models.default, *[rung.model for rung in self.models.fallbacks]]
        names += [own.model for own in self.operations.values()]
        return [name for name in dict.fromkeys(names) if name is not None]

    def fallbacks(self) -> tuple[Fallback, ...]:
        """Return the models to ask in order when one fails, aliases resolved."""
        return tuple(
            Fallback(model=self.models.resolve(rung.model), on=rung.when)
            for rung in self.models.fallbacks
        )

    def limits_by_name(self) -> dict[str, Limits]:
        """Return the limits of single providers, models and operations, by the names that a service takes.

        A provider's start from the general ones; a model's from its provider's, if it is written as provider/model.
        """
        by_provider = {name: own.over(self.limits) for name, own in self.limits.providers.items()}
        found = {name: own.limits() for name, own in by_provider.items()}
        for name, own in self.limits.models.items():
            model = self.models.resolve(name)
            general = by_provider.get(model.partition("/")[0], self.limits)
            found[model] = own.over(general).limits()
        for name, operation in self.operations.items():
            if operation.limits is not None:
                found[f"operation:{name}"] = operation.limits.limits()
        return found

    def request_fields(self, operation: str | None = None) -> dict[str, Any]:
        """Return the fields of `GenerationRequest` that are set for an operation, or for all; aliases resolved."""
        own = self.operation(operation) if operation is not None else OperationConfig()
        fields = own.model_dump(include={"deadline_seconds", "max_attempts", "pipeline"})
        fields["operation_name"] = operation
        fields["model"] = None if own.model is None else self.models.resolve(own.model)
        cache = own.cache or self.cache
        fields["cache"] = (
            None if cache.mode is CacheMode.OFF and own.cache is None else cache.policy()
        )
        return {name: value for name, value in fields.items() if value is not None}
