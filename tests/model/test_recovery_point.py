"""A recovery point that was written down, and a loss of power at any moment after: nothing below it is lost,
and nothing below it is read.
"""

from itertools import pairwise
from random import Random

import pytest

from tailrace.core.log.checkpoints import RECOVERY_POINTS, read_offsets, write_offsets
from tailrace.core.log.directory import ReadFile
from tailrace.core.log.flush import Flush
from tailrace.core.log.log import Log
from tailrace.core.log.log_config import LogConfig
from tailrace.core.log.segment import LOG_SUFFIX, offset_of
from tailrace.core.records.batch import HEADER_SIZE
from tests.model.test_log_crashes import stored
from tests.support.simulated_directory import PAGE, SECTOR, SimulatedDirectory, SimulatedReadFile
from tests.unit.log.logs import NOW, batch

CONFIG = LogConfig(
    segment_bytes=8 * 1024, index_interval_bytes=512, segment_index_bytes=1024, snapshot_interval_bytes=4096
)
KEY = ("t", 0)


class CountedFile(SimulatedReadFile):
    """Adds up what is read of a segment."""

    counts: dict[int, int]

    def read(self, position: int, length: int) -> bytes:
        """See ReadFile."""
        data = super().read(position, length)
        base = offset_of(self.name, LOG_SUFFIX)
        if base is not None:
            self.counts[base] = self.counts.get(base, 0) + len(data)
        return data


class CountingDirectory(SimulatedDirectory):
    """Counts the bytes read of each segment by its base offset."""

    def __init__(self, other: SimulatedDirectory) -> None:
        super().__init__(boot=int(other.boot_id().removeprefix("boot-")))
        for name in other.names():
            self.put(name, bytes(other.contents(name)))
        self.counts: dict[int, int] = {}

    def open_read(self, name: str) -> ReadFile:
        """See Directory."""
        file = CountedFile(name, self.inode(name))
        file.counts = self.counts
        return file


