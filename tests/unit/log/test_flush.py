"""How far a log is on the disk, as it says itself: never further than what a sync has proved."""

from errno import EIO, ENOSPC
from pathlib import Path

import pytest

from tailrace.core.errors import KafkaError
from tailrace.core.log.directory import RealDirectory, is_full
from tailrace.core.log.flush import SyncFailedError
from tailrace.core.log.log import Log
from tailrace.core.log.log_config import LogConfig
from tailrace.core.log.segment import file_name
from tests.unit.log.logs import NOW, batch, fill, open_log


class Disk(RealDirectory):
    """Writes down what is synced; `broken`: takes nothing any more."""

    __slots__ = ("broken", "synced")

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.synced: list[str] = []
        self.broken = False

    def sync_file(self, name: str) -> None:
        """See RealDirectory."""
        if self.broken:
            raise OSError(EIO, "input/output error")
        super().sync_file(name)
        self.synced.append(name)

    def sync(self) -> None:
        """See RealDirectory."""
        super().sync()
        self.synced.append("")


def log_on(disk: Disk, config: LogConfig | None = None, **options: int) -> Log:
    """A log on this disk."""
    return Log.open(disk, "t-0", config or LogConfig(segment_bytes=64 * 1024), now_ms=NOW, **options)  # type: ignore[arg-type]


