"""A truncation takes back batches, producers and epochs for good, and never under a reader's feet."""

from pathlib import Path

import pytest

from tests.unit.log.logs import NOW, batch, fill, log_bytes, open_log


@pytest.mark.parametrize("offset", [0, 1, 7, 155, 156, 400, 998])
@pytest.mark.parametrize("high_watermark", [0, 1000])
def test_a_truncated_log_equals_one_that_never_had_more(
    tmp_path: Path, offset: int, high_watermark: int
) -> None:
    long, short = open_log(tmp_path / "a"), open_log(tmp_path / "b")
    fill(long, 1000)
    fill(short, offset)
    long.high_watermark = high_watermark
    long.truncate_to(offset, NOW)
    assert (long.log_end_offset, long.high_watermark) == (offset, min(offset, high_watermark))
    assert long.max_timestamp() == short.max_timestamp()
    fill(long, 200, start=offset)
    fill(short, 200, start=offset)
    assert [s.size for s in long.segments if s.size] == [s.size for s in short.segments if s.size]
    for log in (long, short):
        log.close()
    for path in (tmp_path / "b").glob("*[gx]"):  # .log, .index, .timeindex
        assert (tmp_path / "a" / path.name).read_bytes() == path.read_bytes(), path.name
    assert len(list((tmp_path / "a").glob("*.log"))) == len(list((tmp_path / "b").glob("*.log")))


def test_what_is_beyond_the_new_end_is_zero_and_does_not_come_back(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 20)
    log.truncate_to(10, NOW)
    assert not any(log_bytes(tmp_path)[log.active_position :])
    fill(log, 1, start=10)
    log.close(clean=False)
    log = open_log(tmp_path, same_boot=False)
    assert log.log_end_offset == 11
    log.close()


@pytest.mark.parametrize(("high_watermark", "is_new"), [(10, False), (11, True)])
def test_only_a_cut_below_the_high_watermark_writes_a_new_inode(
    tmp_path: Path, high_watermark: int, is_new: bool
) -> None:
    log = open_log(tmp_path)
    fill(log, 20)
    log.high_watermark = high_watermark
    path, end = tmp_path / f"{0:020d}.log", log.active_position
    before, generation = path.stat().st_ino, log.segment_generation
    with path.open("rb") as sending:
        old = sending.read(end)
        log.truncate_to(10, NOW)
        sending.seek(0)
        assert (path.stat().st_ino != before) == is_new
        assert not is_new or sending.read(end) == old
    assert log.segment_generation > generation
    log.close()


def test_a_batch_that_only_begins_below_the_offset_goes_too(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for _ in range(3):
        log.append_as_leader(batch("abc", records=4), 0, NOW)
    log.truncate_to(6, NOW)
    assert log.log_end_offset == 4
    log.close()


def test_producers_snapshots_and_epochs_follow(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for sequence in range(6):
        log.append_as_leader(batch("p", producer=9, sequence=sequence), sequence // 2, NOW)
        log.roll(NOW)
    log.flush()
    assert log.recovery_point == 6
    log.truncate_to(3, NOW)
    assert (log.leader_epochs.entries, log.recovery_point) == ([(0, 0), (1, 2)], 3)
    assert all(int(path.stem) <= 3 for path in tmp_path.glob("*.snapshot"))
    assert log.append_as_leader(batch("p", producer=9, sequence=2), 1, NOW).duplicate
    assert log.append_as_leader(batch("p", producer=9, sequence=3), 1, NOW).base_offset == 3
    log.close(clean=False)
    log = open_log(tmp_path, same_boot=False)
    assert (log.log_end_offset, log.leader_epochs.entries) == (4, [(0, 0), (1, 2)])
    log.close()


def test_a_log_that_starts_over_is_empty_at_the_offset(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 1000)
    log.truncate_fully_and_start_at(5000, NOW)
    assert (log.log_start_offset, log.log_end_offset, log.high_watermark) == (5000, 5000, 5000)
    fill(log, 3)
    log.truncate_to(4000, NOW)
    assert (log.log_start_offset, log.log_end_offset) == (4000, 4000)
    fill(log, 2)
    log.close()
    assert [path.name for path in tmp_path.glob("*.log")] == [f"{4000:020d}.log"]


def test_a_segment_that_is_appended_to_again_is_not_one_that_was_rolled(tmp_path: Path) -> None:
    """(R) Or a sync before its next roll counts as one after it, and nobody syncs how long it is."""
    log = open_log(tmp_path)
    fill(log, 10)
    log.roll(NOW)
    fill(log, 1, start=10)
    log.truncate_to(5, NOW)
    flush = log.begin_flush()
    assert flush.rolled == []
    log.roll(NOW)
    flush.run()
    log.flushed(flush)
    assert log.begin_flush().rolled == [f"{0:020d}.log"]
    log.close()
