"""The follower reads committed batches, over segment borders, and never beyond the commit."""

import time
from pathlib import Path
from random import Random

import pytest

from tailrace.core.metadata.batches import batch_of
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.records import PartitionRecord, ProducerIdsBlock, Record, TopicRecord
from tailrace.core.metadata.snapshot import encode_snapshot
from tailrace.core.raft.messages import OffsetAndEpoch
from tailrace.core.raft.snapshot import snapshot_name
from tailrace.core.records.batch import stamp
from tailrace.workers.data_dir import METADATA_LOG
from tailrace.workers.metadata_follower import MetadataReader


def batch(offset: int, *, size: int = 1) -> bytes:
    """A batch whose records say the offset after each."""
    made = bytearray(batch_of([ProducerIdsBlock(next_producer_id=offset + i + 1) for i in range(size)], 1))
    stamp(made, offset, 0)
    return bytes(made)


def write(path: Path, base: int, *batches: bytes, zeros: int = 0) -> None:
    directory = path / METADATA_LOG
    directory.mkdir(exist_ok=True)
    (directory / f"{base:020d}.log").write_bytes(b"".join(batches) + bytes(zeros))


def take_snapshot(path: Path, end: int) -> None:
    """What batches below `end` come to."""
    image = MetadataImage()
    image.replay([ProducerIdsBlock(next_producer_id=end)], end)
    data = b"".join(encode_snapshot(image, 0, 1))
    (path / METADATA_LOG).mkdir(exist_ok=True)
    (path / METADATA_LOG / snapshot_name(OffsetAndEpoch(end, 0))).write_bytes(data)


def segment(path: Path, base: int) -> Path:
    """The file of one."""
    return path / METADATA_LOG / f"{base:020d}.log"


def test_what_a_snapshot_has_is_not_replayed(tmp_path: Path) -> None:
    write(tmp_path, 2, batch(2), batch(3, size=2), batch(5), zeros=500)  # what is below 2 is gone
    take_snapshot(tmp_path, 3)
    take_snapshot(tmp_path, 5)
    image, reader = MetadataImage(), MetadataReader(str(tmp_path))
    assert reader.advance(image, 6) == len(batch(5))
    assert image.metadata_offset == image.next_producer_id == 6


def test_a_snapshot_may_be_ahead_of_what_is_asked_for(tmp_path: Path) -> None:
    """The row says less than is committed, for a moment."""
    take_snapshot(tmp_path, 9)
    image, reader = MetadataImage(), MetadataReader(str(tmp_path))
    reader.advance(image, 4)
    assert image.metadata_offset == 9
    write(tmp_path, 9, batch(9))
    reader.advance(image, 10)
    assert image.next_producer_id == 10


def test_a_reader_that_is_behind_goes_on_with_the_snapshot(tmp_path: Path) -> None:
    """(R) What it lacks is not in the log any more: whoever has the image has another, in the same place."""
    write(tmp_path, 0, batch(0), batch(1))
    image, reader = MetadataImage(), MetadataReader(str(tmp_path))
    reader.advance(image, 2)
    version = image.version
    segment(tmp_path, 0).unlink()
    take_snapshot(tmp_path, 40)
    write(tmp_path, 40, batch(40), zeros=500)
    reader.advance(image, 41)
    assert image.metadata_offset == image.next_producer_id == 41
    assert image.version > version
    write(tmp_path, 40, batch(40), batch(41))
    reader.advance(image, 42)
    assert image.next_producer_id == 42


def test_one_that_ends_where_the_log_was_cut_needs_no_snapshot(tmp_path: Path) -> None:
    write(tmp_path, 0, batch(0), batch(1))
    image, reader = MetadataImage(), MetadataReader(str(tmp_path))
    reader.advance(image, 2)
    segment(tmp_path, 0).unlink()
    write(tmp_path, 2, batch(2))
    reader.advance(image, 3)
    assert image.next_producer_id == 3


