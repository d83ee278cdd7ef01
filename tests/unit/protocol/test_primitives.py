"""Varints and tag sections, as generated code meets them."""

import pytest

from tailrace.core.errors import ProtocolError
from tailrace.core.protocol.primitives import MALFORMED, skip_tags, uvarint, uvarint_bytes

BOUNDARIES = sorted(
    {
        0,
        1,
        300,
        2**32 - 1,
        *(1 << bits for bits in range(7, 32, 7)),
        *((1 << bits) - 1 for bits in range(7, 32, 7)),
    }
)


@pytest.mark.parametrize("value", BOUNDARIES)
def test_a_varint_reads_back(value: int) -> None:
    data = uvarint_bytes(value)
    assert uvarint(b"xx" + data + b"\xff", 2) == (value, 2 + len(data))
    assert len(data) == max(1, -(-value.bit_length() // 7))


def test_a_varint_may_be_longer_than_it_needs() -> None:
    assert uvarint(bytes.fromhex("80808000"), 0) == (0, 4)


@pytest.mark.parametrize("text", ["ffffffff10", "ffffffffff01", "8080808080 00"])
def test_a_varint_of_more_than_32_bits_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError):
        uvarint(bytes.fromhex(text), 0)


def test_a_value_of_more_than_32_bits_is_refused() -> None:
    with pytest.raises(OverflowError):
        uvarint_bytes(2**32)


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff\xff\xff\xff"])
def test_a_varint_that_is_cut_off_is_malformed(data: bytes) -> None:
    with pytest.raises(MALFORMED):
        uvarint(data, 0)


def test_tags_are_skipped_by_their_size() -> None:
    section = bytes.fromhex("05 02 aabb 8101 00") + b"rest"
    assert skip_tags(section, 0, len(section), 2) == 7
    many = b"\x7f" + b"\x07\x01z" * 127
    assert skip_tags(many, 1, len(many), many[0]) == len(many)


def test_more_tags_than_a_byte_counts_are_refused() -> None:
    many = uvarint_bytes(128) + b"\x07\x01z" * 128
    with pytest.raises(ProtocolError, match="tagged fields"):
        skip_tags(many, 1, len(many), many[0])


@pytest.mark.parametrize("text", ["05 7f 00", "05 ffffffff0f 00"])
def test_a_tag_that_is_longer_than_its_message_is_refused(text: str) -> None:
    section = bytes.fromhex(text)
    with pytest.raises(ProtocolError):
        skip_tags(section + bytes(500), 0, len(section), 1)
