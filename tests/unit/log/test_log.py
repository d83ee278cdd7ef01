"""A log: what is appended is there after a close, a crash, a truncation; what is refused is not."""

from errno import ENOSPC
from pathlib import Path

import pytest

from tailrace.core import errors
from tailrace.core.errors import KafkaError
from tailrace.core.log.directory import MappedFile, RealDirectory
from tailrace.core.log.log import Log
from tailrace.core.log.log_config import LogConfig
from tailrace.core.log.rolling import EXPIRY_CHECK_MS
from tailrace.core.records.record import assemble
from tests.support.batches import changed
from tests.unit.log.logs import NOW, SMALL, batch, fill, log_bytes, offsets_on_disk, open_log


def test_appended_batches_get_dense_offsets_and_the_epoch(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    first = log.append_as_leader(batch("a", records=3), 5, NOW)
    second = log.append_as_leader(batch("b"), 5, NOW)
    assert (first.base_offset, first.last_offset, second.base_offset, log.log_end_offset) == (0, 2, 3, 4)
    assert log.leader_epochs.entries == [(5, 0)]
    log.close()


def test_files_are_cut_to_what_they_hold_at_close(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 50)
    end = log.active_position
    assert (tmp_path / f"{0:020d}.log").stat().st_size == SMALL.segment_bytes
    log.close()
    assert len(log_bytes(tmp_path)) == end
    assert 0 < (tmp_path / f"{0:020d}.index").stat().st_size < 4096


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("same_boot", [True, False])
def test_everything_is_there_after_a_close_or_the_death_of_the_process(
    tmp_path: Path, clean: bool, same_boot: bool
) -> None:
    log = open_log(tmp_path)
    fill(log, 1000)
    end, segments = log.log_end_offset, [s.base_offset for s in log.segments]
    assert len(segments) > 2
    log.close(clean)
    log = open_log(tmp_path, same_boot=same_boot)
    assert (log.log_end_offset, [s.base_offset for s in log.segments]) == (end, segments)
    fill(log, 10, start=1000)
    log.close()
    assert offsets_on_disk(tmp_path, segments[-1])[-1] == end + 9


@pytest.mark.parametrize("fault", ["crc", "magic", "count", "length", "short"])
def test_the_bytes_of_a_refused_batch_are_zeroed(tmp_path: Path, fault: str) -> None:
    log = open_log(tmp_path)
    fill(log, 3)
    bad = bytearray(batch("refused"))
    if fault == "short":
        bad = bad[:40]
    else:
        bad[{"crc": -1, "magic": 16, "count": 60, "length": 11}[fault]] ^= 1
    end = log.active_position
    with pytest.raises(KafkaError) as caught:
        log.append_as_leader(bytes(bad), 0, NOW)
    assert caught.value.code in (errors.CORRUPT_MESSAGE, errors.INVALID_RECORD)
    assert not any(log_bytes(tmp_path)[end:])
    assert log.log_end_offset == 3
    log.close()


def test_a_torn_or_flipped_tail_is_cut_at_the_first_bad_batch_and_leaves_zeros(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 20)
    end = log.active_position
    log.close(clean=False)
    path = tmp_path / f"{0:020d}.log"
    data = bytearray(path.read_bytes())
    size = end // 20
    data[size * 15 + 70] ^= 1
    path.write_bytes(data)
    log = open_log(tmp_path, same_boot=False)
    assert log.log_end_offset == 15
    assert not any(log_bytes(tmp_path)[log.active_position :])
    log.append_as_leader(batch("x" * 100), 0, NOW)
    log.close(clean=False)
    assert offsets_on_disk(tmp_path) == list(range(16))  # the old batches 16.. did not come back


def test_recovery_below_the_high_watermark_writes_a_new_inode(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 20)
    end = log.active_position
    log.close(clean=False)
    path = tmp_path / f"{0:020d}.log"
    with path.open("r+b") as file:
        file.seek(end // 20 * 15 + 70)
        file.write(b"\xff\xff")
    before = path.stat().st_ino
    with path.open("rb") as sending:
        log = open_log(tmp_path, same_boot=False, high_watermark=18)
        assert path.stat().st_ino != before
        assert len(sending.read()) == SMALL.segment_bytes  # whoever sends from it is not cut short
    log.close()


def test_a_repeated_batch_is_answered_with_its_first_offsets_also_after_recovery(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for sequence in range(7):
        log.append_as_leader(batch("p", producer=9, sequence=sequence), 0, NOW)
    assert log.append_as_leader(batch("p", producer=9, sequence=4), 0, NOW).base_offset == 4
    for gap in (1, 9):  # older than the five that are kept; one too far
        with pytest.raises(KafkaError) as caught:
            log.append_as_leader(batch("p", producer=9, sequence=gap), 0, NOW)
        assert caught.value.code == errors.OUT_OF_ORDER_SEQUENCE_NUMBER
    for clean in (False, True):
        log.close(clean)
        log = open_log(tmp_path)
        again = log.append_as_leader(batch("p", producer=9, sequence=6), 0, NOW)
        assert (again.base_offset, again.duplicate, log.log_end_offset) == (6, True, 7)
    log.append_as_leader(batch("p", producer=9, sequence=0, epoch=1), 0, NOW)
    with pytest.raises(KafkaError) as caught:
        log.append_as_leader(batch("p", producer=9, sequence=7), 0, NOW)
    assert caught.value.code == errors.INVALID_PRODUCER_EPOCH
    log.close()


def test_a_snapshot_above_the_end_is_removed(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for sequence in range(3):
        log.append_as_leader(batch("p", producer=9, sequence=sequence), 0, NOW)
    end = log.active_position
    log.close()
    with (tmp_path / f"{0:020d}.log").open("r+b") as file:
        file.truncate(end - 1)
    log = open_log(tmp_path, same_boot=False, clean_shutdown=False)
    assert log.log_end_offset == 2
    assert not (tmp_path / f"{3:020d}.snapshot").exists()
    assert log.append_as_leader(batch("p", producer=9, sequence=2), 0, NOW).duplicate is False
    log.close()


def test_records_are_found_by_time(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 1000)
    for wanted in (0, 1, 500, 999):
        assert log.offset_for_timestamp(NOW + wanted) == (wanted, NOW + wanted, 0)
    assert log.offset_for_timestamp(NOW + 1000) is None
    assert log.max_timestamp() == (999, NOW + 999, 0)
    log.close()


class NoRoomForNew(RealDirectory):
    """A disk that is full as soon as a new segment is asked for, at the file with this suffix."""

    __slots__ = ("suffix",)

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.suffix = ""

    def open_mapped(self, name: str, size: int) -> MappedFile:
        """As of a full disk."""
        if self.suffix and name.endswith(self.suffix):
            raise OSError(ENOSPC, "no space")
        return super().open_mapped(name, size)


@pytest.mark.parametrize("suffix", [".log", ".index", ".timeindex"])
def test_a_roll_on_a_full_disk_is_refused_and_the_log_goes_on(tmp_path: Path, suffix: str) -> None:
    directory = NoRoomForNew(str(tmp_path))
    log = Log.open(directory, "t-0", SMALL, now_ms=NOW)
    fill(log, 10)
    directory.suffix = suffix
    with pytest.raises(KafkaError) as caught:
        log.roll(NOW)
    assert caught.value.code == errors.KAFKA_STORAGE_ERROR
    assert sorted(path.name for path in tmp_path.glob("*.log")) == [f"{0:020d}.log"]
    fill(log, 1, start=10)
    directory.suffix = ""
    log.roll(NOW)
    fill(log, 1, start=11)
    log.close(clean=False)
    log = open_log(tmp_path, same_boot=False)
    assert ([s.base_offset for s in log.segments], log.log_end_offset) == ([0, 11], 12)
    log.close()


def test_a_closed_log_refuses_appends(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.close()
    with pytest.raises(KafkaError) as caught:
        log.append_as_leader(batch("a"), 0, NOW)
    assert caught.value.code == errors.KAFKA_STORAGE_ERROR


@pytest.mark.parametrize(
    ("codec", "claim", "refused"), [(1, 30_000, True), (2, 5000, True), (1, 5000, False)]
)
def test_a_compressed_batch_may_not_claim_more_records_than_its_bytes_could_hold(
    tmp_path: Path, codec: int, claim: int, refused: bool
) -> None:
    sent = assemble(
        bytes(100), base_offset=0, leader_epoch=-1, attributes=codec, last_offset_delta=claim - 1,
        base_timestamp=NOW, max_timestamp=NOW,
    )  # fmt: skip
    log = open_log(tmp_path)
    if refused:
        with pytest.raises(KafkaError) as caught:
            log.append_as_leader(sent, 0, NOW)
        assert caught.value.code == errors.INVALID_RECORD
    else:
        assert log.append_as_leader(sent, 0, NOW).last_offset == claim - 1
    log.close()


def test_a_flush_begun_for_another_thread_syncs_where_epochs_began(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 1)
    synced: list[str] = []

    class Seen(RealDirectory):
        def sync_file(self, name: str) -> None:
            synced.append(name)

    flush = log.begin_flush()
    flush.directory = Seen(str(tmp_path))
    flush.run()
    assert "leader-epoch-checkpoint" in synced
    log.close()


def test_a_producer_of_old_records_is_known_until_it_is_silent(tmp_path: Path) -> None:
    """Kafka's producers of old records are forgotten every ten minutes, ours are not while they write (R)."""
    log = open_log(tmp_path)
    day_ms = log.config.producer_id_expiration_ms
    late = NOW + 2 * day_ms
    log.append_as_leader(batch("a", producer=1, sequence=0), 0, late)
    log.tick(late)
    log.tick(late + 1000)
    again = log.append_as_leader(batch("a", producer=1, sequence=0), 0, late)
    assert (again.duplicate, again.log_append_time_ms) == (True, NOW)
    log.append_as_leader(batch("b", producer=1, sequence=1), 0, late)
    log.tick(late + EXPIRY_CHECK_MS)
    assert log.append_as_leader(batch("b", producer=1, sequence=1), 0, late).duplicate
    log.tick(late + 2 * EXPIRY_CHECK_MS)
    assert not log.append_as_leader(batch("b", producer=1, sequence=1), 0, late).duplicate
    log.close()


@pytest.mark.parametrize("offset", [1, -1, 2**62])
def test_a_client_does_not_choose_offsets_and_a_leader_does(tmp_path: Path, offset: int) -> None:
    log = open_log(tmp_path)
    sent = changed(batch("a"), base_offset=offset)
    with pytest.raises(KafkaError) as refused:
        log.append_as_leader(sent, 0, NOW)
    assert refused.value.code == errors.INVALID_RECORD
    assert log.append_as_leader(sent, 0, NOW, from_client=False).base_offset == 0
    log.close()


def test_what_is_reserved_ahead_follows_the_pace_of_writing(tmp_path: Path) -> None:
    log = open_log(tmp_path, LogConfig(segment_bytes=1 << 30))
    asked: list[int] = []
    log.on_prefault = lambda _name, _position, length: asked.append(length)
    large = batch("x" * 100_000)
    for number in range(100):
        log.append_as_leader(large, 0, NOW + 1000 * number)  # 100 kB a second
    assert sum(asked) < 1.2 * log.active_position
    assert max(asked) < 200_000
    for _ in range(900):
        log.append_as_leader(large, 0, NOW + 200_000)
    assert max(asked) == 16 << 20
    log.close(clean=False)
    log = open_log(tmp_path, log.config)
    asked.clear()
    log.on_prefault = lambda _name, _position, length: asked.append(length)
    for number in range(10):
        log.append_as_leader(large, 0, NOW + 300_000 + 1000 * number)
    assert max(asked) < 200_000
    log.close()
