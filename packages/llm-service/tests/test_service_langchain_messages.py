"""What LangChain's messages may hold, and what is said of the rest."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage

from llm_core import UnsupportedFeature
from llm_service.langchain_messages import messages_from_langchain

IMAGE = {"type": "image", "base64": "AAAA", "mime_type": "image/png"}


def said_of(message: BaseMessage) -> str:
    with pytest.raises(UnsupportedFeature) as caught:
        messages_from_langchain([message])
    return str(caught.value)


@pytest.mark.parametrize(
    ("block", "advice"),
    [
        ({"type": "video", "url": "https://example.org/v.mp4"}, "'video'; expected text, image"),
        ({"type": "image", "file_id": "file-1"}, "give it as base64 or by url"),
        ({"type": "audio", "url": "https://example.org/a.wav"}, "give it as base64"),
        ({"type": "file", "mime_type": "application/pdf"}, "by url, or by file_id"),
    ],
    ids=["video", "an image without data", "audio by url", "a file without data"],
)
def test_content_that_cannot_be_sent_is_named_with_what_can(
    block: dict[str, Any], advice: str
) -> None:
    assert advice in said_of(HumanMessage(content=[block]))


def test_a_tools_result_that_is_no_text_is_named_with_its_call() -> None:
    message = ToolMessage(content=[IMAGE], tool_call_id="call_1")
    assert said_of(message) == (
        "the result of tool call 'call_1' holds ImagePart, expected text only"
    )
