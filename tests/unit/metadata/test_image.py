"""The image is the sum of its records, and records survive being written."""

from typing import Any

import msgspec
import pytest

from tailrace.core.metadata.batches import batch_of, records_of
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.producer_ids import BLOCK_SIZE, PRODUCER_ID_MAX, allocate_block
from tailrace.core.metadata.records import (
    NO_LEADER,
    BrokerChange,
    BrokerRegistered,
    BrokerUnregistered,
    ConfigRecord,
    FeatureLevel,
    Listener,
    PartitionChange,
    PartitionRecord,
    ProducerIdsBlock,
    Record,
    TopicRecord,
    TopicRemoved,
    decode_record,
)

ID = bytes(range(16))


def partition(index: int, **more: Any) -> PartitionRecord:
    """Of broker 0 alone."""
    made = PartitionRecord(
        topic_id=ID, partition=index, replicas=(0,), isr=(0,), leader=0, leader_epoch=0, partition_epoch=0
    )
    return msgspec.structs.replace(made, **more)


RECORDS: list[Record] = [
    BrokerRegistered(broker_id=0, broker_epoch=0, rack="r"),
    FeatureLevel(name="metadata.version", level=1),
    TopicRecord(name="a.b", topic_id=ID),
    ConfigRecord(resource_type=2, name="a.b", key="retention.ms", value="1"),
    partition(0),
    partition(1),
    PartitionChange(topic_id=ID, partition=1, leader_epoch=4),
    BrokerRegistered(
        broker_id=1,
        broker_epoch=7,
        incarnation_id=ID,
        listeners=(Listener(name="PLAINTEXT", host="localhost", port=9092),),
        log_dirs=("d", "e"),
        fenced=True,
    ),
    BrokerChange(broker_id=1, broker_epoch=7, fenced=False, log_dirs=("e",)),
    BrokerChange(broker_id=1, broker_epoch=7, in_controlled_shutdown=True),
    PartitionChange(
        topic_id=ID,
        partition=1,
        leader=NO_LEADER,
        leader_epoch=5,
        replicas=(0, 1),
        adding=(1,),
        removing=(0,),
        directories=("d", "e"),
        lineage=3,
    ),
    BrokerUnregistered(broker_id=1, broker_epoch=7),
    ProducerIdsBlock(next_producer_id=1000),
    TopicRemoved(topic_id=ID),
]


# As programs wrote them before replicas: fewer fields, `directory` as the only log directory.
OLD_RECORDS: list[tuple[list[object], Record]] = [
    ([1, 0, 7, "r"], BrokerRegistered(broker_id=0, broker_epoch=7, rack="r")),
    ([1, 0, 7], BrokerRegistered(broker_id=0, broker_epoch=7)),
    ([3, ID, 0, [0], [0], 0, 2, 3], partition(0, leader_epoch=2, partition_epoch=3)),
    (
        [3, ID, 0, [0], [0], 0, 0, 0, ["d"]],
        partition(0, directories=("d",)),
    ),
    ([4, ID, 0, None, 5], PartitionChange(topic_id=ID, partition=0, leader_epoch=5)),
    (
        [4, ID, 0, None, 5, None, "d"],
        PartitionChange(topic_id=ID, partition=0, leader_epoch=5, directory="d"),
    ),
]


@pytest.mark.parametrize(("written", "record"), OLD_RECORDS)
def test_old_records_are_read_as_they_were_meant(written: list[object], record: Record) -> None:
    assert decode_record(msgspec.msgpack.encode(written)) == record


def test_what_a_newer_program_appended_is_passed_over() -> None:
    written = msgspec.msgpack.encode([8, "metadata.version", 1, "more"])
    assert decode_record(written) == FeatureLevel(name="metadata.version", level=1)


