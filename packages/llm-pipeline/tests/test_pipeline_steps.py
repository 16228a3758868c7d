"""The steps on text and data, one by one."""

from __future__ import annotations

import dataclasses
import sys
from decimal import Decimal
from typing import Any, ClassVar

import pydantic
import pytest
from typing_extensions import TypedDict

from llm_core import ErrorType, InvalidValue
from llm_pipeline import (
    ConvertToDict,
    ExtractValue,
    JsonLoad,
    JsonSchemaValidation,
    ModelValidation,
    Pipeline,
    PipelineResult,
    RangeValidation,
    RegexExtract,
    RegexValidation,
    StringMatchValidation,
    StripFences,
    StripThinking,
    Transform,
)


def run(step: Any, content: Any) -> PipelineResult[Any]:
    return Pipeline([step]).run_sync(content)


def value(step: Any, content: Any) -> Any:
    result = run(step, content)
    assert result.success, result.error
    return result.content


def failure(step: Any, content: Any) -> str:
    result = run(step, content)
    assert not result.success
    assert result.error is not None
    return result.error.message


class TestStripThinking:
    @pytest.mark.parametrize(
        ("text", "answer"),
        [
            ("<think>hm</think> 42", "42"),
            ("hm</think>42", "42"),
            ("<Thinking>a</Thinking>x<thinking>b</thinking>y", "xy"),
            ("42 <think>and now", "42"),
            ("a<b> and </b>", "a<b> and </b>"),
        ],
    )
    def test_takes_thoughts_off(self, text: str, answer: str) -> None:
        assert value(StripThinking(), text) == answer

    def test_is_skipped_without_thoughts(self) -> None:
        assert run(StripThinking(), "42").steps[0].skipped

    def test_fails_without_an_answer(self) -> None:
        assert "no answer" in failure(StripThinking(), "<think>hm</think>")


class TestStripFences:
    @pytest.mark.parametrize(
        ("text", "inner"),
        [
            ("```python\nx = 1\n```", "x = 1"),
            ("Here:\n```\nx\n\ny\n```\nDone.", "x\n\ny"),
            ("~~~\nx\n~~~", "x"),
            ("````md\n```\nx\n```\n````", "```\nx\n```"),
            ("no fence", "no fence"),
        ],
    )
    def test_takes_the_fence_off(self, text: str, inner: str) -> None:
        assert value(StripFences(), text) == inner

    def test_flags_a_fence_that_is_never_closed(self) -> None:
        result = run(StripFences(), "```sql\nSELECT 1")
        assert result.content == "SELECT 1"
        assert result.lossy

    def test_label_and_text_around_are_on_the_trail(self) -> None:
        trail = run(StripFences(), "x\n```sql\nSELECT 1\n```").steps[0].trail
        assert trail == {"label": "sql", "text_around": True}

    def test_wants_text(self) -> None:
        assert "expected text" in failure(StripFences(), 3)


class TestRegexExtract:
    def test_takes_the_first_match_or_group(self) -> None:
        assert value(RegexExtract(r"\d+"), "a 12 b 34") == "12"
        assert value(RegexExtract(r"(\w)=(?P<n>\d)", group="n"), "x=3") == "3"
        assert value(RegexExtract(r"(\w)=(\d)", group=2), "x=3") == "3"
        assert run(RegexExtract(r"\d+"), "a 12").steps[0].trail == {"span": (2, 4)}

    def test_takes_all_matches(self) -> None:
        assert value(RegexExtract(r"\d+", many=True), "a 12 b 34") == ["12", "34"]

    def test_default_or_failure(self) -> None:
        assert value(RegexExtract(r"\d+", default=None), "a") is None
        assert value(RegexExtract(r"\d+", many=True, default=[]), "a") == []
        assert "nothing matches" in failure(RegexExtract(r"\d+"), "a")
        assert "nothing matches" in failure(RegexExtract(r"a|(b)", group=1), "a")

    def test_flags(self) -> None:
        assert value(RegexExtract("A.B", ignore_case=True, multiline=True), "xa\nby") == "a\nb"

    def test_bad_parameters(self) -> None:
        with pytest.raises(InvalidValue, match="regular expression"):
            RegexExtract("(")
        with pytest.raises(InvalidValue, match="a group of the pattern"):
            RegexExtract("a", group=1)
        with pytest.raises(InvalidValue, match="a group of the pattern"):
            RegexExtract("a", group="n")


