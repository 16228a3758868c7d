"""The LLM service layer as a whole: business operations as methods, results that never throw, limits that are never tripped."""

from llm_service.cache import MemoryResponseCache
from llm_service.engine import GenerationEngine
from llm_service.environment import load_environment
from llm_service.gate_book import Limits
from llm_service.hedging import HedgePolicy
from llm_service.ladder import Fallback
from llm_service.operations import operation
from llm_service.parts import EngineParts
from llm_service.retry import RetryPolicy
from llm_service.retry_budget import RetryBudget
from llm_service.service import BaseLLMService
from llm_service.snapshot import CacheStats, ServiceSnapshot

__all__ = [
    "BaseLLMService",
    "CacheStats",
    "EngineParts",
    "Fallback",
    "GenerationEngine",
    "HedgePolicy",
    "Limits",
    "MemoryResponseCache",
    "RetryBudget",
    "RetryPolicy",
    "ServiceSnapshot",
    "load_environment",
    "operation",
]
