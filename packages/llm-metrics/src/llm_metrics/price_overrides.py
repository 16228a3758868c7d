"""Prices of one's own, from a YAML file: fine-tuned models, negotiated prices, own servers.

::

    prices:
      - provider: openai
        model: "ft:gpt-4o:acme:*"     # * stands for anything
        from: 2026-01-01               # optional: first day, UTC
        until: 2026-07-01              # optional: first day on which it no longer holds
        tier: batch                    # optional: batch, flex, priority ...; else every tier
        currency: USD                  # optional
        per_million_tokens:
          input: 3.75
          output: 15
          cache_read: 1.875            # what is left out costs as input or output
          cache_write: 3.75
          reasoning: 15
          audio_input: 100
          audio_output: 200
        per_request: 0.001
        per_audio_minute: 0.006
        per_million_characters: 15

Of several entries that fit, the last one holds.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from llm_core import InvalidValue, Usage, Value, immutable
from llm_metrics.price_catalogue import Quantities

__all__ = ["Override", "PriceOverrides"]

_TOKEN_KINDS: Final = (
    "input",
    "output",
    "cache_read",
    "cache_write",
    "reasoning",
    "audio_input",
    "audio_output",
)
_PRICES: Final = (
    "per_million_tokens",
    "per_request",
    "per_audio_minute",
    "per_million_characters",
)
_FIELDS: Final = ("provider", "model", "from", "until", "tier", "currency", *_PRICES)
_MOST_VALUES: Final = 100_000
"""How many values a file may hold with every alias written out: a few lines of aliases can mean billions."""
_MILLION: Final = Decimal(1_000_000)


@immutable
class Override(Value):
    """One entry of the file."""

    provider: str
    """A provider's name, or ``*``."""
    model: str
    """A model's name, in which ``*`` stands for anything."""
    starts_at: datetime | None = None
    """Inclusive."""
    ends_at: datetime | None = None
    """Exclusive."""
    tier: str | None = None
    currency: str = "USD"
    per_million_tokens: Mapping[str, Decimal]
    per_request: Decimal | None = None
    per_audio_minute: Decimal | None = None
    per_million_characters: Decimal | None = None

    def fits(self, *, provider: str, model: str, at: datetime, tier: str | None) -> bool:
        """Tell whether this entry holds for a call."""
        return (
            fnmatchcase(provider, self.provider)
            and fnmatchcase(model, self.model)
            and (self.tier is None or self.tier == tier)
            and (self.starts_at is None or at >= self.starts_at)
            and (self.ends_at is None or at < self.ends_at)
        )

    def amount(self, usage: Usage, also: Quantities) -> Decimal | None:
        """Return the price in units of `currency`; None if something used has no price here."""
        total = self.per_request or Decimal(0)
        for tokens, kinds in _split(usage, self.per_million_tokens):
            price = next(
                (p for kind in kinds if (p := self.per_million_tokens.get(kind)) is not None), None
            )
            if price is None:
                return None
            total += tokens * price / _MILLION
        if also.audio_seconds:
            if self.per_audio_minute is None:
                return None
            total += also.audio_seconds * self.per_audio_minute / 60
        if also.characters:
            if self.per_million_characters is None:
                return None
            total += also.characters * self.per_million_characters / _MILLION
        return None if also.web_searches else total


def _split(usage: Usage, prices: Mapping[str, Decimal]) -> list[tuple[int, tuple[str, ...]]]:
    """Return tokens with the kinds of price that apply, best first; parts without tokens left out.

    Only what has a price of its own is taken out of the total.
    """
    parts = [
        (usage.cache_read_tokens, "cache_read", "input"),
        (usage.cache_write_tokens, "cache_write", "input"),
        (usage.audio_input_tokens, "audio_input", "input"),
        (usage.reasoning_tokens, "reasoning", "output"),
        (usage.audio_output_tokens, "audio_output", "output"),
    ]
    rest = {"input": usage.input_tokens, "output": usage.output_tokens}
    split: list[tuple[int, tuple[str, ...]]] = []
    for tokens, kind, total in parts:
        if tokens and kind in prices:
            split.append((tokens, (kind,)))
            rest[total] -= tokens
    split += [(tokens, (kind,)) for kind, tokens in rest.items() if tokens > 0]
    return split