class TestStringMatchValidation:
    @pytest.mark.parametrize(
        ("step", "good", "bad"),
        [
            (StringMatchValidation("ok"), "all ok here", "all fine"),
            (StringMatchValidation(equals="yes"), " yes\n", "yes!"),
            (StringMatchValidation(equals="yes", strip=False), "yes", " yes"),
            (StringMatchValidation(prefix="SELECT", ignore_case=True), "select 1", "drop"),
            (StringMatchValidation(suffix="."), "Done.", "Done"),
            (StringMatchValidation(regex=r"^\d{4}$"), "3000", "30000"),
            (StringMatchValidation(regex="a", ignore_case=True), "A", "b"),
            (StringMatchValidation(one_of=("yes", "no")), "no", "maybe"),
            (StringMatchValidation(one_of=("Yes",), ignore_case=True), "YES", "no"),
            (StringMatchValidation("a b", collapse_whitespace=True), "x a \n b", "ab"),
            (
                StringMatchValidation(equals=" a b ", strip=False, collapse_whitespace=True),
                "  a   b  ",
                "a b",
            ),
            (StringMatchValidation("sorry", negate=True, ignore_case=True), "fine", "Sorry, no"),
            (StringMatchValidation(prefix="a", suffix="z"), "a to z", "a to y"),
        ],
    )
    def test_lets_pass_what_matches(self, step: Any, good: str, bad: str) -> None:
        assert value(step, good) == good
        assert "StringMatchValidation" in failure(step, bad)

    def test_says_what_was_expected(self) -> None:
        message = failure(StringMatchValidation(one_of=("yes", "no")), "x" * 200)
        assert "equal to one of ['yes', 'no']" in message
        assert len(message) < 200

    def test_needs_a_condition(self) -> None:
        with pytest.raises(InvalidValue, match="at least one of"):
            StringMatchValidation()

    def test_bad_pattern(self) -> None:
        with pytest.raises(InvalidValue, match="regular expression"):
            StringMatchValidation(regex="(")


class TestRegexValidation:
    def test_matches_from_end_to_end(self) -> None:
        assert value(RegexValidation(r"\d+"), " 12 ") == " 12 "
        assert "matches" in failure(RegexValidation(r"\d+"), "12 apples")
        assert "matches" in failure(RegexValidation(r"\d+", strip=False), " 12")
        assert value(RegexValidation("[a-z]+", ignore_case=True), "AB") == "AB"


class TestRangeValidation:
    @pytest.mark.parametrize(
        ("step", "good", "bad"),
        [
            (RangeValidation(minimum=1), 1, 0.5),
            (RangeValidation(maximum=1), 1, 1.5),
            (RangeValidation(above=1), 1.5, 1),
            (RangeValidation(below=1), 0, 1),
            (RangeValidation(minimum=0, maximum=1), Decimal("0.5"), Decimal(2)),
            (RangeValidation(minimum=1, maximum=3, of="length"), "abc", "abcd"),
            (RangeValidation(minimum=1, of="length"), ["x"], []),
        ],
    )
    def test_lets_pass_what_lies_within(self, step: Any, good: Any, bad: Any) -> None:
        assert value(step, good) is good
        assert "expected" in failure(step, bad)

    @pytest.mark.parametrize("content", [True, "3", None, float("nan")])
    def test_refuses_what_is_no_number(self, content: Any) -> None:
        assert "expected a number" in failure(RangeValidation(minimum=0), content)

    def test_a_length_of_nothing_fails(self) -> None:
        message = failure(RangeValidation(minimum=0, of="length"), 3)
        assert message == "RangeValidation: got a int, expected something with a length"

    def test_bounds_that_nothing_meets_are_refused(self) -> None:
        with pytest.raises(InvalidValue, match="nothing is at least 5 and at most 1"):
            RangeValidation(minimum=5, maximum=1)
        assert value(RangeValidation(minimum=5, maximum=5), 5) == 5

    def test_bad_parameters(self) -> None:
        with pytest.raises(InvalidValue, match="at least one of"):
            RangeValidation()
        with pytest.raises(InvalidValue, match="'value' or 'length'"):
            RangeValidation(minimum=1, of="size")


