"""Limits: what each algorithm lets pass, and what the vendors' clients see."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_sim import ConfigurationError, Limits, SimServer
from llm_sim.limits import (
    Charge,
    FixedWindow,
    LimitBook,
    Meter,
    SlidingLog,
    TokenBucket,
    meter,
)
from llm_sim.openai_wire import duration


def passed(meter_: Meter, times: list[float], cost: int = 1) -> list[float]:
    """Return the times at which a cost fits."""
    let = []
    for now in times:
        if meter_.wait(now, cost) == 0:
            meter_.take(now, cost)
            let.append(now)
    return let


def test_a_sliding_log_never_holds_more_than_the_limit() -> None:
    log = SlidingLog(2, 10.0)
    assert passed(log, [0.0, 4.0, 9.9, 10.0, 13.9, 14.0]) == [0.0, 4.0, 10.0, 14.0]
    assert log.wait(14.0, 1) == 6.0
    assert log.wait(14.0, 2) == 10.0
    assert log.wait(14.0, 3) == math.inf
    assert log.remaining(14.0) == 0
    assert log.reset_seconds(14.0) == 10.0
    assert (log.remaining(24.0), log.reset_seconds(24.0)) == (2, 0.0)


def test_a_bucket_lets_a_burst_pass_and_refills_evenly() -> None:
    bucket = TokenBucket(2, 10.0)
    assert passed(bucket, [0.0, 0.0, 0.0, 4.9, 5.0, 10.0]) == [0.0, 0.0, 5.0, 10.0]
    assert bucket.wait(10.0, 1) == 5.0
    assert bucket.wait(10.0, 3) == math.inf
    assert bucket.reset_seconds(10.0) == 10.0
    assert bucket.remaining(100.0) == 2


def test_a_fixed_window_begins_again_at_multiples() -> None:
    window = FixedWindow(2, 10.0)
    assert passed(window, [9.0, 9.5, 9.9, 10.0, 10.1, 10.2]) == [9.0, 9.5, 10.0, 10.1]
    assert window.wait(12.0, 1) == 8.0
    assert window.wait(12.0, 3) == math.inf
    assert (window.remaining(12.0), window.reset_seconds(12.0)) == (0, 8.0)
    assert (window.remaining(20.0), window.reset_seconds(20.0)) == (2, 0.0)


def test_a_quantised_limit_is_also_enforced_by_the_second() -> None:
    limits = Limits(rpm=120, algorithm="quantised")
    quantised = meter(limits, "rpm", 120, 60.0)
    assert passed(quantised, [0.0, 0.1, 0.2, 0.9, 1.0]) == [0.0, 0.1, 1.0]
    assert quantised.remaining(1.0) == 117
    assert quantised.reset_seconds(1.0) == 59.0
    slow = meter(Limits(rpm=6, algorithm="quantised"), "rpm", 6, 60.0)
    assert passed(slow, [0.0, 5.0, 9.9, 10.0]) == [0.0, 10.0]
    tokens = meter(Limits(tpm=600, algorithm="quantised"), "tpm", 600, 60.0)
    assert tokens.wait(0.0, 500) == 0.0


@given(
    st.lists(st.tuples(st.floats(0, 5), st.integers(1, 4)), max_size=60),
    st.integers(1, 6),
    st.sampled_from([SlidingLog, TokenBucket, FixedWindow]),
)
def test_after_the_wait_it_fits(
    steps: list[tuple[float, int]], limit: int, kind: Callable[[int, float], Meter]
) -> None:
    meter_ = kind(limit, 3.0)
    now = 0.0
    sent: list[tuple[float, int]] = []
    for gap, cost in steps:
        now += gap
        wait = meter_.wait(now, cost)
        if wait == math.inf:
            assert cost > limit
            continue
        if wait:
            now += wait + 1e-6
            assert meter_.wait(now, cost) == 0
        meter_.take(now, cost)
        sent.append((now, cost))
        assert 0 <= meter_.remaining(now) <= limit - cost
    if kind is SlidingLog:
        for end, _ in sent:
            assert sum(c for at, c in sent if end - 3.0 < at <= end) <= limit


def test_a_request_counts_on_every_limit_or_on_none() -> None:
    book = LimitBook(Limits(rpm=10, tpm=100))
    assert book.admit("k", Charge(tokens=60, input_tokens=5), 0.0) is None
    exceeded = book.admit("k", Charge(tokens=60, input_tokens=5), 1.0)
    assert exceeded is not None
    assert (exceeded.name, exceeded.used, exceeded.requested) == ("tpm", 60, 60)
    assert exceeded.wait_seconds == 59.0
    assert book.readings("k", 1.0)["rpm"].remaining == 9


def test_refused_requests_count_if_the_vendor_says_so() -> None:
    book = LimitBook(Limits(rpm=2, tpm=10, charge_refused=True))
    for _ in range(2):
        assert book.admit("k", Charge(tokens=11, input_tokens=1), 0.0) is not None
    exceeded = book.admit("k", Charge(tokens=1, input_tokens=1), 0.0)
    assert exceeded is not None
    assert exceeded.name == "rpm"


def test_output_may_overdraw() -> None:
    book = LimitBook(Limits(itpm=100, otpm=50))
    assert book.admit("k", Charge(tokens=1, input_tokens=10), 0.0) is None
    book.settle("k", 0.0, output_tokens=90)
    assert book.readings("k", 0.0)["itpm"].remaining == 90
    assert book.readings("k", 0.0)["otpm"].remaining == 0
    exceeded = book.admit("k", Charge(tokens=1, input_tokens=1), 59.0)
    assert exceeded is not None
    assert (exceeded.name, exceeded.wait_seconds) == ("otpm", 1.0)
    assert book.admit("k", Charge(tokens=1, input_tokens=1), 60.0) is None


def test_calls_at_the_same_time_are_limited() -> None:
    book = LimitBook(Limits(concurrency=1))
    charge = Charge(tokens=1, input_tokens=1)
    assert book.admit("k", charge, 0.0) is None
    exceeded = book.admit("k", charge, 0.0)
    assert exceeded is not None
    assert exceeded.name == "concurrency"
    assert book.admit("other", charge, 0.0) is None
    book.leave("k")
    assert book.admit("k", charge, 0.0) is None


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"rpm": 0}, "rpm must be a whole number from 1 up, got 0"),
        ({"tpm": 1.5}, "tpm must be a whole number"),
        ({"algorithm": "magic"}, "algorithm must be one of sliding, bucket, fixed, quantised"),
        ({"minute_seconds": 0}, "minute_seconds must be above 0, got 0"),
        ({"quota_usd": Decimal(0)}, r"quota_usd must be a Decimal above 0, got Decimal\('0'\)"),
        (
            {"quota_usd": Decimal("NaN")},
            r"quota_usd must be a Decimal above 0, got Decimal\('NaN'\)",
        ),
        ({"quota_usd": "5"}, "quota_usd must be a Decimal above 0, got '5'"),
        ({"rpm": True}, "rpm must be a whole number from 1 up, got True"),
        ({"quantum_seconds": -1}, "quantum_seconds must be above 0, got -1"),
    ],
)
def test_a_wrong_limit_is_named(options: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        Limits(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0ms"),
        (0.0166, "17ms"),
        (1.0, "1s"),
        (8.64, "8.64s"),
        (360.0, "6m0s"),
        (90.5, "1m30.5s"),
        (3723.0, "1h2m3s"),
    ],
)
def test_durations_are_written_as_openai_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def chat(client: openai.OpenAI, text: str = "hello", **options: object) -> object:
    return client.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "user", "content": text}],
        **options,  # type: ignore[call-overload]
    )


def test_openai_says_what_is_left_and_how_long_to_wait() -> None:
    with (
        SimServer(limits=Limits(rpm=2, tpm=1000, minute_seconds=30)) as sim,
        openai.OpenAI(base_url=sim.openai_base_url, api_key="k", max_retries=0) as client,
    ):
        raw = client.chat.completions.with_raw_response.create(
            model="gpt-4o", messages=[{"role": "user", "content": "hello"}], max_tokens=100
        )
        assert raw.headers["x-ratelimit-limit-requests"] == "2"
        assert raw.headers["x-ratelimit-remaining-requests"] == "1"
        assert raw.headers["x-ratelimit-remaining-tokens"] == "900"
        assert raw.headers["x-ratelimit-reset-requests"] == "30s"
        chat(client)
        with pytest.raises(openai.RateLimitError) as caught:
            chat(client)
        error = caught.value
        assert (error.code, error.type) == ("rate_limit_exceeded", "requests")
        assert "on requests per min (RPM): Limit 2, Used 2, Requested 1." in error.message
        assert "Please try again in 29." in error.message
        assert error.response.headers["retry-after"] == "30"
        assert 29_000 < int(error.response.headers["retry-after-ms"]) <= 30_000
        assert error.response.headers["x-ratelimit-remaining-requests"] == "0"
        chat(client.with_options(api_key="another"))


def test_openai_refuses_what_can_never_fit() -> None:
    with (
        SimServer(limits=Limits(tpm=50)) as sim,
        openai.OpenAI(base_url=sim.openai_base_url, api_key="k", max_retries=0) as client,
        pytest.raises(openai.RateLimitError, match="Request too large") as caught,
    ):
        chat(client, max_tokens=51)
    assert caught.value.type == "tokens"
    assert "retry-after" not in caught.value.response.headers


def test_limits_can_be_for_each_model() -> None:
    with (
        SimServer(limits=Limits(rpm=1, per_model=True)) as sim,
        openai.OpenAI(base_url=sim.openai_base_url, api_key="k", max_retries=0) as client,
    ):
        client.responses.create(model="gpt-5", input="x")
        client.responses.create(model="gpt-5-mini", input="x")
        with pytest.raises(openai.RateLimitError, match="for gpt-5 in"):
            client.responses.create(model="gpt-5", input="x")


def test_a_key_that_has_spent_its_money_is_refused_for_good() -> None:
    with (
        SimServer(limits=Limits(quota_usd=Decimal("0.00001"))) as sim,
        openai.OpenAI(base_url=sim.openai_base_url, api_key="k", max_retries=0) as client,
    ):
        chat(client)
        with pytest.raises(openai.RateLimitError) as caught:
            chat(client)
    assert caught.value.code == "insufficient_quota"


def test_a_client_that_obeys_the_headers_comes_through() -> None:
    with (
        SimServer(limits=Limits(rpm=1, minute_seconds=0.2)) as sim,
        openai.OpenAI(base_url=sim.openai_base_url, api_key="k", max_retries=2) as client,
    ):
        for _ in range(3):
            chat(client)
        report = sim.report()
    assert report.by_status[200] == 3
    assert report.retries >= 2
    assert report.early_retries == report.futile_retries == 0
