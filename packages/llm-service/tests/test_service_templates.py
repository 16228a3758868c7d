"""Prompts with variables: text, LangChain's templates and runnables, and what is missing or too much."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder, PromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel, RunnablePassthrough

from llm_core import (
    AudioPart,
    FilePart,
    ImagePart,
    InvalidValue,
    Message,
    ReasoningPart,
    Role,
    TextPart,
    ToolCall,
    ToolResult,
    UnsupportedFeature,
)
from llm_service.langchain_messages import messages_from_langchain
from llm_service.templates import render


class TestText:
    def test_variables_are_filled_in_as_str_format_does(self) -> None:
        text = "{name!r:>{width}} costs {item.real:.2f}, {data[key]} {{as written}}"
        variables = {"name": "x", "width": 5, "item": 3.14159, "data": {"key": "v"}}
        assert render(text, variables) == (Message.user("  'x' costs 3.14, v {as written}"),)

    def test_a_text_without_variables_is_taken_as_it_is(self) -> None:
        assert render("Hello", {}) == (Message.user("Hello"),)

    @pytest.mark.parametrize(
        ("variables", "complaint"),
        [
            ({}, "missing 'name', 'width'; expected name, width"),
            ({"name": 1}, "missing 'width'; expected name, width"),
            ({"name": 1, "width": 2, "b": 3, "a": 4}, "surplus 'a', 'b'; expected name, width"),
            ({"width": 1, "nmae": 2}, "missing 'name'; surplus 'nmae'; expected name, width"),
        ],
    )
    def test_missing_and_surplus_variables_are_named(
        self, variables: dict[str, Any], complaint: str
    ) -> None:
        with pytest.raises(InvalidValue) as caught:
            render("{name:{width}}", variables)
        assert str(caught.value) == f"template variables: {complaint}"

    def test_the_names_are_there_for_programs_too(self) -> None:
        with pytest.raises(InvalidValue) as caught:
            render("{a}", {"b": 1})
        assert caught.value.details == {"field": "variables", "missing": ["a"], "surplus": ["b"]}

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("{", "Single '{'"),
            ("{}", "{} has no name"),
            ("{0}", "{0} has no name"),
            ("{ a }", "{ a } has no name"),
            ('{"json": 1}', "has no name; a brace that is meant as such is written twice"),
            ("{a.__class__}", "reaches for a private attribute"),
            ("{a[0]._hidden}", "reaches for a private attribute"),
        ],
    )
    def test_a_text_that_is_no_template_is_refused(self, text: str, complaint: str) -> None:
        with pytest.raises(InvalidValue) as caught:
            render(text, {"a": 1})
        assert complaint in str(caught.value)

    @pytest.mark.parametrize("text", ["{a:d}", "{a.missing}", "{a[missing]}", "{a:{b}}"])
    def test_a_value_that_does_not_fit_is_a_fault_of_the_request(self, text: str) -> None:
        variables = {"a": "text", **({"b": "q"} if "b" in text else {})}
        with pytest.raises(InvalidValue, match="a variable does not fit"):
            render(text, variables)

    @pytest.mark.parametrize(
        ("text", "name"),
        [("{b} {a}", "a"), ("{b} {a.x!r:>5}", "a"), ("{a[x]}", "a")],
    )
    def test_a_value_that_raises_what_it_likes_is_named(self, text: str, name: str) -> None:
        class Broken:
            def __str__(self) -> str:
                raise OSError("gone")

            def __getitem__(self, key: str) -> str:
                return str(self)

            __repr__ = __str__
            x = property(__str__)

        variables = {"a": Broken(), **({"b": "text"} if "b" in text else {})}
        with pytest.raises(InvalidValue, match=f"a variable does not fit: '{name}': OSError: gone"):
            render(text, variables)

    @pytest.mark.parametrize("variables", [None, 5, "a", [("a", 1)]])
    def test_variables_are_a_mapping(self, variables: Any) -> None:
        with pytest.raises(InvalidValue, match=r"^variables: got .*, expected a mapping"):
            render("{a}", variables)

    def test_something_else_is_refused(self) -> None:
        with pytest.raises(InvalidValue, match="expected text, or a LangChain prompt or runnable"):
            render(5, {})  # type: ignore[arg-type]

    def test_a_text_needs_no_langchain(self) -> None:
        code = (
            "import sys; from llm_service.templates import render; render('{a}', {'a': 1})\n"
            "try: render(5, {})\nexcept ValueError: print('langchain_core' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True
        )
        assert done.stdout == "False\n"


CHAT = ChatPromptTemplate(
    [
        ("system", "You speak {language}."),
        MessagesPlaceholder("history", optional=True),
        ("human", "{question}"),
    ]
)


class TestPrompts:
    def test_a_prompt_template_becomes_one_user_message(self) -> None:
        template = PromptTemplate.from_template("What is {thing}?")
        assert render(template, {"thing": "love"}) == (Message.user("What is love?"),)

    def test_a_chat_template_becomes_its_messages(self) -> None:
        history = [HumanMessage("a"), AIMessage("b")]
        variables = {"language": "Latin", "question": "Quid?", "history": history}
        assert render(CHAT, variables) == (
            Message.system("You speak Latin."),
            Message.user("a"),
            Message.assistant("b"),
            Message.user("Quid?"),
        )

    def test_an_optional_variable_may_be_left_out(self) -> None:
        assert len(render(CHAT, {"language": "Latin", "question": "Quid?"})) == 2

    def test_a_partial_variable_may_be_given_or_not(self) -> None:
        template = CHAT.partial(language="Latin")
        assert render(template, {"question": "?"})[0].text == "You speak Latin."
        assert render(template, {"question": "?", "language": "Greek"})[0].text.endswith("Greek.")

    @pytest.mark.parametrize("template", [CHAT, CHAT | RunnableLambda(lambda prompt: prompt)])
    def test_missing_and_surplus_variables_are_named(self, template: Any) -> None:
        with pytest.raises(InvalidValue) as caught:
            render(template, {"language": "Latin", "qestion": "?"})
        assert str(caught.value).startswith(
            "template variables: missing 'question'; surplus 'qestion'; expected "
        )

    def test_what_langchain_says_while_filling_in_is_a_fault_of_the_request(self) -> None:
        template = PromptTemplate.from_template("{a:d}")
        with pytest.raises(InvalidValue, match="could not be filled in: ValueError"):
            render(template, {"a": "text"})


class TestRunnables:
    def test_a_chain_before_the_prompt_is_run(self) -> None:
        chain = RunnablePassthrough.assign(question=lambda given: given["raw"].upper()) | CHAT
        assert render(chain, {"raw": "quid?", "language": "Latin"})[-1].text == "QUID?"

    def test_what_a_chain_demands_is_missed_by_name(self) -> None:
        chain = RunnableParallel(a=PromptTemplate.from_template("{x}")) | RunnableLambda(str)
        with pytest.raises(InvalidValue, match="missing 'x'"):
            render(chain, {"y": 1})

    def test_a_function_says_itself_what_it_misses(self) -> None:
        chain = RunnableLambda(lambda given: given["a"] + given.get("b", ""))
        assert render(chain, {"a": "x"}) == (Message.user("x"),)
        with pytest.raises(InvalidValue, match="KeyError: 'a'"):
            render(chain, {})

    @pytest.mark.parametrize(
        ("made", "expected"),
        [
            ("text", Message.user("text")),
            (HumanMessage("text"), Message.user("text")),
            ([SystemMessage("text")], Message.system("text")),
        ],
    )
    def test_it_may_give_text_or_messages(self, made: Any, expected: Message) -> None:
        assert render(RunnableLambda(lambda _: made), {}) == (expected,)

    @pytest.mark.parametrize("made", [5, None, [], ["text"]])
    def test_it_may_give_nothing_else(self, made: Any) -> None:
        with pytest.raises(InvalidValue, match="expected a runnable that gives a prompt"):
            render(RunnableLambda(lambda _: made), {})

    def test_a_binding_is_looked_through(self) -> None:
        template = CHAT.with_config(tags=["a"])
        with pytest.raises(InvalidValue, match="missing 'language'"):
            render(template, {"question": "?"})

    @pytest.mark.parametrize("bound", [False, True])
    def test_a_model_in_the_chain_is_refused(self, bound: bool) -> None:
        model: Any = FakeListChatModel(responses=["x"])
        chain = CHAT | (model.bind(stop=["a"]) if bound else model) | StrOutputParser()
        with pytest.raises(InvalidValue, match="holds the model FakeListChatModel"):
            render(chain, {"language": "Latin", "question": "?"})


IMAGE = base64.b64encode(b"image").decode()
CALL = {"type": "tool_call", "id": "1", "name": "add", "args": {"a": 1}}
SENT = ToolCall(id="1", name="add", arguments={"a": 1}, arguments_text='{"a": 1}')


class TestMessages:
    """What LangChain may put into a message."""

    @pytest.mark.parametrize(
        ("block", "part"),
        [
            ({"type": "text", "text": "a"}, TextPart(text="a")),
            ({"type": "text-plain", "mime_type": "text/plain", "text": "a"}, TextPart(text="a")),
            (
                {"type": "image", "base64": IMAGE, "mime_type": "image/png"},
                ImagePart(data=b"image", media_type="image/png"),
            ),
            ({"type": "image", "url": "https://h/i"}, ImagePart(url="https://h/i")),
            (
                {"type": "image_url", "image_url": {"url": "https://h/i", "detail": "low"}},
                ImagePart(url="https://h/i", detail="low"),
            ),
            (
                {"type": "audio", "base64": IMAGE, "mime_type": "audio/mpeg"},
                AudioPart(data=b"image", format="mp3"),
            ),
            (
                {"type": "input_audio", "input_audio": {"data": IMAGE, "format": "wav"}},
                AudioPart(data=b"image", format="wav"),
            ),
            (
                {"type": "file", "base64": IMAGE, "mime_type": "application/pdf", "filename": "f"},
                FilePart(data=b"image", media_type="application/pdf", filename="f"),
            ),
            ({"type": "file", "url": "https://h/f"}, FilePart(url="https://h/f")),
            ({"type": "file", "file_id": "f"}, FilePart(file_id="f")),
        ],
    )
    def test_what_a_user_may_send(self, block: dict[str, Any], part: Any) -> None:
        (message,) = messages_from_langchain([HumanMessage([block])])
        assert message.content == (part,)

    @pytest.mark.parametrize(
        ("message", "content"),
        [
            (AIMessage("a", tool_calls=[CALL]), (TextPart(text="a"), SENT)),
            (AIMessage("", tool_calls=[CALL]), (SENT,)),
            (
                AIMessage(
                    [{"type": "tool_use", "id": "1", "name": "add", "input": {"a": 1}}],
                    tool_calls=[CALL],
                ),
                (SENT,),
            ),
            (AIMessage([{"type": "tool_use", "id": "1", "name": "add", "input": {"a": 1}}]), (SENT,)),
            (AIMessage(content_blocks=[CALL]), (SENT,)),
            (
                AIMessage([{"type": "thinking", "thinking": "hm", "signature": "s"}]),
                (ReasoningPart(text="hm", signature="s"),),
            ),
            (
                AIMessage([{"type": "reasoning", "reasoning": "hm", "id": "r"}]),
                (ReasoningPart(text="hm", reference_id="r"),),
            ),
            (AIMessage([{"type": "reasoning"}]), (TextPart(text=""),)),
            (
                AIMessage("", additional_kwargs={"reasoning_content": "hm"}),
                (ReasoningPart(text="hm"),),
            ),
            (
                AIMessage(
                    "",
                    invalid_tool_calls=[
                        {"type": "invalid_tool_call", "id": "1", "name": "f", "args": "{", "error": None}
                    ],
                ),
                (ToolCall(id="1", name="f", arguments_text="{"),),
            ),
            (
                AIMessage(
                    [{"type": "invalid_tool_call", "id": "1", "name": "f", "args": "{", "error": ""}]
                ),
                (ToolCall(id="1", name="f", arguments_text="{"),),
            ),
            (
                AIMessageChunk("a", tool_call_chunks=[tool_call_chunk(name="add", args='{"a": 1}', id="1", index=0)]),
                (TextPart(text="a"), SENT),
            ),
            (AIMessage(""), (TextPart(text=""),)),
            (AIMessage([{"cachePoint": {"type": "default"}}, "a"]), (TextPart(text="a"),)),
        ],
    )  # fmt: skip
    def test_what_a_model_may_have_said(self, message: BaseMessage, content: Sequence[Any]) -> None:
        (converted,) = messages_from_langchain([message])
        assert (converted.role, converted.content) == (Role.ASSISTANT, content)

    def test_the_results_of_one_turn_are_one_message(self) -> None:
        results = [
            ToolMessage("3", tool_call_id="1"),
            ToolMessage(["fa", {"type": "text", "text": "il"}], tool_call_id="2", status="error"),
        ]
        assert messages_from_langchain([*results, HumanMessage("go on"), results[0]]) == (
            Message.tool(
                ToolResult(tool_call_id="1", content="3"),
                ToolResult(tool_call_id="2", content="fail", is_error=True),
            ),
            Message.user("go on"),
            Message.tool(ToolResult(tool_call_id="1", content="3")),
        )

    def test_names_and_cache_marks_are_kept(self) -> None:
        block = {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}
        human, system = messages_from_langchain(
            [HumanMessage("a", name="Ann"), SystemMessage([block])]
        )
        assert (human.name, human.cache, system.cache) == ("Ann", False, True)

    @pytest.mark.parametrize(
        ("role", "expected"),
        [("developer", Role.SYSTEM), ("User", Role.USER), ("assistant", Role.ASSISTANT)],
    )
    def test_roles_by_name(self, role: str, expected: Role) -> None:
        (message,) = messages_from_langchain([ChatMessage("a", role=role)])
        assert message.role is expected

    @pytest.mark.parametrize(
        ("message", "complaint"),
        [
            (ChatMessage("a", role="judge"), "got 'judge'"),
            (FunctionMessage("a", name="f"), "got 'function'"),
            (HumanMessage([{"type": "image", "base64": "%"}]), "expected base64"),
            (AIMessage("", tool_calls=[{**CALL, "id": None}]), "tool call 'add': has no id"),
        ],
    )
    def test_what_is_no_message_is_refused(self, message: BaseMessage, complaint: str) -> None:
        with pytest.raises(InvalidValue) as caught:
            messages_from_langchain([message])
        assert complaint in str(caught.value)

    @pytest.mark.parametrize(
        "message",
        [
            HumanMessage([{"type": "video", "url": "https://h/v"}]),
            HumanMessage([{"type": "image", "file_id": "f"}]),
            HumanMessage([{"type": "audio", "url": "https://h/a"}]),
            HumanMessage([{"type": "file"}]),
            HumanMessage([{"type": "hologram"}]),
            ToolMessage([{"type": "image", "base64": IMAGE}], tool_call_id="1"),
        ],
    )
    def test_what_cannot_be_sent_is_refused(self, message: BaseMessage) -> None:
        with pytest.raises(UnsupportedFeature):
            messages_from_langchain([message])

    def test_the_arguments_of_a_call_are_written_readably(self) -> None:
        call = {**CALL, "args": {"name": "Müller"}}
        (message,) = messages_from_langchain([AIMessage("", tool_calls=[call])])
        part = message.content[0]
        assert isinstance(part, ToolCall)
        assert part.arguments_text == '{"name": "Müller"}'
        assert json.loads(part.arguments_text) == {"name": "Müller"}
