"""The checkpoints of a broker with real processes: after a clean stop, a deletion, and the death of all."""

import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from perf import wire
from perf.batches import batch_of_size
from perf.peers.tailrace import Tailrace
from tailrace.core.log.checkpoints import (
    HIGH_WATERMARKS,
    LOG_STARTS,
    OFFSET_FILES,
    RECOVERY_POINTS,
    TRUST_MARK,
    Offsets,
    read_offsets,
)
from tailrace.core.log.directory import RealDirectory
from tailrace.workers.data_dir import read_info
from tests.support.waiting import wait_until

TOPIC, KEY = "kept", ("kept", 0)
BATCH = batch_of_size(300_000, 1000).data
RECORDS = struct.unpack_from(">i", BATCH, 57)[0]
SETTINGS = {
    "log.segment.bytes": str(1 << 20),
    "log.flush.offset.checkpoint.interval.ms": "20",
    "log.flush.start.offset.checkpoint.interval.ms": "20",
    "replica.high.watermark.checkpoint.interval.ms": "20",
}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Tailrace]:
    """One with small segments, whose checkpoints are written often."""
    started = Tailrace(tmp_path, SETTINGS)
    started.start()
    try:
        with wire.Connection(wire.address(started.bootstrap)) as connection:
            wire.create_topic(connection, TOPIC)
        yield started
    finally:
        started.stop()


def offsets(broker: Tailrace, name: str) -> Offsets:
    """What a file says now."""
    return read_offsets(RealDirectory(str(broker.data), make=False), name)


def produce(broker: Tailrace, topic: str, count: int) -> None:
    """Batches, each acknowledged."""
    with wire.Connection(wire.address(broker.bootstrap)) as connection:
        for _ in range(count):
            answer = connection.ask(wire.produce_frame(topic, BATCH, -1, 0))
            assert struct.unpack_from(">h", answer, 4 + 1 + 1 + len(wire.compact(topic)) + 1 + 4)[0] == 0


def end_of(broker: Tailrace, topic: str) -> int:
    """Reads a topic from its start to its high watermark; -1 while nobody leads it."""
    offset = 0
    with wire.Connection(wire.address(broker.bootstrap)) as connection:
        while True:
            frame = connection.ask(wire.fetch_frame(topic, offset, 1 << 19))
            fetched = wire.fetch_response(frame)
            if fetched.error_code:
                return -1
            offset = wire.next_offset(frame, fetched.start, fetched.length)
            if offset == fetched.high_watermark:
                return offset


def kill_all(broker: Tailrace) -> None:
    """Every process dies with the supervisor."""
    broker.kill()
    broker.stop()  # closes what is left of it here
    wait_until(lambda: read_info(str(broker.data)) is None, "the death of all")


def test_a_clean_stop_leaves_three_files_that_say_the_end(broker: Tailrace) -> None:
    produce(broker, TOPIC, 5)
    broker.stop()
    end = 5 * RECORDS
    found = [(broker.data / name).read_text() for name in OFFSET_FILES]
    assert found == [f"0\n1\nkept 0 {end}\n", f"0\n1\nkept 0 {end}\n", "0\n0\n"]
    assert not list(broker.data.glob("*.tmp"))


def test_a_deleted_topic_vanishes_and_its_namesake_begins_anew(broker: Tailrace) -> None:
    with wire.Connection(wire.address(broker.bootstrap)) as connection:
        wire.create_topic(connection, "gone")
        produce(broker, TOPIC, 1)
        produce(broker, "gone", 5)
        wait_until(lambda: offsets(broker, RECOVERY_POINTS).get(("gone", 0), 0) > 0, "a recovery point")
        wire.delete_topic(connection, "gone")
        wait_until(lambda: not (broker.data / "gone-0").exists(), "the deletion")
        for name in OFFSET_FILES:
            assert ("gone", 0) not in offsets(broker, name)
        wire.create_topic(connection, "gone")
        produce(broker, "gone", 1)
        wait_until(lambda: offsets(broker, HIGH_WATERMARKS).get(("gone", 0)) == RECORDS, "its new end")
        assert offsets(broker, RECOVERY_POINTS)["gone", 0] == 0
        assert offsets(broker, HIGH_WATERMARKS)[KEY] == RECORDS


@pytest.mark.parametrize("is_trusted", [True, False], ids=["same boot", "as after a loss of power"])
def test_after_the_death_of_all_the_files_are_true(broker: Tailrace, is_trusted: bool) -> None:
    produce(broker, TOPIC, 10)
    wait_until(lambda: offsets(broker, RECOVERY_POINTS).get(KEY, 0) >= 9 * RECORDS, "a recovery point")
    kill_all(broker)
    point = offsets(broker, RECOVERY_POINTS)[KEY]
    mark = broker.data / f"{TOPIC}-0" / TRUST_MARK
    if not is_trusted:
        mark.write_text(mark.read_text().replace(mark.read_text().split()[0], "another-boot"))
    broker.start()
    assert broker.bootstrap
    wait_until(lambda: end_of(broker, TOPIC) == 10 * RECORDS, "all that was acknowledged")
    wait_until(lambda: offsets(broker, HIGH_WATERMARKS).get(KEY) == 10 * RECORDS, "the high watermark")
    assert point <= offsets(broker, RECOVERY_POINTS)[KEY] <= 10 * RECORDS
    broker.stop()
    assert offsets(broker, RECOVERY_POINTS) == {KEY: 10 * RECORDS}


class Producer(threading.Thread):
    """Produces until the broker dies; counts what was acknowledged."""

    def __init__(self, broker: Tailrace) -> None:
        super().__init__()
        self.broker, self.count = broker, 0

    def run(self) -> None:
        """See threading.Thread."""
        while True:
            try:
                produce(self.broker, TOPIC, 1)
            except (OSError, AssertionError, struct.error):
                return
            self.count += 1

    def wait_for(self, count: int) -> None:
        """So many batches were acknowledged."""
        wait_until(lambda: self.count >= count, "some batches")


def test_killed_at_any_moment_no_file_says_more_than_there_is(broker: Tailrace) -> None:
    acknowledged = 0
    for turn in range(3):
        producer = Producer(broker)
        producer.start()
        producer.wait_for(4 + turn)
        kill_all(broker)
        producer.join()
        acknowledged += producer.count
        point = offsets(broker, RECOVERY_POINTS).get(KEY, 0)
        watermark = offsets(broker, HIGH_WATERMARKS).get(KEY, 0)
        assert offsets(broker, LOG_STARTS) == {}
        broker.start()
        assert broker.bootstrap
        wait_until(lambda: end_of(broker, TOPIC) >= 0, "a leader")
        end = end_of(broker, TOPIC)
        assert max(point, watermark, acknowledged * RECORDS) <= end
