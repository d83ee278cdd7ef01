"""The rules of an append that lose data when broken: the source may be a client's memory, what is refused
leaves nothing, and a batch is there only when it is whole, accepted and stamped.
"""

from collections.abc import Callable
from errno import ENOSPC
from pathlib import Path

import pytest

from tailrace.core import errors
from tailrace.core.errors import KafkaError
from tailrace.core.log.directory import Buffer, MappedFile, RealDirectory, RealMappedFile
from tailrace.core.log.log import Log
from tailrace.core.log.log_config import LogConfig
from tailrace.core.log.segment import SECTOR
from tailrace.core.records.batch import ATTRIBUTES_AT, LENGTH_PREFIX, PREFIX, UNCHECKED
from tests.unit.log.logs import NOW, SMALL, batch, fill, log_bytes, offsets_on_disk, open_log


class WatchedFile(RealMappedFile):
    """A mapped file that calls before and after each store."""

    __slots__ = ("after", "before")

    def __init__(self, path: str, name: str, size: int) -> None:
        super().__init__(path, name, size)
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[int], None] = lambda _: None

    def store(self, position: int, data: Buffer) -> None:
        """As a file does."""
        self.before()
        super().store(position, data)
        self.after(position)


class WatchedDirectory(RealDirectory):
    """A directory whose .log files are watched; `log_file` is the last one opened. It may be full."""

    __slots__ = ("is_full", "log_file")

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.is_full = False

    def open_mapped(self, name: str, size: int) -> MappedFile:
        """As a directory does."""
        if self.is_full:
            raise OSError(ENOSPC, "no space")
        if not name.endswith(".log"):
            return super().open_mapped(name, size)
        self.log_file = WatchedFile(self.path, name, size)
        return self.log_file


def watched_log(path: Path) -> tuple[Log, WatchedFile]:
    """A log with three batches in it."""
    directory = WatchedDirectory(str(path))
    log = Log.open(directory, "t-0", SMALL, now_ms=NOW)
    fill(log, 3)
    return log, directory.log_file


# Of a batch: the length, the magic byte, the checksum, the attributes, the last offset delta, the producer
# id, the sequence, the count of records, a record.
PLACES = [11, 16, 17, 22, 26, 50, 56, 60, -1]


@pytest.mark.parametrize("place", PLACES)
def test_a_source_that_changes_after_the_copy_changes_nothing(tmp_path: Path, place: int) -> None:
    """(R) All that is looked at after the copy is the copy."""
    log, file = watched_log(tmp_path)
    sent = bytearray(batch("steady", producer=1, sequence=0))
    expected, end = bytes(sent[LENGTH_PREFIX:]), log.active_position

    def change(_position: int) -> None:
        sent[place] ^= 1
        file.after = lambda _: None

    file.after = change
    assert log.append_as_leader(memoryview(sent), 0, NOW).base_offset == 3
    stored = log_bytes(tmp_path)[end : log.active_position]
    assert PREFIX.unpack(stored[:LENGTH_PREFIX]) == (3, len(sent) - LENGTH_PREFIX)
    assert stored[LENGTH_PREFIX + 4 :] == expected[4:]  # but for the leader epoch
    log.close(clean=False)
    assert offsets_on_disk(tmp_path) == [0, 1, 2, 3]


@pytest.mark.parametrize("place", [place for place in PLACES if place == -1 or place >= ATTRIBUTES_AT])
@pytest.mark.parametrize("only_meanwhile", [False, True])
def test_a_source_that_changes_before_the_copy_is_done_is_refused(
    tmp_path: Path, place: int, only_meanwhile: bool
) -> None:
    """(R) The copy is checked, whatever the source was before it or is after it."""
    log, file = watched_log(tmp_path)
    sent = bytearray(batch("moving", producer=1, sequence=0))
    end = log.active_position

    def change() -> None:
        sent[place] ^= 1
        file.before = lambda: None

    def change_back(_position: int) -> None:
        sent[place] ^= 1
        file.after = lambda _: None

    file.before = change
    if only_meanwhile:
        file.after = change_back
    with pytest.raises(KafkaError) as caught:
        log.append_as_leader(memoryview(sent), 0, NOW)
    assert caught.value.code in (errors.CORRUPT_MESSAGE, errors.INVALID_RECORD)
    assert not any(log_bytes(tmp_path)[end:])
    log.close(clean=False)


def corrupted(sent: bytes) -> bytes:
    """Its last byte is another."""
    return sent[:-1] + bytes([sent[-1] ^ 1])


LONG = "x" * 3000
REFUSED = {
    "crc": (corrupted(batch(LONG)), 5, errors.CORRUPT_MESSAGE),
    "producer epoch": (batch(LONG, producer=9, sequence=1, epoch=1), 5, errors.INVALID_PRODUCER_EPOCH),
    "sequence": (batch(LONG, producer=9, sequence=5, epoch=2), 5, errors.OUT_OF_ORDER_SEQUENCE_NUMBER),
    "no sequence": (batch(LONG, producer=9, sequence=-1, epoch=2), 5, errors.INVALID_RECORD),
    "leader epoch": (batch(LONG), 4, errors.NOT_LEADER_OR_FOLLOWER),
    "timestamp": (batch(LONG, timestamp=NOW + 10**9), 5, errors.INVALID_TIMESTAMP),
    "duplicate": (batch(LONG, producer=9, sequence=0, epoch=2), 5, errors.NONE),
}


