"""`GenerationEngine`: one call from request to result, in five stages.

::

    prepare   request → provider call: which provider and model, how many tokens to reserve
    recall    the response cache, if there is one and the request allows it
    invoke    attempts: admitted by the gates, sent by the provider, settled by what they used
    refine    pipeline steps from raw text to the value that was wanted
    record    the result, and who is to be told of it

Whatever fails on the way becomes part of the result; only cancellation passes through.
A streamed call takes the same way, with a sink for its deltas.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from functools import partial
from typing import TYPE_CHECKING, Any

from llm_core import (
    UNSET,
    DeadlineExceeded,
    DegradedReason,
    ErrorInfo,
    ErrorType,
    GenerationFinished,
    GenerationRequest,
    GenerationResult,
    GenerationStarted,
    LLMError,
    StepEnded,
    TraceContext,
    unchecked,
)
from llm_core.later import asyncio
from llm_metrics import Labels, active_trace
from llm_service.estimate import estimate_tokens
from llm_service.invocation import Invocation, Sink
from llm_service.ladder import Fallback
from llm_service.parts import EngineParts
from llm_service.recall import Recall, events_of, response_of
from llm_service.refinement import context_maker, pipeline_of
from llm_service.snapshot import CacheStats
from llm_service.sound_values import with_playable_audio
from llm_service.timeline import PreparedCall, Timeline

if TYPE_CHECKING:
    from llm_pipeline import PipelineResult

__all__ = ["GenerationEngine"]

_log = logging.getLogger("llm_service")


class GenerationEngine:
    """Runs calls through the five stages; any number at once, on any event loop."""

    def __init__(self, parts: EngineParts) -> None:
        self._parts = parts
        self._recall_stage = Recall(parts)

    @property
    def parts(self) -> EngineParts:
        """What it works with."""
        return self._parts

    async def generate(
        self,
        request: GenerationRequest,
        sink: Sink | None = None,
    ) -> GenerationResult[Any]:
        """Answer `request`, passing the deltas of a streamed reply to `sink` if there is one.

        Raises nothing but cancellation, and not that of a service that closes.
        """
        parts = self._parts
        line = Timeline(request, parts.clock, parts.restart_streams)
        line.rates_before = parts.metrics.per_minute()
        line.trace = active_trace()
        if GenerationStarted in parts.telemetry.heard:
            self._tell_start(line)
        result: GenerationResult[Any] | None = None
        task, cancelled_before = parts.in_flight.enter()
        try:
            try:
                line.pipeline = pipeline_of(request.pipeline, parts.clock)
                call = self._prepare(line, request.model)
                if parts.cache is not None and self._recall_stage.concerns(request):
                    await self._recall(line, call, sink)
                else:
                    await self._invoke(line, call, sink)
                await self._refine(line)
            except Exception as error:  # noqa: BLE001 - the boundary: every failure becomes a result
                self._note_failure(line, error)
            if line.error is not None:
                await self._make_up(line)
            result = self._finish(line)
            if line.cache_key is not None:
                await self._recall_stage.store(line, result)
        except asyncio.CancelledError:
            closing = parts.in_flight.was_ended(task, cancelled_before)
            if result is None:  # else the answer is there, and was only being stored
                why = "the service was closed" if closing else "the call was cancelled"
                line.note_cancellation(why)
                result = self._finish(line)
            if not closing:
                raise
        finally:
            parts.in_flight.leave(task)
        return result if result.audio is None else with_playable_audio(result)

    def cache_stats(self) -> CacheStats:
        """Return what the response cache has done so far."""
        return self._recall_stage.stats()

    def _tell_start(self, line: Timeline) -> None:
        """Tell that the call began; its trace is a tracer's, else the active one, else ids of its own."""
        telemetry = self._parts.telemetry
        if line.trace is None and not telemetry.makes_spans:
            line.trace = unchecked(TraceContext)(
                trace_id=line.own_trace, span_id=line.own_span, local=True
            )
        telemetry.emit(
            unchecked(GenerationStarted)(
                request_id=line.request_id,
                at_ns=line.requested,
                request=line.request,
                trace=line.trace,
            )
        )
        if telemetry.makes_spans:
            line.trace = telemetry.trace_context(line.request_id) or line.trace

    async def _recall(self, line: Timeline, call: PreparedCall, sink: Sink | None) -> None:
        """Take a stored answer, or share the answering with identical calls that are under way."""
        await self._recall_stage.look_up(line, call, self._renew)
        if line.recalled is None:
            answer = partial(self._answer, line, call, sink)
            await self._recall_stage.share(line, answer, streamed=sink is not None)
        if sink is not None and line.recalled is not None and line.recalled.success:
            for event in events_of(response_of(line.recalled)):
                await sink(event)

    async def _answer(self, line: Timeline, call: PreparedCall, sink: Sink | None) -> None:
        """Fill in the reply, or the failure, which those who asked the same share."""
        try:
            await self._invoke(line, call, sink)
        except Exception as error:  # noqa: BLE001 - the boundary, as above
            self._note_failure(line, error)

    def _prepare(self, line: Timeline, model: str | None) -> PreparedCall:
        provider, name = self._parts.resolve(model)
        provider_name = provider.name
        line.provider_name, line.model = provider_name, name
        request = line.request.to_call(name)
        input_tokens, output_tokens = estimate_tokens(request)
        line.prepared = line.now()
        return _prepared_call(
            provider=provider,
            provider_name=provider_name,
            request=request,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
        )

    def _invoke(self, line: Timeline, call: PreparedCall, sink: Sink | None) -> Awaitable[None]:
        """Ask the model, then those below it on the ladder; raises the last error if all fail."""
        if self._parts.fallbacks:
            return self._climb_down(line, call, sink)
        return Invocation(self._parts, line, call, sink).run()

    async def _climb_down(self, line: Timeline, call: PreparedCall, sink: Sink | None) -> None:
        rungs = [rung for rung in self._parts.fallbacks if rung.model != line.request.model]
        first_error: ErrorInfo | None = None
        while True:
            try:
                await Invocation(self._parts, line, call, sink).run()
            except LLMError as error:
                info = ErrorInfo.from_exception(error)
                below = self._next_rung(line, rungs, info)
                if below is None:
                    raise
                first_error = first_error or info
                call = below
                continue
            if first_error is not None:
                line.degrade(
                    DegradedReason.FALLBACK_MODEL,
                    f"{call.provider_name}/{call.request.model} answered instead",
                    first_error,
                )
            return

    def _next_rung(
        self, line: Timeline, rungs: list[Fallback], error: ErrorInfo
    ) -> PreparedCall | None:
        """Take the rungs off the ladder down to the next that is meant for `error` and can be asked at all."""
        while rungs and line.may_restart and not line.is_late:
            rung = rungs.pop(0)
            if not rung.applies_to(error):
                continue
            try:
                return self._prepare(line, rung.model)
            except LLMError:
                _log.exception("fallback %s cannot be asked", rung.model)
        return None

    async def _refine(self, line: Timeline) -> None:
        """Make the value out of the reply, if there is one, within what is left of the deadline."""
        response = line.response
        if line.recalled is not None and line.recalled.success:
            response = line.response = response_of(line.recalled)
        if response is None or line.error is not None:
            return
        line.content = line.raw_content = text = response.text
        if line.pipeline is None:
            return
        line.refine_started = line.now()
        context = context_maker()(
            request=line.request,
            response=response,
            generate=partial(self._generate_for_step, line),
        )
        refining = line.pipeline.run(text, context=context)
        # Most calls have no deadline, and need no timer.
        refined = await (refining if line.deadline_ns is None else self._in_time(line, refining))
        refined_at = line.refined = line.now()
        line.content = refined.content
        line.error = None if refined.success else refined.error
        line.degraded = refined.degraded or line.degraded
        line.steps += refined.steps
        if StepEnded in self._parts.telemetry.heard:
            for step in refined.steps:
                self._parts.telemetry.emit(
                    StepEnded(request_id=line.request_id, at_ns=refined_at, step=step)
                )

    async def _in_time(
        self, line: Timeline, refining: Awaitable[PipelineResult[Any]]
    ) -> PipelineResult[Any]:
        """Await the pipeline within what is left of the deadline."""
        try:
            async with asyncio.timeout(line.remaining_seconds()):
                return await refining
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed in the pipeline") from None

    async def _make_up(self, line: Timeline) -> None:
        """Give a call that failed a stored answer, or its fallback value, in place of an answer."""
        failure = line.error
        if await self._recall_stage.stand_in(line):
            line.error = None
            try:
                await self._refine(line)
            except Exception as error:  # noqa: BLE001 - the boundary, as above
                self._note_failure(line, error)
            if line.error is None:
                line.error = failure
                line.substitute(DegradedReason.STALE_CACHE, "the call failed; a stored answer")
        if line.error is not None and line.request.fallback_value is not UNSET:
            line.content = line.request.fallback_value
            line.substitute(DegradedReason.FALLBACK_VALUE, "the call failed; its fallback value")

    def _finish(self, line: Timeline) -> GenerationResult[Any]:
        completed = line.completed = line.now()
        result = line.result(rates_after=self._parts.metrics.per_minute())
        if result.backoff.backoffs:
            labels = Labels(
                line.request.operation_name or "",
                line.model or "",
                line.provider_name or "",
                line.tenant,
            )
            self._parts.metrics.mark_waited(labels, backoff_seconds=result.backoff.backoff_seconds)
        self._parts.usage.record(result)
        if GenerationFinished in self._parts.telemetry.heard:
            self._parts.telemetry.emit(
                unchecked(GenerationFinished)(
                    request_id=line.request_id, at_ns=completed, result=result
                )
            )
        return result

    def _note_failure(self, line: Timeline, error: Exception) -> None:
        line.error = ErrorInfo.from_exception(error)
        if line.error.type is ErrorType.INTERNAL and not isinstance(error, LLMError):
            _log.exception("call %s failed in our own code", line.request_id)

    async def _generate_for_step(
        self, line: Timeline, request: GenerationRequest, *, purpose: str
    ) -> GenerationResult[Any]:
        """Run one more call on behalf of a pipeline step: same gates, what is left of the deadline, same ledger."""
        remaining = line.remaining_seconds()
        changes: dict[str, Any] = {
            "operation_name": line.request.operation_name,
            "request_id": line.request_id,
        }
        if remaining is not None:
            changes["deadline_seconds"] = max(remaining, 0.001)
        if request.model is None:
            changes["model"] = line.request.model
        helper = Timeline(request.replace(**changes), self._parts.clock)
        helper.trace, helper.tenant = line.trace, line.tenant
        try:
            helper.pipeline = pipeline_of(helper.request.pipeline, self._parts.clock)
            call = self._prepare(helper, helper.request.model)
            await self._invoke(helper, call, None)
            await self._refine(helper)
        except Exception as error:  # noqa: BLE001 - the step gets a result, as every caller does
            self._note_failure(helper, error)
        finally:
            line.take_over(helper.attempts, purpose)
        helper.completed = helper.now()
        return helper.result()

    async def _renew(self, request: GenerationRequest) -> None:
        """Ask again for an answer that was given stale, so that the next caller gets a fresh one."""
        await self.generate(request)


_prepared_call = unchecked(PreparedCall)  # looked up once, as every call needs it