class PriceOverrides:
    """The entries of a file, in its order."""

    def __init__(self, entries: Sequence[Override] = ()) -> None:
        self._entries = tuple(entries)

    def __len__(self) -> int:
        return len(self._entries)

    def find(
        self, *, provider: str, model: str, at: datetime, tier: str | None = None
    ) -> Override | None:
        """Return the last entry that fits, or None."""
        for entry in reversed(self._entries):
            if entry.fits(provider=provider, model=model, at=at, tier=tier):
                return entry
        return None

    def models(self, provider: str) -> list[str]:
        """Return the names of the provider's models here, but no patterns."""
        names = {e.model for e in self._entries if fnmatchcase(provider, e.provider)}
        return sorted(name for name in names if not set("*?[") & set(name))

    @classmethod
    def read(cls, path: str | Path) -> PriceOverrides:
        """Read a YAML file; raises OSError, or InvalidValue naming the file, entry and field."""
        return cls.parse(Path(path).read_text("utf-8"), name=str(path))

    @classmethod
    def parse(cls, text: str, *, name: str = "prices") -> PriceOverrides:
        """Read YAML; `name` is what error messages call it."""
        data = _load_yaml(text, name)
        if data is None:
            return cls()
        _require_known(data, ("prices",), name)
        entries = data.get("prices") or []
        if not isinstance(entries, list):
            raise InvalidValue.of(f"{name}: prices", entries, "a list of entries")
        return cls([_entry(item, f"{name}: prices[{n}]") for n, item in enumerate(entries)])


def _load_yaml(text: str, name: str) -> Any:
    import yaml  # not needed by whoever has no overrides

    class ExactLoader(yaml.SafeLoader):
        """Numbers as they are written: 0.1 is a tenth, not the float next to it."""

    def exact(_loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Decimal | str:
        try:
            return Decimal(node.value.replace("_", ""))
        except ArithmeticError:  # .nan and .inf: refused later, where the field has a name
            return str(node.value)

    ExactLoader.add_constructor("tag:yaml.org,2002:float", exact)
    try:
        if _count(yaml.compose(text, ExactLoader), {}) > _MOST_VALUES:
            raise InvalidValue(f"{name}: its aliases stand for more than {_MOST_VALUES:,} values")
        return yaml.load(text, ExactLoader)  # a SafeLoader
    except yaml.YAMLError as error:
        raise InvalidValue(f"{name}: not valid YAML: {error}") from error


def _count(node: Any, counts: dict[int, int]) -> int:
    """Return how many values a YAML node holds with every alias written out."""
    if id(node) not in counts:
        counts[id(node)] = 1
        children = getattr(node, "value", ())
        if isinstance(children, list):
            parts = [
                p for child in children for p in (child if isinstance(child, tuple) else (child,))
            ]
            counts[id(node)] += sum(_count(part, counts) for part in parts)
    return counts[id(node)]


def _entry(data: Any, path: str) -> Override:
    _require_known(data, _FIELDS, path)
    for field in ("provider", "model"):
        if not isinstance(data.get(field), str) or not data[field]:
            raise InvalidValue.of(
                f"{path}.{field}", data.get(field), "a name, in which * stands for anything"
            )
    if not any(field in data for field in _PRICES):
        raise InvalidValue(f"{path}: got no price, expected at least one of {', '.join(_PRICES)}")
    tokens = data.get("per_million_tokens") or {}
    tokens_path = f"{path}.per_million_tokens"
    _require_known(tokens, _TOKEN_KINDS, tokens_path)
    currency = data.get("currency", "USD")
    if not isinstance(currency, str) or not re.fullmatch("[A-Z]{3}", currency):
        raise InvalidValue.of(f"{path}.currency", currency, "three capital letters, such as USD")
    tier = data.get("tier")
    if tier is not None and not isinstance(tier, str):
        raise InvalidValue.of(f"{path}.tier", tier, "a tier's name, such as batch")
    starts_at = _day(data.get("from"), f"{path}.from")
    ends_at = _day(data.get("until"), f"{path}.until")
    if starts_at is not None and ends_at is not None and ends_at <= starts_at:
        raise InvalidValue.of(f"{path}.until", data["until"], f"a day after from, {data['from']}")
    return Override(
        provider=data["provider"],
        model=data["model"],
        starts_at=starts_at,
        ends_at=ends_at,
        tier=tier,
        currency=currency,
        per_million_tokens={k: _money(v, f"{tokens_path}.{k}") for k, v in tokens.items()},
        **{field: _money(data[field], f"{path}.{field}") for field in _PRICES[1:] if field in data},
    )


def _require_known(data: Any, known: Sequence[str], path: str) -> None:
    if not isinstance(data, dict):
        raise InvalidValue.of(path, data, f"a mapping with {', '.join(known)}")
    for key in data:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise InvalidValue.of(path, key, f"only the fields {', '.join(known)}{hint}")


def _money(value: Any, path: str) -> Decimal:
    number = Decimal(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(number, Decimal) or not number.is_finite() or number < 0:
        raise InvalidValue.of(path, value, "a number, zero or more")
    return number


def _day(value: Any, path: str) -> datetime | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC)
    raise InvalidValue.of(path, value, "a day such as 2026-01-31")