def test_rolled_segments_are_synced_without_the_active_one(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    log = log_on(disk)
    fill(log, 3)
    assert log.begin_due_flush(NOW) is None
    log.roll(NOW)
    fill(log, 2, start=3)
    flush = log.begin_due_flush(NOW)
    assert flush is not None
    disk.synced.clear()
    flush.run()
    assert log.recovery_point == 0, "not before the owner has heard of it"
    log.flushed(flush)
    assert log.recovery_point == 3
    assert {file_name(0, suffix) for suffix in (".log", ".index", ".timeindex")} < set(disk.synced)
    assert file_name(3, ".snapshot") in disk.synced, "or producers are read from what is below"
    assert file_name(3, ".log") not in disk.synced
    assert log.begin_due_flush(NOW) is None
    log.close()


def test_what_has_not_changed_is_not_synced_again(tmp_path: Path) -> None:
    """One call to the disk a flush, and all that a roll has changed with the first one after it (R)."""
    disk = Disk(tmp_path)
    log = log_on(disk)
    for _ in range(2):
        fill(log, 2, start=log.log_end_offset)
        log.flush()
        fill(log, 2, start=log.log_end_offset)
        disk.synced.clear()
        log.flush()
        assert disk.synced == [log.segments[-1].log_name]
        fill(log, 1, start=log.log_end_offset)
        under_way = log.begin_flush()
        rolled = log.segments[-1].base_offset
        log.roll(NOW)
        under_way.run()
        log.flushed(under_way)
        disk.synced.clear()
        log.flush()
        rolled_files = {file_name(rolled, suffix) for suffix in (".log", ".index", ".timeindex")}
        snapshot = file_name(log.segments[-1].base_offset, ".snapshot")
        assert rolled_files | {snapshot, log.segments[-1].log_name, ""} <= set(disk.synced)
    log.close()


def test_a_flush_that_a_truncation_overtook_proves_nothing(tmp_path: Path) -> None:
    """(R)"""
    log = open_log(tmp_path)
    fill(log, 6)
    flush = log.begin_flush()
    flush.run()
    log.truncate_to(2, NOW)
    fill(log, 6, start=2)
    log.flushed(flush)
    assert log.recovery_point == 0
    log.close()


def test_a_segment_that_is_rolled_during_a_flush_is_synced_by_the_next(tmp_path: Path) -> None:
    """(R) It was cut after the sync: until then its file is longer than what it holds."""
    disk = Disk(tmp_path)
    log = log_on(disk)
    fill(log, 3)
    flush = log.begin_flush()
    flush.run()
    log.roll(NOW)
    log.flushed(flush)
    assert log.recovery_point == 3
    following = log.begin_due_flush(NOW)
    assert following is not None
    assert file_name(0, ".log") in following.names
    log.close()


def test_after_a_crash_all_that_was_scanned_is_to_be_synced(tmp_path: Path) -> None:
    """(R) Also the segment in whose middle the recovery point is, and the one that ends there."""
    log = open_log(tmp_path)
    for start in (0, 3, 6):
        fill(log, 3, start=start)
        log.roll(NOW)
    log.close(clean=False)
    for recovery_point, first in ((4, 3), (6, 3), (3, 0), (0, 0), (9, 6), (99, 9)):
        log = open_log(tmp_path, recovery_point=recovery_point)
        flush = log.begin_flush()
        assert flush.rolled == [file_name(base, ".log") for base in (0, 3, 6) if base >= first]
        log.close(clean=False)


def test_flush_ms_counts_from_the_last_flush(tmp_path: Path) -> None:
    log = log_on(Disk(tmp_path), LogConfig(flush_ms=1000))
    assert log.begin_due_flush(NOW + 5000) is None, "there is nothing in it"
    fill(log, 2)
    assert log.begin_due_flush(NOW + 5999) is None
    flush = log.begin_due_flush(NOW + 6000)
    assert flush is not None
    assert flush.end_offset == 2
    assert log.begin_due_flush(NOW + 6500) is None
    log.close()


@pytest.mark.parametrize("every", [1, 3])
def test_flush_messages_leaves_no_more_records_unsynced(tmp_path: Path, every: int) -> None:
    disk = Disk(tmp_path)
    log = log_on(disk, LogConfig(segment_bytes=4096, flush_messages=every))
    for number in range(200):  # over several rolls
        log.append_as_leader(batch(f"{number}"), 0, NOW)
        assert log.log_end_offset - log.recovery_point < every
    assert len(log.segments) > 2
    reserved = (tmp_path / log.segments[-1].log_name).stat().st_blocks * 512
    assert reserved <= 4096, "a batch does not reserve a chunk"
    log.close()


def test_flush_messages_holds_when_it_is_set_later(tmp_path: Path) -> None:
    log = log_on(Disk(tmp_path))
    fill(log, 2)
    log.config = LogConfig(segment_bytes=64 * 1024, flush_messages=1)
    fill(log, 1, start=2)
    assert log.recovery_point == 3
    log.close()


def test_a_sync_that_fails_is_told_and_moves_nothing(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    log = log_on(disk, LogConfig(flush_messages=2))
    fill(log, 1)
    disk.broken = True
    with pytest.raises(SyncFailedError):
        fill(log, 1, start=1)
    assert log.recovery_point == 0
    with pytest.raises(KafkaError) as caught:
        log.flush()
    assert isinstance(caught.value.__cause__, SyncFailedError)
    disk.broken = False
    log.close(clean=False)


def test_a_log_whose_directory_vanished_is_not_on_the_disk(tmp_path: Path) -> None:
    """(R) Moved away, or its file system unmounted while it is mapped: no file is found, and none was synced.
    Acknowledgements waited for that.
    """
    log = open_log(tmp_path / "t-0")
    fill(log, 3)
    log.flush()
    fill(log, 2, start=3)
    (tmp_path / "t-0").rename(tmp_path / "away")
    with pytest.raises(SyncFailedError):
        log.begin_flush().run()
    log.close(clean=False)


def test_a_sync_that_fails_for_want_of_room_is_a_failed_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """(R) The kernel calls the pages clean: it must not be tried again as what a full disk refuses is."""
    log = log_on(Disk(tmp_path))
    fill(log, 1)

    def refuse(*_: object) -> None:
        raise OSError(ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(Disk, "sync_file", refuse)
        with pytest.raises(SyncFailedError) as failed:
            log.begin_flush().run()
        with pytest.raises(KafkaError) as caught:
            log.flush()
    assert not is_full(failed.value)
    assert not is_full(caught.value)
    log.close(clean=False)


def test_after_a_failed_sync_every_batch_is_checked_again(tmp_path: Path) -> None:
    """(R) Though the machine is up and the file the same: the page may have been read back from the disk."""
    log = open_log(tmp_path)
    fill(log, 50)
    log.distrust_page_cache()
    log.close(clean=False)
    path = tmp_path / file_name(0, ".log")
    data = bytearray(path.read_bytes())
    data[400] ^= 1  # long before the last index entry
    path.write_bytes(data)
    log = open_log(tmp_path)
    assert log.log_end_offset < 5
    log.close()


def test_what_is_written_down_is_lowered_before_the_cut(tmp_path: Path) -> None:
    """(R) To where the segment begins that is cut: the new end is not known yet."""
    seen: list[tuple[int, int]] = []
    log = open_log(tmp_path)
    for start in (0, 3, 6):
        fill(log, 3, start=start)
        log.roll(NOW)
    log.flush()
    log.on_lowered = lambda offset: seen.append((offset, len(list(tmp_path.glob("*.log")))))
    log.truncate_to(5, NOW)
    assert seen == [(3, 4)]
    assert log.recovery_point == 5, "the cut is on the disk"
    log.truncate_fully_and_start_at(100, NOW)
    assert seen == [(3, 4), (0, 2)]
    fill(log, 3)
    log.truncate_to(102, NOW)
    assert len(seen) == 2, "nothing above was called synced"
    log.close()


def test_a_cut_that_cannot_be_written_down_is_not_made(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 3)
    log.flush()

    def refuse(_: int) -> None:
        raise OSError(EIO, "input/output error")

    log.on_lowered = refuse
    with pytest.raises(KafkaError):
        log.truncate_to(1, NOW)
    log.close(clean=False)
    assert open_log(tmp_path).log_end_offset == 3


def test_a_log_that_nobody_reads_is_cut_in_place(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 5)
    log.close(clean=False)
    path = tmp_path / file_name(0, ".log")
    inode = path.stat().st_ino
    data = bytearray(path.read_bytes())
    data[400] ^= 1
    path.write_bytes(data)
    log = open_log(tmp_path, high_watermark=5, has_readers=False, same_boot=False)
    assert path.stat().st_ino == inode
    assert log.high_watermark == log.log_end_offset < 5
    log.close()