class TestJsonLoad:
    def test_reads_strict_json(self) -> None:
        assert value(JsonLoad(), ' {"a": [1, null]} ') == {"a": [1, None]}

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("{'a': 1}", "line 1 column 2"),
            ('{"a": NaN}', "NaN is no JSON number"),
            ('{"a": 1, "b": 2, "a": 3}', "'a' occurs twice"),
            ("[" * 100_000, "nested too deeply"),
        ],
    )
    def test_refuses_everything_else(self, text: str, reason: str) -> None:
        assert reason in failure(JsonLoad(), text)

    def test_duplicate_keys_may_be_allowed(self) -> None:
        assert value(JsonLoad(allow_duplicate_keys=True), '{"a": 1, "a": 2}') == {"a": 2}


class TestExtractValue:
    DATA: ClassVar[dict[str, Any]] = {
        "city": "Bern",
        "rows": [{"n": 1, "ok": True}, {"n": 2, "ok": False}],
        "a.b": 5,
    }

    @pytest.mark.parametrize(
        ("step", "expected"),
        [
            (ExtractValue("city"), "Bern"),
            (ExtractValue("a.b"), 5),
            (ExtractValue("$.city"), "Bern"),
            (ExtractValue("$.rows[1].n"), 2),
            (ExtractValue("$.rows[-1].n"), 2),
            (ExtractValue("$.rows[?@.ok].n"), 1),
            (ExtractValue("$..n", many=True), [1, 2]),
            (ExtractValue("$['a.b']"), 5),
            (ExtractValue("$.none", default=0), 0),
            (ExtractValue("none", default=None), None),
            (ExtractValue("$.none", many=True, default=[]), []),
            (ExtractValue("$"), DATA),
        ],
    )
    def test_takes_a_value_out(self, step: Any, expected: Any) -> None:
        assert value(step, self.DATA) == expected

    def test_keys_look_into_lists_of_dicts(self) -> None:
        assert value(ExtractValue("n", many=True), [{"n": 1}, {"m": 3}, {"n": 2}]) == [1, 2]
        assert value(ExtractValue("n"), [{"n": 1}, {"n": 2}]) == 1
        assert value(ExtractValue("$[1]"), [1, 2]) == 2

    def test_null_is_a_match(self) -> None:
        assert value(ExtractValue("$.a", default=1), {"a": None}) is None

    def test_says_what_is_there(self) -> None:
        assert "the keys are 'city', 'rows'" in failure(ExtractValue("$.town"), self.DATA)
        assert "nothing at 'x'" in failure(ExtractValue("x"), [1])

    def test_where_it_was_is_on_the_trail(self) -> None:
        trail = run(ExtractValue("$..n", many=True), self.DATA).steps[0].trail
        assert trail == {"matches": 2, "at": ("$['rows'][0]['n']", "$['rows'][1]['n']")}

    def test_refuses_text_and_bad_paths(self) -> None:
        assert "expected a dict or a list" in failure(ExtractValue("$.a"), "text")
        with pytest.raises(InvalidValue, match="expected a JSONPath"):
            ExtractValue("$.[")
        with pytest.raises(InvalidValue, match="a JSONPath or a key"):
            ExtractValue(" ")

    def test_deep_data_fails_cleanly(self) -> None:
        data: Any = {}
        for _ in range(300):
            data = {"a": data}
        assert "cannot be followed" in failure(ExtractValue("$..b"), data)