def test_an_old_log_makes_the_image_it_made() -> None:
    image = MetadataImage()
    image.replay([BrokerRegistered(broker_id=0, broker_epoch=7), TopicRecord(name="t", topic_id=ID)], 2)
    image.replay([partition(0), PartitionChange(topic_id=ID, partition=0, directory="d")], 4)
    (found,) = image.topics_by_name["t"].partitions
    assert (found.directory, found.directories, found.adding, found.lineage) == ("d", ("d",), (), -1)
    assert image.is_active(0), "it was never fenced, nor unfenced"
    assert image.serves_from(0, "d"), "it did not say which directories it has"


def test_every_record_survives_its_batch() -> None:
    assert records_of(batch_of(RECORDS, now_ms=1)) == RECORDS


def test_an_image_shows_what_was_replayed() -> None:
    image = MetadataImage()
    image.replay(RECORDS[:7], 8)
    assert image.metadata_offset == 8
    assert image.topics_by_id[ID] is image.topics_by_name["a.b"]
    changed = image.partition(ID, 1)
    assert changed is not None
    assert (changed.leader_epoch, changed.partition_epoch, changed.isr) == (4, 1, (0,))
    assert image.topic_configs("a.b") == {"retention.ms": "1"}
    assert image.partition(ID, 2) is None
    image.replay(RECORDS[7:-1], 14)
    assert image.next_producer_id == 1000
    moved = image.partition(ID, 1)
    assert moved is not None
    assert (moved.leader, moved.leader_epoch, moved.partition_epoch, moved.lineage) == (NO_LEADER, 5, 2, 3)
    assert (moved.replicas, moved.isr, moved.is_reassigned) == ((0, 1), (0,), True)
    assert (moved.directory_of(0), moved.directory_of(1), moved.directory_of(2)) == ("d", "e", "")
    assert list(image.brokers) == [0]


def test_a_broker_is_what_its_changes_made_of_it() -> None:
    image = MetadataImage()
    image.replay(RECORDS[:1], 1)
    image.replay(RECORDS[7:8], 8)
    assert (image.is_active(1), image.is_active(2)) == (False, False)
    image.replay(RECORDS[8:9], 9)
    assert image.is_active(1)
    assert [image.serves_from(1, directory) for directory in ("d", "e", "")] == [False, True, True]
    image.replay(RECORDS[9:10], 10)
    assert not image.is_active(1)
    with pytest.raises(AssertionError):
        image.replay([BrokerChange(broker_id=1, broker_epoch=6, fenced=True)], 11)


@pytest.mark.parametrize(
    "bad", [{"leader": 1}, {"isr": (0, 1)}, {"replicas": (0, 1)}, {"leader": NO_LEADER, "isr": (2,)}]
)
def test_a_change_that_cannot_be_is_never_replayed(bad: dict[str, Any]) -> None:
    image = MetadataImage()
    image.replay(RECORDS[:7], 8)
    with pytest.raises(AssertionError):
        image.replay([PartitionChange(topic_id=ID, partition=0, **bad)], 9)


def test_a_removed_topic_leaves_nothing() -> None:
    image = MetadataImage()
    image.replay(RECORDS, 9)
    assert not image.topics_by_id
    assert not image.topics_by_name
    assert not image.names_by_collision
    assert not image.configs
    assert image.partition_count == 0


def test_leader_epochs_never_go_back() -> None:
    image = MetadataImage()
    image.replay(RECORDS[:-1], 8)
    with pytest.raises(AssertionError):
        image.replay([PartitionChange(topic_id=ID, partition=1, leader_epoch=3)], 9)


def test_a_config_of_none_is_removed() -> None:
    image = MetadataImage()
    image.replay(RECORDS[:-1], 8)
    image.replay([ConfigRecord(resource_type=2, name="a.b", key="retention.ms", value=None)], 9)
    assert image.topic_configs("a.b") == {}


def test_producer_id_blocks_never_overlap_and_end() -> None:
    image = MetadataImage()
    first = allocate_block(image)
    assert first is not None
    image.replay([first[1]], 1)
    second = allocate_block(image)
    assert second is not None
    assert (first[0], second[0]) == (0, BLOCK_SIZE)
    image.replay([ProducerIdsBlock(next_producer_id=PRODUCER_ID_MAX - 5)], 2)
    assert allocate_block(image) is None
