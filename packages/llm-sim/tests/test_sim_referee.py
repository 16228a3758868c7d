"""The referee: what it says about a client's behaviour."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import openai
import pytest

from llm_sim import Ask, Constant, Latency, Limits, SimServer
from llm_sim.exchange import Request
from llm_sim.faults import Faults
from llm_sim.limits import Algorithm
from llm_sim.simulator import Settings, Simulator


class Bench:
    """A simulator whose time is moved by hand."""

    def __init__(self, **settings: Any) -> None:
        self.now = 1000.0
        self.simulator = Simulator(
            Settings(**settings), clock=lambda: self.now, wall_clock=lambda: self.now
        )

    def send(self, text: str = "x", at: float = 0.0, *, leave: bool = False, **body: Any) -> int:
        self.now = 1000.0 + at
        data = {"model": "gpt-4o", "messages": [{"role": "user", "content": text}], **body}
        answer = self.simulator.answer(
            Request(
                method="POST",
                path="/v1/chat/completions",
                headers={b"authorization": b"Bearer k"},
                body=json.dumps(data).encode(),
            )
        )
        for _ in answer.chunks:
            pass
        self.simulator.finish(answer, abandoned=leave)
        return answer.status

    @property
    def limit(self) -> Any:
        (limit,) = self.simulator.report().limits
        return limit


@pytest.mark.parametrize(("algorithm", "let"), [("sliding", 2), ("bucket", 3), ("fixed", 4)])
def test_violations_are_of_the_exact_window_whatever_was_let_pass(
    algorithm: Algorithm, let: int
) -> None:
    bench = Bench(limits=Limits(rpm=2, algorithm=algorithm))
    # 1000 is 16 windows and 40 seconds: the next fixed window starts 20 seconds later.
    statuses = [bench.send(at=at) for at in (0.0, 1.0, 20.0, 31.0)]
    assert statuses.count(200) == let
    assert (bench.limit.peak, bench.limit.violations) == (4, 2)
    assert bench.limit.refused == 4 - let


def test_a_client_on_the_limit_has_full_utilisation_and_no_violation() -> None:
    bench = Bench(limits=Limits(rpm=2))
    for at in (0.0, 0.0, 60.0, 60.0, 120.0, 120.0):
        assert bench.send(at=at) == 200
    assert (bench.limit.peak, bench.limit.violations) == (2, 0)
    assert bench.limit.utilisation == 1.0


@pytest.mark.parametrize(
    ("algorithm", "times", "utilisation"),
    [
        ("sliding", [0, 0, 0, 0], 0.4),  # 4 of 10, and time enough
        ("sliding", [0] * 10 + [60] * 5 + [75], 0.8),  # 60 seconds would have done, it took 75
        ("bucket", [0] * 10 + [6, 12, 18, 24, 30], 1.0),  # one every 6 seconds
        ("bucket", [0] * 10 + [12, 24, 36, 48, 60], 0.5),
        ("fixed", [0] * 10 + [20] * 10, 1.0),  # 1000 is 20 seconds before the next window
        ("fixed", [0] * 10 + [40] * 10, 0.5),
        ("sliding", [0] * 10 + [60] * 10 + [61], 0.9836),  # what is refused takes its time as well
    ],
)
def test_utilisation_is_the_shortest_time_by_the_time_it_took(
    algorithm: Algorithm, times: list[float], utilisation: float
) -> None:
    bench = Bench(limits=Limits(rpm=10, algorithm=algorithm))
    for at in times:
        bench.send(at=float(at))
    assert bench.limit.utilisation == utilisation


def test_tokens_are_watched_in_their_own_unit() -> None:
    bench = Bench(limits=Limits(tpm=100))
    assert bench.send(max_tokens=60) == 200
    assert bench.send(max_tokens=60) == 429
    assert (bench.limit.peak, bench.limit.violations, bench.limit.refused) == (120, 1, 1)


def test_output_tokens_are_watched_as_they_were_produced() -> None:
    bench = Bench(limits=Limits(otpm=4))
    assert bench.send("one two three") == 200
    assert bench.send("one two three") == 200
    assert bench.send("one two three") == 429
    assert (bench.limit.peak, bench.limit.violations, bench.limit.refused) == (6, 1, 1)


def test_cached_input_is_no_use_of_the_input_limit() -> None:
    bench = Bench(limits=Limits(itpm=2000))
    prompt = "a long rule " * 500  # 1,500 tokens and 7, of which 1,408 are cached the second time
    assert [bench.send(prompt, at=at) for at in (0.0, 1.0, 2.0)] == [200, 200, 200]
    assert (bench.limit.peak, bench.limit.violations) == (1507 + 99 + 99, 0)


def test_a_long_window_is_watched_in_bounded_memory() -> None:
    bench = Bench(limits=Limits(rpd=5000))
    for second in range(3000):
        bench.send(at=float(second))
    watch = bench.simulator.referee._tally.watches["k", "rpd"]
    assert bench.limit.peak == 3000
    assert len(watch._entries) < 40


def test_retries_are_judged() -> None:
    bench = Bench(limits=Limits(rpm=1))
    assert bench.send("first") == 200
    assert bench.send("second", at=1.0) == 429
    assert bench.send("second", at=30.0) == 429
    assert bench.send("second", at=61.0) == 200
    report = bench.simulator.report()
    assert (report.retries, report.early_retries, report.futile_retries) == (2, 1, 0)


def test_repeating_a_wrong_request_is_futile() -> None:
    bench = Bench()
    for _ in range(3):
        assert bench.send(temperature=9) == 400
    assert bench.simulator.report().futile_retries == 2


def test_repeating_after_a_broken_answer_is_a_retry_and_a_repeated_question_is_not() -> None:
    bench = Bench(faults=Faults(probabilities={"html": 1.0}))
    bench.send()
    bench.send()
    assert bench.simulator.report().retries == 1
    calm = Bench()
    calm.send()
    calm.send()
    assert calm.simulator.report().retries == 0


@pytest.mark.parametrize("stream", [True, False])
def test_leaving_what_stalls_is_no_offence_and_coming_back_is_a_retry(stream: bool) -> None:
    bench = Bench(faults=Faults(probabilities={"stall": 1.0}))
    bench.send(stream=stream, leave=True)
    bench.send(stream=stream, leave=True)
    report = bench.simulator.report()
    assert (report.retries, report.streams_abandoned) == (1, 0)


@pytest.mark.parametrize(("stream", "retries", "abandoned"), [(True, 0, 2), (False, 1, 0)])
def test_leaving_before_a_plain_answer_is_a_failure_and_leaving_a_stream_is_none(
    stream: bool, retries: int, abandoned: int
) -> None:
    bench = Bench()
    bench.send(stream=stream, leave=True)
    bench.send(stream=stream, leave=True)
    report = bench.simulator.report()
    assert (report.retries, report.streams_abandoned) == (retries, abandoned)


def test_only_so_many_failures_are_remembered() -> None:
    bench = Bench()
    for number in range(4200):
        bench.send(str(number), temperature=9)
    assert len(bench.simulator.referee._failed) == 4096


def test_money_follows_the_price_list() -> None:
    bench = Bench()
    bench.send("one two three")  # 9 tokens in, 3 out, at 2.50 and 10 dollars a million
    report = bench.simulator.report()
    assert str(report.cost_usd) == "0.0000525"
    bench.send("x", model="my-own")
    report = bench.simulator.report()
    assert str(report.cost_usd) == "0.0000525"
    assert report.unpriced_models == ("my-own",)
    assert report.usage.input_tokens == 9 + 7


def test_faults_and_streams_are_counted() -> None:
    bench = Bench(faults=Faults(probabilities={"500": 1.0}))
    bench.send()
    assert bench.simulator.report().by_fault == {"500": 1}
    bench = Bench()
    bench.send(stream=True)
    report = bench.simulator.report()
    assert (report.streams, report.streams_abandoned, report.by_operation) == (1, 0, {"chat": 1})


def test_the_report_is_json_and_a_reset_forgets_it() -> None:
    bench = Bench(limits=Limits(rpm=5, concurrency=2))
    bench.send()
    written = json.loads(json.dumps(bench.simulator.report().to_dict()))
    assert written["calls"] == 1
    assert [limit["name"] for limit in written["limits"]] == ["rpm", "concurrency"]
    bench.simulator.reset()
    assert bench.simulator.report().calls == 0


def test_a_server_tells_its_report_in_process_and_over_http() -> None:
    with (
        SimServer([{"any": True, "replies": ["a", "b"]}]) as sim,
        openai.OpenAI(base_url=sim.openai_base_url, api_key="sk-1", max_retries=0) as client,
    ):
        assert client.responses.create(model="gpt-5", input="hi").output_text == "a"
        assert sim.report().calls == 1
        assert httpx.get(f"{sim.url}/_sim/report").json() == sim.report().to_dict()
        (call,) = sim.calls()
        assert (call.key, call.model, call.status, call.ended) == (
            "sk-1",
            "gpt-5",
            200,
            "completed",
        )
        assert call.body["input"] == "hi"
        assert httpx.get(f"{sim.url}/_sim/calls").json()[0]["body"]["input"] == "hi"
        assert httpx.post(f"{sim.url}/_sim/reset").json() == {"reset": True}
        assert sim.report().calls == 0
        assert client.responses.create(model="gpt-5", input="hi").output_text == "a"
        answer = httpx.post(f"{sim.url}/_sim/script", content="rules: [{any: true, reply: new}]")
        assert answer.json() == {"rules": 1}
        assert client.responses.create(model="gpt-5", input="hi").output_text == "new"
        sim.use_script({"default": "newer"})
        assert client.responses.create(model="gpt-5", input="hi").output_text == "newer"
        wrong = httpx.post(f"{sim.url}/_sim/script", content="rulez: []")
        assert wrong.status_code == 400
        assert wrong.json()["error"].startswith("script:1: unknown key 'rulez'")
        assert httpx.get(f"{sim.url}/_sim/nothing").status_code == 404
        sim.reset()
    assert sim.report().calls == 0


def test_an_abandoned_stream_is_noticed() -> None:
    with (
        SimServer(latency=Latency(per_token=Constant(0.02))) as sim,
        openai.OpenAI(base_url=sim.openai_base_url, api_key="k", max_retries=0) as client,
    ):
        stream = client.chat.completions.create(
            model="gpt-4o",
            messages=[{"role": "user", "content": "word " * 500}],
            stream=True,
        )
        next(iter(stream))
        stream.close()
        deadline = time.monotonic() + 5
        while sim.report().running and time.monotonic() < deadline:
            pass
        report = sim.report()
    assert report.streams_abandoned == 1


def test_concurrency_is_watched() -> None:
    bench = Bench(limits=Limits(concurrency=1))
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}]}).encode()
    request = Request(
        method="POST",
        path="/v1/chat/completions",
        headers={b"authorization": b"Bearer k"},
        body=body,
    )
    first = bench.simulator.answer(request)
    second = bench.simulator.answer(request)
    assert (first.status, second.status) == (200, 429)
    bench.simulator.finish(second)
    bench.simulator.finish(first)
    limit = bench.limit
    assert (limit.name, limit.peak, limit.violations, limit.refused) == ("concurrency", 2, 1, 1)
    assert bench.simulator.report().peak_concurrency == 2


def test_a_reset_forgets_what_runs() -> None:
    bench = Bench(limits=Limits(concurrency=1))
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}]}).encode()
    request = Request(
        method="POST",
        path="/v1/chat/completions",
        headers={b"authorization": b"Bearer k"},
        body=body,
    )
    before = bench.simulator.answer(request)
    bench.simulator.reset()
    after = bench.simulator.answer(request)
    bench.simulator.finish(before)
    assert bench.simulator.report().running == 1
    assert bench.simulator.answer(request).status == 429
    bench.simulator.finish(after)


def test_a_script_that_fails_is_told_to_the_client() -> None:
    def broken(ask: Ask) -> str:
        raise KeyError(ask.user_text)

    with (
        SimServer(broken) as sim,
        openai.OpenAI(base_url=sim.openai_base_url, api_key="k", max_retries=0) as client,
        pytest.raises(openai.InternalServerError, match=r"the script failed: KeyError\('hi'\)"),
    ):
        client.responses.create(model="m", input="hi")
    assert sim.report().running == 0
