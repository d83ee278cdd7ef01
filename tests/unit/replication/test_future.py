"""The log of a replica that moves to another directory: whatever the source does meanwhile, it becomes the
same.
"""

import os
import random
from pathlib import Path

import pytest
from msgspec.structs import replace

from tailrace.core.errors import KAFKA_STORAGE_ERROR, KafkaError
from tailrace.core.log.directory import DiskFullError
from tailrace.core.log.log import Log
from tailrace.core.log.segment import file_name
from tailrace.core.replication.future import FutureReplica
from tests.unit.log.logs import NOW, SMALL, batch, open_log

BIG = replace(SMALL, segment_bytes=4 << 20)


class Move:
    """From `path`/a to `path`/b."""

    def __init__(self, path: Path, **config: int) -> None:
        self.path = path
        self.source = open_log(path / "a", replace(BIG, **config))
        self.number = 0

    def begin(self) -> FutureReplica:
        first = self.source.segments[0].base_offset
        log = open_log(self.path / "b", log_start_offset=first)
        self.future = FutureReplica(self.source, log)
        return self.future

    def append(self, count: int = 1, size: int = 100) -> None:
        for _ in range(count):
            self.number += 1
            self.source.append_as_leader(batch(f"{self.number}".ljust(size, ".")), 1, NOW)

    def read(self, segment: int, position: int, length: int) -> bytes:
        descriptor = os.open(self.path / "a" / file_name(segment, ".log"), os.O_RDONLY)
        try:
            return os.pread(descriptor, length, position)
        finally:
            os.close(descriptor)

    def complete(self) -> Log:
        """The copy, opened by who takes it over."""
        source = self.source
        source.high_watermark = source.log_end_offset
        assert self.future.complete(self.read, NOW)
        found = open_log(self.path / "b", log_start_offset=source.log_start_offset)
        assert found.log_end_offset == source.log_end_offset
        assert found.log_start_offset == source.log_start_offset
        assert content(found, self.path / "b") == content(source, self.path / "a")
        return found


def content(log: Log, path: Path) -> bytes:
    """All batches, one after the other, above the log's start."""
    found: list[bytes] = []
    for segment in log.segments:
        data = (path / file_name(segment.base_offset, ".log")).read_bytes()[: segment.size]
        at = 0
        while at < len(data):
            size = int.from_bytes(data[at + 8 : at + 12], "big") + 12
            if int.from_bytes(data[at : at + 8], "big") >= log.log_start_offset:
                found.append(data[at : at + size])
            at += size
    return b"".join(found)


def test_it_is_copied_in_pieces_while_the_source_grows(tmp_path: Path) -> None:
    move = Move(tmp_path, segment_bytes=4096)
    move.append(200)
    future = move.begin()
    assert future.lag == 200
    while future.lag:
        assert future.copy(move.read, 500, NOW)
        if move.number < 260:
            move.append()
    assert future.copy(move.read, 500, NOW) == 0
    move.append(3)
    move.complete()


def test_a_batch_larger_than_what_is_read_at_once(tmp_path: Path) -> None:
    move = Move(tmp_path)
    move.append()
    move.append(size=900_000)
    move.append()
    move.begin()
    move.complete()


@pytest.mark.parametrize("seed", range(20))
def test_a_source_that_is_cut_deleted_from_and_rolled(tmp_path: Path, seed: int) -> None:
    """(R) Nothing that was cut is in the copy."""
    chance = random.Random(seed)
    move = Move(tmp_path, segment_bytes=2048)
    source = move.source
    move.append(50)
    future = move.begin()
    for _ in range(30):
        what = chance.randrange(6)
        if what == 0:
            source.truncate_to(chance.randint(source.log_start_offset, source.log_end_offset), NOW)
        elif what == 1:
            source.high_watermark = source.log_end_offset
            source.delete_records_before(chance.randint(source.log_start_offset, source.high_watermark), NOW)
        elif what == 2:
            source.roll(NOW)
        elif what == 3 and not chance.randrange(4):
            source.truncate_fully_and_start_at(source.log_end_offset + 5, NOW)
        else:
            move.append(chance.randrange(1, 20))
        future.copy(move.read, chance.randrange(1, 3000), NOW)
    move.complete()


def test_producers_whose_batches_are_deleted_are_known(tmp_path: Path) -> None:
    move = Move(tmp_path)
    source = move.source
    source.append_as_leader(batch("x", producer=7, sequence=0), 1, NOW)
    move.append(2)
    source.high_watermark = 3
    source.delete_records_before(3, NOW)
    move.begin()
    found = move.complete()
    assert set(found.producers.producers) == {7}


def test_a_disk_that_is_full_in_the_middle_of_a_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """(R) What was taken of the piece is not read again."""
    move = Move(tmp_path)
    move.append(100)
    future = move.begin()
    room, append = [7], future.log.append_as_follower

    def short_of_room(source: memoryview, now_ms: int, *, allow_gap: bool) -> None:
        if not room[0]:
            raise DiskFullError(KAFKA_STORAGE_ERROR, "full")
        room[0] -= 1
        append(source, now_ms, allow_gap=allow_gap)

    monkeypatch.setattr(future.log, "append_as_follower", short_of_room)
    for number in range(1, 4):
        with pytest.raises(DiskFullError):
            future.copy(move.read, 1 << 20, NOW)
        assert future.log.log_end_offset == 7 * number
        room[0] = 7
    room[0] = 100
    future.copy(move.read, 1 << 20, NOW)
    move.complete()
    assert future.copied_bytes == sum(segment.size for segment in move.source.segments)


def test_what_begins_anew_counts_anew(tmp_path: Path) -> None:
    move = Move(tmp_path)
    move.append(100)
    future = move.begin()
    assert future.copy(move.read, 1 << 20, NOW)
    move.source.truncate_to(10, NOW)
    assert future.copy(move.read, 1 << 20, NOW)
    assert future.copied_bytes == sum(segment.size for segment in move.source.segments)


@pytest.mark.parametrize("length", [0x7FFFFFFF, 5000, 10, -1])
def test_a_source_that_is_damaged_is_not_copied_for_ever(tmp_path: Path, length: int) -> None:
    """A batch is as long as it cannot be: the move ends, and says so."""
    move = Move(tmp_path, segment_bytes=4096)
    move.append(100)
    future = move.begin()
    damaged = tmp_path / "a" / file_name(move.source.segments[1].base_offset, ".log")
    with damaged.open("r+b") as file:
        file.seek(8)
        file.write(length.to_bytes(4, "big", signed=True))
    with pytest.raises(KafkaError, match="no batch at 0 of segment"):
        future.copy(move.read, 1 << 20, NOW)
