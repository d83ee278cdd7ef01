"""The disks of a simulated host: logs, what their sync has reached, and checkpoints.

A killed process leaves its logs as they are, in the page cache; a loss of power what was synced, and any part
of the rest. A log directory breaks: everything in it is EIO until it is mended; or is lost, with all in it.
"""

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from errno import EIO, ENOENT
from random import Random
from types import SimpleNamespace
from typing import Any

from msgspec import Struct

from tailrace.core.errors import KAFKA_STORAGE_ERROR, KafkaError
from tailrace.core.ids import uuid_text
from tailrace.core.log.directory import storage_error
from tailrace.core.log.flush import SyncFailedError
from tailrace.core.log.log import Appended
from tailrace.core.records.batch import Buffer
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
        try:
            self.log.touch()
        except OSError as error:
            raise SyncFailedError(EIO, str(error)) from error
        if self.cuts == self.log.truncations:
            self.log.durable = max(self.log.durable, self.end_offset)


class DiskLog(MemoryLog):
    """What a worker asks of a Log. `durable`: what is on the disk, whether the worker knows it or not."""

    segment_generation = 0
    on_lowered: Callable[[int], object] | None = None
    on_start_moved: Callable[[int], object] | None = None
    on_prefault: Callable[[str, int, int], object] | None = None

    def __init__(self, disks: "Disks", path: str, topic_id: bytes) -> None:
        super().__init__()
        self.disks, self.path, self.topic_id, self.durable = disks, path, topic_id, 0
        self.config: object = None
        self.is_deleted = False

    def touch(self) -> None:
        """OSError: its disk does not take anything any more."""
        if os.path.dirname(self.path) in self.disks.broken:
            raise OSError(EIO, os.strerror(EIO))

    @contextmanager
    def _changed(self) -> Generator[None]:
        """KafkaError as of a Log whose disk refuses."""
        try:
            self.touch()
        except OSError as error:
            raise storage_error(error, f"cannot write to {self.path}") from error
        yield

    def append_as_follower(self, source: Buffer, now_ms: int, *, allow_gap: bool = False) -> None:
        """See Log."""
        with self._changed():
            super().append_as_follower(source, now_ms, allow_gap=allow_gap)

    def append_as_leader(self, batch: memoryview, leader_epoch: int, now_ms: int) -> Appended:
        """See Log."""
        del now_ms
        with self._changed():
            return self._append(batch, leader_epoch)

    def _append(self, batch: memoryview, leader_epoch: int) -> Appended:
        base = self.log_end_offset
        end = self.produce(bytes(batch), leader_epoch)
        return Appended(
            base_offset=base, last_offset=end - 1, log_append_time_ms=-1, end_position=self.active_position
        )

    def truncate_to(self, offset: int, now_ms: int) -> None:
        """See Log."""
        before = self.recovery_point
        with self._changed():
            super().truncate_to(offset, now_ms)
        self.durable = min(self.durable, self.log_end_offset)
        if self.recovery_point < before and self.on_lowered is not None:
            self.on_lowered(self.recovery_point)

    def truncate_fully_and_start_at(self, offset: int, now_ms: int) -> None:
        """See Log."""
        with self._changed():
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
        try:
            flush.run()
        except OSError as error:
            raise storage_error(error, f"cannot sync {self.path}") from error
        self.flushed(flush)

    def tick(self, _now_ms: int) -> None:
        """See Log."""

    def close(self, clean: bool = True) -> None:
        """See Log."""
        self.on_lowered = None
        if clean:
            self.flush()

    def delete(self) -> None:
        """See Log: whatever lies in its directory goes."""
        self.close(clean=False)
        self.disks.directory(self.path).destroy()

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
        if os.path.dirname(self.path) in self._disks.broken:
            raise OSError(EIO, os.strerror(EIO))
        self._disks.delete(self.path)


