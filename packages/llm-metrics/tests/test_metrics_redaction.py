from __future__ import annotations

import time

import pytest

from llm_metrics import redact, redact_text


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-Ab12Cd34Ef56Gh78Ij90",
        "sk-ant-api03-Ab12Cd34Ef56Gh78",
        "AIzaSyA1234567890abcdefghijk",
        "ghp_0123456789abcdefABCDEF012345",
        "hf_abcdefghijklmnop",
        "xoxb-123456789012-abcdef",
        "AKIAIOSFODNN7EXAMPLE",
        "ASIAIOSFODNN7EXAMPLE",
        "github_pat_11ABCDEFG0123456789",
        "nvapi-0123456789abcdef",
        "ya29.a0AfH6SMBabcdefghijk",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEvQIB\n-----END RSA PRIVATE KEY-----",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    ],
)
def test_a_key_of_a_known_shape_is_replaced(secret: str) -> None:
    assert redact_text(f"Incorrect API key provided: {secret}. See docs") == (
        "Incorrect API key provided: [redacted]. See docs"
    )


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Authorization: Bearer abcdefgh12345678", "Authorization: Bearer [redacted]"),
        ("sent bearer abcdefgh12345678 on", "sent bearer [redacted] on"),
        ("api_key=abcd1234&x=1", "api_key=[redacted]&x=1"),
        ('{"password": "hunter22"}', '{"password": "[redacted]"}'),
        ("Authorization: Token abcdefgh", "Authorization: Token [redacted]"),
        ('{\\"api_key\\": \\"abcd1234\\"}', '{\\"api_key\\": \\"[redacted]\\"}'),
        (
            "https://vendor.example/v1?key=abcd1234&x=1",
            "https://vendor.example/v1?key=[redacted]&x=1",
        ),
        (
            "https://files.example/a?x=1&sig=ab%2Fcd#top",
            "https://files.example/a?x=1&sig=[redacted]#top",
        ),
        ("redis://user:hunter22@host/0", "redis://user:[redacted]@host/0"),
    ],
)
def test_what_follows_a_telling_name_is_replaced(text: str, left: str) -> None:
    assert redact_text(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "1200 input tokens, 40 output tokens",
        "the skeleton key of the antique house",
        "task-management-system failed",
        "https://example.org:443/path",
        "a token of appreciation",
    ],
)
def test_plain_words_stay(text: str) -> None:
    assert redact_text(text) == text


def test_mappings_are_redacted_by_name_and_deep_inside() -> None:
    data = {
        "headers": {"Authorization": "x", "X-Api-Key": "y", "Cookie": "z", "Accept": "text"},
        "list": ["sk-abcdefghijklmnop", 3, None],
        "max_tokens": 10,
        "gen_ai.usage.input_tokens": 5,
        "access_token": "t",
        "token": "",
    }
    assert redact(data) == {
        "headers": {
            "Authorization": "[redacted]",
            "X-Api-Key": "[redacted]",
            "Cookie": "[redacted]",
            "Accept": "text",
        },
        "list": ["[redacted]", 3, None],
        "max_tokens": 10,
        "gen_ai.usage.input_tokens": 5,
        "access_token": "[redacted]",
        "token": "",
    }


@pytest.mark.parametrize(
    "name",
    [
        "X-Amz-Security-Token",
        "Ocp-Apim-Subscription-Key",
        "x-functions-key",
        "apiToken",
        "accessKey",
    ],
)
def test_a_header_or_option_that_holds_a_key_is_known_by_its_name(name: str) -> None:
    assert redact({name: "abc"}) == {name: "[redacted]"}


def test_an_object_without_a_json_form_shows_no_key_either() -> None:
    class Client:
        def __repr__(self) -> str:
            return "<Client api_key='abcd1234'>"

    assert redact({"client": Client(), 1: True}) == {
        "client": "<Client api_key='[redacted]'>",
        1: True,
    }


@pytest.mark.parametrize(
    "piece", ["x", "eyJaaaaaaaa-", "http://", "a://b:", "password ", "-----BEGIN "]
)
def test_long_texts_take_no_longer_than_their_length_says(piece: str) -> None:
    # Once the time of a run grew with its square, and a megabyte took minutes.
    text = piece * (500_000 // len(piece))
    before = time.process_time()
    redact_text(text)
    assert time.process_time() - before < 10
