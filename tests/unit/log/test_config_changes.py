"""A log whose configuration is replaced while it is open obeys the new one from the next append on."""

from pathlib import Path
from random import Random

import pytest

from tailrace.core.errors import INVALID_TIMESTAMP, MESSAGE_TOO_LARGE, KafkaError
from tailrace.core.log.directory import RealDirectory
from tailrace.core.log.log import Log
from tailrace.core.log.log_config import FOREVER, LogConfig
from tailrace.core.records.batch import parse_header
from tests.support.simulated_directory import SimulatedDirectory
from tests.unit.log.logs import NOW, batch, fill, log_bytes, offsets_on_disk, open_log

LARGE = LogConfig(segment_bytes=1 << 20)


def test_smaller_segments_begin_at_once(tmp_path: Path) -> None:
    log = open_log(tmp_path, LARGE)
    fill(log, 40)
    log.config = LogConfig(segment_bytes=4096)
    assert len(log.segments) == 1
    fill(log, 1, start=40)
    assert [segment.base_offset for segment in log.segments] == [0, 40], "it had more than 4096 bytes"
    fill(log, 100, start=41)
    assert all(segment.size <= 4096 for segment in log.segments[1:])
    log.close()


def test_a_segment_that_is_smaller_than_the_new_size_is_filled_to_it(tmp_path: Path) -> None:
    log = open_log(tmp_path, LARGE)
    fill(log, 1)
    log.config = LogConfig(segment_bytes=1000)
    fill(log, 20, start=1)
    sizes = [segment.size for segment in log.segments]
    assert len(sizes) > 2
    assert all(size <= 1000 for size in sizes)
    assert sizes[0] > 1000 - 200, "no earlier than it must"
    log.close()


def test_larger_segments_begin_with_the_next_one(tmp_path: Path) -> None:
    log = open_log(tmp_path, LogConfig(segment_bytes=1000))
    fill(log, 1)
    log.config = LARGE
    fill(log, 200, start=1)
    first, second = log.segments
    assert first.size <= 1000
    assert second.size > 10_000
    log.close()


def test_the_largest_batch_changes_at_once(tmp_path: Path) -> None:
    log = open_log(tmp_path, LARGE)
    log.config = LogConfig(max_message_bytes=100)
    with pytest.raises(KafkaError) as caught:
        log.append_as_leader(batch("x" * 100), 0, NOW)
    assert caught.value.code == MESSAGE_TOO_LARGE
    log.config = LARGE
    log.append_as_leader(batch("x" * 100), 0, NOW)
    log.close()


def test_whose_clock_counts_and_how_far_it_may_be_off_change_at_once(tmp_path: Path) -> None:
    log = open_log(tmp_path, LARGE)
    log.config = LogConfig(message_timestamp_type="LogAppendTime")
    assert log.append_as_leader(batch("a", timestamp=5), 0, NOW).log_append_time_ms == NOW
    log.config = LogConfig(message_timestamp_before_max_ms=1000)
    for timestamp in (NOW - 1001, NOW + 3_600_001):
        with pytest.raises(KafkaError) as caught:
            log.append_as_leader(batch("a", timestamp=timestamp), 0, NOW)
        assert caught.value.code == INVALID_TIMESTAMP
    assert log.append_as_leader(batch("a", timestamp=NOW - 1000), 0, NOW).log_append_time_ms == -1
    log.close()


def test_age_counts_from_the_first_record_there_is(tmp_path: Path) -> None:
    log = open_log(tmp_path, LARGE)
    fill(log, 2)
    log.config = LogConfig(segment_bytes=1 << 20, segment_ms=1000)
    log.append_as_leader(batch("a", timestamp=NOW + 1001), 0, NOW + 1001)
    assert [segment.base_offset for segment in log.segments] == [0, 2]
    log.close()


def test_index_entries_come_as_often_as_asked_for_now(tmp_path: Path) -> None:
    log = open_log(tmp_path, LARGE)
    fill(log, 20)
    index = tmp_path / f"{0:020d}.index"
    log.config = LogConfig(segment_bytes=1 << 20, index_interval_bytes=1)
    fill(log, 21, start=20)
    log.close()
    assert index.stat().st_size == 8 * 21


def test_the_codec_of_stored_batches_changes_at_once(tmp_path: Path) -> None:
    log = open_log(tmp_path, LARGE)
    codecs: list[int] = []
    for wanted in ("producer", "gzip", "producer", "lz4", "uncompressed"):
        log.config = LogConfig(segment_bytes=1 << 20, compression_type=wanted)
        start = log.active_position
        log.append_as_leader(batch("a" * 200), 0, NOW)
        codecs.append(parse_header(log_bytes(tmp_path)[start:]).codec)
    assert codecs == [0, 1, 0, 3, 0]
    log.close()


