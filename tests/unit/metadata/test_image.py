"""The image is the sum of its records, and records survive being written."""

import pytest

from tailrace.core.metadata.batches import batch_of, records_of
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.producer_ids import BLOCK_SIZE, PRODUCER_ID_MAX, allocate_block
from tailrace.core.metadata.records import (
    BrokerRegistered,
    ConfigRecord,
    FeatureLevel,
    PartitionChange,
    PartitionRecord,
    ProducerIdsBlock,
    Record,
    TopicRecord,
    TopicRemoved,
)

ID = bytes(range(16))


def partition(index: int) -> PartitionRecord:
    return PartitionRecord(
        topic_id=ID, partition=index, replicas=(0,), isr=(0,), leader=0, leader_epoch=0, partition_epoch=0
    )


RECORDS: list[Record] = [
    BrokerRegistered(broker_id=0, broker_epoch=0, rack="r"),
    FeatureLevel(name="metadata.version", level=1),
    TopicRecord(name="a.b", topic_id=ID),
    ConfigRecord(resource_type=2, name="a.b", key="retention.ms", value="1"),
    partition(0),
    partition(1),
    PartitionChange(topic_id=ID, partition=1, leader_epoch=4),
    ProducerIdsBlock(next_producer_id=1000),
    TopicRemoved(topic_id=ID),
]


def test_every_record_survives_its_batch() -> None:
    assert records_of(batch_of(RECORDS, now_ms=1)) == RECORDS


def test_an_image_shows_what_was_replayed() -> None:
    image = MetadataImage()
    image.replay(RECORDS[:-1], 8)
    assert image.metadata_offset == 8
    assert image.topics_by_id[ID] is image.topics_by_name["a.b"]
    changed = image.partition(ID, 1)
    assert changed is not None
    assert (changed.leader_epoch, changed.partition_epoch, changed.isr) == (4, 1, (0,))
    assert image.topic_configs("a.b") == {"retention.ms": "1"}
    assert image.partition(ID, 2) is None
    assert image.next_producer_id == 1000


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
