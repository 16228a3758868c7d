"""What a service cannot work with is refused where it is given, by name, and not in the calls that follow."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from llm_core import ErrorType, GenerationRequest, InvalidValue
from llm_core.testing import (
    FixedPriceBook,
    ManualClock,
    MemoryCache,
    OpenGate,
    RecordingTelemetry,
    ScriptedProvider,
)
from llm_gates import BreakerPolicy
from llm_service import BaseLLMService, Fallback, HedgePolicy, Limits, RetryPolicy, operation

WRONG: list[tuple[str, Any, str]] = [
    ("model", 5, "a model's name"),
    ("model", " ", "a model's name"),
    ("provider", "openai", "a Provider, with name, invoke, stream and aclose"),
    ("provider", ScriptedProvider, r"did you mean ScriptedProvider\(…\)\?"),
    ("registry", {}, "a ProviderRegistry"),
    ("fallbacks", "small", "a list of models or Fallback values"),
    ("fallbacks", 5, "a list of models or Fallback values"),
    ("fallbacks", ["small", 5], r"^fallbacks\[1\]: got 5, expected a model's name or a Fallback"),
    ("limits", 5, "a mapping"),
    ("limits", {"any": {"max_rpm": 5}}, r"^limits\['any'\]: got a dict, expected Limits"),
    ("limits", {5: Limits(max_rpm=5)}, r"^limits: got the key 5, expected"),
    ("gate", 5, "a Gate, with admit, observe and hold"),
    ("breaker", True, "a BreakerPolicy, or None"),
    ("retry", 3, "a RetryPolicy, or None"),
    ("retry", False, "a RetryPolicy, or None"),
    ("restart_streams", "no", "True or False"),
    ("hedge", True, "a HedgePolicy, or None"),
    ("cache", True, "a ResponseCache, with get and put"),
    ("cache", {}, "a ResponseCache, with get and put"),
    ("telemetry", 5, "a TelemetryClient, with emit and close"),
    ("telemetry", ["otel", 5], "a TelemetryClient, with emit and close"),
    ("price_book", "x.yaml", "a PriceBook, with price"),
    ("operation_fields", {"a": 1}, "a function"),
    ("clock", 5, "a Clock, with monotonic_ns, now and sleep"),
]


@pytest.mark.parametrize(("name", "value", "words"), WRONG)
def test_a_service_refuses_what_it_could_not_work_with(name: str, value: Any, words: str) -> None:
    with pytest.raises(InvalidValue, match=words) as caught:
        BaseLLMService(**{"model": "m", name: value})
    assert str(caught.value).startswith(name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("provider", ScriptedProvider()),
        ("fallbacks", (model for model in ["small", Fallback(model="tiny")])),
        ("fallbacks", {"small": 1}.keys()),
        ("limits", {"m": Limits(max_rpm=5)}),
        ("gate", OpenGate()),
        ("breaker", BreakerPolicy()),
        ("breaker", None),
        ("retry", RetryPolicy()),
        ("hedge", HedgePolicy()),
        ("cache", MemoryCache()),
        ("telemetry", RecordingTelemetry()),
        ("telemetry", ["none"]),
        ("price_book", FixedPriceBook(input_per_million=Decimal(1), output_per_million=Decimal(1))),
        ("clock", ManualClock()),
    ],
)
def test_a_service_takes_whatever_can_do_the_work(name: str, value: Any) -> None:
    BaseLLMService(**{"model": "m", "telemetry": "none", name: value})


def test_an_object_of_ones_own_is_told_what_it_lacks() -> None:
    class Half:
        name = "half"

        async def invoke(self, request: Any) -> Any: ...

    with pytest.raises(InvalidValue, match=r"got a Half, .* it has no stream and no aclose"):
        BaseLLMService(model="m", provider=Half())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value", [{"api_key": "sk-abcdefghijklmnop123456"}, "sk-abcdefghijklmnop123456"]
)
def test_a_key_in_the_wrong_place_is_not_shown(value: Any) -> None:
    with pytest.raises(InvalidValue) as caught:
        BaseLLMService(model="m", provider=value)
    assert "abcdefghijklmnop" not in str(caught.value)


def test_a_long_text_in_the_wrong_place_is_shortened() -> None:
    with pytest.raises(InvalidValue) as caught:
        BaseLLMService(model="m", provider="long " * 1000)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda service: service.use_provider(5), "^provider: got 5, expected a Provider"),
        (lambda service: service.use_model(5), "^model: got 5, expected a model's name"),
        (lambda service: service.use_limits(5, {}), "^general: got 5, expected Limits"),
        (lambda service: service.use_limits(None, {}), "^general: got None, expected Limits"),
        (lambda service: service.use_limits(Limits(), 5), "^limits: got 5, expected a mapping"),
        (lambda service: service.use_limits(Limits(), {"m": 5}), r"^limits\['m'\]: got 5"),
        (lambda service: service.set_rate_limits(max_rpm="x"), "^max_rpm: got 'x'"),
        (lambda service: service.set_rate_limits(max_rmp=1), "did you mean 'max_rpm'"),
        (lambda service: service.set_concurrency("x"), "^max_concurrent_requests: got 'x'"),
    ],
)
async def test_a_change_that_cannot_be_is_refused_and_nothing_has_changed(
    change: Any, words: str
) -> None:
    service = BaseLLMService(model="m", provider=ScriptedProvider(["x"]))
    with pytest.raises(InvalidValue, match=words):
        change(service)
    assert (await service.generate("?")).content == "x"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": 5}, "name: got 5"),
        ({"model": 5}, "model: got 5"),
        ({"pipeline": 5}, "pipeline: got 5, expected a pipeline, a step, a function"),
        ({"pipeline": True}, "pipeline: got True"),
        ({"deadline_seconds": "x"}, "deadline_seconds: got 'x'"),
        ({"cache": True}, "cache: got True"),
        ({"limits": {}}, "limits: got a dict, expected Limits"),
    ],
)
def test_an_operation_refuses_defaults_that_cannot_be(
    arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidValue, match=words):

        @operation(**arguments)
        async def method(self: Any) -> None: ...


@pytest.mark.parametrize("twin", ["generate_many", "generate_many_sync"])
@pytest.mark.parametrize(
    ("requests", "words"),
    [
        ("Hello", "^requests: got 'Hello', expected a list"),
        (b"Hello", "^requests: got a bytes, expected a list"),
        (None, "^requests: got None, expected a list"),
        (5, "^requests: got 5, expected a list"),
        (GenerationRequest(user="?"), "^requests: got a GenerationRequest, expected a list"),
    ],
)
def test_what_is_no_list_of_requests_is_refused_before_anything_is_sent(
    twin: str, requests: Any, words: str
) -> None:
    provider = ScriptedProvider(["x"])
    with (
        BaseLLMService(model="m", provider=provider) as service,
        pytest.raises(InvalidValue, match=words),
    ):
        getattr(service, twin)(requests)
    assert not provider.requests


def test_whatever_can_be_iterated_over_is_a_list_of_requests() -> None:
    class Old:
        def __getitem__(self, position: int) -> str:
            return ["a", "b"][position]

    async def later() -> AsyncIterator[str]:
        yield "a"
        yield "b"

    with BaseLLMService(model="m", provider=ScriptedProvider()) as service:
        for requests in (("a", "b"), iter(["a", "b"]), Old(), later(), {"a": 1, "b": 2}):
            results = service.generate_many_sync(requests, in_order=True)  # type: ignore[arg-type]
            assert [result.content for _, result in results] == ["a", "b"]


def embed(service: BaseLLMService, **fields: Any) -> Any:
    return service.embed_sync(["a"], **fields)


def generate(service: BaseLLMService, **fields: Any) -> Any:
    return service.generate_sync("a", **fields)


def change(service: BaseLLMService, **fields: Any) -> Any:
    return service.generate_sync(GenerationRequest(user="a"), **fields)


def structure(service: BaseLLMService, **fields: Any) -> Any:
    return service.generate_structured_sync(int, "a", **fields)


def stream(service: BaseLLMService, **fields: Any) -> Any:
    (event,) = service.stream_sync("a", **fields)
    return event.result


CALLS = [embed, generate, change, structure, stream]
NAMES = [
    ("modl", "modl: is no field of a request; did you mean 'model'?"),
    ("max_tokens", "max_tokens: is no field of a request; did you mean 'max_output_tokens'?"),
    (
        "temperature",
        "temperature: is no field of a request; did you mean sampling=Sampling(temperature=…)?",
    ),
    ("zzz", "zzz: is no field of a request; expected one of user, system, "),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("name", "words"), NAMES)
def test_a_keyword_that_is_no_field_is_told_from_what_was_meant(
    call: Any, name: str, words: str
) -> None:
    provider = ScriptedProvider(["7"])
    with BaseLLMService(model="m", provider=provider) as service:
        error = call(service, **{name: 1}).error
    assert (error.type, error.exception) == (ErrorType.INVALID_REQUEST, "InvalidValue")
    assert error.message.startswith(words)
    assert not provider.requests


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("pipeline", [str.strip], "embed: got pipeline, which it sets itself"),
        ("provider_options", {"a": 1}, "embed: got provider_options, which it sets itself"),
        ("user", "a", "embed: got user, which it sets itself"),
        ("dimension", 5, "dimension: is no field of a request; did you mean 'dimensions'?"),
        ("metadata", 5, "metadata: got 5, expected a mapping"),
    ],
)
def test_an_embedding_says_which_fields_it_does_not_take(name: str, value: Any, words: str) -> None:
    with BaseLLMService(model="m", provider=ScriptedProvider()) as service:
        error = embed(service, **{name: value}).error
    assert (error.type, error.exception) == (ErrorType.INVALID_REQUEST, "InvalidValue")
    assert error.message.startswith(words)
