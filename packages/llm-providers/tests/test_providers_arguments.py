"""What a provider is made with: what can never work is refused at once, by name."""

from __future__ import annotations

import math
from typing import Any

import httpx2
import pytest

from llm_core import ConfigurationError, InvalidValue
from llm_core.testing import ManualClock
from llm_providers import AnthropicProvider, OllamaProvider, OpenAIProvider
from llm_providers.testing import CannedTransport

KINDS = [OpenAIProvider, AnthropicProvider, OllamaProvider]
NO_TIME = ["x", None, 0, -1.0, math.nan, True]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("argument", "value", "expected"),
    [
        ("name", 5, "a text that is not empty"),
        ("name", "", "a text that is not empty"),
        *[("timeout_seconds", value, "more than 0 seconds") for value in NO_TIME],
        *[("connect_seconds", value, "more than 0 seconds") for value in NO_TIME],
        *[("idle_timeout_seconds", value, "more than 0 seconds") for value in NO_TIME],
        ("transport", "x", "a Transport"),
        ("transport", "", "a Transport"),
        ("clock", "x", "a Clock"),
    ],
)
def test_what_can_never_work_is_refused_by_name(
    kind: Any, argument: str, value: Any, expected: str
) -> None:
    with pytest.raises(InvalidValue) as caught:
        kind(**{argument: value})
    assert str(caught.value) == f"{kind.__name__}.{argument}: got {value!r}, expected {expected}"


@pytest.mark.parametrize(
    ("kind", "argument"),
    [
        (OpenAIProvider, "base_url"),
        (OpenAIProvider, "api_key_variable"),
        (OpenAIProvider, "organization"),
        (OpenAIProvider, "project"),
        (AnthropicProvider, "base_url"),
        (AnthropicProvider, "api_key_variable"),
        (OllamaProvider, "host"),
    ],
)
@pytest.mark.parametrize("value", [5, b"x", 0])
def test_what_is_no_text_is_refused_by_name(kind: Any, argument: str, value: Any) -> None:
    with pytest.raises(InvalidValue) as caught:
        kind(**{argument: value})
    assert str(caught.value) == f"{kind.__name__}.{argument}: got {value!r}, expected a text"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key", [b"hush-hush", ["hush-hush"], 0])
def test_a_key_that_is_no_text_is_refused_unseen(kind: Any, key: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"of type {type(key).__name__}") as caught:
        kind(api_key=key)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("kind", [OpenAIProvider, AnthropicProvider])
def test_an_http_client_that_cannot_be_awaited_is_refused(kind: Any) -> None:
    with httpx2.Client() as sync_client:
        for value in ("x", 0, sync_client, httpx2.AsyncClient):
            with pytest.raises(
                InvalidValue,
                match=rf"{kind.__name__}\.http_client: .* expected an httpx2.AsyncClient",
            ):
                kind(http_client=value)


def test_options_of_ollamas_client_are_a_mapping() -> None:
    options: Any = 5
    with pytest.raises(
        InvalidValue, match=r"OllamaProvider\.client_options: got 5, expected a mapping"
    ):
        OllamaProvider(client_options=options)


@pytest.mark.parametrize("kind", KINDS)
def test_whole_and_endless_times_are_fine(kind: Any) -> None:
    kind(
        timeout_seconds=math.inf,
        connect_seconds=5,
        idle_timeout_seconds=1,
        transport=CannedTransport(b"{}"),
        clock=ManualClock(),
    )
