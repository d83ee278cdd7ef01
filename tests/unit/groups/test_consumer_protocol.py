"""What consumers of classic groups say to each other."""

from random import Random

import pytest

from tailrace.core.errors import ProtocolError
from tailrace.core.groups.consumer_protocol import (
    ConsumerProtocolAssignment,
    ConsumerProtocolSubscription,
    ConsumerProtocolTopicPartitions,
    decode_assignment,
    decode_subscription,
    encode_consumer_protocol,
    version_of,
)
from tests.support.messages import random_message

SUBSCRIPTION = ConsumerProtocolSubscription(
    ["a", "b"], b"u", [ConsumerProtocolTopicPartitions("a", [1, 2])], 7, "r"
)
NEWEST = bytes.fromhex(
    "0003 00000002 0001 61 0001 62 00000001 75"
    "00000001 0001 61 00000002 00000001 00000002"
    "00000007 0001 72"
)  # fmt: skip


def test_a_subscription_has_its_bytes() -> None:
    assert encode_consumer_protocol(SUBSCRIPTION, 3) == NEWEST
    assert decode_subscription(NEWEST) == SUBSCRIPTION


def test_an_older_version_has_less() -> None:
    data = encode_consumer_protocol(SUBSCRIPTION, 0)
    assert version_of(data) == 0
    assert decode_subscription(data) == ConsumerProtocolSubscription(["a", "b"], b"u")


def test_a_newer_version_is_read_as_our_newest_and_written_so() -> None:
    """As Kafka does: newer versions append fields."""
    assert decode_subscription(b"\0\x09" + NEWEST[2:] + b"more") == SUBSCRIPTION
    assert encode_consumer_protocol(SUBSCRIPTION, 9) == NEWEST


@pytest.mark.parametrize("version", range(4))
def test_an_assignment_has_its_bytes(version: int) -> None:
    assignment = ConsumerProtocolAssignment([ConsumerProtocolTopicPartitions("a", [1])])
    data = version.to_bytes(2) + bytes.fromhex("00000001 0001 61 00000001 00000001 ffffffff")
    assert encode_consumer_protocol(assignment, version) == data
    assert decode_assignment(data) == assignment


@pytest.mark.parametrize("data", [b"", b"\0", b"\xff\xff" + NEWEST[2:], NEWEST[:-1], b"\0\0"])
def test_what_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_subscription(data)


def test_broken_bytes_are_refused() -> None:
    """(R) Members send what they like."""
    random = Random(1)
    for _ in range(1000):
        version = random.randrange(4)
        data = bytearray(
            encode_consumer_protocol(random_message(ConsumerProtocolSubscription, version, random), version)
        )
        for _ in range(random.randint(1, 3)):
            data[random.randrange(len(data))] = random.choice((0, 1, 127, 128, 255))
        try:
            decode_subscription(bytes(data))
            decode_assignment(bytes(data))
        except ProtocolError:
            continue
