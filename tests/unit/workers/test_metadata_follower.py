"""The follower reads committed batches, over segment borders, and never beyond the commit."""

from pathlib import Path
from random import Random

import pytest

from tailrace.core.metadata.batches import batch_of
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.records import ProducerIdsBlock
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
