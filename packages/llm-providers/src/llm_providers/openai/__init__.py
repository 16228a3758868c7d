"""OpenAI's API, and everything that speaks like it."""

from llm_providers.openai.provider import OpenAIProvider

__all__ = ["OpenAIProvider"]
