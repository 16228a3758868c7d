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
from llm_service.parts import EngineParts
from llm_service.recall import Recall, events_of, response_of
from llm_service.refinement import context_maker, pipeline_of
from llm_service.snapshot import CacheStats
from llm_service.sound_values import with_playable_audio
from llm_service.timeline import HelperAttempts, PreparedCall, Timeline

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
                try:
                    call = self._prepare(line, request.model)
                except LLMError as error:
                    call = self._below(line, error)
                if parts.cache is not None and self._recall_stage.concerns(request):
                    await self._recall(line, call, sink)
                else:
                    await self._invoke(line, call, sink)
                await self._refine(line)
            except Exception as error:  # noqa: BLE001 - the boundary: every failure becomes a result
                self._note_failure(line, error)
            except asyncio.CancelledError as error:
                if task.cancelling() > cancelled_before:
                    raise
                self._note_stray_cancellation(line, error)
            if line.error is not None:
                await self._make_up(line)
            result = self._finish(line)
            if line.cache_key is not None:
                await self._recall_stage.store(line, result)
        except asyncio.CancelledError:
            why = parts.in_flight.why_ended(task, cancelled_before)
            if result is None:  # else the answer is there, and was only being stored
                line.note_cancellation(why or "the call was cancelled")
                result = self._finish(line)
            if why is None:
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
        while True:
            try:
                await Invocation(self._parts, line, call, sink).run()
            except Exception as error:  # noqa: BLE001 - a fault in foreign code may spare another model
                call = self._below(line, error)
            else:
                break
        if line.fell_for is not None:
            words = f"{call.provider_name}/{call.request.model} answered instead"
            line.degrade(DegradedReason.FALLBACK_MODEL, words, line.fell_for)

    def _below(self, line: Timeline, error: Exception) -> PreparedCall:
        """Go down the ladder to the next rung that is meant for `error` and can be asked; raise `error` if there is none."""
        info = ErrorInfo.from_exception(error)
        rungs = self._parts.fallbacks
        while line.rung < len(rungs) and line.may_restart and not line.is_late:
            rung = rungs[line.rung]
            line.rung += 1
            if not rung.applies_to(info):
                continue
            try:
                call = self._prepare(line, rung.model)
            except LLMError:
                _log.exception("fallback %s cannot be asked", rung.model)
                continue
            if any(attempt.call.asks_as(call) for attempt in line.attempts):
                continue
            line.failure = info
            line.fell_for = line.fell_for or info
            self._log_fault(line, error)
            return call
        raise error

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
                line.request.tenant or "",
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
        self._log_fault(line, error)

    def _note_stray_cancellation(self, line: Timeline, error: asyncio.CancelledError) -> None:
        """Note that a step or a provider awaited what was cancelled: nobody has cancelled the call itself."""
        words = "the call awaited something that was cancelled, and was not cancelled itself"
        line.error = ErrorInfo.of(ErrorType.INTERNAL, words, exception=type(error).__name__)
        self._log_fault(line, error)

    def _log_fault(self, line: Timeline, error: BaseException) -> None:
        """Log, with its traceback, what is no failure of a call but a fault in code."""
        if not isinstance(error, LLMError):
            _log.error("call %s met a fault in code", line.request_id, exc_info=error)

    async def _generate_for_step(
        self, line: Timeline, request: GenerationRequest, *, purpose: str
    ) -> GenerationResult[Any]:
        """Run one more call on behalf of a pipeline step, within what is left of the deadline, on the same ledger.

        It passes the gates of its model as a call of the same operation. Model, tenant and priority are those of
        the call it helps where `request` leaves them out (a priority of 0 counts as left out).
        No cache is asked, and a failure is told as it is: retries and the ladder apply, a fallback value does not.
        """
        asked, remaining = line.request, line.remaining_seconds()
        changes: dict[str, Any] = {
            "operation_name": asked.operation_name,
            "request_id": line.request_id,
            "model": asked.model if request.model is None else request.model,
            "tenant": asked.tenant if request.tenant is None else request.tenant,
            "priority": request.priority or asked.priority,
        }
        if remaining is not None:
            own = request.deadline_seconds
            changes["deadline_seconds"] = max(
                remaining if own is None else min(own, remaining), 0.001
            )
        helper = Timeline(request.replace(**changes), self._parts.clock)
        helper.trace = line.trace
        helper.attempts = HelperAttempts(line.attempts, purpose)
        try:
            helper.pipeline = pipeline_of(helper.request.pipeline, self._parts.clock)
            try:
                call = self._prepare(helper, helper.request.model)
            except LLMError as error:
                call = self._below(helper, error)
            await self._invoke(helper, call, None)
            await self._refine(helper)
        except Exception as error:  # noqa: BLE001 - the step gets a result, as every caller does
            self._note_failure(helper, error)
        finally:
            line.backoff_until = helper.backoff_until or line.backoff_until
        helper.completed = helper.now()
        return helper.result()

    async def _renew(self, request: GenerationRequest) -> None:
        """Ask again for an answer that was given stale, so that the next caller gets a fresh one."""
        await self.generate(request)


_prepared_call = unchecked(PreparedCall)  # looked up once, as every call needs it
