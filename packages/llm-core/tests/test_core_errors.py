"""Errors: what each kind means, how exceptions and their description belong together."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import math
import pickle
from pathlib import Path
from typing import Any

import pytest

import llm_core
from llm_core import (
    ERROR_TABLE,
    BudgetDenied,
    CircuitOpen,
    DeadlineExceeded,
    ErrorInfo,
    ErrorTraits,
    ErrorType,
    FrozenDict,
    GateTimeout,
    InvalidValue,
    LLMError,
    MissingCredentials,
    MissingDependencyError,
    OutputError,
    ProviderError,
    ProviderResponse,
    QueueFull,
    RateLimitFacts,
    RequestError,
    TextPart,
    UnknownModel,
)

EXCEPTIONS = [
    value
    for value in map(vars(llm_core).get, llm_core.__all__)
    if isinstance(value, type) and issubclass(value, LLMError) and value is not ProviderError
]
every_exception = pytest.mark.parametrize("cls", EXCEPTIONS, ids=lambda cls: cls.__name__)

README = Path(__file__).parents[1] / "README.md"


class TestTable:
    def test_every_type_has_one_row(self) -> None:
        assert list(ERROR_TABLE) == list(ErrorType)
        assert all(error_type.traits is ERROR_TABLE[error_type] for error_type in ErrorType)

    def test_it_cannot_be_changed(self) -> None:
        row = ERROR_TABLE[ErrorType.INTERNAL]
        with pytest.raises(TypeError):
            ERROR_TABLE[ErrorType.INTERNAL] = row  # type: ignore[index]
        with pytest.raises(dataclasses.FrozenInstanceError):
            row.retryable = True  # type: ignore[misc]

    def test_what_is_worth_another_try(self) -> None:
        assert {t.value for t in ErrorType if t.traits.retryable} == {
            "rate_limited",
            "overloaded",
            "server_error",
            "timeout_connect",
            "timeout_read",
            "connection",
            "truncated",
        }

    def test_only_a_sick_provider_trips_the_breaker(self) -> None:
        assert {t.value for t in ErrorType if t.traits.trips_breaker} == {
            "overloaded",
            "server_error",
            "timeout_connect",
            "timeout_read",
            "connection",
        }

    def test_what_another_model_cannot_help_either(self) -> None:
        assert {t.value for t in ErrorType if not t.traits.may_fall_back} == {
            "timeout_deadline",
            "invalid_request",
            "cancelled",
        }

    def test_what_never_reached_the_provider_costs_no_quota(self) -> None:
        assert {t.value for t in ErrorType if not t.traits.consumes_quota} == {
            "timeout_connect",
            "circuit_open",
            "budget_denied",
            "gate_timeout",
            "missing_dependency",
        }

    def test_the_readme_shows_it_as_it_is(self) -> None:
        columns = [field.name for field in dataclasses.fields(ErrorTraits)]
        rows = [
            f"| `{error_type}` | "
            + " | ".join("yes" if getattr(traits, name) else "" for name in columns)
            + " |"
            for error_type, traits in ERROR_TABLE.items()
        ]
        shown = README.read_text("utf-8").split("<!-- error table -->")[1].strip().splitlines()
        assert [" ".join(line.split()) for line in shown[2:]] == [
            " ".join(row.split()) for row in rows
        ]
        assert shown[0] == "| `ErrorType` | " + " | ".join(f"`{name}`" for name in columns) + " |"


class TestExceptions:
    @every_exception
    def test_each_has_a_type_and_says_what_happened(self, cls: type[LLMError]) -> None:
        error = cls("no", retry_after=2.5, details={"limit": "rpm"})
        assert str(error) == "no"
        assert isinstance(error.error_type, ErrorType)
        assert error.retryable is error.error_type.traits.retryable
        assert error.retry_after == 2.5
        assert error.details == {"limit": "rpm"}

    @every_exception
    def test_each_survives_pickle_and_copy(self, cls: type[LLMError]) -> None:
        error = cls("no", retry_after=2.5, details={"limit": "rpm"})
        error.add_note("while testing")
        for again in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error), copy.copy(error)):
            assert type(again) is cls
            assert str(again) == "no"
            assert again.retry_after == 2.5
            assert again.details == {"limit": "rpm"}
            assert again.__notes__ == ["while testing"]

    def test_a_provider_error_survives_pickle_and_copy(self) -> None:
        info = ErrorInfo(
            type=ErrorType.TRUNCATED,
            message="cut off",
            retry_after=1.0,
            details={"bytes": [1, 2]},
            partial=ProviderResponse(provider="p", model="m", parts=(TextPart(text="Li"),)),
        )
        error = ProviderError(info)
        error.add_note("while testing")
        for again in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error), copy.copy(error)):
            assert type(again) is ProviderError
            assert again.info == info
            assert again.error_type is ErrorType.TRUNCATED
            assert again.details == {"bytes": (1, 2)}
            assert again.__notes__ == ["while testing"]

    @pytest.mark.parametrize(
        ("cls", "also"),
        [
            (llm_core.InvalidValue, ValueError),
            (llm_core.UnsupportedFeature, ValueError),
            (llm_core.CostExceedsLimit, ValueError),
            (MissingDependencyError, ImportError),
            (UnknownModel, LookupError),
            (DeadlineExceeded, TimeoutError),
            (GateTimeout, llm_core.WaitError),
            (QueueFull, llm_core.WaitError),
            (CircuitOpen, llm_core.WaitError),
            (MissingCredentials, llm_core.ConfigurationError),
            (BudgetDenied, llm_core.DeniedError),
            (llm_core.InvalidValue, RequestError),
        ],
    )
    def test_each_is_caught_as_what_it_also_is(
        self, cls: type[LLMError], also: type[Exception]
    ) -> None:
        with pytest.raises(also, match="no"):
            raise cls("no")

    def test_each_has_the_type_that_says_what_to_do(self) -> None:
        assert {cls.__name__: cls.error_type.value for cls in EXCEPTIONS} == {
            "BudgetDenied": "budget_denied",
            "CircuitOpen": "circuit_open",
            "ConfigurationError": "invalid_request",
            "CostExceedsLimit": "invalid_request",
            "DeadlineExceeded": "timeout_deadline",
            "DeniedError": "budget_denied",
            "GateTimeout": "gate_timeout",
            "InvalidValue": "invalid_request",
            "LLMError": "internal",
            "MissingCredentials": "authentication",
            "MissingDependencyError": "missing_dependency",
            "OutputError": "output_invalid",
            "QueueFull": "gate_timeout",
            "RequestError": "invalid_request",
            "UnknownModel": "model_not_found",
            "UnsupportedFeature": "invalid_request",
            "WaitError": "gate_timeout",
        }


class TestErrorInfo:
    @pytest.mark.parametrize("error_type", list(ErrorType))
    def test_the_table_says_whether_to_retry_however_it_is_made(
        self, error_type: ErrorType
    ) -> None:
        expected = ERROR_TABLE[error_type].retryable
        direct = ErrorInfo(type=error_type, message="x")
        assert direct.retryable is expected
        assert ErrorInfo.of(error_type, "x") == direct
        assert ErrorInfo.from_dict({"type": error_type.value, "message": "x"}) == direct

    def test_what_the_provider_said_about_retrying_goes_first(self) -> None:
        said = ErrorInfo(type=ErrorType.SERVER_ERROR, message="x", retryable=False)
        assert said.retryable is False
        assert ErrorInfo.from_dict(said.to_dict()) == said
        assert ErrorInfo.of(ErrorType.INTERNAL, "x", retryable=True).retryable is True
        assert said.to_exception().retryable is False

    def test_an_exception_of_ours_keeps_what_it_knows(self) -> None:
        error = GateTimeout("rpm is full", retry_after=12.5, details={"limit": "rpm"})
        assert ErrorInfo.from_exception(error) == ErrorInfo(
            type=ErrorType.GATE_TIMEOUT,
            message="rpm is full",
            retryable=False,
            retry_after=12.5,
            exception="GateTimeout",
            details=FrozenDict(limit="rpm"),
        )

    @pytest.mark.parametrize("endless", [math.inf, math.nan, -1.0, -1e300])
    def test_a_wait_that_is_no_wait_is_left_out(self, endless: float) -> None:
        error = GateTimeout("held", retry_after=endless)
        assert ErrorInfo.from_exception(error).retry_after is None
        said = ErrorInfo.of(ErrorType.RATE_LIMITED, "slow down", retry_after=endless)
        assert said.retry_after is None
        assert said.to_exception().retry_after is None
        assert RateLimitFacts(retry_after=endless).retry_after is None

    def test_a_wait_is_a_year_at_most(self) -> None:
        year = 366 * 86_400.0
        error = GateTimeout("held", retry_after=1e300)
        assert ErrorInfo.from_exception(error).retry_after == year
        assert ErrorInfo.of(ErrorType.OVERLOADED, "x", retry_after=1e300).retry_after == year
        assert RateLimitFacts(retry_after=1e300).retry_after == year

    def test_a_wait_that_is_no_number(self) -> None:
        words: Any = "3"
        with pytest.raises(InvalidValue, match=r"ErrorInfo\.retry_after: got '3'"):
            ErrorInfo.of(ErrorType.OVERLOADED, "x", retry_after=words)
        # Whoever is told of a failure is not to fail by it.
        error = GateTimeout("held", retry_after=words)
        assert ErrorInfo.from_exception(error).retry_after is None
        assert RateLimitFacts(retry_after=words).retry_after is None

    def test_a_provider_error_gives_back_its_own_description(self) -> None:
        info = ErrorInfo(type=ErrorType.OVERLOADED, message="busy", status_code=529)
        error = info.to_exception()
        assert isinstance(error, ProviderError)
        assert str(error) == "busy"
        assert ErrorInfo.from_exception(error) is info

    def test_a_foreign_exception_is_an_internal_fault(self) -> None:
        info = ErrorInfo.from_exception(KeyError("city"))
        assert info.type is ErrorType.INTERNAL
        assert info.message == "KeyError: 'city'"
        assert info.exception == "KeyError"
        assert info.retryable is False

    @pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyboardInterrupt()])
    def test_cancellation_means_that_the_caller_gave_up(self, error: BaseException) -> None:
        info = ErrorInfo.from_exception(error)
        assert info.type is ErrorType.CANCELLED
        assert info.message == type(error).__name__

    def test_output_errors_are_not_the_providers(self) -> None:
        info = ErrorInfo.from_exception(OutputError("no city in it"))
        assert (info.type, info.message) == (ErrorType.OUTPUT_INVALID, "no city in it")


@pytest.mark.parametrize(
    ("info", "may_be"),
    [
        (ErrorInfo.of(ErrorType.CONNECTION, "reset"), True),
        (ErrorInfo.of(ErrorType.CONNECTION, "refused", details={"sent": False}), False),
        (ErrorInfo.of(ErrorType.TIMEOUT_READ, "no answer within 60 s"), True),
        (ErrorInfo.of(ErrorType.TIMEOUT_READ, "the vendor timed out", status_code=408), False),
        (ErrorInfo.of(ErrorType.TIMEOUT_CONNECT, "no connection"), False),
        (ErrorInfo.of(ErrorType.SERVER_ERROR, "an empty body", status_code=200), True),
        (ErrorInfo.of(ErrorType.SERVER_ERROR, "failed", status_code=500), False),
        (ErrorInfo.of(ErrorType.RATE_LIMITED, "slow down", status_code=429), False),
    ],
    ids=lambda value: value.message if isinstance(value, ErrorInfo) else "",
)
def test_an_answer_that_got_lost_may_be_billed_and_a_refusal_is_not(
    info: ErrorInfo, may_be: bool
) -> None:
    assert info.may_be_billed is may_be
