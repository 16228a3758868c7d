"""`ServiceChatModel`: a LangChain chat model whose calls go through a service, with its limits, retries and records.

Needs the extra `langchain`: `llm-service[langchain]`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing, suppress
from operator import itemgetter
from typing import Any, Literal

from llm_core import GenerationRequest, InvalidValue, LLMError, MissingDependencyError, Sampling
from llm_service.estimate import estimate_text_tokens
from llm_service.service import BaseLLMService

try:
    from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
    from langchain_core.language_models import LanguageModelInput
    from langchain_core.language_models.base import LangSmithParams
    from langchain_core.language_models.chat_models import BaseChatModel
    from langchain_core.messages import AIMessage, BaseMessage
    from langchain_core.output_parsers import (
        BaseOutputParser,
        JsonOutputParser,
        PydanticOutputParser,
    )
    from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
    from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
    from langchain_core.tools import BaseTool
    from langchain_core.utils.function_calling import convert_to_openai_tool
    from langchain_core.utils.pydantic import is_basemodel_subclass
    from pydantic import BaseModel, ConfigDict, Field, InstanceOf, SecretStr

    from llm_service.langchain_chunks import ChunkWriter, message_from
    from llm_service.langchain_messages import messages_from_langchain
    from llm_service.langchain_tools import response_schema_from, tool_choice_from, tools_from
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        f"{error.name} is not installed: install the extra llm-service[langchain]"
    ) from error

__all__ = ["ServiceChatModel"]

_SAMPLING = ("temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty")

# What LangChain itself puts among the arguments of a call and means for nobody further down.
_NOT_FOR_THE_SERVICE = ("stream", "stream_usage")

Method = Literal["json_schema", "function_calling", "json_mode"]


class ServiceChatModel(BaseChatModel):
    """A chat model over a service.

    ::

        model = ServiceChatModel(service=service, model="gpt-5-mini", operation_name="triage")
        chain = prompt | model | StrOutputParser()

    All models over one service share its limits, retries, cache and accounts.
    LangChain knows failures as exceptions, so a result without success is raised: `ProviderError`, whose `info` tells all.
    Arguments and messages of which no request can be made raise InvalidValue, before anything is sent.
    The arguments of a single call (``model.invoke(…, temperature=0)``, `bind`) are those below
    and every further field of `GenerationRequest`.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    service: InstanceOf[BaseLLMService] = Field(exclude=True, repr=False)
    model: str | None = None
    """A model's name, an alias, or provider/model; None takes the service's default."""
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    """The longest answer, in tokens."""
    stop: list[str] | None = None
    """Texts at which generation ends; an argument of the same name replaces them for one call."""
    seed: int | None = None
    timeout: float | None = None
    """Seconds for the whole call: queue, attempts, pauses."""
    max_retries: int | None = None
    """Attempts after the first; None takes the service's policy."""
    api_key: SecretStr | None = Field(default=None, exclude=True, repr=False)
    """Taken and not used, so that this class can stand where a vendor's stood: keys are the service's concern."""
    streaming: bool = False
    """Whether `invoke` streams from the provider, too."""
    operation_name: str | None = None
    tenant: str | None = None
    priority: int = 0
    request_fields: Mapping[str, Any] = Field(default_factory=dict)
    """Further fields of `GenerationRequest` for every call."""

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        result = self.service.generate_sync(self._request(messages, stop, kwargs))
        return ChatResult(generations=[ChatGeneration(message=message_from(result))])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        result = await self.service.generate(self._request(messages, stop, kwargs))
        return ChatResult(generations=[ChatGeneration(message=message_from(result))])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        writer = ChunkWriter()
        events = self.service.stream_sync(self._request(messages, stop, kwargs))
        with closing(events):
            for event in events:
                yield from writer.write(event)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        writer = ChunkWriter()
        async with aclosing(self.service.stream(self._request(messages, stop, kwargs))) as events:
            async for event in events:
                for chunk in writer.write(event):
                    yield chunk

    def get_num_tokens(self, text: str) -> int:
        """Return about how many tokens a text has, by its length: what the limits reserve for it.

        LangChain's own count takes GPT-2's tokeniser out of the package `transformers`.
        """
        return estimate_text_tokens(text)

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | dict[str, Any] | bool | None = None,
        parallel_tool_calls: bool | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return this model with tools to call.

        `tool_choice` is ``auto``, ``none``, ``any`` (also ``required`` or True: some tool must be called),
        or the name of the tool to call.
        `strict` asks the vendor to make the arguments satisfy the tool's schema exactly.
        """
        described = [convert_to_openai_tool(tool, strict=strict) for tool in tools]
        given = {"tool_choice": tool_choice, "parallel_tool_calls": parallel_tool_calls}
        wanted = {name: value for name, value in given.items() if value is not None}
        # Checked here, too, so that a wrong choice fails where it is made.
        tool_choice_from(tool_choice, tools=tools_from(described), parallel=parallel_tool_calls)
        return self.bind(tools=described, **wanted, **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        include_raw: bool = False,
        method: Method = "json_schema",
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Return this model with answers that satisfy `schema`: a pydantic class, a TypedDict, or a JSON Schema.

        ``json_schema`` asks for it in the way the model supports best, strictly unless `strict` is False;
        ``json_mode`` does the same without strictness; ``function_calling`` demands the call of one tool.
        With `include_raw` the answer is a dict of ``raw``, ``parsed`` and ``parsing_error``.
        """
        if method == "function_calling":
            return super().with_structured_output(schema, include_raw=include_raw, **kwargs)
        if method not in ("json_schema", "json_mode"):
            raise InvalidValue.of("method", method, "json_schema, function_calling or json_mode")
        strictly = method == "json_schema" and strict is not False
        told = {"kwargs": {"method": method, "strict": strict}, "schema": schema}
        model = self.bind(
            response_schema=response_schema_from(schema, strict=strictly),
            ls_structured_output_format=told,
            **kwargs,
        )
        parser: BaseOutputParser[Any] = JsonOutputParser()
        if isinstance(schema, type) and is_basemodel_subclass(schema):
            parser = PydanticOutputParser(pydantic_object=schema)
        if not include_raw:
            return model | parser
        parse = RunnablePassthrough.assign(
            parsed=itemgetter("raw") | parser, parsing_error=lambda _: None
        )
        unparsed = RunnablePassthrough.assign(parsed=lambda _: None)
        return RunnableMap(raw=model) | parse.with_fallbacks(
            [unparsed], exception_key="parsing_error"
        )

    def _request(
        self, messages: list[BaseMessage], stop: list[str] | None, given: Mapping[str, Any]
    ) -> GenerationRequest:
        """Return the request for one call; raise InvalidValue for an argument that nobody knows."""
        wanted = {**self._own_arguments(), **given}
        tools = tools_from(wanted.pop("tools", None) or ())
        choice = tool_choice_from(
            wanted.pop("tool_choice", None),
            tools=tools,
            parallel=wanted.pop("parallel_tool_calls", None),
        )
        fields: dict[str, Any] = {
            "messages": messages_from_langchain(messages),
            "tools": tools,
            "tool_choice": choice if tools else None,
            "stop": tuple((self.stop if stop is None else stop) or ()),
        }
        sampling = {name: wanted.pop(name) for name in _SAMPLING if name in wanted}
        if any(value is not None for value in sampling.values()):
            fields["sampling"] = Sampling(**sampling)
        for langchains, ours in (
            ("max_tokens", "max_output_tokens"),
            ("timeout", "deadline_seconds"),
        ):
            if langchains in wanted:
                fields[ours] = wanted.pop(langchains)
        retries = wanted.pop("max_retries", None)
        if retries is not None:
            fields["max_attempts"] = retries + 1
        for name in _NOT_FOR_THE_SERVICE:
            wanted.pop(name, None)
        unknown = sorted(set(wanted) - set(GenerationRequest.__dataclass_fields__))
        if unknown:
            raise InvalidValue(
                f"{', '.join(unknown)}: no argument of ServiceChatModel; "
                "expected one of its fields or of GenerationRequest"
            )
        return GenerationRequest(**{**wanted, **fields})

    def _own_arguments(self) -> dict[str, Any]:
        names = (
            *("model", "temperature", "top_p", "max_tokens", "seed", "timeout", "max_retries"),
            *("operation_name", "tenant", "priority"),
        )
        own = {name: getattr(self, name) for name in names}
        set_here = {name: value for name, value in own.items() if value is not None}
        return {**self.request_fields, **set_here}

    @property
    def _llm_type(self) -> str:
        return "llm-service"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        """What tells two models apart, in LangChain's cache and traces: whom the service would ask, and with what."""
        asked: dict[str, Any] = {}
        with suppress(LLMError):  # else nobody can be asked, and nothing is kept
            provider, model = self.service._router.resolve(self.model)
            asked = {"provider": provider.name, "model": model}
        return {**self._own_arguments(), **asked, "stop": self.stop}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return LangSmithParams(
            **{**super()._get_ls_params(stop=stop, **kwargs), "ls_provider": self._llm_type}
        )
