"""Records deleted from the start of a log: what is left, what readers find, what the epochs say."""

from errno import ENOSPC
from pathlib import Path

import pytest

from tailrace.core.errors import KAFKA_STORAGE_ERROR, KafkaError
from tailrace.core.log.log import Log
from tailrace.core.log.segment import offset_of
from tests.unit.log.logs import NOW, SMALL, batch, fill, open_log


def of_segments(path: Path, count: int) -> Log:
    """A log with so many segments, all of it committed."""
    log = open_log(path)
    while len(log.segments) < count:
        fill(log, 50, start=log.log_end_offset)
    log.high_watermark = log.log_end_offset
    return log


def test_segments_below_the_start_go_with_all_their_files(tmp_path: Path) -> None:
    log = of_segments(tmp_path, 4)
    third, generation = log.segments[2].base_offset, log.segment_generation
    log.delete_records_before(third - 1, NOW)
    assert [s.base_offset for s in log.segments][1] == third, "the one around the start stays"
    log.delete_records_before(third, NOW)
    suffixes = (".log", ".index", ".timeindex", ".snapshot")
    names = [path.name for path in tmp_path.iterdir() if path.suffix in suffixes]
    assert min(offset_of(name, Path(name).suffix) or 0 for name in names) == third
    assert log.segment_generation > generation
    assert log.log_start_offset == third
    log.close()
    log = open_log(tmp_path, log_start_offset=third)
    assert (log.log_start_offset, len(log.segments)) == (third, 2)
    log.close()


def test_a_log_deleted_up_to_its_end_holds_nothing_and_goes_on(tmp_path: Path) -> None:
    log = of_segments(tmp_path, 2)
    end = log.log_end_offset
    for _ in range(2):
        log.delete_records_before(end, NOW)
        assert [(s.base_offset, s.size) for s in log.segments] == [(end, 0)]
    assert (log.log_start_offset, log.log_end_offset) == (end, end)
    assert log.append_as_leader(batch("next"), 0, NOW).base_offset == end
    log.close()


def test_a_start_below_the_start_changes_nothing(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 9)
    log.high_watermark = 9
    moves: list[int] = []
    log.on_start_moved = moves.append
    for offset in (7, 7, 3, 0):
        log.delete_records_before(offset, NOW)
        assert log.log_start_offset == 7
    assert moves == [7]
    log.close()


def test_a_deletion_that_cannot_be_written_down_does_not_happen(tmp_path: Path) -> None:
    """(R) It would be undone by the next start."""
    log = of_segments(tmp_path, 3)

    def refuse(_: int) -> None:
        raise OSError(ENOSPC, "no space")

    log.on_start_moved = refuse
    with pytest.raises(KafkaError) as refused:
        log.delete_records_before(log.log_end_offset, NOW)
    assert refused.value.code == KAFKA_STORAGE_ERROR
    assert (log.log_start_offset, len(log.segments)) == (0, 3)
    log.close()


def test_times_are_looked_up_from_the_start_on(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for number in range(10):
        log.append_as_leader(batch("x", records=3, timestamp=NOW + number), 0, NOW)
    log.high_watermark = 30
    log.delete_records_before(16, NOW)
    assert log.offset_for_timestamp(0) == (16, NOW + 6, 0)
    assert log.offset_for_timestamp(NOW + 9) == (23, NOW + 9, 0)
    log.close()


def test_epochs_begin_where_the_log_does(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for epoch in range(4):
        for _ in range(5):
            log.append_as_leader(batch("x"), epoch, NOW)
    log.high_watermark = 20
    log.delete_records_before(12, NOW)
    assert log.leader_epochs.entries == [(2, 12), (3, 15)]
    assert [log.epoch_end_offset(epoch) for epoch in (0, 1, 2, 3, 4)] == [
        (0, 12), (1, 12), (2, 15), (3, 20), (-1, -1)
    ]  # fmt: skip
    log.close()


def test_an_epoch_in_which_nothing_was_written_begins_at_the_end(tmp_path: Path) -> None:
    """As in Kafka, whose leader notes its epoch before the first batch."""
    log = open_log(tmp_path)
    assert log.epoch_end_offset(0, 0) == (0, 0)
    fill(log, 3)
    assert [log.epoch_end_offset(epoch, 5) for epoch in (-1, 0, 3, 5, 6)] == [
        (-1, -1), (0, 3), (0, 3), (5, 3), (-1, -1)
    ]  # fmt: skip
    log.close()


def test_a_producer_is_known_after_all_its_batches_were_deleted(tmp_path: Path) -> None:
    """Or a repetition of the last one would be taken for new."""
    log = open_log(tmp_path, SMALL)
    sent = [batch("x", producer=1, sequence=number) for number in range(3)]
    for one in sent:
        log.append_as_leader(one, 0, NOW)
    log.high_watermark = 3
    log.delete_records_before(3, NOW)
    assert log.append_as_leader(sent[-1], 0, NOW).duplicate
    log.close(clean=False)
    log = open_log(tmp_path, log_start_offset=3)
    assert log.append_as_leader(sent[-1], 0, NOW).duplicate
    log.close()


def test_nothing_is_believed_of_a_log_whose_segments_are_gone(tmp_path: Path) -> None:
    """(R) Its snapshots would be taken for those of the log that begins anew."""
    log = open_log(tmp_path)
    log.append_as_leader(batch("x", producer=1, sequence=0), 3, NOW)
    log.close()
    for path in tmp_path.glob("*.log"):
        path.unlink()
    log = open_log(tmp_path, log_start_offset=1)
    assert (log.log_start_offset, log.leader_epochs.entries, log.producers.producers) == (1, [], {})
    assert not list(tmp_path.glob("*.snapshot"))
    log.close()
