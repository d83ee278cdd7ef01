"""Frames: sizes and headers, both ways."""

from random import Random

import pytest

from tailrace.core.errors import ProtocolError
from tailrace.core.protocol.apis import API_VERSIONS, APIS, METADATA, PRODUCE
from tailrace.core.protocol.frames import (
    parse_request_header,
    parse_response_header,
    request_frame,
    response_frame,
)

# What kcat sends first: ApiVersions version 3, correlation id 1, client id "rdkafka".
REQUEST = bytes.fromhex("00120003000000010007") + b"rdkafka\x00" + b"\x0blibrdkafka\x062.3.0\x00"


def test_a_flexible_header_keeps_a_classic_client_id() -> None:
    assert parse_request_header(REQUEST, 0, len(REQUEST)) == (18, 3, 1, "rdkafka", 18)


def test_a_classic_header_has_no_tags() -> None:
    header = bytes.fromhex("0003 0001 00000007 ffff") + b"body"
    assert parse_request_header(header, 0, len(header)) == (METADATA, 1, 7, None, 10)


def test_a_header_is_found_at_its_position() -> None:
    assert parse_request_header(b"xxx" + REQUEST, 3, 3 + len(REQUEST)) == (18, 3, 1, "rdkafka", 21)


def test_unknown_tags_of_a_header_are_skipped() -> None:
    header = (
        bytes.fromhex("0012 0003 00000001 0001") + b"a" + bytes.fromhex("02 00 02 aabb 8101 00") + b"body"
    )
    assert parse_request_header(header, 0, len(header)) == (18, 3, 1, "a", len(header) - 4)


def test_an_unknown_version_is_left_to_the_caller() -> None:
    """ApiVersions is answered in any version; its header is read by the rule of the newest known one."""
    header = bytes.fromhex("0012 0063 00000001 ffff 00")
    assert parse_request_header(header, 0, len(header)) == (API_VERSIONS, 99, 1, None, 11)


def test_an_unknown_key_is_refused() -> None:
    header = bytes.fromhex("03e7 0000 00000001 ffff")
    with pytest.raises(ProtocolError, match="key 999"):
        parse_request_header(header, 0, len(header))


@pytest.mark.parametrize("behind", [b"", b"\0" * 50, b"\xff" * 50])
def test_a_header_that_is_cut_off_is_refused(behind: bytes) -> None:
    """(R) Bytes behind `end` belong to others."""
    for end in range(18):
        with pytest.raises(ProtocolError):
            parse_request_header(REQUEST[:end] + behind, 0, end)


def test_a_client_id_that_is_no_text_is_taken_as_kafka_takes_it() -> None:
    header = bytes.fromhex("0012 0000 00000001 0001 ff")
    assert parse_request_header(header, 0, len(header))[3] == "\ufffd"


def test_any_bytes_are_a_header_or_refused() -> None:
    random = Random(1)
    for _ in range(3000):
        data = bytearray(random.randbytes(random.randrange(40)))
        data[:2] = b"\0\x12"
        try:
            position = parse_request_header(bytes(data), 0, len(data))[4]
        except ProtocolError:
            continue
        assert 10 <= position <= len(data)


def test_a_response_frame_starts_with_its_size() -> None:
    records = b"r" * 1000
    pieces = response_frame(7, 1, [bytearray(b"ab"), records, bytearray(b"c")])
    assert pieces[1] is records
    frame = b"".join(pieces)
    assert frame == (len(frame) - 4).to_bytes(4, "big") + b"\0\0\0\7\0ab" + records + b"c"
    assert parse_response_header(frame, 4, len(frame), 1) == (7, 9)


def test_the_response_to_api_versions_never_has_a_flexible_header() -> None:
    assert [APIS[API_VERSIONS].response_header_version(version) for version in range(5)] == [0] * 5
    frame = b"".join(response_frame(7, 0, [bytearray(b"ab")]))
    assert frame == bytes.fromhex("00000006 00000007") + b"ab"
    assert parse_response_header(frame, 4, len(frame), 0) == (7, 8)


def test_a_response_header_that_is_cut_off_is_refused() -> None:
    for header_version, size in ((0, 4), (1, 5)):
        for end in range(size):
            with pytest.raises(ProtocolError):
                parse_response_header(bytes(size + 9), 0, end, header_version)


@pytest.mark.parametrize(("version", "header"), [(8, "classic"), (9, "flexible")])
@pytest.mark.parametrize("client_id", [None, "", "grün"])
def test_a_request_frame_reads_back(version: int, header: str, client_id: str | None) -> None:
    frame = b"".join(request_frame(APIS[PRODUCE], version, -5, client_id, [bytearray(b"body")]))
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    *head, position = parse_request_header(frame, 4, len(frame))
    assert head == [PRODUCE, version, -5, client_id]
    assert frame[position:] == b"body"
    assert (frame[position - 1] == 0 and header == "flexible") or header == "classic"