class TestJsonSchemaValidation:
    SCHEMA: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "zip": {"pattern": "^[0-9]{4}$"}},
        "required": ["city"],
    }

    def test_lets_pass_what_fits(self) -> None:
        content = {"city": "Bern", "zip": "3000"}
        assert value(JsonSchemaValidation(self.SCHEMA), content) is content

    def test_lists_violations_with_their_paths(self) -> None:
        result = run(JsonSchemaValidation(self.SCHEMA), {"city": 1, "zip": "x"})
        assert result.error is not None
        paths = {violation["path"] for violation in result.error.details["violations"]}
        assert paths == {"$.city", "$.zip"}
        assert "(and 1 more)" in result.error.message

    def test_formats_are_checked_on_request(self) -> None:
        schema = {"type": "string", "format": "date"}
        assert value(JsonSchemaValidation(schema), "soon") == "soon"
        assert failure(JsonSchemaValidation(schema, check_formats=True), "soon")

    def test_the_draft_of_the_schema_counts(self) -> None:
        schema = {
            "$schema": "http://json-schema.org/draft-04/schema#",
            "maximum": 3,
            "exclusiveMaximum": True,
        }
        assert failure(JsonSchemaValidation(schema), 3)

    def test_a_schema_that_was_changed_counts_as_it_is_now(self) -> None:
        schema: dict[str, Any] = {"properties": {"a": {"type": "integer"}}}
        before = JsonSchemaValidation(schema)
        schema["properties"]["a"]["type"] = "string"
        after = JsonSchemaValidation(schema)
        assert value(before, {"a": 1}) == {"a": 1}
        assert failure(after, {"a": 1}) == "JsonSchemaValidation: $.a: 1 is not of type 'string'"

    def test_schemas_that_are_equal_as_values_are_told_apart(self) -> None:
        assert value(JsonSchemaValidation({"const": 1}), 1) == 1
        assert failure(JsonSchemaValidation({"const": True}), 1)
        assert value(JsonSchemaValidation({"const": True}), True) is True

    def test_each_step_speaks_of_its_own_schema(self) -> None:
        schema = {"$ref": "http://127.0.0.1:9/x"}
        assert failure(JsonSchemaValidation(schema), 1).startswith("JsonSchemaValidation.schema:")
        named = ConvertToDict(schema=schema)
        message = failure(named, 'Either {"a": 1} or {"b": 2}, I think.')
        assert message.startswith("ConvertToDict.schema:")

    def test_a_schema_may_hold_numbers_that_json_has_not(self) -> None:
        cents = JsonSchemaValidation({"multipleOf": Decimal("0.01")})
        assert value(cents, Decimal("1.25")) == Decimal("1.25")
        assert failure(cents, Decimal("1.255"))

    def test_a_bad_schema_is_bad_each_time(self) -> None:
        for _ in range(2):
            with pytest.raises(InvalidValue, match="a JSON Schema"):
                JsonSchemaValidation({"type": "nope"})

    def test_a_schema_is_checked_once(self) -> None:
        schema = {"properties": {"checked": {"type": "string"}}, "required": ["checked"]}
        entered = [0]

        def count(_frame: Any, event: str, _argument: object) -> None:
            entered[-1] += event == "call"

        for _ in range(2):
            sys.setprofile(count)
            try:
                JsonSchemaValidation(schema)
            finally:
                sys.setprofile(None)
            entered.append(0)
        assert entered[0] > 10 * entered[1]

    def test_a_bad_schema_is_named(self) -> None:
        with pytest.raises(InvalidValue, match=r"JsonSchemaValidation.schema: .* a JSON Schema"):
            JsonSchemaValidation({"type": "nope"})
        with pytest.raises(InvalidValue, match=r"ConvertToDict.schema: .* a JSON Schema"):
            ConvertToDict(schema={"type": "nope"})

    def test_a_bad_schema_tells_the_place_and_the_words_that_may_stand_there(self) -> None:
        with pytest.raises(InvalidValue) as caught:
            JsonSchemaValidation({"properties": {"a": {"type": "nope"}}})
        assert caught.value.details == {
            "field": "JsonSchemaValidation.schema",
            "violation": {
                "path": "$.properties.a.type",
                "message": "'nope' is not one of ['array', 'boolean', 'integer', 'null', 'number', "
                "'object', 'string']",
            },
        }
        assert "$.properties.a.type: 'nope' is not one of" in str(caught.value)

    def test_a_value_nested_too_deeply_is_a_fault_of_the_value(self) -> None:
        data: Any = {}
        for _ in range(3000):
            data = {"a": data}
        node = {"additionalProperties": {"$ref": "#/$defs/node"}}
        step = JsonSchemaValidation({"$ref": "#/$defs/node", "$defs": {"node": node}})
        assert "nested too deeply to be checked" in failure(step, data)

    def test_a_reference_to_another_place_is_not_followed(self) -> None:
        message = failure(JsonSchemaValidation({"$ref": "http://127.0.0.1:9/x"}), 1)
        assert "'http://127.0.0.1:9/x' is not in the schema, and nothing is fetched" in message

    def test_long_messages_are_shortened(self) -> None:
        message = failure(JsonSchemaValidation({"type": "integer"}), "x" * 5000)
        assert len(message) < 300


