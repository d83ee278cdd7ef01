"""Keys and values of __consumer_offsets as bytes."""

from random import Random
from typing import Any

import pytest

from tailrace.core.errors import UNSUPPORTED_VERSION, KafkaError, ProtocolError
from tailrace.core.groups.records import (
    TYPES,
    ClassicMemberMetadata,
    ConsumerGroupCurrentMemberAssignmentValue,
    ConsumerGroupMemberMetadataKey,
    ConsumerGroupMemberMetadataValue,
    CurrentAssignmentTopicPartitions,
    GroupMetadataKey,
    GroupMetadataMember,
    GroupMetadataValue,
    OffsetCommitKey,
    OffsetCommitValue,
    decode_record,
    encode_key,
    encode_value,
)
from tests.support.messages import random_message

KEY = bytes.fromhex("0001 0001 67 0001 74 00000003")
MEMBER_KEY = encode_key(ConsumerGroupMemberMetadataKey("g", "m"))


def read(key: bytes, value: bytes | None) -> tuple[Any, Any]:
    """The record, which must be of a type that is known."""
    decoded = decode_record(key, value)
    assert decoded is not None
    return decoded


def test_an_offset_is_written_in_version_4() -> None:
    value = OffsetCommitValue(5, 1, "m", 1000, topic_id=b"i" * 16)
    data = bytes.fromhex("0004 0000000000000005 00000001 02 6d 00000000000003e8 01 00 10") + b"i" * 16
    assert encode_key(OffsetCommitKey("g", "t", 3)) == KEY
    assert encode_value(value) == data
    assert read(KEY, data) == (OffsetCommitKey("g", "t", 3), value)


def test_an_offset_with_a_time_to_expire_is_written_in_version_1() -> None:
    """The only version that has one; it has neither the leader's epoch nor the topic's id."""
    value = OffsetCommitValue(5, 1, "m", 1000, 2000, b"i" * 16)
    data = bytes.fromhex("0001 0000000000000005 0001 6d 00000000000003e8 00000000000007d0")
    assert encode_value(value) == data
    assert read(KEY, data)[1] == OffsetCommitValue(5, -1, "m", 1000, 2000)


def test_a_classic_group_is_written_in_version_3() -> None:
    member = GroupMetadataMember("m", "i", "c", "/h", 7, 8, b"s", b"a")
    value = GroupMetadataValue("consumer", 2, "range", "m", 9, [member])
    data = encode_value(value)
    assert data is not None
    assert data[:2] == b"\0\3"
    key = encode_key(GroupMetadataKey("g"))
    assert key == b"\0\2\0\1g"
    assert read(key, data) == (GroupMetadataKey("g"), value)


def test_no_value_is_a_tombstone() -> None:
    assert encode_value(None) is None
    assert read(KEY, None) == (OffsetCommitKey("g", "t", 3), None)


def test_a_record_of_before_kafka_0_9_is_an_offset() -> None:
    data = bytes.fromhex("0000 0000000000000005 0001 6d 00000000000003e8")
    assert read(b"\0\0" + KEY[2:], data) == (
        OffsetCommitKey("g", "t", 3),
        OffsetCommitValue(5, -1, "m", 1000),
    )
    with pytest.raises(KafkaError):
        decode_record(b"\0\0" + KEY[2:], b"\0\1" + data[2:] + bytes(8))


@pytest.mark.parametrize("number", [9, 10, 15, 17, 23, 24, 32767, -1])
def test_other_types_are_passed_over(number: int) -> None:
    """Share and streams groups, and what is not thought of yet."""
    assert decode_record(number.to_bytes(2, signed=True) + b"anything", b"\0\0anything") is None


@pytest.mark.parametrize("number", TYPES)
def test_a_newer_version_is_refused(number: int) -> None:
    """(R) What we cannot read is not taken for nothing: the partition does not load."""
    key = number.to_bytes(2) + encode_key(random_message(TYPES[number][0], 0, Random(1)))[2:]
    for version in (5, 32767, -1):
        with pytest.raises(KafkaError) as caught:
            decode_record(key, version.to_bytes(2, signed=True) + bytes(100))
        assert caught.value.code == UNSUPPORTED_VERSION


def test_a_member_says_whether_it_is_classic() -> None:
    """(R) None is written, for Kafka reads what is absent as a classic member without protocols."""
    modern = encode_value(ConsumerGroupMemberMetadataValue(classic_member_metadata=None))
    classic = encode_value(ConsumerGroupMemberMetadataValue(classic_member_metadata=ClassicMemberMetadata(5)))
    assert modern is not None
    assert modern.endswith(bytes.fromhex("01 00 01 00"))  # one tag: 0, of one byte: null
    assert read(MEMBER_KEY, modern)[1].classic_member_metadata is None
    assert read(MEMBER_KEY, classic)[1].classic_member_metadata == ClassicMemberMetadata(5)
    assert read(MEMBER_KEY, modern[:-4] + b"\0")[1].classic_member_metadata == ClassicMemberMetadata()


@pytest.mark.parametrize(
    ("epochs", "tags"), [([], "00"), (None, "01 00 01 00"), ([6], "01 00 05 02 00000006")]
)
def test_epochs_of_an_assignment_may_be_unknown(epochs: list[int] | None, tags: str) -> None:
    partitions = CurrentAssignmentTopicPartitions(b"i" * 16, [1], epochs)
    value = ConsumerGroupCurrentMemberAssignmentValue(assigned_partitions=[partitions])
    data = encode_value(value)
    assert data is not None
    assert data.endswith(bytes.fromhex(tags) + bytes.fromhex("01 00"))  # nothing to revoke, no tags
    assert read(b"\0\x08\0\0\0\0", data)[1] == value


@pytest.mark.parametrize("number", TYPES)
def test_broken_bytes_are_refused(number: int) -> None:
    """(R) Whatever lies in the log, a coordinator meets only these two errors."""
    random = Random(number)
    key_class, value_class = TYPES[number]
    for _ in range(300):
        key = bytearray(encode_key(random_message(key_class, 0, random)))
        key[1] = number
        value = bytearray(encode_value(random_message(value_class, 0, random)) or b"")
        for data in (key, value):
            for _ in range(random.randint(0, 2)):
                data[random.randrange(len(data))] = random.choice((0, 1, 127, 128, 255))
            if random.random() < 0.3:
                del data[random.randrange(len(data)) :]
        try:
            decode_record(bytes(key), bytes(value))
        except (KafkaError, ProtocolError):
            continue


@pytest.mark.parametrize(
    ("key", "value"), [(b"", b""), (b"\0", None), (KEY, b""), (KEY, b"\0"), (KEY[:-1], None)]
)
def test_bytes_that_are_too_few_are_refused(key: bytes, value: bytes | None) -> None:
    with pytest.raises(ProtocolError):
        decode_record(key, value)
