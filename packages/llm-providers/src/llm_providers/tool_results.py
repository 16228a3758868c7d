"""Tool results for vendors that take them as plain text."""

from __future__ import annotations

from llm_core import ToolResult

__all__ = ["result_text"]


def result_text(result: ToolResult) -> str:
    """Return what a tool answered; ``Error: `` goes before a failure, for which OpenAI and Ollama have no field."""
    return f"Error: {result.content}" if result.is_error else result.content
