"""Where replicas go."""

from collections import Counter

import pytest

from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.placement import pick_worker, place_replicas
from tailrace.core.metadata.records import (
    BrokerRegistered,
    PartitionChange,
    PartitionRecord,
    Record,
    TopicRecord,
    TopicRemoved,
)

TOPIC_ID = bytes(15) + b"\x01"


def brokers(*ids: int, racks: str = "", fenced: tuple[int, ...] = ()) -> list[BrokerRegistered]:
    """Brokers, each in the rack that is its letter."""
    return [
        BrokerRegistered(
            broker_id=broker_id, broker_epoch=0, rack=racks[i] if racks else None, fenced=broker_id in fenced
        )
        for i, broker_id in enumerate(ids)
    ]


def test_leaders_and_followers_spread_over_the_brokers() -> None:
    placed = place_replicas(brokers(0, 1, 2), 6, 2, start=0)
    assert [replicas[0] for replicas in placed[:3]] == [0, 1, 2]
    assert Counter(replicas[0] for replicas in placed) == {0: 2, 1: 2, 2: 2}
    assert all(len(set(replicas)) == 2 for replicas in placed)


def test_followers_of_a_broker_are_not_always_the_same() -> None:
    placed = place_replicas(brokers(0, 1, 2), 60, 2, start=0)
    for leader in range(3):
        assert len({replicas[1] for replicas in placed if replicas[0] == leader}) == 2


def test_topics_of_one_partition_take_turns() -> None:
    assert [place_replicas(brokers(0, 1, 2), 1, 3, start)[0][0] for start in range(4)] == [0, 1, 2, 0]


def test_the_same_start_places_alike() -> None:
    assert place_replicas(brokers(0, 1, 2), 50, 2, 7) == place_replicas(brokers(0, 1, 2), 50, 2, 7)


def test_one_broker_holds_all() -> None:
    assert place_replicas(brokers(5), 2, 1, start=7) == [(5,), (5,)]


@pytest.mark.parametrize("start", range(5))
def test_each_partition_lies_in_as_many_racks_as_can_be(start: int) -> None:
    there = brokers(0, 1, 2, 3, racks="aabb")
    placed = place_replicas(there, 40, 2, start)
    assert all((replicas[0] in (0, 1)) != (replicas[1] in (0, 1)) for replicas in placed)
    leaders = Counter(replicas[0] for replicas in placed)
    assert leaders == dict.fromkeys(range(4), 10)
    assert all(len(set(replicas)) == 4 for replicas in place_replicas(there, 9, 4, start))


@pytest.mark.parametrize("start", range(4))
def test_fenced_brokers_never_lead_and_come_last_in_their_rack(start: int) -> None:
    there = brokers(0, 1, 2, fenced=(1,))
    assert all(1 not in replicas for replicas in place_replicas(there, 9, 2, start))
    placed = place_replicas(there, 9, 3, start)
    assert {replicas[0] for replicas in placed} == {0, 2}
    assert {replicas[2] for replicas in placed} == {1}
    alone = place_replicas(brokers(0, 1, racks="ab", fenced=(0,)), 3, 2, start)
    assert alone == [(1, 0)] * 3


def test_an_unused_worker_is_taken_before_a_loaded_one() -> None:
    assert pick_worker({4: 1}, 4, 3, frozenset()) == 5


def test_past_the_limit_the_least_loaded_worker_is_shared() -> None:
    assert pick_worker({4: 2, 5: 1, 6: 2}, 4, 3, frozenset()) == 5


def test_a_slot_to_avoid_is_the_last_choice() -> None:
    assert pick_worker({4: 9}, 4, 2, frozenset({5})) == 4
    assert pick_worker({}, 4, 1, frozenset({4})) == 4


def test_the_image_counts_the_logs_of_each_directory() -> None:
    image = MetadataImage()
    records: list[Record] = [TopicRecord(name="t", topic_id=TOPIC_ID)]
    for index, directory in enumerate("aba"):
        records.append(
            PartitionRecord(
                topic_id=TOPIC_ID, partition=index, replicas=(0,), isr=(0,), leader=0, leader_epoch=0,
                partition_epoch=0, directories=(directory,),
            )
        )  # fmt: skip
    image.replay(records, 4)
    assert image.logs_by_directory == {"a": 2, "b": 1}
    image.replay([PartitionChange(topic_id=TOPIC_ID, partition=0, directory="b")], 5)
    assert [partition.directory for partition in image.topics_by_name["t"].partitions] == ["b", "b", "a"]
    assert image.logs_by_directory == {"a": 1, "b": 2}
    image.replay([PartitionChange(topic_id=TOPIC_ID, partition=0, leader_epoch=7)], 6)
    assert image.topics_by_name["t"].partitions[0].directory == "b"
    image.replay([TopicRemoved(topic_id=TOPIC_ID)], 7)
    assert set(image.logs_by_directory.values()) == {0}