class Run:
    """Seeded work on a log whose rolled segments are synced behind it, as a worker and its housekeeper do."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.disk = SimulatedDirectory()
        self.log = Log.open(self.disk, "t-0", CONFIG, now_ms=NOW)
        self.log.on_lowered = self.write_down
        self.flush: Flush | None = None
        self.bodies: list[bytes] = []
        self.ends: list[int] = []
        self.sequence = self.recoveries = self.points = 0
        self.disk.on_event = self.maybe_lose_power

    def write_down(self, offset: int) -> None:
        """What the housekeeper does with a row, and a worker that takes something back."""
        write_offsets(self.disk, RECOVERY_POINTS, {KEY: offset})

    def maybe_lose_power(self, chance: float = 0.01) -> None:
        """Tries one loss of power as of now."""
        if self.random.random() < chance:
            self.check(self.disk.crash(self.random, self.random.choice((SECTOR, PAGE))))

    def check(self, after: SimulatedDirectory) -> None:
        """What is found by a start after it."""
        disk = CountingDirectory(after)
        point = read_offsets(disk, RECOVERY_POINTS).get(KEY, 0)
        log = Log.open(disk, "t-0", CONFIG, now_ms=NOW, recovery_point=point)
        counts = dict(disk.counts)
        assert log.log_end_offset >= point, "what was called synced is lost"
        found = [body for _, body in stored(log)]
        assert found == self.bodies[: len(found)], "nothing is invented, changed or out of order"
        below = [one.base_offset for one, after in pairwise(log.segments) if after.base_offset < point]
        read = [base for base in below if counts.get(base, 0) > HEADER_SIZE * 2]
        assert len(read) <= 1, f"{read} were read, below the recovery point {point}"  # one for its producers
        self.recoveries += 1
        self.points += bool(point)
        self.go_on(log, disk, found)

    def go_on(self, log: Log, disk: SimulatedDirectory, found: list[bytes]) -> None:
        """What the start after the next loss of power finds, once more was written and something synced."""
        held = list(found)
        for number in range(self.random.choice((0, 3, 20))):
            sent = batch(
                f"{number} more".rjust(self.random.choice((1, 900)), "/"), producer=2, sequence=number
            )
            held.append(sent[HEADER_SIZE:])
            log.append_as_leader(sent, 0, NOW)
        flush = log.begin_flush(rolled_only=self.random.random() < 0.5)
        flush.run()
        log.flushed(flush)
        write_offsets(disk, RECOVERY_POINTS, {KEY: log.recovery_point})
        point = log.recovery_point
        log.close(clean=False)
        after = disk.crash(self.random, SECTOR)
        log = Log.open(after, "t-0", CONFIG, now_ms=NOW, recovery_point=point)
        assert log.log_end_offset >= point, "what was called synced is lost"
        again = [body for _, body in stored(log)]
        assert again == held[: len(again)]
        log.close(clean=False)

    def append(self) -> None:
        """One batch of a producer."""
        text = f"{len(self.bodies)}".ljust(self.random.choice((1, 100, 900)), ".")
        sent = batch(text, producer=1, sequence=self.sequence)
        self.bodies.append(sent[HEADER_SIZE:])
        self.log.append_as_leader(sent, 0, NOW)
        self.ends.append(self.log.log_end_offset)
        self.sequence += 1

    def truncate(self) -> None:
        """Takes back some of the last batches."""
        left = max(len(self.bodies) - self.random.randint(1, 25), 0)
        self.log.truncate_to(self.ends[left - 1] if left else 0, NOW)
        del self.bodies[left:], self.ends[left:]
        self.sequence = left

    def turn(self) -> None:
        """One step of the worker, its thread or the housekeeper."""
        choice = self.random.random()
        if choice < 0.80:
            self.append()
        elif choice < 0.84 and self.flush is None:
            self.flush = self.log.begin_flush() if choice < 0.81 else self.log.begin_due_flush(NOW)
        elif choice < 0.90 and self.flush is not None:
            self.flush.run()
            self.log.flushed(self.flush)
            self.flush = None
        elif choice < 0.97:
            self.write_down(self.log.recovery_point)
        elif choice < 0.98:
            self.truncate()
        elif choice < 0.99:
            self.log.roll(NOW)
        self.maybe_lose_power(0.3)


@pytest.mark.parametrize("seed", range(24))
def test_power_goes_after_a_recovery_point_was_written(seed: int) -> None:
    run = Run(seed)
    for _ in range(250):
        run.turn()
    assert run.recoveries > 50
    assert run.points > 5, "the work never got anything synced"


def test_a_segment_that_ends_at_the_recovery_point_is_not_read_again() -> None:
    """Only its tail, to see that it is cut."""
    disk = SimulatedDirectory()
    log = Log.open(disk, "t-0", LogConfig(segment_bytes=1 << 20, index_interval_bytes=4096), now_ms=NOW)
    for number in range(600):
        sent = batch(f"{number}".ljust(1000, "."), timestamp=NOW + number)
        log.append_as_leader(sent, 0, NOW + number)
    log.roll(NOW)
    flush = log.begin_due_flush(NOW)
    assert flush is not None
    flush.run()
    log.flushed(flush)
    for number in range(3):
        log.append_as_leader(batch(f"{number}"), 0, NOW)
    point, size = log.recovery_point, log.segments[0].size
    assert (point, size > 600_000) == (600, True)
    after = CountingDirectory(disk.crash(Random(1), SECTOR))
    again = Log.open(after, "t-0", LogConfig(segment_bytes=1 << 20), now_ms=NOW, recovery_point=point)
    assert again.log_end_offset >= 600
    assert after.counts[0] < 100_000
    again.close(clean=False)


def test_a_segment_that_was_rolled_at_the_recovery_point_and_not_synced_since_is_cut() -> None:
    """(R) Its data was synced while it was active, its new length was not."""
    disk = SimulatedDirectory()
    log = Log.open(disk, "t-0", CONFIG, now_ms=NOW)
    for number in range(5):
        log.append_as_leader(batch(f"{number}"), 0, NOW)
    log.flush()
    uncut = disk.crash(Random(0), SECTOR)
    log.roll(NOW)
    log.append_as_leader(batch("5"), 0, NOW)
    disk.sync()
    for seed in range(20):
        after = disk.crash(Random(seed), SECTOR)
        after.put(f"{0:020d}.log", bytes(uncut.contents(f"{0:020d}.log")).ljust(CONFIG.segment_bytes, b"\0"))
        again = Log.open(after, "t-0", CONFIG, now_ms=NOW, recovery_point=5)
        assert again.log_end_offset >= 5
        assert len(after.contents(f"{0:020d}.log")) == again.segments[0].size or len(again.segments) == 1
        again.close(clean=False)


def test_what_a_recovery_cut_does_not_come_back_behind_new_batches() -> None:
    """(R) Of equal sizes that end where a sector does, so that nothing stored later covers the old ones."""
    fill, name, size = "." * 953, f"{0:020d}.log", 2 * SECTOR
    disk = SimulatedDirectory()
    log = Log.open(disk, "t-0", CONFIG, now_ms=NOW)
    for number in range(4):
        log.append_as_leader(batch(f"{number}{fill}"), 0, NOW)
    assert log.active_position == 4 * size
    log.flush()
    torn = disk.crash(Random(0), SECTOR)
    torn.contents(name)[size + SECTOR] ^= 1
    torn.put(name, bytes(torn.contents(name)))
    log = Log.open(torn, "t-0", CONFIG, now_ms=NOW)
    assert log.log_end_offset == 1
    log.append_as_leader(batch(f"/{fill}"), 0, NOW)
    left = bytearray(torn.inode(name).disk)  # of the new batch all gets there, of its file's length nothing
    left[size : 2 * size] = torn.contents(name)[size : 2 * size]
    after = torn.crash(Random(0), SECTOR)
    after.put(name, bytes(left))
    assert Log.open(after, "t-0", CONFIG, now_ms=NOW).log_end_offset == 2
