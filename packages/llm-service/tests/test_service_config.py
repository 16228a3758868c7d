"""Settings from a file, the environment, `.env` and arguments: who wins, what is refused, where each came from."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llm_core import CacheMode, ConfigurationError, ErrorInfo, ErrorType, MissingCredentials, Usage
from llm_core.testing import FixedPriceBook, ManualClock, RecordingTelemetry, ScriptedProvider
from llm_gates import BreakerPolicy
from llm_providers import OpenAIProvider
from llm_service import (
    BaseLLMService,
    Fallback,
    HedgePolicy,
    Limits,
    MemoryResponseCache,
    RetryPolicy,
)
from llm_service.config import (
    InvalidConfig,
    LoadedConfig,
    SecretReader,
    SecretReference,
    explain,
    find_config,
    load_config,
    service_options,
)

FULL = """\
models:
  default: fast
  aliases:
    fast: openai/gpt-5-mini
    clever: anthropic/claude-sonnet-4-5
    best: clever
  fallbacks:
    - model: best
      when: [overloaded, rate_limited]
    - model: local/qwen
providers:
  openai:
    api_key: env:OPENAI_API_KEY
    timeout_seconds: 60
  local:
    kind: compatible
    base_url: http://127.0.0.1:8000/v1
    api_key: file:keys/local
    patterns: [qwen*]
limits:
  max_rpm: 500
  max_tpm: 200_000
  max_concurrent_requests: 50
  providers:
    openai: {max_rpm: 100}
  models:
    fast: {max_tpm: null, max_concurrent_requests: 5}
retry: {max_attempts: 5, initial_seconds: 0.1, budget: 20}
hedge: {after_seconds: 2}
breaker: {open_seconds: 1}
restart_streams: true
cache: {mode: use, ttl_seconds: 60, max_entries: 10}
telemetry: {backends: "otel, jsonl"}
prices: {overrides: prices.yaml}
operations:
  classify:
    model: best
    deadline_seconds: 10
    max_attempts: 2
    limits: {max_rpm: 7}
    pipeline: [JsonLoad, {RegexValidation: .+}]
    cache: {mode: "off"}
"""

PRICES = """\
prices:
  - {provider: openai, model: mine, per_million_tokens: {input: 2, output: 2}}
"""
USED, NOW = Usage(input_tokens=1_000_000), datetime(2026, 1, 1, tzinfo=UTC)

Load = Callable[..., LoadedConfig]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load a text in a folder of its own; nothing of this process's environment is seen."""
    monkeypatch.chdir(tmp_path)

    def load(text: str = "", *, env_file: str = "", **options: Any) -> LoadedConfig:
        Path("llm.yaml").write_text(text, encoding="utf-8")
        Path(".env").write_text(env_file, encoding="utf-8")
        Path("prices.yaml").write_text(PRICES, encoding="utf-8")
        return load_config("llm.yaml", **{"environ": {}, **options})

    return load


def complaints(load: Load, text: str = "", **options: Any) -> list[str]:
    """Return the lines of what is wrong with a configuration."""
    with pytest.raises(InvalidConfig) as caught:
        load(text, **options)
    return str(caught.value).splitlines()


def variable_of(setting: str) -> str:
    """Return the variable that sets `setting`."""
    return f"LLM_SERVICE_{setting.upper().replace('.', '__')}"


class TestOrder:
    def test_each_source_goes_before_the_last(self, load: Load) -> None:
        variables = {f"LLM_SERVICE_LIMITS__MAX_{name}": "2" for name in ("TPM", "RPM")}
        loaded = load(
            "limits: {max_rpm: 1, max_tpm: 1, max_concurrent_requests: 1}\nretry: {max_attempts: 1}",
            environ=variables | {"LLM_SERVICE_MAX_CONCURRENT_REQUESTS": "2"},
            env_file="LLM_SERVICE_MAX_RPM=3\nLLM_SERVICE_MAX_TPM=3\n",
            arguments={"max_rpm": 4},
        )
        limits = loaded.config.limits
        assert (limits.max_rpm, limits.max_tpm, limits.max_concurrent_requests) == (4, 3, 2)
        assert loaded.config.retry.max_attempts == 1

    def test_without_any_source_there_are_the_defaults(self, tmp_path: Path) -> None:
        config = load_config(env_file=None, environ={}).config
        assert config.limits.limits() == Limits()
        assert config.retry.policy() == RetryPolicy()
        assert config.request_fields() == {}

    def test_arguments_nest_by_underscores_or_as_they_are(self, load: Load) -> None:
        given = {
            "model": "a",
            "limits__max_rpm": 5,
            "limits": {"max_tpm": 6},
            "retry__max_attempts": None,
        }
        config = load("retry: {max_attempts: 2}", arguments=given).config
        assert (config.models.default, config.limits.max_rpm, config.limits.max_tpm) == ("a", 5, 6)
        assert config.retry.max_attempts == 2

    def test_a_mapping_is_merged_and_a_list_is_replaced(self, load: Load) -> None:
        text = "models: {aliases: {a: x}, fallbacks: [{model: y, when: [refused]}]}"
        given = {"models": {"aliases": {"b": "z"}, "fallbacks": [{"model": "w"}]}}
        loaded = load(text, arguments=given)
        assert loaded.config.models.aliases == {"a": "x", "b": "z"}
        assert loaded.config.fallbacks() == (Fallback(model="w"),)
        origins = {setting.name: str(setting.origin) for setting in explain(loaded)}
        assert origins["models.fallbacks[0].model"] == "argument models"
        assert origins["models.fallbacks[0].when"] == "default"

    def test_a_mapping_takes_the_place_of_a_plain_value_and_back(self, load: Load) -> None:
        variables = {"LLM_SERVICE_RETRY__MAX_ATTEMPTS": "2", "LLM_SERVICE_LIMITS__MAX_RPM": "1"}
        loaded = load("retry: 3", environ=variables, arguments={"limits": {"max_rpm": 9}})
        assert (loaded.config.retry.max_attempts, loaded.config.limits.max_rpm) == (2, 9)


