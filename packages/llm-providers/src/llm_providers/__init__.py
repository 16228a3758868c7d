"""Every vendor's language-model API behind one interface: the same request, reply, stream, usage and errors for OpenAI, Anthropic, Ollama and whatever speaks like them."""

from llm_providers.capabilities import CAPABILITIES, ModelFamily, family_of
from llm_providers.dialect import Dialect, PreparedCall, StreamReader, VendorFailure
from llm_providers.features import Feature
from llm_providers.openai import OpenAIProvider
from llm_providers.provider import BaseLLMProvider
from llm_providers.registry import ProviderRegistry, ResolvedModel
from llm_providers.wire import (
    Transport,
    TransportFailure,
    WireCall,
    WireReply,
    WireStream,
)

__all__ = [
    "CAPABILITIES",
    "BaseLLMProvider",
    "Dialect",
    "Feature",
    "ModelFamily",
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