@pytest.mark.parametrize("size", [0, 20, -1])
def test_a_damaged_snapshot_is_an_error_and_not_half_an_image(tmp_path: Path, size: int) -> None:
    take_snapshot(tmp_path, 9)
    path = tmp_path / METADATA_LOG / snapshot_name(OffsetAndEpoch(9, 0))
    path.write_bytes(path.read_bytes()[:size])
    image = MetadataImage()
    with pytest.raises(OSError, match="checkpoint"):
        MetadataReader(str(tmp_path)).advance(image, 9)
    assert image.metadata_offset == 0


def test_ten_thousand_partitions_are_loaded(tmp_path: Path) -> None:
    """Two seconds is the promise; the time is printed."""
    made, topic_ids = MetadataImage(), [bytes(14) + number.to_bytes(2, "big") for number in range(1, 101)]
    records: list[Record] = []
    for number, topic_id in enumerate(topic_ids):
        records.append(TopicRecord(name=f"topic-{number}", topic_id=topic_id))
        records += [
            PartitionRecord(
                topic_id=topic_id, partition=partition, replicas=(1, 2, 3), isr=(1, 2, 3), leader=1,
                leader_epoch=5, partition_epoch=9, directories=("a" * 22, "b" * 22, "c" * 22),
            )
            for partition in range(100)
        ]  # fmt: skip
    made.replay(records, 10_100)
    (tmp_path / METADATA_LOG).mkdir()
    data = b"".join(encode_snapshot(made, 1, 1))
    (tmp_path / METADATA_LOG / snapshot_name(OffsetAndEpoch(10_100, 1))).write_bytes(data)
    image, begun = MetadataImage(), time.perf_counter()
    MetadataReader(str(tmp_path)).advance(image, 10_100)
    print(f"10,000 partitions, {len(data):,} bytes: {time.perf_counter() - begun:.3f} s")
    assert image.partition_count == 10_000


def test_segments_are_read_one_after_the_other_up_to_the_commit(tmp_path: Path) -> None:
    write(tmp_path, 0, batch(0), batch(1, size=3))
    write(tmp_path, 4, batch(4), batch(5), zeros=5000)
    image, reader = MetadataImage(), MetadataReader(str(tmp_path))
    for end in (1, 4, 5):
        reader.advance(image, end)
        assert image.metadata_offset == image.next_producer_id == end
    write(tmp_path, 4, batch(4), batch(5), batch(6), zeros=5000)
    reader.advance(image, 7)
    assert image.next_producer_id == 7


def test_a_batch_larger_than_a_chunk_is_read_whole(tmp_path: Path) -> None:
    write(tmp_path, 0, batch(0, size=40_000), batch(40_000), zeros=100)
    image = MetadataImage()
    MetadataReader(str(tmp_path)).advance(image, 40_001)
    assert image.next_producer_id == 40_001


def test_a_missing_segment_is_an_error_and_no_endless_loop(tmp_path: Path) -> None:
    write(tmp_path, 0, batch(0))
    with pytest.raises(FileNotFoundError):
        MetadataReader(str(tmp_path)).advance(MetadataImage(), 5)


def test_a_segment_that_ends_too_early_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, 0, zeros=5000)
    with pytest.raises(FileNotFoundError):
        MetadataReader(str(tmp_path)).advance(MetadataImage(), 5)


def test_a_flipped_bit_is_an_error_and_never_replayed(tmp_path: Path) -> None:
    """(R) After a clean stop nobody has looked at the batches; no size leads out of the file for ever."""
    sound = b"".join(batch(offset) for offset in range(3))
    random, damaged = Random(1), 0
    for _ in range(300):
        flipped = bytearray(sound)
        place = random.randrange(len(flipped))
        flipped[place] ^= 1 << random.randrange(8)
        write(tmp_path, 0, bytes(flipped), zeros=500)
        image = MetadataImage()
        try:
            MetadataReader(str(tmp_path)).advance(image, 3)
        except OSError:
            damaged += 1
        assert image.next_producer_id == image.metadata_offset
    assert damaged > 250  # the others hit a leader epoch, which nothing depends on
