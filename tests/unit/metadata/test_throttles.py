"""Rates of brokers, and what of them each replica that moves is given."""

from tailrace.core.config_dynamic import FOLLOWER_RATE, LEADER_RATE
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.records import (
    RESOURCE_BROKER,
    RESOURCE_TOPIC,
    BrokerRegistered,
    ConfigRecord,
    PartitionRecord,
    TopicRecord,
)
from tailrace.core.metadata.throttles import FOLLOWERS, LEADERS, copy_rates

TOPIC_ID = bytes(15) + b"\x01"


def image(partitions: list[tuple[tuple[int, ...], tuple[int, ...]]], **configs: str) -> MetadataImage:
    """Partitions by (replicas, ISR), the first replica leads; configs: f0, l1 rates of brokers, f and l of
    all, followers and leaders of the topic.
    """
    names = {"f": FOLLOWER_RATE, "l": LEADER_RATE}
    made = MetadataImage()
    made.replay([BrokerRegistered(broker_id=broker, broker_epoch=broker) for broker in range(3)], 3)
    made.replay([TopicRecord(name="t", topic_id=TOPIC_ID)], 4)
    for index, (replicas, isr) in enumerate(partitions):
        record = PartitionRecord(
            topic_id=TOPIC_ID, partition=index, replicas=replicas, isr=isr, leader=replicas[0],
            leader_epoch=0, partition_epoch=0,
        )  # fmt: skip
        made.replay([record], 5 + index)
    for name, value in configs.items():
        if name in ("followers", "leaders"):
            key = FOLLOWERS if name == "followers" else LEADERS
            record2 = ConfigRecord(resource_type=RESOURCE_TOPIC, name="t", key=key, value=value)
        else:
            record2 = ConfigRecord(
                resource_type=RESOURCE_BROKER, name=name[1:], key=names[name[0]], value=value
            )
        made.replay([record2], made.metadata_offset + 1)
    return made


def rates(made: MetadataImage) -> dict[tuple[int, int], int]:
    """By partition and broker."""
    return {(partition, broker): rate for (_, partition, broker), rate in copy_rates(made).items()}


MOVING = [((0, 1, 2), (0,)), ((0, 1), (0,)), ((1, 2), (1, 2))]


def test_without_a_rate_or_a_list_nobody_is_throttled() -> None:
    assert rates(image(MOVING, followers="*", leaders="*")) == {}
    assert rates(image(MOVING, f1="1000", l0="1000")) == {}


def test_who_is_in_sync_is_not() -> None:
    assert rates(image(MOVING, followers="*", f2="1000")) == {(0, 2): 1000}


def test_those_who_take_share_the_rate_of_their_broker() -> None:
    assert rates(image(MOVING, followers="*", f="1000", f2="300")) == {(0, 1): 500, (1, 1): 500, (0, 2): 300}


def test_those_who_are_sent_to_share_the_rate_of_the_leader() -> None:
    assert rates(image(MOVING, leaders="0:0,2:1", l="900")) == {(0, 1): 450, (0, 2): 450}


def test_the_smaller_share_counts() -> None:
    made = image(MOVING, leaders="*", followers="0:1", l0="900", f1="100")
    assert rates(made) == {(0, 1): 100, (0, 2): 300, (1, 1): 300}


def test_nothing_at_all_is_a_byte_a_second() -> None:
    assert rates(image(MOVING, followers="0:1", f1="0")) == {(0, 1): 1}
