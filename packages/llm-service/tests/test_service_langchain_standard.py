"""LangChain's own suites for chat models, against llm-sim."""

from __future__ import annotations

import struct
import zlib
from collections.abc import AsyncGenerator, Iterator
from types import SimpleNamespace
from typing import Any

import langchain_tests.integration_tests.chat_models as standard
import pytest
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from llm_providers import OpenAIProvider
from llm_service import BaseLLMService
from llm_service.langchain import ServiceChatModel
from llm_sim import SimServer

WEATHER = {"name": "get_weather", "arguments": {"location": "San Francisco"}}
RULES = [
    {
        "contains": "magic_function(3)",
        "reply": {"tool_calls": [{"name": "magic_function", "arguments": {"input": 3}}]},
    },
    {
        "contains": "Pirate greeting",
        "reply": {
            "tool_calls": [{"name": "greeting_generator", "arguments": {"answer_style": "pirate"}}]
        },
    },
    {
        "contains": "weather in San Francisco",
        "turns": [{"tool_calls": [WEATHER]}, "It is sunny."],
    },
    *[
        {
            "contains": name,
            "reply": {
                "tool_calls": [
                    {
                        "name": "unicode_customer",
                        "arguments": {"customer_name": name, "description": "a company"},
                    }
                ]
            },
        }
        for name in ("你好啊集团", "こんにちは株式会社")
    ],
]


@pytest.fixture(scope="module")
def sim() -> Iterator[SimServer]:
    with SimServer({"rules": RULES, "default": "echo"}) as server:
        yield server


@pytest.fixture
async def service(sim: SimServer) -> AsyncGenerator[BaseLLMService, None]:
    # Chat Completions, as the Responses API knows no stop texts and no sound.
    openai = OpenAIProvider("simulated", sim.openai_base_url, "chat_completions")
    async with BaseLLMService(model="gpt-5-mini", provider=openai) as service:
        yield service


class Standard:
    """What both of LangChain's suites are told of the model."""

    service: BaseLLMService

    @pytest.fixture(autouse=True)
    def _over_the_simulator(self, service: BaseLLMService) -> None:
        self.service = service

    @pytest.fixture
    def benchmark(self, benchmark: Any) -> Any:
        """Run once what the suite would time."""
        benchmark.disabled = True
        return benchmark

    @property
    def chat_model_class(self) -> type[ServiceChatModel]:
        return ServiceChatModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"service": self.service, "model": "gpt-4o-mini"}

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_image_inputs(self) -> bool:
        return True

    @property
    def supports_image_urls(self) -> bool:
        return True

    @property
    def supports_pdf_inputs(self) -> bool:
        return True

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return "gpt-4.1-mini"


class TestStandardUnit(Standard, ChatModelUnitTests):
    """LangChain's unit tests."""


class TestStandardIntegration(Standard, ChatModelIntegrationTests):
    """LangChain's integration tests, against llm-sim."""

    @pytest.fixture(autouse=True)
    def _files_that_the_suite_would_download(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def get(url: str, **_: Any) -> Any:
            return SimpleNamespace(content=DOWNLOADS[url.rpartition(".")[2]])

        monkeypatch.setattr(standard, "httpx", SimpleNamespace(get=get))


def _png() -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0\xff\0\0")
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


PNG = _png()
DOWNLOADS = {"png": PNG, "pdf": b"%PDF-1.4\n%%EOF\n"}
