"""The declarative form: reading, writing, faults, the published schema."""

from __future__ import annotations

import json
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from llm_core import ConfigurationError, MissingDependencyError
from llm_pipeline import (
    Branch,
    ConvertToDict,
    ExtractValue,
    FirstOf,
    ForEach,
    JsonLoad,
    JsonSchemaValidation,
    ModelValidation,
    Pipeline,
    RangeValidation,
    Reask,
    RegexExtract,
    RegexValidation,
    SemanticIsolation,
    Step,
    StringMatchValidation,
    StripFences,
    StripThinking,
    Transform,
)

SCHEMA_FILE = Path(__file__).parents[1] / "pipeline.schema.json"

YAML = """
- StripThinking
- ConvertToDict:
    lossy: fail
    schema: {type: object, required: [city]}
- ExtractValue: $.city
- StringMatchValidation: {one_of: [Bern, Basel], on_error: fallback, fallback: Bern}
- Transform: shout
"""


def shout(text: str) -> str:
    return text.upper()


class Halve(Step[int, int]):
    def run(self, content: int, context: Any) -> int:
        return content // 2


class Plain:
    """A step of one's own without any base."""

    def __init__(self, factor: int = 2) -> None:
        self.factor = factor
        self.name = "plain"

    def run(self, content: Any, context: Any) -> Any:
        return content * self.factor


NAMES: dict[str, Any] = {"shout": shout, "City": int}


def test_yaml_builds_a_pipeline() -> None:
    pipeline = Pipeline.from_config(YAML, names=NAMES)
    assert pipeline.run_sync('<think>x</think>{"city": "Basel"}').content == "BASEL"
    assert pipeline.run_sync('{"city": "Rome"}').content == "BERN"