class TestVariables:
    def test_names_are_found_without_regard_to_case_and_hyphens(self, load: Load) -> None:
        loaded = load(
            "providers: {my-vLLM.1: {kind: ollama}}",
            environ={"LLM_SERVICE_PROVIDERS__MY_VLLM_1__TIMEOUT_SECONDS": "9"},
        )
        assert loaded.config.providers["my-vLLM.1"].timeout_seconds == 9

    def test_new_names_are_taken_in_lower_case(self, load: Load) -> None:
        loaded = load(environ={"LLM_SERVICE_MODELS__ALIASES__FAST": "openai/gpt-5-mini"})
        assert loaded.config.models.aliases == {"fast": "openai/gpt-5-mini"}

    def test_lists_and_mappings_are_written_as_in_yaml_or_with_commas(self, load: Load) -> None:
        variables = {
            "LLM_SERVICE_MODELS__FALLBACKS": '[{"model": "b", "when": "refused, overloaded"}]',
            "LLM_SERVICE_TELEMETRY__BACKENDS": "otel,jsonl",
        }
        config = load(environ=variables).config
        assert config.models.fallbacks[0].when == (ErrorType.REFUSED, ErrorType.OVERLOADED)
        assert config.telemetry.backends == ("otel", "jsonl")

    def test_an_empty_variable_is_not_set(self, load: Load) -> None:
        assert load("retry: {max_attempts: 2}", environ={"LLM_SERVICE_RETRY": " "}).config

    @pytest.mark.parametrize(
        "name",
        ["CONFIG", "HOST", "PORT", "PORT_80_TCP_ADDR", "SERVICE_HOST", "SERVICE_PORT_HTTP"],
    )
    def test_variables_of_kubernetes_are_no_settings(self, load: Load, name: str) -> None:
        assert load(environ={f"LLM_SERVICE_{name}": "tcp://10.0.0.1:80"}).config

    def test_other_unknown_variables_are_refused(self, load: Load) -> None:
        assert complaints(load, environ={"LLM_SERVICE_LIMITS__MAX_RMP": "1"}) == [
            "LLM_SERVICE_LIMITS__MAX_RMP: limits.max_rmp: unknown key; did you mean 'max_rpm'?"
        ]

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"arguments": {"max_rmp": 4}}, "argument max_rmp: max_rmp: {}'max_rpm'?"),
            ({"arguments": {"provder": 4}}, "argument provder: provder: {}'provider'?"),
            ({"arguments": {"fallback": 4}}, "argument fallback: fallback: {}'fallbacks'?"),
            (
                {"environ": {"LLM_SERVICE_MAX_RMP": "4"}},
                "LLM_SERVICE_MAX_RMP: max_rmp: {}'max_rpm'?",
            ),
            ({"env_file": "LLM_SERVICE_MDOEL=x"}, "LLM_SERVICE_MDOEL in .env: mdoel: {}'model'?"),
            ({"text": "provder: 4"}, "llm.yaml:1: provder: {}'providers'?"),
        ],
    )
    def test_a_name_is_told_from_those_of_its_source(
        self, load: Load, given: dict[str, Any], words: str
    ) -> None:
        assert complaints(load, **given) == [words.format("unknown key; did you mean ")]

    def test_an_env_file_is_named_with_its_variable(self, load: Load) -> None:
        assert complaints(load, env_file="LLM_SERVICE_MAX_RPM=many") == [
            "LLM_SERVICE_MAX_RPM in .env: limits.max_rpm: got 'many', expected a whole number"
        ]

    def test_a_variable_may_begin_a_section(self, load: Load) -> None:
        hedge = load(environ={"LLM_SERVICE_HEDGE__BUDGET_RATIO": "0.5"}).config.hedge
        assert hedge is not None
        assert hedge.budget_ratio == 0.5

    def test_a_variable_below_a_plain_value_is_refused(self, load: Load) -> None:
        assert complaints(load, environ={"LLM_SERVICE_MODELS__DEFAULT__NAME__X": "1"}) == [
            "LLM_SERVICE_MODELS__DEFAULT__NAME__X: models.default: got a mapping, expected text"
        ]

    def test_a_broken_list_is_refused(self, load: Load) -> None:
        assert complaints(load, environ={"LLM_SERVICE_MODELS__FALLBACKS": "[{"}) == [
            "LLM_SERVICE_MODELS__FALLBACKS: begins like a list or mapping but is none"
        ]


