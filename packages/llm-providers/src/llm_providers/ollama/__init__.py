"""Ollama's own API."""

from llm_providers.ollama.provider import OllamaProvider

__all__ = ["OllamaProvider"]
