"""One interface to the language-model APIs of OpenAI, Anthropic, Ollama and whatever speaks like them."""

from llm_providers.anthropic import AnthropicProvider
from llm_providers.batch import Batch, Batches, BatchState
from llm_providers.capabilities import CAPABILITIES, ModelFamily, family_of
from llm_providers.dialect import Dialect, PreparedCall, StreamReader, VendorFailure
from llm_providers.embedding import Embeddings
from llm_providers.features import Feature
from llm_providers.model_list import ModelInfo
from llm_providers.ollama import OllamaProvider
from llm_providers.openai import OpenAIProvider
from llm_providers.provider import BaseLLMProvider
from llm_providers.registry import ProviderRegistry, ResolvedModel
from llm_providers.schema_types import schema_of
from llm_providers.speech import SpeechSegment, Transcript
from llm_providers.token_count import CountedBy, TokenCount
from llm_providers.wire import Transport, TransportFailure, WireCall, WireReply, WireStream

__all__ = [
    "CAPABILITIES",
    "AnthropicProvider",
    "BaseLLMProvider",
    "Batch",
    "BatchState",
    "Batches",
    "CountedBy",
    "Dialect",
    "Embeddings",
    "Feature",
    "ModelFamily",
    "ModelInfo",
    "OllamaProvider",
    "OpenAIProvider",
    "PreparedCall",
    "ProviderRegistry",
    "ResolvedModel",
    "SpeechSegment",
    "StreamReader",
    "TokenCount",
    "Transcript",
    "Transport",
    "TransportFailure",
    "VendorFailure",
    "WireCall",
    "WireReply",
    "WireStream",
    "family_of",
    "schema_of",
]
