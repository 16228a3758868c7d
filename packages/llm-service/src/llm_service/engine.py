"""`GenerationEngine`: one call from request to result, in five stages.

::

    prepare   request → provider call: which provider and model, how many tokens to reserve
    recall    the response cache, if there is one and the request allows it
    invoke    attempts: admitted by the gates, sent by the provider, settled by what they used
    refine    pipeline steps from raw text to the value that was wanted
    record    the result, and who is to be told of it

Whatever fails on the way becomes part of the result; only cancellation passes through.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

from llm_core import (
    UNSET,
    CacheMode,
    Degradation,
    DegradedReason,
    ErrorInfo,
    ErrorType,
    GenerationFinished,
    GenerationRequest,
    GenerationResult,
    GenerationStarted,
    PipelineStepResult,
    ProviderResponse,
    StepEnded,
)
from llm_service.cache_key import cache_key
from llm_service.estimate import estimate_tokens
from llm_service.invocation import Invocation
from llm_service.parts import EngineParts
from llm_service.refinement import SimpleContext, run_step, steps_of
from llm_service.timeline import PreparedCall, Timeline

__all__ = ["GenerationEngine"]

_log = logging.getLogger("llm_service")

# An hour: long enough for a batch run to profit, short enough not to surprise.
_DEFAULT_TTL_SECONDS = 3600.0


class GenerationEngine:
    """Runs calls through the five stages; any number at once, on any event loop."""

    def __init__(self, parts: EngineParts) -> None:
        self._parts = parts

    async def generate(self, request: GenerationRequest) -> GenerationResult[Any]:
        """Answer `request`; raises nothing but cancellation."""
        line = Timeline(request, self._parts.clock)
        self._parts.tell(lambda: GenerationStarted(request=request, **line.stamp("requested")))
        try:
            call = self._prepare(line)
            recalled = await self._recall(line, call)
            if recalled is None:
                response = await self._invoke(line, call)
                await self._refine(line, response)
            return await self._record(line, recalled)
        except asyncio.CancelledError:
            line.error = ErrorInfo.of(ErrorType.CANCELLED, "the caller gave up")
            self._finish(line, line.result())
            raise
        except Exception as error:  # noqa: BLE001 - the boundary: every failure becomes a result
            line.error = ErrorInfo.from_exception(error)
            if line.error.type is ErrorType.INTERNAL:
                _log.exception("call %s failed in our own code", line.request_id)
            return await self._record(line, None)

    def _prepare(self, line: Timeline) -> PreparedCall:
        provider, model = self._parts.resolve(line.request.model)
        line.provider_name, line.model = provider.name, model
        request = line.request.to_call(model)
        input_tokens, output_tokens = estimate_tokens(request)
        line.mark("prepared")
        return PreparedCall(
            provider=provider,
            request=request,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
        )

    async def _recall(self, line: Timeline, call: PreparedCall) -> GenerationResult[Any] | None:
        policy, cache = line.request.cache, self._parts.cache
        if cache is None or policy is None or policy.mode is CacheMode.OFF:
            return None
        line.cache_key = cache_key(call.provider.name, call.request, tenant=line.request.tenant)
        stored = await cache.get(line.cache_key) if policy.mode is CacheMode.USE else None
        line.mark("cache_checked")
        return stored

    async def _invoke(self, line: Timeline, call: PreparedCall) -> ProviderResponse:
        invocation = Invocation(self._parts, line, call)
        retrying = self._parts.retry.retrying(
            max_attempts=line.request.max_attempts,
            remaining_seconds=line.remaining_seconds,
            before_sleep=line.note_pause,
            sleep=self._parts.clock.sleep,
        )
        response: ProviderResponse = await retrying(invocation.attempt)
        line.response = response
        return response

    async def _refine(self, line: Timeline, response: ProviderResponse) -> None:
        line.content = response.text
        line.mark("refine_started")
        context = SimpleContext(request=line.request, response=response)
        for step in steps_of(line.request.pipeline):
            done = await run_step(step, line.content, context, self._parts.clock)
            line.steps.append(done)
            self._parts.tell(partial(_step_ended, line, done))
            if not done.success:
                line.fall_back_to_last_good(done)
                break
            line.content = done.after
        line.mark("refined")

    async def _record(
        self, line: Timeline, recalled: GenerationResult[Any] | None
    ) -> GenerationResult[Any]:
        if line.error is not None and line.request.fallback_value is not UNSET:
            line.content = line.request.fallback_value
            line.degraded = Degradation(
                reason=DegradedReason.FALLBACK_VALUE,
                detail="the call failed; the content is the request's fallback value",
                error=line.error,
            )
        if recalled is None:
            await self._store(line)
        line.mark("recorded")
        line.mark("completed")
        result = line.result() if recalled is None else line.replay(recalled)
        self._finish(line, result)
        return result

    async def _store(self, line: Timeline) -> None:
        cache, policy = self._parts.cache, line.request.cache
        if cache is None or policy is None or line.cache_key is None or line.error is not None:
            return
        ttl_seconds = policy.ttl_seconds or _DEFAULT_TTL_SECONDS
        try:
            await cache.put(line.cache_key, line.result(), ttl_seconds=ttl_seconds)
        except Exception:  # noqa: BLE001 - a broken cache must not spoil a good answer
            _log.exception("the response cache did not take call %s", line.request_id)

    def _finish(self, line: Timeline, result: GenerationResult[Any]) -> None:
        self._parts.tell(lambda: GenerationFinished(result=result, **line.stamp("completed")))


def _step_ended(line: Timeline, done: PipelineStepResult) -> StepEnded:
    return StepEnded(step=done, **line.stamp())