def test_files_build_a_pipeline(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("- ConvertToDict\n")
    (tmp_path / "p.json").write_text('["ConvertToDict", {"ExtractValue": {"path": "$.a"}}]')
    assert len(Pipeline.from_config(tmp_path / "p.yaml")) == 1
    assert Pipeline.from_config(tmp_path / "p.json").run_sync('{"a": 1}').content == 1


PIPELINES = [
    Pipeline([ConvertToDict(lossy="fail", want="dict", reask=2), JsonLoad(), StripFences()]),
    Pipeline([ExtractValue("$.a", default=None), ExtractValue("b", many=True, on_error="skip")]),
    Pipeline([JsonSchemaValidation({"type": "object", "required": ["a"]}, check_formats=True)]),
    Pipeline([StringMatchValidation("x", one_of=("a", "b")), RegexValidation("a", name="mine")]),
    Pipeline([RegexExtract("(a)", group=1), RangeValidation(minimum=1, of="length")]),
    Pipeline([ModelValidation(int), Transform(shout), Transform(shout, with_context=True)]),
    Pipeline([Branch(RegexValidation("a"), then=[JsonLoad()], otherwise=[StripThinking()])]),
    Pipeline([Branch(shout, then=[JsonLoad()])]),
    Pipeline([ForEach([ConvertToDict(), ExtractValue("a")], on_item_error="drop")]),
    Pipeline([FirstOf([[JsonLoad(), ExtractValue("a")], ConvertToDict()])]),
    Pipeline([Reask([ConvertToDict()], attempts=2), SemanticIsolation("x", pattern="y")]),
    Pipeline(),
]


@pytest.mark.parametrize("pipeline", PIPELINES, ids=repr)
def test_configuration_round_trips(pipeline: Pipeline[Any, Any]) -> None:
    written = pipeline.to_config()
    through_json = json.loads(json.dumps(written))
    again = Pipeline.from_config(through_json, names={"shout": shout, "int": int})
    assert again.to_config() == written
    assert [step.name for step in again.steps] == [step.name for step in pipeline.steps]


@pytest.mark.parametrize("pipeline", PIPELINES, ids=repr)
def test_what_is_written_satisfies_the_schema(pipeline: Pipeline[Any, Any]) -> None:
    validator = jsonschema.Draft202012Validator(Pipeline.config_schema())
    assert list(validator.iter_errors(pipeline.to_config())) == []


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (["ConvertToDict", "ExtractVale"], r"pipeline\[1\]: .*'ExtractVale'; did you mean 'Extr"),
        (["converttodict"], "did you mean 'ConvertToDict'"),
        (["zzz"], "known are Branch, "),
        ([{"ExtractValue": {"pth": "$.a"}}], r"pipeline\[0\]\.ExtractValue\.pth: .*mean 'path'"),
        ([{"ConvertToDict": {"lossy": "maybe"}}], r"pipeline\[0\]\.ConvertToDict: .*'allow', 'fl"),
        ([{"ExtractValue": {"many": True}}], "path"),
        ([{"RangeValidation": 3}], "expected parameters by name"),
        ([{"Reask": {"steps": ["Nope"]}}], r"pipeline\[0\]\.Reask\.steps\[0\]"),
        ([{"FirstOf": [["JsonLod"]]}], r"FirstOf\.alternatives\[0\]\[0\]: .*'JsonLoad'"),
        ([{"FirstOf": {"alternatives": "x"}}], "expected a list of alternatives"),
        ([{"Transform": "shut"}], "no function or model is named 'shut'; did you mean 'shout'"),
        ([{"A": 1, "B": 2}], "expected one step's name"),
        ([{}], "got nothing"),
        ([3], "expected a step's name"),
        (b"x", "expected a list of steps"),
        ([{"RegexExtract": "("}], r"pipeline\[0\]\.RegexExtract: .*regular expression"),
    ],
)
def test_faults_name_position_and_closest(config: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Pipeline.from_config(config, names=NAMES)


def test_faults_in_yaml_name_the_line() -> None:
    with pytest.raises(ConfigurationError, match=r"pipeline\[1\]\.ExtractValue\.pth \(line 3\)"):
        Pipeline.from_config("- ConvertToDict\n- ExtractValue:\n    pth: $.a\n")
    with pytest.raises(ConfigurationError, match=r"\(line 2\)"):
        Pipeline.from_config("- ConvertToDict\n- Nope\n")


def test_broken_yaml_is_said_to_be() -> None:
    with pytest.raises(ConfigurationError, match="no YAML"):
        Pipeline.from_config("- [")


def test_yaml_without_pyyaml_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingDependencyError, match=r"llm-pipeline\[yaml\]"):
        Pipeline.from_config("- ConvertToDict")


def test_nothing_is_imported_because_a_configuration_names_it() -> None:
    with pytest.raises(ConfigurationError, match="no function or model"):
        Pipeline.from_config([{"Transform": "os:getcwd"}])


def test_classes_of_ones_own() -> None:
    by_class = Pipeline.from_config(["Halve", {"Plain": {"factor": 3}}], steps=[Halve, Plain])
    assert by_class.run_sync(4).content == 6
    by_name = Pipeline.from_config(["half"], steps={"half": Halve})
    assert by_name.run_sync(4).content == 2
    with pytest.raises(ConfigurationError, match=r"no parameter 'facto'; did you mean 'factor'"):
        Pipeline.from_config([{"Plain": {"facto": 3}}], steps=[Plain])
    with pytest.raises(ConfigurationError, match="has no declarative form"):
        Pipeline([Plain()]).to_config()


def test_steps_and_functions_may_stand_in_a_configuration() -> None:
    assert (
        Pipeline.from_config([JsonLoad(), len, "shout"], names={"shout": str})
        .run_sync("[1]")
        .content
        == "1"
    )


def installed(monkeypatch: pytest.MonkeyPatch, *points: EntryPoint) -> None:
    def entry_points(**wanted: str) -> EntryPoints:
        return EntryPoints(points).select(**wanted)

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)


def point(name: str, value: str) -> EntryPoint:
    return EntryPoint(name=name, value=value, group="llm_pipeline.steps")


