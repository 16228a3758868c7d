"""OpenAI's embeddings and models as the official package sees them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_sim import SimServer
from llm_sim.embeddings import embed


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    with (
        SimServer() as sim,
        openai.OpenAI(base_url=sim.openai_base_url, api_key="k", max_retries=0) as client,
    ):
        yield client


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def test_texts_that_share_words_are_near(client: openai.OpenAI) -> None:
    made = client.embeddings.create(
        model="text-embedding-3-small",
        input=["the cat sat on the mat", "the cat sat on a mat", "stocks fell sharply today"],
    )
    near, far = (cosine(made.data[0].embedding, made.data[i].embedding) for i in (1, 2))
    assert near > 0.7 > 0.3 > abs(far)
    assert made.usage.prompt_tokens == made.usage.total_tokens == 6 + 6 + 4
    assert [len(item.embedding) for item in made.data] == [1536] * 3


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"model": "text-embedding-3-large"}, 3072),
        ({"dimensions": 256}, 256),
        ({"encoding_format": "float"}, 1536),
    ],
)
def test_the_size_is_the_models_or_the_wish(
    client: openai.OpenAI, options: dict[str, Any], size: int
) -> None:
    given_: dict[str, Any] = {"model": "text-embedding-3-small", "input": "x", **options}
    assert len(client.embeddings.create(**given_).data[0].embedding) == size


def test_tokens_are_accepted(client: openai.OpenAI) -> None:
    one = client.embeddings.create(model="m", input=[1, 2, 3])
    two = client.embeddings.create(model="m", input=[[1, 2, 3], [4]])
    assert one.data[0].embedding == two.data[0].embedding
    assert len(two.data) == 2


@pytest.mark.parametrize(
    "options",
    [
        {"input": ""},
        {"input": []},
        {"input": [""]},
        {"input": 5},
        {"input": ["x"] * 2049},
        {"encoding_format": "hex"},
        {"dimensions": 0},
        {"extra_body": {"colour": "red"}},
    ],
)
def test_a_bad_request_is_refused(client: openai.OpenAI, options: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(**{"model": "m", "input": "x", **options})


@given(st.text(), st.integers(1, 64))
def test_every_vector_has_length_one(text: str, dimensions: int) -> None:
    vector = embed(text, dimensions)
    assert math.isclose(sum(value * value for value in vector), 1.0)
    assert len(vector) == dimensions


def test_words_that_cancel_out_still_make_a_vector() -> None:
    words = [f"w{i}" for i in range(9)]
    signs = {word: embed(word, 1)[0] for word in words}
    plus = next(word for word in words if signs[word] > 0)
    minus = next(word for word in words if signs[word] < 0)
    assert embed(f"{plus} {minus}", 1) == [1.0]


def test_models_are_listed(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert "gpt-4o" in names
    assert not any(name.startswith("claude") for name in names)
    assert client.models.retrieve("anything").id == "anything"
    with (
        SimServer(models=["gpt-5", "llama3.2:latest"]) as sim,
        openai.OpenAI(base_url=sim.openai_base_url, api_key="k", max_retries=0) as other,
    ):
        assert [model.id for model in other.models.list()] == ["gpt-5"]
        with pytest.raises(openai.NotFoundError):
            other.models.retrieve("gpt-4o")
