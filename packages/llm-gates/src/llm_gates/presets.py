"""Gates by vendor: what each vendor's documentation says of how it counts, and the gates that fit it.

The numbers of a limit depend on the account, so that they are arguments; what is preset is how they are enforced.
Each function returns a `GateSet` of the limits that were given. The facts were read in mid-2026.
"""

from __future__ import annotations

from typing import Any

from llm_core import ConfigurationError
from llm_gates.estimates import LearnedEstimates
from llm_gates.gates import GateSet
from llm_gates.rates import (
    Algorithm,
    ConcurrencyGate,
    ItpmGate,
    OtpmGate,
    RateGate,
    RpdGate,
    RpmGate,
    TpdGate,
    TpmGate,
)

__all__ = ["anthropic", "azure_openai", "cerebras", "gemini", "groq", "mistral", "openai"]


def openai(
    *,
    rpm: int | None = None,
    tpm: int | None = None,
    rpd: int | None = None,
    tpd: int | None = None,
    concurrency: int | None = None,
    quantum_seconds: float | None = None,
    **options: Any,
) -> GateSet:
    """Return gates for OpenAI's API.

    https://platform.openai.com/docs/guides/rate-limits: requests and tokens per minute and per day, whichever is met
    first; limits «can be quantized, meaning they are enforced over shorter periods of time» (give `quantum_seconds`
    if yours are); «unsuccessful requests contribute to your per-minute limit»; cached tokens count.
    The charge in tokens is the larger of `max_tokens` and the estimated prompt, known before the call: reserve it and
    do not settle downwards.
    The headers (reset = what is missing / rate) show a token bucket of the size of the limit.
    """
    return _set(
        concurrency,
        options,
        _rate(RpmGate, rpm, algorithm="bucket", quantum_seconds=quantum_seconds),
        _rate(TpmGate, tpm, algorithm="bucket"),
        _rate(RpdGate, rpd, algorithm="bucket"),
        _rate(TpdGate, tpd, algorithm="bucket"),
    )


def anthropic(
    *,
    rpm: int | None = None,
    itpm: int | None = None,
    otpm: int | None = None,
    concurrency: int | None = None,
    quantum_seconds: float | None = None,
    learned: LearnedEstimates | None = None,
    **options: Any,
) -> GateSet:
    """Return gates for Anthropic's API.

    https://platform.claude.com/docs/en/api/rate-limits: «uses the token bucket algorithm», continuously replenished;
    «a rate of 60 RPM might be enforced as 1 request per second» (`quantum_seconds`); requests, input tokens (cache
    reads do not count for most models) and output tokens per minute. Output is counted as it is produced, and
    `max_tokens` does not factor in: give the expected output as `output_tokens` and settle; `learned` (made here if
    not given) finds out how far expectations are off.
    """
    if learned is None and otpm is not None:
        learned = LearnedEstimates()
    return _set(
        concurrency,
        {**options, "learned": learned},
        _rate(RpmGate, rpm, algorithm="bucket", quantum_seconds=quantum_seconds),
        _rate(ItpmGate, itpm, algorithm="bucket"),
        _rate(OtpmGate, otpm, algorithm="bucket"),
    )


def azure_openai(
    *,
    tpm: int,
    rpm: int | None = None,
    concurrency: int | None = None,
    quantum_seconds: float = 10.0,
    **options: Any,
) -> GateSet:
    """Return gates for Azure OpenAI.

    https://learn.microsoft.com/azure/ai-services/openai/how-to/quota: tokens are a running count of the estimated
    maximum that is «reset each minute» (a sliding log is safe whenever that is); requests are looked at «over a small
    period of time, typically 1 or 10 seconds». Without `rpm` it is 6 per 1,000 tokens per minute, as documented for
    most chat models.
    """
    return _set(
        concurrency,
        options,
        _rate(RpmGate, rpm or max(tpm * 6 // 1_000, 1), quantum_seconds=quantum_seconds),
        _rate(TpmGate, tpm),
    )


def gemini(
    *,
    rpm: int | None = None,
    tpm: int | None = None,
    rpd: int | None = None,
    concurrency: int | None = None,
    **options: Any,
) -> GateSet:
    """Return gates for the Gemini API.

    https://ai.google.dev/gemini-api/docs/rate-limits: requests per minute, *input* tokens per minute and requests per
    day, per project; the day turns at midnight Pacific time.
    """
    from zoneinfo import ZoneInfo  # no other vendor's day begins somewhere else

    zone = ZoneInfo("America/Los_Angeles") if rpd is not None else None
    return _set(
        concurrency,
        options,
        _rate(RpmGate, rpm),
        _rate(ItpmGate, tpm),
        _rate(RpdGate, rpd, algorithm="fixed", zone=zone),
    )


def mistral(
    *,
    rps: int | None = None,
    tpm: int | None = None,
    concurrency: int | None = None,
    **options: Any,
) -> GateSet:
    """Return gates for Mistral's API.

    https://docs.mistral.ai/deployment/ai-studio/tier: requests per *second*, and tokens per minute, input and output
    together, per organisation. Its tokens per month are best kept by a `BudgetGate`.
    """
    return _set(
        concurrency,
        options,
        _rate(RpmGate, rps, per_seconds=1.0, name="rps"),
        _rate(TpmGate, tpm),
    )


def groq(
    *,
    rpm: int | None = None,
    tpm: int | None = None,
    rpd: int | None = None,
    tpd: int | None = None,
    concurrency: int | None = None,
    **options: Any,
) -> GateSet:
    """Return gates for Groq's API.

    https://console.groq.com/docs/rate-limits: requests and tokens per minute and per day, per organisation; cached
    tokens do not count.
    """
    return _set(
        concurrency,
        options,
        _rate(RpmGate, rpm),
        _rate(TpmGate, tpm),
        _rate(RpdGate, rpd),
        _rate(TpdGate, tpd),
    )


def cerebras(
    *,
    rpm: int | None = None,
    tpm: int | None = None,
    rpd: int | None = None,
    tpd: int | None = None,
    concurrency: int | None = None,
    **options: Any,
) -> GateSet:
    """Return gates for the Cerebras API.

    https://inference-docs.cerebras.ai/support/rate-limits: a token bucket on requests and tokens; the charge is prompt
    plus `max_completion_tokens`, known before the call: reserve it and do not settle downwards.
    """
    return _set(
        concurrency,
        options,
        _rate(RpmGate, rpm, algorithm="bucket"),
        _rate(TpmGate, tpm, algorithm="bucket"),
        _rate(RpdGate, rpd, algorithm="bucket"),
        _rate(TpdGate, tpd, algorithm="bucket"),
    )


def _rate(
    kind: type[RateGate], limit: int | None, *, algorithm: Algorithm = "sliding", **options: Any
) -> RateGate | None:
    return None if limit is None else kind(limit, algorithm=algorithm, **options)


def _set(concurrency: int | None, options: dict[str, Any], *rates: RateGate | None) -> GateSet:
    gates: list[GateSet] = [rate for rate in rates if rate is not None]
    if concurrency is not None:
        gates.append(ConcurrencyGate(concurrency))
    if not gates:
        raise ConfigurationError("presets: no limit was given, expected at least one")
    return GateSet(*gates, **options)