def test_installed_steps_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, point("Strict", "llm_pipeline:JsonLoad"))
    assert Pipeline.from_config(["Strict"]).run_sync("[1]").content == [1]
    with pytest.raises(ConfigurationError, match="did you mean 'Strict'"):
        Pipeline.from_config(["Strit"])


def test_two_installed_steps_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, point("S", "llm_pipeline:JsonLoad"), point("S", "x:Y"))
    with pytest.raises(ConfigurationError, match="several distributions"):
        Pipeline.from_config(["S"])


def test_an_installed_step_that_cannot_be_imported_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed(monkeypatch, point("S", "llm_pipeline:Nothing"))
    with pytest.raises(ConfigurationError, match="cannot import 'llm_pipeline:Nothing'"):
        Pipeline.from_config(["S"])


class TestSchema:
    def test_the_published_file_is_up_to_date(self) -> None:
        """Write it anew with: python -m llm_pipeline.config_schema > pipeline.schema.json"""
        assert json.loads(SCHEMA_FILE.read_text()) == Pipeline.config_schema()

    def test_it_is_a_schema(self) -> None:
        jsonschema.Draft202012Validator.check_schema(Pipeline.config_schema())

    @pytest.mark.parametrize(
        "config",
        [
            ["ConvertToDict", {"ExtractValue": "$.a"}, {"ExtractValue": {"path": "$.a"}}],
            [{"ConvertToDict": None}],
            [{"Reask": ["ConvertToDict"]}],
            "ConvertToDict",
            [{"TheirStep": {"x": 1}}, "their_function"],
        ],
    )
    def test_it_accepts_what_is_right(self, config: Any) -> None:
        jsonschema.Draft202012Validator(Pipeline.config_schema()).validate(config)

    @pytest.mark.parametrize(
        "config",
        [
            ["ExtractValue"],
            [{"ExtractValue": {"pth": "$.a"}}],
            [{"ConvertToDict": {"lossy": "maybe"}}],
            [{"ConvertToDict": {}, "JsonLoad": {}}],
            [{"Reask": {"steps": [{"ConvertToDict": {"lossy": 3}}]}}],
            [3],
        ],
    )
    def test_it_refuses_what_is_wrong(self, config: Any) -> None:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft202012Validator(Pipeline.config_schema()).validate(config)

    def test_it_describes_steps_and_parameters(self) -> None:
        schema = Pipeline.config_schema()["$defs"]["ConvertToDict"]
        parameters = schema["anyOf"][1]["properties"]["ConvertToDict"]["anyOf"][0]["properties"]
        assert schema["description"].startswith("Finds the dict or list")
        assert parameters["lossy"]["enum"] == ["allow", "flag", "fail"]
        assert parameters["lossy"]["default"] == "flag"
        assert "may differ" in parameters["lossy"]["description"]

    def test_it_knows_classes_of_ones_own(self) -> None:
        schema = Pipeline.config_schema([Plain, Halve])
        validator = jsonschema.Draft202012Validator(schema)
        validator.validate(["Halve", "Plain", {"Plain": {"factor": 2}}])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("", "got None, expected a list of steps"),
        ("- ExtractValue", r"pipeline\[0\] \(line 1\): ExtractValue: missing 'path'"),
        ("- ExtractValue: '$.['", r"pipeline\[0\].* expected a JSONPath"),
        ("- JsonSchemaValidation: {type: nope}", r"pipeline\[0\].* expected a JSON Schema"),
        ("pipeline.yaml", r"pass pathlib.Path\('pipeline.yaml'\)"),
        ("&a\n- ForEach: *a\n", "does a YAML alias lead back to itself"),
        (Path("nowhere.yaml"), "cannot read 'nowhere.yaml'"),
    ],
)
def test_every_fault_is_an_error_of_the_configuration(config: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Pipeline.from_config(config)


def test_a_function_is_written_by_its_name_once() -> None:
    pipeline = Pipeline([len])
    assert pipeline.to_config() == [{"Transform": {"function": "len"}}]
    again = Pipeline.from_config(pipeline.to_config(), names={"len": len})
    assert again.run_sync("abc").unwrap() == 3
