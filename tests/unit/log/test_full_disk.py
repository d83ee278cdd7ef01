"""A log whose disk has no room: it is read, refuses appends, and goes on by itself once there is some."""

# pyright: reportPrivateUsage=false

import os
from collections.abc import Iterator
from errno import ENOSPC
from pathlib import Path

import pytest

from tailrace.core.errors import KAFKA_STORAGE_ERROR
from tailrace.core.log import checkpoints
from tailrace.core.log.directory import (
    DERIVED_RESERVE,
    Buffer,
    DiskFullError,
    RealDirectory,
    bytes_lacking,
    reserve_of,
)
from tailrace.core.log.log import Log
from tailrace.core.log.log_config import LogConfig
from tests.unit.log.logs import NOW, SMALL, batch, fill, offsets_on_disk, open_log

MEBIBYTE = 1024 * 1024


class Room:
    """What the file system under the tests says that it has left; each allocation takes of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = self.total = 1 << 40
        self._allocate = os.posix_fallocate
        monkeypatch.setattr(os, "fstatvfs", self._stat)
        monkeypatch.setattr(os, "statvfs", self._stat)
        monkeypatch.setattr(os, "posix_fallocate", self._take)

    def _stat(self, _: object) -> os.statvfs_result:
        return os.statvfs_result((1, 1, self.total, self.free, self.free, 0, 0, 0, 0, 255))

    def _take(self, fd: int, position: int, length: int) -> None:
        held = os.fstat(fd).st_blocks * 512
        self._allocate(fd, position, length)
        taken = os.fstat(fd).st_blocks * 512 - held
        self.free -= taken
        if self.free < 0:
            os.truncate(fd, os.fstat(fd).st_size)
            raise OSError(ENOSPC, "no space")


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Room:
    """A disk with much room, until the test says otherwise."""
    return Room(monkeypatch)


class FullDirectory(RealDirectory):
    """`is_stuffed`: not one more block is to be had, not even for a mark, but what files leave that go."""

    __slots__ = ("_left", "is_stuffed")

    def __init__(self, path: Path, kept_free: int = 0) -> None:
        super().__init__(str(path), kept_free=kept_free)
        self.is_stuffed, self._left = False, 0

    def remove(self, name: str) -> None:
        """See Directory."""
        if name in self.names():
            self._left += os.stat(os.path.join(self.path, name)).st_blocks * 512
        super().remove(name)

    def replace(self, name: str, data: Buffer, *, durable: bool = True) -> None:
        """See Directory."""
        if self.is_stuffed:
            if len(data) > self._left:
                raise OSError(ENOSPC, "no space")
            self._left -= -(-len(data) // 4096) * 4096
        super().replace(name, data, durable=durable)


def open_on(directory: RealDirectory, config: LogConfig = SMALL, **options: int | bool) -> Log:
    """The log in this directory."""
    return Log.open(directory, "t-0", config, now_ms=NOW, **options)  # type: ignore[arg-type]


def offsets_read(log: Log) -> list[int]:
    """The base offsets of all batches in its files."""
    return [
        offset
        for segment in log.segments
        for offset in offsets_on_disk(Path(log.directory.path), segment.base_offset)
    ]


def fill_up(log: Log) -> int:
    """Append until the log refuses: how many batches there are."""
    with pytest.raises(DiskFullError) as refused:
        fill(log, 1_000_000, start=log.log_end_offset)
    assert refused.value.code == KAFKA_STORAGE_ERROR
    return log.log_end_offset


@pytest.mark.parametrize(
    ("mebibytes", "reserve"),
    [(16, 512 * 1024), (64, 2 * MEBIBYTE), (4096, 64 * MEBIBYTE), (1 << 20, 64 * MEBIBYTE)],
)
def test_the_reserve_is_a_share_of_the_file_system(mebibytes: int, reserve: int) -> None:
    found = os.statvfs_result((4096, 4096, mebibytes * 256, 0, 0, 0, 0, 0, 0, 255))
    assert reserve_of(found, DERIVED_RESERVE) == reserve
    assert reserve_of(found, 0) == 0
    assert reserve_of(found, 7) == 7


def test_appends_leave_the_reserve_free_and_go_on_once_there_is_room(tmp_path: Path, room: Room) -> None:
    directory = RealDirectory(str(tmp_path), kept_free=MEBIBYTE)
    log = open_on(directory)
    room.free = MEBIBYTE + 300 * 1024
    for count in (fill_up(log), fill_up(log)):
        assert room.free >= MEBIBYTE
        assert count == log.log_end_offset > 1000
    assert room.free < MEBIBYTE + 16 * 1024, "what is not reserve was used"
    lacking = bytes_lacking(str(tmp_path), 65536, MEBIBYTE)
    assert 65536 - 16 * 1024 < lacking <= 65536
    assert offsets_read(log) == list(range(log.log_end_offset))
    room.free += 200 * 1024
    assert fill_up(log) > count + 500
    log.close()
    log = open_on(directory)
    assert offsets_read(log) == list(range(log.log_end_offset))
    log.close()


def test_a_file_system_that_does_not_tell_its_size_is_not_full(tmp_path: Path, room: Room) -> None:
    directory = RealDirectory(str(tmp_path), kept_free=MEBIBYTE)
    room.total = 0
    log = open_on(directory)
    fill(log, 10)
    log.close()


def test_no_log_is_made_below_the_reserve(tmp_path: Path, room: Room) -> None:
    directory = RealDirectory(str(tmp_path), kept_free=MEBIBYTE)
    room.free = MEBIBYTE + 1000
    with pytest.raises(DiskFullError):
        open_on(directory)
    room.free += MEBIBYTE
    log = open_on(directory)
    fill(log, 1)
    log.close()


@pytest.mark.parametrize("clean", [True, False])
def test_a_log_on_a_disk_without_a_block_is_opened_read_and_closed(
    tmp_path: Path, room: Room, clean: bool
) -> None:
    directory = FullDirectory(tmp_path, kept_free=MEBIBYTE)
    log = open_on(directory)
    fill(log, 2000)
    log.close(clean=clean)
    directory.is_stuffed, room.free = True, 0
    before = len(os.listdir("/proc/self/fd"))
    log = open_on(directory)
    assert offsets_read(log) == list(range(2000))
    end = fill_up(log)
    assert end - 2000 <= 4096 // 150, "the rest of the last page is there"
    log.tick(NOW)
    log.close()
    assert len(os.listdir("/proc/self/fd")) == before
    log = open_on(directory)
    directory.is_stuffed, room.free = False, 1 << 30
    fill(log, 10, start=end)
    log.close()
    log = open_on(directory)
    assert offsets_read(log) == list(range(end + 10))
    log.close()


def test_a_copy_with_holes_is_allocated_before_anything_is_stored_behind_it(tmp_path: Path) -> None:
    """(R) Or a store into a hole would be a SIGBUS when the disk fills up."""
    log = open_log(tmp_path)
    fill(log, 3, size=9000)
    log.close()
    path = tmp_path / f"{0:020d}.log"
    size = path.stat().st_size
    data = path.read_bytes()
    path.unlink()
    with path.open("wb") as file:
        for start in range(0, size, 4096):
            piece = data[start : start + 4096]
            if piece.strip(b"\0"):
                file.seek(start)
                file.write(piece)
        file.truncate(size)
    log = open_log(tmp_path)
    allocated = path.stat().st_blocks * 512
    assert allocated >= log._active.file.reserved > size
    log.close()


def test_a_disk_that_fills_up_keeps_no_snapshot_flush_or_epoch_from_being_tried_again(
    tmp_path: Path, room: Room
) -> None:
    directory = FullDirectory(tmp_path, kept_free=MEBIBYTE)
    log = open_on(directory, LogConfig(segment_bytes=MEBIBYTE, snapshot_interval_bytes=10_000))
    fill(log, 300)
    directory.is_stuffed, room.free, log._snapshot_due = True, 0, 0
    before = list(tmp_path.glob("*.snapshot"))
    log.tick(NOW)
    assert list(tmp_path.glob("*.snapshot")) == before
    for _ in range(2):  # not only the first time
        with pytest.raises(DiskFullError):
            log.append_as_leader(batch("a"), 1, NOW)
    assert log.leader_epochs.latest == 0
    assert checkpoints.read_leader_epochs(directory) == [(0, 0)]
    directory.is_stuffed, room.free = False, 1 << 30
    log.append_as_leader(batch("a"), 1, NOW)
    assert checkpoints.read_leader_epochs(directory) == [(0, 0), (1, 300)]
    log._snapshot_due = 0
    log.tick(NOW)
    assert (tmp_path / f"{301:020d}.snapshot").exists()
    log.close()


def test_a_deletion_uses_the_reserve(tmp_path: Path, room: Room) -> None:
    directory = RealDirectory(str(tmp_path), kept_free=MEBIBYTE)
    log = open_on(directory)
    room.free = MEBIBYTE + 300 * 1024
    end = fill_up(log)
    log.high_watermark = end
    log.delete_records_before(end, NOW)
    assert [path.name for path in tmp_path.glob("*.log")] == [f"{end:020d}.log"]
    with pytest.raises(DiskFullError):
        log.append_as_leader(batch("a"), 0, NOW)
    room.free += MEBIBYTE
    log.append_as_leader(batch("a"), 0, NOW)
    assert offsets_read(log) == [end]
    log.close()


@pytest.fixture(autouse=True)
def no_descriptor_is_left() -> Iterator[None]:
    """Opens are tried again every second while a disk is full."""
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before