@pytest.mark.parametrize("refusal", REFUSED)
def test_whatever_is_not_appended_leaves_zeros(tmp_path: Path, refusal: str) -> None:
    """(R) Also what is refused, or known already, only after its bytes were found sound."""
    log = open_log(tmp_path)
    log.append_as_leader(batch("first", producer=9, sequence=0, epoch=2), 5, NOW)
    end = log.active_position
    sent, leader_epoch, code = REFUSED[refusal]
    if code:
        with pytest.raises(KafkaError) as caught:
            log.append_as_leader(sent, leader_epoch, NOW)
        assert caught.value.code == code
    else:
        assert log.append_as_leader(sent, leader_epoch, NOW).duplicate
    assert not any(log_bytes(tmp_path)[end:])
    assert log.log_end_offset == 1
    log.append_as_leader(batch("next"), 5, NOW)
    log.close(clean=False)
    assert offsets_on_disk(tmp_path) == [0, 1]


def test_a_batch_that_waits_for_a_roll_that_fails_leaves_zeros(tmp_path: Path) -> None:
    """(R) The log goes on in the old segment, behind what was copied there already."""
    directory = WatchedDirectory(str(tmp_path))
    config = LogConfig(
        segment_bytes=64 * 1024, index_interval_bytes=256, segment_index_bytes=4096, segment_ms=1000
    )
    log = Log.open(directory, "t-0", config, now_ms=NOW)
    log.append_as_leader(batch("first"), 0, NOW)
    end = log.active_position
    directory.is_full = True
    with pytest.raises(KafkaError):
        log.append_as_leader(batch("much later", timestamp=NOW + 5000), 0, NOW)
    assert not any(log_bytes(tmp_path)[end:])
    directory.is_full = False
    assert log.append_as_leader(batch("much later", timestamp=NOW + 5000), 0, NOW).base_offset == 1
    assert [segment.base_offset for segment in log.segments] == [0, 1]
    log.close()


def test_a_batch_inside_a_refused_one_does_not_come_true(tmp_path: Path) -> None:
    """(R) Its bytes may be chosen so that one begins right where the next accepted batch ends."""
    log = open_log(tmp_path)
    small = batch("small")
    inner = bytearray(batch("never sent"))
    inner[:LENGTH_PREFIX] = PREFIX.pack(1, len(inner) - LENGTH_PREFIX)
    outer = bytearray(batch("y" * 1000))
    outer[len(small) : len(small) + len(inner)] = inner
    with pytest.raises(KafkaError):
        log.append_as_leader(outer, 0, NOW)
    log.append_as_leader(small, 0, NOW)
    log.close(clean=False)
    log = open_log(tmp_path, same_boot=False)
    assert log.log_end_offset == 1
    log.close()


@pytest.mark.parametrize("place", [11, 16, 17])
def test_what_is_read_before_the_copy_is_read_once(tmp_path: Path, place: int) -> None:
    """(R) Length, magic and CRC are stored as they were checked."""
    log, file = watched_log(tmp_path)
    sent = bytearray(batch("moving"))
    expected, end = bytes(sent[LENGTH_PREFIX + 4 :]), log.active_position

    def change() -> None:
        sent[place] ^= 1
        file.before = lambda: None

    file.before = change
    log.append_as_leader(memoryview(sent), 0, NOW)
    assert log_bytes(tmp_path)[end + LENGTH_PREFIX + 4 : log.active_position] == expected
    log.close(clean=False)
    assert offsets_on_disk(tmp_path) == [0, 1, 2, 3]


def test_the_length_is_stored_last(tmp_path: Path) -> None:
    """(R) Before the last store of an append no reader of the file finds a batch there, and a crash leaves
    none, wherever the edge of a sector is; where that is within the first 21 bytes, all behind the length is
    there before it.
    """
    log, file = watched_log(tmp_path)
    edges = set[bool]()
    for number in range(60):
        end = log.active_position
        seen: list[tuple[int, bytes]] = []

        def look(position: int, end: int = end, seen: list[tuple[int, bytes]] = seen) -> None:
            seen.append((position, log_bytes(tmp_path)[end : end + ATTRIBUTES_AT]))

        file.after = look
        log.append_as_leader(batch(f"whole {number}"), 7, NOW)
        assert len(seen) > 1
        assert not any(prefix[:LENGTH_PREFIX].strip(b"\0") for _, prefix in seen[:-1])
        assert (seen[-1][0], UNCHECKED.unpack(seen[-1][1])[0]) == (end, log.log_end_offset - 1)
        edge = end // SECTOR != (end + ATTRIBUTES_AT - 1) // SECTOR
        assert (seen[-2][1][LENGTH_PREFIX:] == seen[-1][1][LENGTH_PREFIX:]) == edge
        edges.add(edge)
    assert edges == {False, True}
    log.close()


def test_a_smaller_segment_size_does_not_cut_what_is_there(tmp_path: Path) -> None:
    """(R) An inode is shrunk only to its end."""
    log = open_log(tmp_path)
    fill(log, 100)
    end = log.active_position
    log.close(clean=False)
    small = LogConfig(segment_bytes=end // 2, index_interval_bytes=256, segment_index_bytes=4096)
    log = open_log(tmp_path, small)
    assert log.log_end_offset == 100
    fill(log, 50, start=100)
    assert [segment.base_offset for segment in log.segments][:2] == [0, 100]
    log.close()
    assert offsets_on_disk(tmp_path) == list(range(100))
    assert len(log_bytes(tmp_path)) == end


def test_a_high_watermark_above_the_end_is_not_believed(tmp_path: Path) -> None:
    """(R) A leader goes on from that of its dead predecessor, at most from its own end."""
    log = open_log(tmp_path)
    fill(log, 10)
    log.close(clean=False)
    log = open_log(tmp_path, high_watermark=7)
    assert log.high_watermark == 7
    log.close(clean=False)
    log = open_log(tmp_path, high_watermark=11)
    assert log.high_watermark == log.log_end_offset == 10
    log.close()
