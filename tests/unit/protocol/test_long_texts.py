"""(R) What quotes a client may be longer than what was quoted: it is cut, or its encoding would fail."""

import struct

import pytest

from tailrace.core.protocol.compile import decode, encode
from tailrace.core.protocol.frames import parse_request_header
from tailrace.core.protocol.messages.create_topics import CreateTopicsResponse, CreateTopicsResponseTopic
from tailrace.core.protocol.primitives import STRING_BYTES_MAX, cut_text


@pytest.mark.parametrize("version", [2, 7])
def test_an_error_message_is_cut_to_what_a_string_holds(version: int) -> None:
    topic = CreateTopicsResponseTopic("t", error_code=42, error_message="ä" * 30_000)
    [decoded] = decode(
        CreateTopicsResponse, version, encode(CreateTopicsResponse(topics=[topic]), version)
    ).topics
    assert decoded.error_message == "ä" * (STRING_BYTES_MAX // 2)


def test_a_text_is_cut_between_characters() -> None:
    assert cut_text("x" * STRING_BYTES_MAX) == b"x" * STRING_BYTES_MAX
    for text in ("x" * (STRING_BYTES_MAX + 1), "x" + "日" * 20_000, "xx😀" * 9_000):
        cut = cut_text(text)
        assert STRING_BYTES_MAX - 3 <= len(cut) <= STRING_BYTES_MAX
        assert text.startswith(cut.decode())


def test_a_client_id_that_is_no_text_is_no_longer_than_one_that_is() -> None:
    raw = b"\xff" * STRING_BYTES_MAX
    frame = struct.pack(">hhih", 3, 1, 7, len(raw)) + raw
    client_id = parse_request_header(frame, 0, len(frame))[3]
    assert client_id is not None
    assert set(client_id) == {"\ufffd"}
    assert len(client_id.encode()) <= STRING_BYTES_MAX


def test_a_client_id_that_is_text_is_kept_whole() -> None:
    raw = b"c" * STRING_BYTES_MAX
    frame = struct.pack(">hhih", 3, 1, 7, len(raw)) + raw
    assert parse_request_header(frame, 0, len(frame))[3] == raw.decode()
