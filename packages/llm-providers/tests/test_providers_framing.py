from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_providers import stream_framing
from llm_providers.json_reading import MalformedBody
from llm_providers.stream_framing import NdjsonDecoder, SseDecoder


def decode(decoder: SseDecoder | NdjsonDecoder, chunks: Sequence[bytes]) -> list[bytes]:
    payloads = [payload for chunk in chunks for payload in decoder.feed(chunk)]
    return [*payloads, *decoder.finish()]


def cut(body: bytes, places: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [body[a:b] for a, b in pairwise(edges)]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"event: x\nid: 1\nretry: 5\n: comment\ndata: a\n\n", [b"a"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"data: a\r\n\r\ndata: b\r\r", [b"a", b"b"]),
        (b"data\n\n", [b""]),
        (b"data: a\r\n\n\ndata: b\n\n", [b"a", b"b"]),
        (b"\n\n\n", []),
        (b"event: ping\n\n", []),
        (b"data: unfinished", []),
        (b"data: unfinished\n", []),
        (b"database: no\n\n", []),
    ],
)
def test_server_sent_events(body: bytes, expected: list[bytes]) -> None:
    assert decode(SseDecoder(), [body]) == expected
    assert decode(SseDecoder(), [bytes([byte]) for byte in body]) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"a":1}\n{"b":2}\n', [b'{"a":1}', b'{"b":2}']),
        (b'{"a":1}\r\n\n  \n{"b":2}', [b'{"a":1}\r', b'{"b":2}']),
        (b"", []),
        (b"\n \n", []),
    ],
)
def test_json_lines(body: bytes, expected: list[bytes]) -> None:
    assert decode(NdjsonDecoder(), [body]) == expected
    assert decode(NdjsonDecoder(), [bytes([byte]) for byte in body]) == expected


@given(
    st.lists(st.text("ab \u20ac\U0001f600", max_size=6), max_size=5),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.lists(st.integers(0, 200), max_size=6),
)
def test_events_do_not_depend_on_where_the_network_cut(
    texts: list[str], newline: str, places: list[int]
) -> None:
    body = "".join(f"data: {text}{newline}{newline}" for text in texts).encode()
    assert decode(SseDecoder(), cut(body, places)) == [text.encode() for text in texts]


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6))
def test_any_bytes_decode_alike_however_they_are_cut(body: bytes, places: list[int]) -> None:
    assert decode(SseDecoder(), cut(body, places)) == decode(SseDecoder(), [body])
    assert decode(NdjsonDecoder(), cut(body, places)) == decode(NdjsonDecoder(), [body])


@pytest.mark.parametrize("decoder", [SseDecoder, NdjsonDecoder])
def test_a_message_without_end_is_refused(
    decoder: type[SseDecoder | NdjsonDecoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_framing, "MAX_FRAME_BYTES", 100)
    endless = decoder()
    with pytest.raises(MalformedBody, match="larger than 100 bytes"):
        decode(endless, [b"data: 123456"] * 20)


def test_an_event_of_endless_lines_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_framing, "MAX_FRAME_BYTES", 100)
    with pytest.raises(MalformedBody, match="larger than 100 bytes"):
        decode(SseDecoder(), [b"data: 123456\n"] * 20)


def test_a_carriage_return_swallows_one_newline_only_however_the_body_is_cut() -> None:
    body = b"data: a\r\n\ndata: b\n\n"
    assert decode(SseDecoder(), [bytes([byte]) for byte in body]) == [b"a", b"b"]
