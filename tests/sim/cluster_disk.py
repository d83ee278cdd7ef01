"""The disks of a simulated host: logs, what their sync has reached, and checkpoints.

A killed process leaves its logs as they are, in the page cache; a loss of power what was synced, and any part
of the rest.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from msgspec import Struct

from tailrace.core.errors import KAFKA_STORAGE_ERROR, KafkaError
from tailrace.core.log.log import Appended
from tailrace.shm.state_table import (
    HIGH_WATERMARK,
    LOG_START_OFFSET,
    RECOVERY_POINT,
    ROLE,
    ROLE_FOLLOWER,
    ROLE_LEADER,
    SYNC_FAILED,
)
from tailrace.workers.starting_points import StartingPoint
from tests.sim.replication_log import MemoryLog


class Flush(Struct):
    """See core.log.flush.Flush."""

    log: "DiskLog"
    end_offset: int
    segment_base_offset: int
    position: int
    cuts: int

    def run(self) -> None:
        """It is on the disk."""
        if self.cuts == self.log.truncations:
            self.log.durable = max(self.log.durable, self.end_offset)


class DiskLog(MemoryLog):
    """What a worker asks of a Log. `durable`: what is on the disk, whether the worker knows it or not."""

    segment_generation = 0
    on_lowered: Callable[[int], object] | None = None
    on_start_moved: Callable[[int], object] | None = None
    on_prefault: Callable[[str, int, int], object] | None = None

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path, self.durable = path, 0
        self.config: object = None
        self.is_deleted = False

    def append_as_leader(self, batch: memoryview, leader_epoch: int, now_ms: int) -> Appended:
        """See Log."""
        del now_ms
        base = self.log_end_offset
        end = self.produce(bytes(batch), leader_epoch)
        return Appended(
            base_offset=base, last_offset=end - 1, log_append_time_ms=-1, end_position=self.active_position
        )

    def truncate_to(self, offset: int, now_ms: int) -> None:
        """See Log."""
        before = self.recovery_point
        super().truncate_to(offset, now_ms)
        self.durable = min(self.durable, self.log_end_offset)
        if self.recovery_point < before and self.on_lowered is not None:
            self.on_lowered(self.recovery_point)

    def truncate_fully_and_start_at(self, offset: int, now_ms: int) -> None:
        """See Log."""
        super().truncate_fully_and_start_at(offset, now_ms)
        self.durable = offset
        if self.on_lowered is not None:
            self.on_lowered(offset)

    def begin_flush(self) -> Flush:
        """See Log."""
        return Flush(
            self, self.log_end_offset, self.active_base_offset, self.active_position, self.truncations
        )

    def begin_due_flush(self, _now_ms: int) -> Flush | None:
        """See Log."""
        return self.begin_flush() if self.log_end_offset > self.recovery_point else None

    def flushed(self, flush: Flush) -> bool:
        """See Log."""
        if flush.cuts != self.truncations:
            return False
        self.recovery_point = max(self.recovery_point, flush.end_offset)
        return True

    def flush(self, _up_to: int | None = None) -> None:
        """See Log."""
        flush = self.begin_flush()
        flush.run()
        self.flushed(flush)

    def tick(self, _now_ms: int) -> None:
        """See Log."""

    def close(self, clean: bool = True) -> None:
        """See Log."""
        self.on_lowered = None
        if clean:
            self.flush()

    def delete(self) -> None:
        """See Log."""
        self.is_deleted = True

    def distrust_page_cache(self) -> None:
        """See Log."""

    def is_plausible(self) -> None:
        """What its own rules say."""
        assert self.log_start_offset <= self.high_watermark <= self.log_end_offset, "a mark off the log"
        assert self.recovery_point <= self.durable <= self.log_end_offset, "what is synced is there"


class Directory:
    """See RealDirectory, of one partition."""

    def __init__(self, disks: "Disks", path: str) -> None:
        self._disks, self.path = disks, path

    def destroy(self) -> None:
        """See RealDirectory."""
        self._disks.delete(self.path)


class Disks:
    """All of them; `checkpoints` by log: recovery point, high watermark, log start."""

    def __init__(self) -> None:
        self.logs: dict[str, DiskLog] = {}
        self.checkpoints: dict[str, tuple[int, int, int]] = {}
        self.broken: set[str] = set()  # log directories

    def directory(self, path: str, **_: object) -> Directory:
        """See RealDirectory."""
        return Directory(self, path)

    def open(self, directory: Directory, _name: str, config: object, **known: Any) -> DiskLog:
        """See Log.open: what is there, or a new one."""
        path = directory.path
        if path.rpartition("/")[0] in self.broken:
            raise KafkaError(KAFKA_STORAGE_ERROR, f"{path}: the disk is broken")
        log = self.logs.get(path)
        if log is None or log.is_deleted:
            log = self.logs[path] = DiskLog(path)
        log.config = config
        log.truncations += 1  # whoever looked at it looks anew
        log.recovery_point = min(known["recovery_point"], log.log_end_offset)
        log.durable = max(log.durable, log.recovery_point)
        log.high_watermark = max(min(known["high_watermark"], log.log_end_offset), log.log_start_offset)
        return log

    def delete(self, path: str) -> None:
        """Its files are gone."""
        log = self.logs.pop(path, None)
        if log is not None:
            log.is_deleted = True

    def read(self, path: str, segment: int, position: int, length: int) -> bytes:
        """Bytes of a file, none if it is gone."""
        log = self.logs.get(path)
        return b"" if log is None or log.is_deleted else log.read(segment, position, length)

    def checkpoint(self, path: str, row: Sequence[int]) -> None:
        """What a row says of it is written down."""
        serves = row[ROLE] in (ROLE_LEADER, ROLE_FOLLOWER)
        if serves and path in self.logs and row[RECOVERY_POINT] != SYNC_FAILED:
            self.checkpoints[path] = (row[RECOVERY_POINT], row[HIGH_WATERMARK], row[LOG_START_OFFSET])

    def power_fails(self, random: Random) -> None:
        """Of what was not synced anything may be gone."""
        for path, log in self.logs.items():
            if log.is_deleted:
                continue
            log.on_lowered = None
            log.recovery_point = log.durable
            end = log.log_end_offset
            log.truncate_to(random.randint(log.durable, end) if end > log.durable else end, 0)
            point, mark, start = self.checkpoints.get(path, (0, 0, 0))
            self.checkpoints[path] = (min(point, log.durable), mark, start)
            log.durable = log.log_end_offset  # what is left has been read from the disk


class StartingPoints:
    """See workers.starting_points."""

    def __init__(self, disks: Disks, log_dir: str) -> None:
        self._disks, self._log_dir = disks, log_dir

    def find(
        self, directory: Directory, _topic: str, _partition: int, _topic_id: bytes, row: Sequence[int] | None
    ) -> StartingPoint:
        """See StartingPoints.find."""
        if row is not None and row[RECOVERY_POINT] == SYNC_FAILED:
            raise KafkaError(KAFKA_STORAGE_ERROR, f"{directory.path}: a sync failed")
        log = self._disks.logs.get(directory.path)
        if log is None or log.is_deleted:
            self._disks.checkpoints.pop(directory.path, None)
            return StartingPoint()
        point, mark, start = self._disks.checkpoints.get(directory.path, (0, 0, 0))
        if row is None:
            return StartingPoint(recovery_point=point, high_watermark=mark, log_start_offset=start)
        return StartingPoint(
            recovery_point=max(point, row[RECOVERY_POINT]),
            high_watermark=row[HIGH_WATERMARK],
            log_start_offset=max(start, row[LOG_START_OFFSET]),
            has_readers=True,
        )

    def take_back(self, topic: str, partition: int, limit: int | None = None) -> None:
        """See StartingPoints.take_back."""
        path = f"{self._log_dir}/{topic}-{partition}"
        found = self._disks.checkpoints.pop(path, None)
        if found is not None and limit is not None:
            self._disks.checkpoints[path] = (min(found[0], limit), min(found[1], limit), min(found[2], limit))

    def write_log_start(self, topic: str, partition: int, offset: int, publish: Callable[[], object]) -> None:
        """See StartingPoints.write_log_start."""
        del topic, partition, offset
        publish()


class LeaderFile:
    """See workers.leader_files."""

    def __init__(self, disks: Disks, directory: str) -> None:
        self._disks, self.directory = disks, directory

    def read(self, segment: int, position: int, length: int) -> bytes:
        """See LeaderFile."""
        return self._disks.read(self.directory, segment, position, length)

    def close(self) -> None:
        """See LeaderFile."""
