"""A loss of power at any moment under flush.policy=group and each: what was acknowledged to acks=all, and
what a consumer could read, is there afterwards.
"""

from array import array
from random import Random
from typing import cast

import pytest

from tailrace.core.log.checkpoints import RECOVERY_POINTS, read_offsets, write_offsets
from tailrace.core.log.flush import Flush
from tailrace.core.log.log import Log
from tailrace.core.log.log_config import LogConfig
from tailrace.core.log.scan import scan
from tailrace.core.log.segment import file_name
from tailrace.core.records.batch import HEADER_SIZE
from tailrace.shm.state_table import (
    HIGH_WATERMARK,
    HIGH_WATERMARK_POSITION,
    HW_SEGMENT_BASE_OFFSET,
    LOG_END_OFFSET,
    RECOVERY_POINT,
    WORDS,
    RowWriter,
)
from tailrace.workers import control
from tailrace.workers.replica import Replica
from tests.model.test_log_crashes import stored
from tests.support.simulated_directory import PAGE, SECTOR, SimulatedDirectory
from tests.unit.log.logs import NOW, batch

CONFIG = LogConfig(
    segment_bytes=8 * 1024, index_interval_bytes=512, segment_index_bytes=1024, snapshot_interval_bytes=4096
)
KEY = ("t", 0)
ORDER = control.ServeReplica(
    topic="t", topic_id=bytes(16), partition=0, row=1, row_generation=1, leader_epoch=0, log_dir="",
    configs={}, is_new=False, leader=0, replicas=(0,), isr=(0,), partition_epoch=0,
)  # fmt: skip


class Row:
    """What a RowWriter is to a replica."""

    def __init__(self) -> None:
        self.values = array("q", [0] * WORDS)
        self.shown = array("q", self.values)

    def publish(self) -> None:
        """See RowWriter."""
        self.shown = array("q", self.values)


class Run:
    """Seeded work of a worker on one log: it appends and rolls, also while its thread syncs."""

    def __init__(self, seed: int, policy: str) -> None:
        self.random = Random(seed)
        self.policy = policy
        self.disk = SimulatedDirectory()
        self.row = Row()
        self.bodies: list[bytes] = []
        self.ends: list[int] = []
        self.open(self.disk, 0)
        self.flush: Flush | None = None
        self.acked = self.losses = self.kills = 0
        self.is_syncing = False
        self.disk.on_event = self.on_event

    def open(self, disk: SimulatedDirectory, point: int, *, leaves: int = 0) -> None:
        """As `Opener.open` does it."""
        self.log = Log.open(disk, "t-0", CONFIG, now_ms=NOW, recovery_point=point, high_watermark=leaves)
        self.replica = Replica(ORDER, self.log, cast(RowWriter, self.row), "t-0", 0)
        self.replica.leads = True
        self.replica.commit_what_is_synced()
        self.row.values[RECOVERY_POINT] = self.log.recovery_point
        self.show()

    def on_event(self) -> None:
        """Something happens on the disk: the power may go; while the thread syncs, the loop goes on."""
        if self.random.random() < 0.02:
            self.lose_power()
        if self.is_syncing and self.random.random() < 0.5:
            self.is_syncing = False
            self.append()
            self.is_syncing = True

    def lose_power(self) -> None:
        """What a start after it finds."""
        self.losses += 1
        after = self.disk.crash(self.random, self.random.choice((SECTOR, PAGE)))
        point = read_offsets(after, RECOVERY_POINTS).get(KEY, 0)
        log = Log.open(after, "t-0", CONFIG, now_ms=NOW, recovery_point=point)
        found = [body for _, body in stored(log)]
        assert found == self.bodies[: len(found)]
        assert len(found) >= self.acked, f"{self.acked} batches were acknowledged, {len(found)} are left"
        assert log.log_end_offset >= self.row.shown[HIGH_WATERMARK], "what could be read is lost"
        log.close(clean=False)

    def kill(self) -> None:
        """The worker is killed, its successor takes over: all that was acknowledged is there, and shown."""
        self.kills += 1
        point, committed = self.row.shown[RECOVERY_POINT], self.row.shown[HIGH_WATERMARK]
        self.log.close(clean=False)
        self.flush = None
        self.open(self.disk, point, leaves=committed)
        assert self.row.shown[HIGH_WATERMARK] == self.log.log_end_offset >= committed
        self.lose_power()

    def show(self) -> None:
        """Publish the row: what it says of the high watermark agrees with itself."""
        self.replica.publish()
        shown = self.row.shown
        base, position = shown[HW_SEGMENT_BASE_OFFSET], shown[HIGH_WATERMARK_POSITION]
        file = self.log.directory.open_read(file_name(base, ".log"))
        end, reached = base, 0
        for at, header in scan(file, 0, position, check=True):
            end, reached = header.last_offset + 1, at + header.size
        assert (end, reached) == (shown[HIGH_WATERMARK], position)
        assert shown[LOG_END_OFFSET] == self.log.log_end_offset

    def acknowledge(self) -> None:
        """Answer who waits for what is committed; the row is shown before."""
        self.show()
        while self.acked < len(self.ends) and self.replica.is_committed(self.ends[self.acked]):
            self.acked += 1

    def append(self) -> None:
        """One batch with acks=all."""
        text = f"{len(self.bodies)}".ljust(self.random.choice((1, 100, 900)), ".")
        sent = batch(text, producer=1, sequence=len(self.bodies))
        self.bodies.append(sent[HEADER_SIZE:])
        self.log.append_as_leader(sent, 0, NOW)
        self.ends.append(self.log.log_end_offset)
        if self.policy == "each":
            self.replica.sync()
        self.acknowledge()

    def sync(self) -> None:
        """What the thread does, and the loop when it is rung."""
        flush = self.log.begin_flush()
        self.is_syncing = True
        flush.run()
        self.is_syncing = False
        self.replica.synced(flush)
        self.acknowledge()

    def turn(self) -> None:
        """One step."""
        choice = self.random.random()
        if choice < 0.75:
            self.append()
        elif choice < 0.90:
            self.sync()
        elif choice < 0.93:
            self.log.roll(NOW)
        elif choice < 0.97:
            write_offsets(self.disk, RECOVERY_POINTS, {KEY: self.row.shown[RECOVERY_POINT]})
        else:
            self.kill()


@pytest.mark.parametrize("policy", ["group", "each"])
@pytest.mark.parametrize("seed", range(8))
def test_nothing_acknowledged_or_readable_is_lost(policy: str, seed: int) -> None:
    """(R)"""
    run = Run(seed, policy)
    for _ in range(500):
        run.turn()
    assert run.losses > 30
    assert run.kills
    assert run.acked == len(run.ends) if policy == "each" else run.acked > 200