def roll_after_ms(path: Path, jitter_ms: int) -> int:
    """How long after its first record the first segment of a new log is given up."""
    config = LogConfig(segment_bytes=1 << 20, segment_ms=100, segment_jitter_ms=jitter_ms)
    log = Log.open(RealDirectory(str(path)), path.name, config, now_ms=NOW)
    elapsed = 0
    while len(log.segments) == 1:
        log.append_as_leader(batch("a", timestamp=NOW + elapsed), 0, NOW + elapsed)
        elapsed += 1
    log.close()
    return elapsed - 1


def test_jitter_spreads_the_ends_of_segments(tmp_path: Path) -> None:
    for jitter_ms, shortest in ((0, 101), (20, 81), (5000, 1)):
        ends = [roll_after_ms(tmp_path / f"{jitter_ms}-{partition}", jitter_ms) for partition in range(12)]
        assert all(shortest <= end <= 101 for end in ends)
        assert len(set(ends)) == 1 if not jitter_ms else len(set(ends)) > 6


def test_a_log_has_the_same_jitter_when_it_is_opened_again(tmp_path: Path) -> None:
    config = LogConfig(segment_bytes=1 << 20, segment_ms=100, segment_jitter_ms=90)
    expected = roll_after_ms(tmp_path / "once" / "t-0", 90)
    log = open_log(tmp_path / "again", config)
    log.append_as_leader(batch("a", timestamp=NOW), 0, NOW)
    log.close()
    log = open_log(tmp_path / "again", config)
    log.append_as_leader(batch("a", timestamp=NOW + expected - 1), 0, NOW)
    assert len(log.segments) == 1
    log.append_as_leader(batch("a", timestamp=NOW + expected), 0, NOW)
    assert len(log.segments) == 2
    log.close()


def test_a_preallocated_segment_takes_its_whole_size_from_the_next_one_on(tmp_path: Path) -> None:
    log = open_log(tmp_path, LARGE)

    def taken() -> int:
        return (tmp_path / log.segments[-1].log_name).stat().st_blocks * 512

    fill(log, 1)
    log.config = LogConfig(segment_bytes=1 << 20, preallocate=True)
    assert taken() < 1 << 20
    log.roll(NOW)
    assert taken() >= 1 << 20
    fill(log, 5, start=1)
    log.config = LARGE
    log.roll(NOW)
    assert taken() < 1 << 20
    log.close()
    blocks = sum(path.stat().st_blocks for path in tmp_path.glob("*.log"))
    assert blocks * 512 < 1 << 17, "cut to what they hold"


def test_a_disk_without_room_for_a_whole_segment_takes_what_fits() -> None:
    disk = SimulatedDirectory(free=600_000)
    log = Log.open(disk, "t-0", LogConfig(segment_bytes=1 << 20, preallocate=True), now_ms=NOW)
    for number in range(20):
        assert log.append_as_leader(batch("a" * 10_000), 0, NOW).base_offset == number
    log.close()


@pytest.mark.parametrize("seed", range(10))
def test_nothing_is_lost_whatever_the_changes(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    log, config, appended = open_log(tmp_path, LARGE), LARGE, 0
    for _ in range(150):
        what = random.random()
        if what < 0.1:
            config = LogConfig(
                segment_bytes=random.choice((300, 1000, 5000, 1 << 20)),
                segment_ms=random.choice((5, 1 << 40)),
                segment_index_bytes=random.choice((16, 4096)),
                index_interval_bytes=random.choice((0, 100, 4096)),
                compression_type=random.choice(("producer", "zstd", "uncompressed")),
                segment_jitter_ms=random.choice((0, 3)),
                preallocate=random.random() < 0.3,
                flush_messages=random.choice((30, FOREVER, FOREVER)),
            )
            log.config = config
        elif what < 0.15:  # as a killed process leaves it
            log.close(clean=random.random() < 0.5)
            log = open_log(tmp_path, config)
        else:
            fill(log, 1, size=random.randint(1, 200), start=appended)
            appended += 1
        assert log.log_end_offset == appended
    bases = [segment.base_offset for segment in log.segments]
    log.close()
    assert [offset for base in bases for offset in offsets_on_disk(tmp_path, base)] == list(range(appended))
