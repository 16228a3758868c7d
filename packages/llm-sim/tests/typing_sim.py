"""The public face as a type checker sees it: checked by mypy, never run."""

from __future__ import annotations

from decimal import Decimal
from typing import assert_type

from llm_core import Provider
from llm_sim import (
    Ask,
    Call,
    Constant,
    Faults,
    Latency,
    Limits,
    LogNormal,
    Report,
    SimProvider,
    SimServer,
)


def shout(ask: Ask) -> str:
    return ask.user_text.upper()


def use() -> None:
    latency = Latency(first_token=LogNormal(0.4, 0.5), per_token=Constant(0.02))
    limits = Limits(rpm=500, algorithm="bucket", quota_usd=Decimal(5))
    with SimServer(shout, latency=latency, limits=limits, faults=["429:0.02"], seed=1) as sim:
        assert_type(sim.openai_base_url, str)
        assert_type(sim.report(), Report)
        assert_type(sim.calls(), list[Call])
        sim.use_script([{"exact": "ping", "reply": "pong"}])
    provider: Provider = SimProvider("replies.yaml", faults=Faults(probabilities={"reset": 0.1}))
    assert_type(provider.name, str)
