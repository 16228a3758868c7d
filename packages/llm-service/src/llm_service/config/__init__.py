"""A service's settings from a YAML file, the environment, `.env` and arguments, each with its origin.

Importing this loads pydantic and PyYAML; `import llm_service` alone does not.
"""

from llm_service.config.explain import Setting, explain
from llm_service.config.model import (
    BreakerConfig,
    CacheConfig,
    CachePolicyConfig,
    FallbackConfig,
    HedgeConfig,
    LimitsConfig,
    ModelsConfig,
    OperationConfig,
    PricesConfig,
    ProviderConfig,
    ProviderKind,
    RateLimits,
    RetryConfig,
    ServiceConfig,
    TelemetryConfig,
)
from llm_service.config.options import ConfiguredRegistry, service_options
from llm_service.config.problems import InvalidConfig, Problem
from llm_service.config.reload import ConfigChange, ConfigWatcher, take_over
from llm_service.config.secrets import SecretReader, SecretReference
from llm_service.config.sources import LoadedConfig, find_config, load_config
from llm_service.config.tree import Origin, OriginKind

__all__ = [
    "BreakerConfig",
    "CacheConfig",
    "CachePolicyConfig",
    "ConfigChange",
    "ConfigWatcher",
    "ConfiguredRegistry",
    "FallbackConfig",
    "HedgeConfig",
    "InvalidConfig",
    "LimitsConfig",
    "LoadedConfig",
    "ModelsConfig",
    "OperationConfig",
    "Origin",
    "OriginKind",
    "PricesConfig",
    "Problem",
    "ProviderConfig",
    "ProviderKind",
    "RateLimits",
    "RetryConfig",
    "SecretReader",
    "SecretReference",
    "ServiceConfig",
    "Setting",
    "TelemetryConfig",
    "explain",
    "find_config",
    "load_config",
    "service_options",
    "take_over",
]
