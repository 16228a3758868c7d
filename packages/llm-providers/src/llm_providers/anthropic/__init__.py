"""Anthropic's Messages API."""

from llm_providers.anthropic.provider import AnthropicProvider

__all__ = ["AnthropicProvider"]
