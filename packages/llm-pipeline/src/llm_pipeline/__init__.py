"""From a model's raw text to the value that was wanted, with the trail of how: named steps that degrade instead of throwing."""

from llm_pipeline.conversion import Conversion, NoValue, convert
from llm_pipeline.partial import Partial
from llm_pipeline.pipeline import Pipeline
from llm_pipeline.result import PipelineResult
from llm_pipeline.step import FlowStep, Outcome, RunContext, Step, StepLike
from llm_pipeline.steps.control import Branch, FirstOf, ForEach
from llm_pipeline.steps.convert import ConvertToDict
from llm_pipeline.steps.extract import ExtractValue, JsonLoad
from llm_pipeline.steps.isolation import SemanticIsolation
from llm_pipeline.steps.model import ModelValidation
from llm_pipeline.steps.reask import Reask
from llm_pipeline.steps.text import RegexExtract, StripFences, StripThinking
from llm_pipeline.steps.transform import Transform
from llm_pipeline.steps.validation import (
    JsonSchemaValidation,
    RangeValidation,
    RegexValidation,
    StringMatchValidation,
)

__all__ = [
    "Branch",
    "Conversion",
    "ConvertToDict",
    "ExtractValue",
    "FirstOf",
    "FlowStep",
    "ForEach",
    "JsonLoad",
    "JsonSchemaValidation",
    "ModelValidation",
    "NoValue",
    "Outcome",
    "Partial",
    "Pipeline",
    "PipelineResult",
    "RangeValidation",
    "Reask",
    "RegexExtract",
    "RegexValidation",
    "RunContext",
    "SemanticIsolation",
    "Step",
    "StepLike",
    "StringMatchValidation",
    "StripFences",
    "StripThinking",
    "Transform",
    "convert",
]
