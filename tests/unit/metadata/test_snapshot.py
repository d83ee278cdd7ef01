"""Snapshots: whole or refused."""

import random
import zlib

import pytest

from tailrace.core.metadata.delta import MetadataDelta, delta_between
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.records import ConfigRecord, FeatureLevel, ProducerIdsBlock, TopicRemoved
from tailrace.core.metadata.snapshot import (
    SnapshotError,
    SnapshotSchedule,
    decode_snapshot,
    encode_snapshot,
    quorum_of,
)
from tailrace.core.raft.messages import OffsetAndEpoch
from tests.unit.metadata.cluster import TOPIC_ID, cluster, replay, topic


def full() -> MetadataImage:
    """One of everything."""
    image = cluster([0, 1], [1, 2], [2, 0])
    replay(image, [ConfigRecord(resource_type=2, name="t", key="retention.ms", value="5")])
    replay(image, [ConfigRecord(resource_type=4, name="", key="log.roll.ms", value="7")])
    replay(image, [FeatureLevel(name="metadata.version", level=3), ProducerIdsBlock(next_producer_id=3000)])
    return image


def written(image: MetadataImage) -> bytes:
    """Its snapshot."""
    return b"".join(encode_snapshot(image, epoch=4, now_ms=99, quorum=b"voters"))


def test_what_is_read_is_what_was_written() -> None:
    image = full()
    snapshot = decode_snapshot(memoryview(written(image)))
    assert snapshot.id == OffsetAndEpoch(image.metadata_offset, 4)
    assert (snapshot.now_ms, snapshot.quorum) == (99, b"voters")
    assert quorum_of(written(image)) == b"voters"
    found = snapshot.image
    assert delta_between(image, found) == MetadataDelta()
    assert (found.features, found.next_producer_id) == (image.features, image.next_producer_id)
    assert found.names_by_collision == image.names_by_collision
    assert (found.partition_count, found.logs_by_directory) == (3, image.logs_by_directory)
    assert found.metadata_offset == image.metadata_offset
    replay(found, [TopicRemoved(topic_id=TOPIC_ID)])
    assert found.partition_count == 0


def test_an_empty_image_has_a_snapshot() -> None:
    assert decode_snapshot(written(MetadataImage())).image.brokers == {}


def test_what_happens_while_it_is_written_is_not_in_it() -> None:
    image = full()
    pieces = encode_snapshot(image, epoch=4, now_ms=99, quorum=b"voters")
    before = written(image)
    begin = next(pieces)
    replay(image, [ConfigRecord(resource_type=2, name="t", key="retention.ms", value="6")])
    replay(image, [TopicRemoved(topic_id=TOPIC_ID)])
    assert begin + b"".join(pieces) == before


def test_many_partitions_take_several_pieces() -> None:
    image = cluster(*[[0, 1, 2]] * 1500)
    assert len(list(encode_snapshot(image, 1, 1))) == 4
    assert decode_snapshot(written(image)).image.partition_count == 1500


def test_any_flipped_bit_and_any_cut_is_noticed() -> None:
    data, chance = written(full()), random.Random(5)
    for size in range(len(data)):
        with pytest.raises(SnapshotError):
            decode_snapshot(data[:size])
    for _ in range(2000):
        damaged = bytearray(data)
        damaged[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        with pytest.raises(SnapshotError):
            decode_snapshot(damaged)
    with pytest.raises(SnapshotError, match="within the piece"):
        decode_snapshot(data + b"\0")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no snapshot"),
        (zlib.compress(b"x"), "no snapshot"),
        (b"TRMETA\0\x02", "layout is version 02"),
        (b"TRMETA\0\x01", "does not begin with a header"),
    ],
)
def test_what_is_none_is_said_to_be_none(data: bytes, words: str) -> None:
    with pytest.raises(SnapshotError, match=words):
        decode_snapshot(data)


def test_pieces_that_are_missing_or_doubled_are_noticed() -> None:
    pieces = list(encode_snapshot(full(), 1, 1))
    magic, header, end = pieces[0], pieces[1], pieces[-1]
    for wrong in ([magic, header, end], [magic, header, *pieces[1:]], [*pieces, end], pieces[:-1]):
        with pytest.raises(SnapshotError):
            decode_snapshot(b"".join(wrong))


def test_one_is_due_after_enough_bytes_or_with_the_first_after_enough_time() -> None:
    schedule = SnapshotSchedule(bytes_max=100, interval_ms=1000, now_ms=0)
    assert not schedule.is_due(99, 999)
    assert schedule.is_due(1, 999)
    schedule.taken(1000)
    assert not schedule.is_due(0, 5000), "nothing is new"
    assert schedule.is_due(1, 5000)
    never = SnapshotSchedule(bytes_max=100, interval_ms=0, now_ms=0)
    assert not never.is_due(1, 10**12)


def test_a_delta_has_the_old_of_what_changed() -> None:
    image, delta = full(), MetadataDelta()
    records = [ConfigRecord(resource_type=2, name="t", key="flush.ms", value="1")]
    delta.note(image, records)
    replay(image, records)
    assert delta == MetadataDelta(configs={(2, "t")})
    delta = MetadataDelta()
    gone = [TopicRemoved(topic_id=TOPIC_ID)]
    delta.note(image, gone)
    replay(image, gone)
    assert delta == MetadataDelta(topics_removed={TOPIC_ID: "t"})
    delta = MetadataDelta()
    again = topic(image, [0])
    delta.note(image, again)
    assert delta == MetadataDelta(topics_added={TOPIC_ID}, partitions={(TOPIC_ID, 0): None})