class City(pydantic.BaseModel):
    name: str
    zip: int = 0


@dataclasses.dataclass
class Point:
    x: int
    y: int


class Row(TypedDict):
    n: int


class TestModelValidation:
    @pytest.mark.parametrize(
        ("model", "content", "expected"),
        [
            (City, {"name": "Bern", "zip": "3000"}, City(name="Bern", zip=3000)),
            (City, '{"name": "Bern"}', City(name="Bern")),
            (Point, {"x": 1, "y": 2}, Point(1, 2)),
            (Row, {"n": 1}, {"n": 1}),
            (list[Row], [{"n": 1}], [{"n": 1}]),
            (int, "3", 3),
            (str, "3", "3"),
        ],
    )
    def test_gives_the_typed_value(self, model: Any, content: Any, expected: Any) -> None:
        assert value(ModelValidation(model), content) == expected

    def test_an_instance_passes_untouched(self) -> None:
        city = City(name="Bern")
        assert value(ModelValidation(City), city) is city

    def test_strict_refuses_to_convert(self) -> None:
        assert "$.zip" in failure(ModelValidation(City, strict=True), {"name": "x", "zip": "3"})

    def test_lists_errors_with_their_paths(self) -> None:
        result = run(ModelValidation(list[Point]), [{"x": 1, "y": 2}, {"x": "a"}])
        assert result.error is not None
        assert result.error.details["errors"] == (
            {
                "path": "$[1].x",
                "message": "Input should be a valid integer, unable to parse string as an integer",
            },
            {"path": "$[1].y", "message": "Field required"},
        )

    def test_without_pydantic_it_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "pydantic", None)
        result = run(ModelValidation(Point), {"x": 1})
        assert result.error is not None
        assert result.error.type is ErrorType.MISSING_DEPENDENCY
        assert "llm-pipeline[models]" in result.error.message

    def test_what_is_no_type_is_a_fault_of_the_configuration(self) -> None:
        message = failure(ModelValidation(object()), {})  # type: ignore[arg-type]
        assert "is no type for pydantic" in message

    def test_native_structured_output_needs_no_repair(self) -> None:
        pipeline = Pipeline.of(ConvertToDict()).then(ModelValidation(City))
        result = pipeline.run_sync({"name": "Bern"})
        assert result.unwrap().name == "Bern"
        assert result.steps[0].skipped

    def test_partial_values_are_valid_so_far(self) -> None:
        partial = ModelValidation(City).partial()
        partial.feed('{"zip": "not')
        assert partial.value == {}
        partial = ModelValidation(City).partial()
        seen = []
        for piece in ('{"na', 'me": "Be', 'rn", "zip": 30', "00}"):
            partial.feed(piece)
            seen.append(partial.value)
        assert seen == [{}, City(name="Be"), City(name="Bern"), City(name="Bern", zip=3000)]

    def test_partial_lists_stay_plain_until_valid(self) -> None:
        partial = ModelValidation(list[Point]).partial()
        partial.feed('[{"x": 1')
        assert partial.value == [{}]
        partial.feed(', "y": 2}]')
        assert partial.value == [Point(1, 2)]


class TestTransform:
    def test_may_look_at_the_context(self) -> None:
        step = Transform(lambda content, context: (content, context.request), with_context=True)
        assert value(step, "x") == ("x", None)

    def test_is_named_like_its_function(self) -> None:
        assert Transform(len).name == "len"
        assert Transform(len, name="count").name == "count"

        class Callable:
            def __call__(self, content: Any) -> Any:
                return content

        assert Transform(Callable()).name == "Callable"

    def test_needs_a_function(self) -> None:
        with pytest.raises(InvalidValue, match="a function"):
            Transform(3)