class Disks:
    """All of them; `checkpoints` by log: recovery point, high watermark, log start."""

    def __init__(self) -> None:
        self.logs: dict[str, DiskLog] = {}
        self.checkpoints: dict[str, tuple[int, int, int]] = {}
        self.broken: set[str] = set()  # log directories
        self.lost: set[str] = set()  # log directories, in whose place there may be an empty one
        self._files: dict[int, tuple[DiskLog, int]] = {}  # by descriptor: a log, and which segment of it
        self._opened = 0

    def probe(self, log_dir: str) -> int:
        """See LogDirs."""
        return EIO if log_dir in self.broken else ENOENT if log_dir in self.lost else 0

    def lose(self, log_dir: str) -> None:
        """All of it."""
        self.lost.add(log_dir)
        for path in [path for path in self.logs if os.path.dirname(path) == log_dir]:
            self.delete(path)
        for path in [path for path in self.checkpoints if os.path.dirname(path) == log_dir]:
            del self.checkpoints[path]

    def directory(self, path: str, **_: object) -> Directory:
        """See RealDirectory."""
        return Directory(self, path)

    def open(
        self, directory: Directory, _name: str, config: object, *, topic_id: bytes, **known: Any
    ) -> DiskLog:
        """See Log.open: what is there, or a new one."""
        path = directory.path
        if os.path.dirname(path) in self.broken:
            error = OSError(EIO, os.strerror(EIO))
            raise storage_error(error, f"cannot open {path}") from error
        log = self.logs.get(path)
        if log is None or log.topic_id != topic_id:
            assert log is None or not log.batches, "see StartingPoints.find"
            log = self.logs[path] = DiskLog(self, path, topic_id)
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

    # What a survey asks of the operating system.

    @contextmanager
    def scandir(self, log_dir: str) -> Generator[list[SimpleNamespace]]:
        """See os.scandir."""
        names = [os.path.basename(path) for path in self.logs if os.path.dirname(path) == log_dir]
        yield [SimpleNamespace(name=name, is_dir=_always) for name in names]

    def topic_id_in(self, path: str) -> str | None:
        """What partition.metadata says."""
        return uuid_text(self.logs[path].topic_id)

    def rename(self, path: str, new_path: str) -> None:
        """See os.rename."""
        log = self.logs[new_path] = self.logs.pop(path)
        log.path = new_path

    # What followers ask of it, who copy from a leader's file.

    def as_os(self) -> SimpleNamespace:
        """See os: files are opened to be read, and stay what they are also when they are deleted."""
        return SimpleNamespace(
            path=os.path, O_RDONLY=0, O_CLOEXEC=0, open=self._open_file, pread=self._pread, close=self._close
        )

    def _open_file(self, path: str, _flags: int) -> int:
        log, segment = self.logs.get(os.path.dirname(path)), int(os.path.basename(path)[:20])
        if log is None or segment not in {each.base_offset for each in log.segments}:
            raise FileNotFoundError(ENOENT, os.strerror(ENOENT))
        log.touch()
        self._opened += 1
        self._files[self._opened] = (log, segment)
        return self._opened

    def _pread(self, descriptor: int, length: int, position: int) -> bytes:
        log, segment = self._files[descriptor]
        log.touch()
        return log.read(segment, position, length)

    def _close(self, descriptor: int) -> None:
        del self._files[descriptor]

    def checkpoint(self, path: str, row: Sequence[int]) -> None:
        """What a row says of it is written down."""
        serves = row[ROLE] in (ROLE_LEADER, ROLE_FOLLOWER)
        if serves and path in self.logs and row[RECOVERY_POINT] != SYNC_FAILED:
            self.checkpoints[path] = (row[RECOVERY_POINT], row[HIGH_WATERMARK], row[LOG_START_OFFSET])

    def power_fails(self, random: Random) -> None:
        """Of what was not synced anything may be gone. What is broken is mended before all starts again."""
        self.broken.clear()
        for path, log in self.logs.items():
            log.on_lowered = None
            log.recovery_point = log.durable
            end = log.log_end_offset
            log.truncate_to(random.randint(log.durable, end) if end > log.durable else end, 0)
            point, mark, start = self.checkpoints.get(path, (0, 0, 0))
            self.checkpoints[path] = (min(point, log.durable), mark, start)
            log.durable = log.log_end_offset  # what is left has been read from the disk


def _always(*, follow_symlinks: bool) -> bool:
    return not follow_symlinks


class StartingPoints:
    """See workers.starting_points."""

    def __init__(self, disks: Disks, log_dir: str) -> None:
        self._disks, self._log_dir = disks, log_dir

    def find(
        self, directory: Directory, _topic: str, _partition: int, topic_id: bytes, row: Sequence[int] | None
    ) -> StartingPoint:
        """See StartingPoints.find."""
        if row is not None and row[RECOVERY_POINT] == SYNC_FAILED:
            raise KafkaError(KAFKA_STORAGE_ERROR, f"{directory.path}: a sync failed")
        log = self._disks.logs.get(directory.path)
        is_foreign = log is not None and log.topic_id != topic_id
        if log is not None and is_foreign and log.batches:
            raise KafkaError(KAFKA_STORAGE_ERROR, f"{directory.path} holds records of a deleted topic")
        if log is None or is_foreign:
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
