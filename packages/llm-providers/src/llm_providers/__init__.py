"""One interface to the language-model APIs of OpenAI, Anthropic, Ollama and whatever speaks like them."""

from llm_providers.anthropic import AnthropicProvider
from llm_providers.capabilities import CAPABILITIES, ModelFamily, family_of
from llm_providers.dialect import Dialect, PreparedCall, StreamReader, VendorFailure
from llm_providers.features import Feature
from llm_providers.ollama import OllamaProvider
from llm_providers.openai import OpenAIProvider
from llm_providers.provider import BaseLLMProvider
from llm_providers.registry import ProviderRegistry, ResolvedModel
from llm_providers.wire import Transport, TransportFailure, WireCall, WireReply, WireStream

__all__ = [
    "CAPABILITIES",
    "AnthropicProvider",
    "BaseLLMProvider",
    "Dialect",
    "Feature",
    "ModelFamily",
    "OllamaProvider",
    "OpenAIProvider",
    "PreparedCall",
    "ProviderRegistry",
    "ResolvedModel",
    "StreamReader",
    "Transport",
    "TransportFailure",
    "VendorFailure",
    "WireCall",
    "WireReply",
    "WireStream",
    "family_of",
]
