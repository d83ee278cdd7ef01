"""Uuids as Kafka writes them."""

from random import Random

import pytest

from tailrace.core.ids import METADATA_TOPIC_ID, ZERO_UUID, is_usable_uuid, parse_uuid, uuid_text


def test_kafkas_own_ids_have_their_known_text() -> None:
    assert uuid_text(ZERO_UUID) == "AAAAAAAAAAAAAAAAAAAAAA"
    assert uuid_text(METADATA_TOPIC_ID) == "AAAAAAAAAAAAAAAAAAAAAQ"


def test_text_and_bytes_go_both_ways() -> None:
    random = Random(1)
    for _ in range(200):
        raw = random.randbytes(16)
        assert parse_uuid(uuid_text(raw)) == raw
        assert len(uuid_text(raw)) == 22


@pytest.mark.parametrize("text", ["", "AAAA", "A" * 21, "A" * 24, "A" * 20 + "!?", "ü" * 22])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a uuid"):
        parse_uuid(text)


def test_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        uuid_text(b"short")


def test_ids_that_would_confuse_are_not_given_out() -> None:
    assert not is_usable_uuid(ZERO_UUID)
    assert not is_usable_uuid(METADATA_TOPIC_ID)
    assert not is_usable_uuid(parse_uuid("-" + "A" * 21))
    assert is_usable_uuid(parse_uuid("A-" + "A" * 20))
