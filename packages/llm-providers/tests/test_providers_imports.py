from __future__ import annotations

import subprocess
import sys

import llm_providers

SDKS = ("openai", "anthropic", "ollama", "httpx", "httpx2", "pydantic", "tiktoken", "pytest")


def test_importing_loads_no_sdk() -> None:
    code = (
        "import sys, llm_providers, llm_providers.testing; "
        f"print([name for name in {SDKS!r} if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert ran.stdout.strip() == "[]"


def test_making_providers_loads_no_sdk() -> None:
    code = (
        "import sys; from llm_providers import *; "
        "OpenAIProvider(); AnthropicProvider(); OllamaProvider(); "
        "ProviderRegistry().resolve('gpt-4o'); "
        f"print([name for name in {SDKS!r} if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert ran.stdout.strip() == "[]"


def test_the_public_names_are_complete() -> None:
    public = {
        name
        for name, value in vars(llm_providers).items()
        if not name.startswith("_") and not isinstance(value, type(sys))
    }
    assert public == set(llm_providers.__all__)
    assert llm_providers.__all__ == sorted(
        llm_providers.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name)
    )
