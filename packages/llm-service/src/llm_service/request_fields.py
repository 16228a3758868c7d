"""The fields of a request, given as keywords: what is none of them is refused with what was probably meant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from llm_core import GenerationRequest, InvalidValue, Sampling
from llm_service.closest import closest

__all__ = ["check_fields", "unknown_field"]

_WHAT_IS_ASKED = ("messages", "user", "system", "assistant", "images", "audio", "files")
_SET_BY_PIECES = (*_WHAT_IS_ASKED, "pipeline", "provider_options")


def unknown_field(fields: Iterable[str], *, besides: Iterable[str] = ()) -> InvalidValue | None:
    """Return the refusal of the first name that is no field; `besides` are the other arguments that can be meant."""
    known = GenerationRequest.__dataclass_fields__
    unknown = next((name for name in fields if name not in known), None)
    if unknown is None:
        return None
    if unknown in Sampling.__dataclass_fields__:
        hint = f"; did you mean sampling=Sampling({unknown}=…)?"
    else:
        hint = closest(unknown, [*known, *besides])
    return InvalidValue(f"{unknown}: is no field of a request{hint}", details={"field": unknown})


def check_fields(fields: Mapping[str, Any], method: str, *, besides: Iterable[str] = ()) -> None:
    """Raise InvalidValue for what is no field, or one that `method` sets itself, as it makes several requests of one."""
    error = unknown_field(fields, besides=besides)
    if error is not None:
        raise error
    for name in _SET_BY_PIECES:
        if name in fields:
            raise InvalidValue(
                f"{method}: got {name}, which it sets itself; "
                "expected fields such as model, tenant or deadline_seconds",
                details={"field": name},
            )
    metadata = fields.get("metadata", {})
    if not isinstance(metadata, Mapping):
        raise InvalidValue.of("metadata", metadata, "a mapping")