class TestFaults:
    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("\nmodles: {}", "llm.yaml:2: modles: unknown key; did you mean 'models'?"),
            ("limits:\n  max_rmp: 5", "llm.yaml:2: limits.max_rmp: unknown key; did you mean 'max_rpm'?"),
            (
                "telemetry: {zzz: 1}",
                "llm.yaml:1: telemetry.zzz: unknown key; expected one of backends",
            ),
            (
                "cache:\n  mode: usee",
                "llm.yaml:2: cache.mode: got 'usee', expected one of the known names; did you mean 'use'?",
            ),
            ("cache: {mode: 5}", "llm.yaml:1: cache.mode: got 5; expected one of off, use, refresh"),
            ("retry: {max_attempts: 0}", "llm.yaml:1: retry.max_attempts: got 0, expected 1 or more"),
            ("retry: {max_attempts: 1.5}", "llm.yaml:1: retry.max_attempts: got 1.5, expected a whole number"),
            ("limits: {max_rpm: true}", "llm.yaml:1: limits.max_rpm: got True, expected a number"),
            ("limits: {max_rpm: []}", "llm.yaml:1: limits.max_rpm: got a list, expected a whole number"),
            ("limits: 5", "llm.yaml:1: limits: got 5, expected a mapping"),
            ("models: {aliases: [a]}", "llm.yaml:1: models.aliases: got a list, expected a mapping"),
            ("models: {fallbacks: {a: 1}}", "llm.yaml:1: models.fallbacks: got a mapping, expected a list"),
            ("models: {default: ''}", "llm.yaml:1: models.default: got '', expected a model's name, an alias, or provider/model"),
            ("models:\n  fallbacks:\n    - when: [refused]", "llm.yaml:3: models.fallbacks[0].model: is missing"),
            (
                "models:\n  fallbacks:\n    - model: a\n      when:\n        - overladed",
                "llm.yaml:5: models.fallbacks[0].when[0]: got 'overladed', expected one of the known names; "
                "did you mean 'overloaded'?",
            ),
            (
                "models:\n  aliases: {a: b, b: a}",
                "llm.yaml:1: models: the aliases a → b → a have no end",
            ),
            (
                "providers: {openai: {base_url: localhost}}",
                "llm.yaml:1: providers.openai.base_url: got a text, expected a URL such as 'https://host/v1'",
            ),
            (
                "providers:\n  mine: {}",
                "llm.yaml:2: providers.mine.kind: is missing, as the name is not that of a known vendor; "
                "expected openai, anthropic, ollama or compatible",
            ),
            (
                "limits:\n  providers:\n    opnai: {max_rpm: 5}",
                "llm.yaml:3: limits.providers.opnai: no such provider; did you mean 'openai'?",
            ),
            (
                "providers:\n  mine:\n    kind: compatible",
                "llm.yaml:2: providers.mine.base_url: is missing, as a compatible server has no address of its own; "
                "expected a URL such as 'https://host/v1'",
            ),
            ("providers:\n  a/b: {kind: openai}", "llm.yaml:2: providers.a/b: got 'a/b', expected a name without '/'"),
            (
                "prices:\n  overrides: no.yaml",
                "llm.yaml:2: prices.overrides: {folder}/no.yaml: cannot be read: No such file",
            ),
            (
                "prices:\n  overrides: llm.yaml",
                "llm.yaml:2: prices.overrides: {folder}/llm.yaml: prices: got {'overrides'",
            ),
            (
                "telemetry:\n  backends: [jsonl, jsnl]",
                "llm.yaml:2: telemetry.backends: no backend is called 'jsnl'; did you mean 'jsonl'?",
            ),
            (
                "telemetry:\n  backends: [none, jsonl]",
                "llm.yaml:2: telemetry.backends: 'none' stands beside backends, expected it alone",
            ),
            (
                "operations: {a: {model: own-1}}\nproviders: {b: &own {kind: ollama, patterns: own-*}, c: *own}",
                "llm.yaml:1: operations.a.model: more than one provider answers for model 'own-1'",
            ),
            (
                "operations:\n  a:\n    pipeline:\n      - JsonLoad\n      - JsonLaod: {}",
                "llm.yaml:5: operations.a.pipeline[1].JsonLaod: no step is called 'JsonLaod'; did you mean 'JsonLoad'?",
            ),
            (
                "operations:\n  a:\n    pipeline:\n      - ExtractValue:\n          pth: $.a",
                "llm.yaml:5: operations.a.pipeline[0].ExtractValue.pth: ExtractValue has no parameter 'pth'; "
                "did you mean 'path'?",
            ),
            (
                "models:\n  fallbacks:\n    - model: a\n      wen: refused",
                "llm.yaml:4: models.fallbacks[0].wen: unknown key; did you mean 'when'?",
            ),
            ("limits: {max_rpm: 5, max_rpm: 6}", "llm.yaml:1: key 'max_rpm' appears twice"),
            ("- a\n- b", "llm.yaml:1: expected a mapping of settings"),
            ("limits:\n  - [", "llm.yaml:2: expected the node content, but found '<stream end>'"),
            ("? [a]\n: 1", "llm.yaml:1: a key must be a name"),
            ("models: &m\n  aliases: *m", "llm.yaml:1: refers to itself"),
            ("models: !!python/name:os.system a", "llm.yaml:1: could not determine a constructor"),
            ("limits: \x07", "llm.yaml: unacceptable character"),
            ("models:\n  default: 2020-13-45", "llm.yaml:2: cannot be read as timestamp; in quotes it is text"),
            ("limits:\n  max_rpm: " + 5_000 * "1", "llm.yaml:2: cannot be read as int"),
            ("limits:\n  max_rpm: 0x" + 5_000 * "f", "llm.yaml:2: cannot be read as int"),
            ("restart_streams: !!bool maybe", "llm.yaml:1: cannot be read as bool"),
            ("operations:\n  a:\n    pipeline: " + 150 * "[" + 150 * "]", "llm.yaml:3: nested too deeply"),
            ("models: " + 3_000 * "[" + 3_000 * "]", "llm.yaml: nested too deeply"),
        ],
    )  # fmt: skip
    def test_a_fault_is_named_with_its_line(self, load: Load, text: str, complaint: str) -> None:
        (line,) = complaints(load, text)
        assert line.count("expected") <= 1
        assert line.startswith(complaint.replace("{folder}", str(Path.cwd())))

    @pytest.mark.parametrize(
        ("text", "place", "meant"),
        [
            ("models:\n  default: opnai/gpt-5", "2: models.default", "openai/gpt-5"),
            ("models:\n  default: fsat\n  aliases: {fast: gpt-5}", "2: models.default", "fast"),
            ("models:\n  aliases:\n    a: antropic/x", "3: models.aliases.a", "anthropic/x"),
            ("models:\n  fallbacks:\n    - model: olama/x", "3: models.fallbacks[0].model", "ollama/x"),
            ("limits:\n  models:\n    opnai/x: {max_rpm: 1}", "3: limits.models.opnai/x", "openai/x"),
            ("operations: {a: {model: lokal/x}}\nproviders: {local: {kind: ollama}}", "1: operations.a.model", "local/x"),
        ],
    )  # fmt: skip
    def test_a_mistyped_model_is_told_with_the_name_that_was_meant(
        self, load: Load, text: str, place: str, meant: str
    ) -> None:
        (line,) = complaints(load, text)
        assert line.startswith(f"llm.yaml:{place}: no provider is known for ")
        assert line.endswith(f"; did you mean {meant!r}?")

    @pytest.mark.parametrize(
        "setting",
        [
            "cache.ttl_seconds", "cache.stale_seconds", "breaker.window_seconds", "hedge.after_seconds",
            "retry.max_seconds", "operations.a.deadline_seconds", "operations.a.cache.ttl_seconds",
            "providers.openai.timeout_seconds", "retry.budget", "hedge.budget_ratio",
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("value", ["1e300", ".nan", ".inf", "-.inf"])
    def test_a_number_that_nothing_can_work_with_is_refused(
        self, load: Load, setting: str, value: str
    ) -> None:
        (line,) = complaints(load, environ={variable_of(setting): f"[{value}]"[1:-1]})
        assert line.startswith(f"{variable_of(setting)}: {setting}: got ")
        assert line.count("expected") == 1
        *above, name = setting.split(".")
        text = "".join(f"{'  ' * depth}{key}:\n" for depth, key in enumerate(above))
        (line,) = complaints(load, f"{text}{'  ' * len(above)}{name}: {value}")
        assert line.startswith(f"llm.yaml:{len(above) + 1}: {setting}: got ")

    def test_counts_have_an_end_as_well(self, load: Load) -> None:
        (line,) = complaints(load, f"limits: {{max_tpm: {10**300}}}")
        assert line.endswith("expected at most 1000000000000000")

    def test_what_cannot_work_is_told_together_with_what_is_malformed(self, load: Load) -> None:
        lines = complaints(
            load,
            "limits: {max_rmp: 5}\n"
            "providers: {lokal: {kind: compatble}, spare: 5}\n"
            "prices: {overrides: no.yaml}\n"
            "models: {default: lokal/x, fallbacks: [{wen: x}], aliases: {s: spare/x}}\n"
            "operations: {a: {pipeline: [Nope], model: opnai/x}}\n",
        )
        assert [line.split(": ")[:2] for line in lines] == [
            ["llm.yaml:1", "limits.max_rmp"],
            ["llm.yaml:2", "providers.lokal.kind"],
            ["llm.yaml:2", "providers.spare"],
            ["llm.yaml:3", "prices.overrides"],
            ["llm.yaml:4", "models.fallbacks[0].model"],
            ["llm.yaml:4", "models.fallbacks[0].wen"],
            ["llm.yaml:5", "operations.a.pipeline[0]"],
            ["llm.yaml:5", "operations.a.model"],
        ]

    def test_a_model_of_a_provider_that_a_program_may_register_is_none(self, load: Load) -> None:
        text = "models: {default: mine/x, aliases: {a: b}, fallbacks: [{model: own-model}]}"
        assert load(text).config.models.default == "mine/x"

    def test_a_program_with_a_registry_of_its_own_names_models_as_it_likes(
        self, load: Load
    ) -> None:
        Path("llm.yaml").write_text("models: {default: opnai/x}")
        with pytest.raises(InvalidConfig, match="did you mean 'openai/x'"):
            BaseLLMService.from_config("llm.yaml")
        BaseLLMService.from_config("llm.yaml", provider=ScriptedProvider(["hello"])).close()

    def test_all_faults_are_told_at_once_in_reading_order(self, load: Load) -> None:
        lines = complaints(load, "retry:\n  a: 1\nlimits:\n  b: 1\nmodels:\n  c: 1\n")
        assert [line.partition(": ")[0] for line in lines] == [
            "llm.yaml:2",
            "llm.yaml:4",
            "llm.yaml:6",
        ]

    def test_keys_that_yaml_would_take_for_something_else_stay_names(self, load: Load) -> None:
        config = load("models: {aliases: {on: a, 1: b, null: c, 2026-01-01: d}}").config
        assert config.models.aliases == {"on": "a", "1": "b", "null": "c", "2026-01-01": "d"}

    def test_anchors_and_merge_keys_work(self, load: Load) -> None:
        text = (
            "limits:\n  providers:\n    openai: &l {max_rpm: 5}\n    ollama: {<<: *l, max_tpm: 6}"
        )
        limits = load(text).config.limits_by_name()
        assert limits["ollama"] == Limits(max_rpm=5, max_tpm=6)

    def test_a_file_that_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "bytes.yaml").write_bytes(b"\xff")
        with pytest.raises(
            ConfigurationError, match=r"nowhere\.yaml: cannot be read: No such file"
        ):
            load_config(tmp_path / "nowhere.yaml", environ={})
        with pytest.raises(ConfigurationError, match=r"bytes\.yaml: not UTF-8 text"):
            load_config(tmp_path / "bytes.yaml", environ={})

    @pytest.mark.parametrize("line", ["{}: &{} [{}]", "{}: &{} {{<<: [{}]}}"])
    def test_aliases_that_stand_for_billions_of_values_are_refused(
        self, load: Load, line: str
    ) -> None:
        names = "abcdefghij"
        lines = [
            line.format(name, name, ", ".join(9 * [f"*{before}"]))
            for before, name in itertools.pairwise(names)
        ]
        (complaint,) = complaints(load, "\n".join(["a: &a {x: 1}", *lines]))
        assert complaint == "llm.yaml: its aliases stand for more than 100,000 values"

    def test_a_variable_has_no_aliases(self, load: Load) -> None:
        (complaint,) = complaints(load, environ={"LLM_SERVICE_MODELS": "{a: &a [1], b: *a}"})
        assert complaint == "LLM_SERVICE_MODELS: begins like a list or mapping but is none"

    def test_a_file_without_an_end_is_refused(self, load: Load, tmp_path: Path) -> None:
        with (tmp_path / "long.yaml").open("wb") as stream:
            stream.truncate(5 * 2**20)
        with pytest.raises(ConfigurationError, match=r"long\.yaml: holds more than 4 MiB"):
            load_config(tmp_path / "long.yaml", environ={})

    def test_prices_are_no_device_or_pipe(self, load: Load) -> None:
        (line,) = complaints(load, "prices: {overrides: .}")
        assert line.endswith(": is no regular file")

    def test_a_variable_that_cannot_be_read_is_named(self, load: Load) -> None:
        for text in ("{a: 2020-13-45}", "{a: " + 5_000 * "1" + "}", 3_000 * "[" + 3_000 * "]"):
            assert complaints(load, environ={"LLM_SERVICE_MODELS": text}) == [
                "LLM_SERVICE_MODELS: holds a value that cannot be read, or too many levels"
            ]

    def test_an_env_file_that_is_no_text_is_named(self, load: Load, tmp_path: Path) -> None:
        (tmp_path / "other.env").write_bytes(b"A=\xff")
        with pytest.raises(InvalidConfig, match=r"other\.env: not UTF-8 text \(byte 2\)"):
            load_config(env_file=tmp_path / "other.env", environ={})

    def test_an_env_file_that_cannot_be_read_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(path: object) -> None:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr("dotenv.dotenv_values", refuse)
        file = tmp_path / "own.env"
        file.touch()
        with pytest.raises(InvalidConfig, match=r"own\.env: cannot be read: Permission denied"):
            load_config(env_file=file, environ={})

    def test_the_error_survives_a_process_boundary(self, load: Load) -> None:
        with pytest.raises(InvalidConfig) as caught:
            load("a: 1")
        again = pickle.loads(pickle.dumps(caught.value))
        assert (str(again), again.problems) == (str(caught.value), caught.value.problems)


class TestSecrets:
    @pytest.mark.parametrize(
        "text",
        [
            "providers: {openai: {api_key: sk-verysecret}}",
            "providers: {openai: {api_key: 'env:'}}",
            "providers: {openai: {api_key: [sk-verysecret]}}",
            "providers: {openai: {api_kye: sk-verysecret}}",
            "providers: {openai: sk-verysecret}",
            "providers: {openai: {base_url: 'https://me:sk-verysecret@host/v1'}}",
        ],
    )
    def test_a_secret_in_the_wrong_place_is_refused_and_not_repeated(
        self, load: Load, text: str
    ) -> None:
        with pytest.raises(InvalidConfig) as caught:
            load(text)
        assert "verysecret" not in str(caught.value)
        # Tracebacks show the cause, too.
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None

    def test_a_secret_is_shown_by_its_place_only(self, load: Load) -> None:
        loaded = load(FULL, environ={"OPENAI_API_KEY": "sk-verysecret"})
        shown = {s.name: (s.value, s.note) for s in explain(loaded)}
        assert shown["providers.openai.api_key"] == ("env:OPENAI_API_KEY", "set")
        place = f"file:{Path('keys/local').absolute()}"
        assert shown["providers.local.api_key"] == (place, "missing")
        everything = f"{loaded!r}{loaded.config.model_dump_json()}{loaded.secrets!r}"
        assert "verysecret" not in everything

    def test_the_environment_wins_over_the_env_file_as_for_every_key(self) -> None:
        reader = SecretReader({"KEY": "old", "OTHER": " b "}, environ={"KEY": "new"})
        assert reader.read(SecretReference.parse("env:KEY")) == "new"
        assert reader.read(SecretReference.parse("env:OTHER")) == "b"

    def test_this_process_is_asked_at_the_time_of_need(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reader, key = SecretReader(), SecretReference.parse("env:LATE_KEY")
        assert not reader.has(key)
        monkeypatch.setenv("LATE_KEY", "k")
        assert reader.read(key) == "k"

    def test_a_file_is_read_without_its_line_end(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_text("k\n")
        assert SecretReader().read(SecretReference.parse(f"file:{tmp_path / 'key'}")) == "k"

    def test_a_missing_secret_says_where_to_put_it(self, tmp_path: Path) -> None:
        (tmp_path / "binary").write_bytes(b"\xff")
        with pytest.raises(MissingCredentials, match=r"env:NO_KEY: set the variable NO_KEY"):
            SecretReader(environ={}).read(SecretReference.parse("env:NO_KEY"))
        for name in ("none", "binary"):
            reference = SecretReference.parse(f"file:{tmp_path / name}")
            with pytest.raises(MissingCredentials, match=f"put it into the file .*{name}"):
                SecretReader().read(reference)

    @pytest.mark.parametrize(
        ("name", "fault"),
        [
            ("folder", "is a directory"),
            ("empty", "an empty file"),
            ("binary", "not UTF-8 text"),
            ("long", "holds more than 65536 bytes"),
        ],
    )
    def test_a_file_without_a_secret_says_why(self, tmp_path: Path, name: str, fault: str) -> None:
        (tmp_path / "folder").mkdir()
        (tmp_path / "empty").write_text(" \n")
        (tmp_path / "binary").write_bytes(b"\xff")
        (tmp_path / "long").write_text("k" * 65_537)
        reference = SecretReference.parse(f"file:{tmp_path / name}")
        assert SecretReader().fault(reference) == fault
        with pytest.raises(MissingCredentials) as caught:
            SecretReader().read(reference)
        assert f"no secret at {reference} ({fault}): put it into" in str(caught.value)


class TestService:
    def test_everything_reaches_the_constructor(self, load: Load) -> None:
        options = service_options(load(FULL).config)
        registry, cache = options.pop("registry"), options.pop("cache")
        breaker, book = options.pop("breaker"), options.pop("price_book")
        assert options == {
            "model": "openai/gpt-5-mini",
            "fallbacks": (
                Fallback(
                    model="anthropic/claude-sonnet-4-5",
                    on=[ErrorType.OVERLOADED, ErrorType.RATE_LIMITED],
                ),
                Fallback(model="local/qwen"),
            ),
            "max_rpm": 500,
            "max_tpm": 200_000,
            "max_concurrent_requests": 50,
            "limits": {
                "openai": Limits(max_rpm=100, max_tpm=200_000, max_concurrent_requests=50),
                "openai/gpt-5-mini": Limits(max_rpm=100, max_concurrent_requests=5),
                "operation:classify": Limits(max_rpm=7),
            },
            "retry": RetryPolicy(max_attempts=5, initial_seconds=0.1, budget=20),
            "hedge": HedgePolicy(after_seconds=2),
            "restart_streams": True,
            "telemetry": "otel,jsonl",
        }
        assert book.price(USED, provider="openai", model="mine", at=NOW).amount == 2
        assert breaker.open_seconds == 1
        assert cache is not None
        assert "local" in registry.names()
        BaseLLMService(**service_options(load(FULL).config) | {"telemetry": "jsonl"}).close()

    def test_what_is_not_said_is_left_to_the_service(self, load: Load) -> None:
        options = service_options(load().config)
        assert not {"model", "max_rpm", "cache", "hedge"} & set(options)
        BaseLLMService(**options).close()

    def test_costs_are_known_without_a_file_of_prices(self, load: Load) -> None:
        book = service_options(load().config)["price_book"]
        assert book.price(USED, provider="openai", model="gpt-5-mini", at=NOW).amount == Decimal(
            "0.25"
        )

    async def test_objects_go_to_the_constructor_and_before_the_file(self, load: Load) -> None:
        load(
            "models: {default: m}\nretry: {max_attempts: 9}\ncache: {mode: use}\n"
            "breaker: {least_calls: 1}\ntelemetry: {backends: none}\n"
            "operations: {triage: {deadline_seconds: 5}}"
        )
        down = ErrorInfo.of(ErrorType.SERVER_ERROR, "down")
        clock, telemetry, cache = ManualClock(), RecordingTelemetry(), MemoryResponseCache()
        price_book = FixedPriceBook(input_per_million=Decimal(1), output_per_million=Decimal(2))
        service = BaseLLMService.from_config(
            "llm.yaml",
            max_rpm=7,
            provider=ScriptedProvider([down, "up"]),
            retry=RetryPolicy(max_attempts=1),
            breaker=BreakerPolicy(least_calls=100),
            cache=cache,
            telemetry=telemetry,
            price_book=price_book,
            clock=clock,
            gate=None,
        )
        async with service:
            failed = await service.generate("?", operation_name="triage")
            answered = await service.generate("?")
        assert (len(failed.attempts), failed.request.deadline_seconds) == (1, 5)
        assert (answered.content, answered.cost.status) == ("up", "priced")
        assert answered.timestamps.requested_at == clock.now()
        assert service.snapshot().gates["scripted/m"].limit("rpm").limit == 7
        assert len(cache) == 1
        assert telemetry.events

    @pytest.mark.parametrize(
        "argument", [{"retry": "often"}, {"hedge": True}, {"telemetry": ["none"]}, {"cache": 5}]
    )
    def test_a_plain_value_stays_a_setting(self, load: Load, argument: Any) -> None:
        load()
        with pytest.raises(InvalidConfig, match="expected a mapping"):
            BaseLLMService.from_config("llm.yaml", **argument)

    def test_a_breaker_can_be_turned_off(self, load: Load) -> None:
        assert service_options(load("breaker: {enabled: false}").config)["breaker"] is None

    def test_telemetry_can_be_turned_off(self, load: Load) -> None:
        for none in ("[]", "none"):
            config = load(f"telemetry: {{backends: {none}}}").config
            assert service_options(config)["telemetry"] == "none"
        assert "telemetry" not in service_options(load().config)

    def test_an_operation_sets_fields_of_its_requests(self, load: Load) -> None:
        config = load(FULL).config
        classify = config.request_fields("classify")
        assert classify.pop("cache").mode is CacheMode.OFF
        assert classify == {
            "operation_name": "classify",
            "model": "anthropic/claude-sonnet-4-5",
            "deadline_seconds": 10,
            "max_attempts": 2,
            "pipeline": ("JsonLoad", {"RegexValidation": ".+"}),
        }
        other = config.request_fields("other")
        assert other.pop("cache").ttl_seconds == 60
        assert other == {"operation_name": "other"}
        own = config.operation("classify").limits
        assert own is not None
        assert own.limits() == Limits(max_rpm=7)

    def test_files_are_found_from_the_configurations_folder(
        self, load: Load, tmp_path: Path
    ) -> None:
        loaded = load(FULL)
        assert loaded.config.prices.overrides == tmp_path / "prices.yaml"
        assert loaded.files == (Path("llm.yaml"), tmp_path / "prices.yaml")

    async def test_an_alias_may_be_asked_for(self, load: Load) -> None:
        loaded = load("models: {aliases: {fast: mine/small}}")
        options = service_options(loaded.config)
        options["registry"].register("mine", provider := ScriptedProvider(["hello"]))
        async with BaseLLMService(**options) as service:
            result = await service.generate("?", model="fast")
        assert result.content == "hello"
        assert provider.requests[0].model == "small"

    async def test_a_fallback_answers_for_its_errors(self, load: Load) -> None:
        text = "models: {default: a/m, fallbacks: [{model: b/n, when: overloaded}]}\nretry: {max_attempts: 1}"
        options = service_options(load(text).config)
        busy = ErrorInfo.of(ErrorType.OVERLOADED, "busy")
        options["registry"].register("a", ScriptedProvider([busy], name="a"))
        options["registry"].register("b", ScriptedProvider(["here"], name="b"))
        async with BaseLLMService(**options) as service:
            result = await service.generate("?")
        assert (result.content, result.provider) == ("here", "b")

    def test_providers_are_made_with_their_settings(self, load: Load, tmp_path: Path) -> None:
        (tmp_path / "keys").mkdir()
        (tmp_path / "keys" / "local").write_text("secret-of-local\n")
        loaded = load(FULL, environ={"OPENAI_API_KEY": "k"})
        registry = service_options(loaded.config, secrets=loaded.secrets)["registry"]
        local = registry.resolve("qwen3:8b").provider
        assert isinstance(local, OpenAIProvider)
        assert local.name == "local"
        assert registry.get("openai").name == "openai"

    def test_a_provider_whose_key_is_missing_fails_at_its_first_call(self, load: Load) -> None:
        loaded = load("providers: {openai: {api_key: env:OPENAI_API_KEY}}")
        registry = service_options(loaded.config, secrets=loaded.secrets)["registry"]
        with pytest.raises(MissingCredentials, match="OPENAI_API_KEY"):
            registry.get("openai")

    def test_ollama_takes_its_address_as_host(self, load: Load) -> None:
        loaded = load("providers: {box: {kind: ollama, base_url: 'http://127.0.0.1:1'}}")
        assert service_options(loaded.config)["registry"].get("box").name == "box"


class TestExplain:
    def test_every_value_has_its_origin(self, load: Load) -> None:
        loaded = load(
            "models:\n  default: a\n  fallbacks:\n    - model: b\n",
            environ={"LLM_SERVICE_MAX_RPM": "5"},
            env_file="LLM_SERVICE_MAX_TPM=6",
            arguments={"max_concurrent_requests": 7},
        )
        told = {s.name: (s.value, str(s.origin)) for s in explain(loaded)}
        assert told["models.default"] == ("a", "llm.yaml:2")
        assert told["models.fallbacks[0].model"] == ("b", "llm.yaml:4")
        assert told["models.fallbacks[0].when"] == (None, "default")
        assert told["limits.max_rpm"] == (5, "LLM_SERVICE_MAX_RPM")
        assert told["limits.max_tpm"] == (6, "LLM_SERVICE_MAX_TPM in .env")
        assert told["limits.max_concurrent_requests"] == (7, "argument max_concurrent_requests")
        assert told["retry.max_attempts"] == (None, "default")
        assert told["providers"] == ({}, "default")


class TestFind:
    def test_the_variable_goes_before_the_folder(self, tmp_path: Path) -> None:
        (tmp_path / "llm-service.yml").touch()
        assert find_config({}, folder=tmp_path) == tmp_path / "llm-service.yml"
        (tmp_path / "llm-service.yaml").touch()
        assert find_config({}, folder=tmp_path) == tmp_path / "llm-service.yaml"
        assert find_config({"LLM_SERVICE_CONFIG": "b.yaml"}, folder=tmp_path) == Path("b.yaml")

    def test_there_may_be_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("LLM_SERVICE_CONFIG", raising=False)
        assert find_config(folder=tmp_path) is None
