"""One replica that a worker holds: its log, the row that shows it, and how both are opened."""

import os
import time
from collections.abc import Callable

from tailrace.core.config import log_config
from tailrace.core.errors import KAFKA_STORAGE_ERROR, KafkaError
from tailrace.core.log.checkpoints import HIGH_WATERMARKS, LOG_STARTS, RECOVERY_POINTS
from tailrace.core.log.directory import RealDirectory
from tailrace.core.log.flush import Flush
from tailrace.core.log.log import Log
from tailrace.core.replication.follower import FollowerPartition
from tailrace.core.replication.partition import LeaderPartition
from tailrace.shm.state_table import (
    ACTIVE_SEGMENT_BASE_OFFSET,
    HIGH_WATERMARK,
    HIGH_WATERMARK_POSITION,
    HW_SEGMENT_BASE_OFFSET,
    LAST_STABLE_OFFSET,
    LEADER_EPOCH,
    LOG_END_OFFSET,
    LOG_START_OFFSET,
    OWNER,
    PARTITION,
    RECOVERY_POINT,
    ROLE,
    ROLE_NONE,
    ROW_GENERATION,
    SEGMENT_GENERATION,
    TOPIC_ID_HI,
    TOPIC_ID_LO,
    RowWriter,
    topic_id_words,
)
from tailrace.workers import control, future_files
from tailrace.workers.process import ProcessContext
from tailrace.workers.starting_points import StartingPoints

Place = tuple[int, int, int]
"""An offset, the segment it is in (or at whose end it is) and the position there."""


class Replica:
    """One replica that this worker holds.

    It leads alone, as the only one of its partition: then what it holds is committed, or what of it is on the
    disk, if flush.policy says that only this counts. Or it has others: then it is `leading` them, or
    `following` one of them, and committed is what their rules say (core/replication).
    """

    __slots__ = ("_synced", "following", "generations_before", "leading", "leads", "led_epoch", "log",
                 "order", "path", "row")  # fmt: skip

    def __init__(
        self, order: control.ServeReplica, log: Log, row: RowWriter, path: str, generations_before: int
    ) -> None:
        self.generations_before = generations_before  # segment generations its predecessor published
        self.order = order
        self.log = log
        self.row = row
        self.path = path
        self.leads = False  # in led_epoch
        self.led_epoch = -1  # in which it led last, and will not again
        self.leading: LeaderPartition | None = None
        self.following: FollowerPartition | None = None
        self._synced: Place | None = None  # of one that leads alone; None: what it has counts at once

    @property
    def key(self) -> tuple[bytes, int]:
        """Topic id and partition."""
        return self.order.topic_id, self.order.partition

    @property
    def shown_epoch(self) -> int:
        """The leader epoch in its row; NEVER_SHOWN: see core/replication/high_watermark.py."""
        return self.row.values[LEADER_EPOCH]

    @property
    def committed(self) -> int:
        """The high watermark: what ends there can be read, and acknowledged to who waits for that."""
        if self.leading is not None:
            return self.leading.in_sync.high_watermark
        log = self.log
        if not self.leads:
            return log.high_watermark
        return log.log_end_offset if self._synced is None else min(self._synced[0], log.log_end_offset)

    def is_committed(self, end_offset: int) -> bool:
        """Whether `committed` covers it. Cheap for one that leads alone."""
        return (self._synced is None and self.leading is None) or end_offset <= self.committed

    def is_synced(self, end_offset: int) -> bool:
        """Whether it is on the disk, under a flush.policy for which that counts."""
        return end_offset <= (self.log.recovery_point if self._synced is None else self._synced[0])

    def commit_what_is_synced(self) -> None:
        """It leads alone, and from now on only what is on the disk is committed; (R) all that is there is
        synced first, also what a dead predecessor has left in the page cache. SyncFailedError, KafkaError: it
        cannot be.
        """
        log = self.log
        log.flush(log.log_end_offset)
        self._synced = (log.log_end_offset, log.active_base_offset, log.active_position)
        self.row.values[RECOVERY_POINT] = log.recovery_point

    def commit_with_others(self) -> None:
        """It leads alone no more."""
        self._synced = None

    def sync(self) -> None:
        """All that was appended is on the disk when this returns; SyncFailedError, KafkaError."""
        flush = self.log.begin_flush()
        flush.run()
        self.synced(flush)

    def synced(self, flush: Flush) -> None:
        """It has run: what was there when it began counts (R), once `publish` shows it."""
        if self.log.flushed(flush):
            # (R) not back: it may have begun before this replica led alone, with all that was there synced
            if self._synced is not None and flush.end_offset > self._synced[0]:
                self._synced = (flush.end_offset, flush.segment_base_offset, flush.position)
            self.row.values[RECOVERY_POINT] = self.log.recovery_point

    def publish(self) -> None:
        """Show the log's state. KafkaError: a place in it cannot be found."""
        log, values = self.log, self.row.values
        end = log.log_end_offset
        committed, base, position = end, log.active_base_offset, log.active_position
        epoch = self.led_epoch
        if self.leads and self.leading is None:
            if self._synced is not None and self._synced[0] < end:
                committed, base, position = self._synced
        else:
            committed = self.committed
            if committed < end:
                base, position = self._place_of(committed)
            if self.following is not None:
                epoch = self.following.shown_epoch  # (R) see core/replication/high_watermark.py
            elif not self.leads:
                epoch = self.shown_epoch
        values[LEADER_EPOCH] = epoch
        values[LOG_START_OFFSET] = log.log_start_offset
        values[LOG_END_OFFSET] = end
        values[HIGH_WATERMARK] = committed
        values[LAST_STABLE_OFFSET] = committed
        values[HIGH_WATERMARK_POSITION] = position
        values[HW_SEGMENT_BASE_OFFSET] = base
        values[ACTIVE_SEGMENT_BASE_OFFSET] = log.active_base_offset
        values[SEGMENT_GENERATION] = self.generations_before + log.segment_generation
        self.row.publish()
        if self.leading is not None:
            self.leading.on_shown()

    def _place_of(self, offset: int) -> tuple[int, int]:
        if self.leading is not None:
            return self.leading.places.take(offset)
        if self.following is not None:
            return self.following.places.take(offset)
        return self.log.place_of(offset)

    def publish_role(self, role: int) -> None:
        """Show in which role it is, all else as it was."""
        self.row.values[ROLE] = role
        self.row.publish()

    def publish_recovery_point(self, recovery_point: int) -> None:
        """What is on the disk by now: the housekeeper writes it down, who opens the log next trusts it."""
        self.row.values[RECOVERY_POINT] = recovery_point
        self.row.publish()


PAGE = "page"  # flush.policy
NEVER_SHOWN = -1  # a leader epoch


class Opener:
    """Opens the replicas of one worker."""

    def __init__(
        self,
        context: ProcessContext,
        starting_points: Callable[[str], StartingPoints],
        on_replaced: Callable[[str], object],
    ) -> None:
        """`starting_points`: of a log directory; `on_replaced`: hears of logs that are to be removed, as
        others have taken their place.
        """
        self._context = context
        self._on_replaced = on_replaced
        self._starting_points = starting_points

    def open(self, order: control.ServeReplica) -> Replica:
        """Open the log, recovered if need be; nobody leads it yet, and its row is not published. OSError,
        KafkaError: it cannot be.
        """
        context = self._context
        self._check_dir(order.log_dir)
        path = f"{order.log_dir}/{order.topic}-{order.partition}"
        self._end_move(order, path)
        row = RowWriter(context.state_table, order.row)
        values = row.values
        topic_id = topic_id_words(order.topic_id)
        was_here = (
            topic_id == (values[TOPIC_ID_HI], values[TOPIC_ID_LO]) and values[PARTITION] == order.partition
        )
        if was_here:  # its predecessor may have died while it moved
            for leftover in future_files.leftovers(context.log_dirs, f"{order.topic}-{order.partition}"):
                self._on_replaced(leftover)
        directory = RealDirectory(path, kept_free=context.config.disk_reserve_bytes)
        start = self._starting_points(order.log_dir).find(
            directory, order.topic, order.partition, order.topic_id, values if was_here else None
        )
        log = Log.open(
            directory,
            f"{order.topic}-{order.partition}",
            log_config(order.configs, context.config),
            now_ms=time.time_ns() // 1_000_000,
            recovery_point=start.recovery_point,
            high_watermark=start.high_watermark,  # of its dead predecessor (R), or of the last run
            log_start_offset=start.log_start_offset,
            has_readers=start.has_readers,
            topic_id=order.topic_id,
        )
        log.on_lowered = lambda recovery_point: self._take_back(order, row, recovery_point)
        log.on_start_moved = lambda offset: self._write_start(order, row, offset)
        values[ROLE] = ROLE_NONE  # whatever its predecessor died as
        if log.recovery_point < start.recovery_point:  # (R) the disk has lost what it said it held
            try:
                self._take_back(order, row, log.recovery_point)
            except KafkaError:
                log.close(clean=False)
                raise
        log.on_prefault = lambda name, position, length: self._prefault(path, name, position, length)
        # recovery may have made new inodes: no generation is published twice, so that readers open them anew
        replica = Replica(order, log, row, path, values[SEGMENT_GENERATION] if was_here else 0)
        if not was_here:
            values[LEADER_EPOCH] = NEVER_SHOWN  # (R) what is in its row since the last full stop counts
        values[TOPIC_ID_HI], values[TOPIC_ID_LO] = topic_id
        values[PARTITION] = order.partition
        values[ROW_GENERATION] = order.row_generation
        values[OWNER] = context.slot << 32 | context.incarnation
        values[RECOVERY_POINT] = log.recovery_point
        return replica

    def _end_move(self, order: control.ServeReplica, path: str) -> None:
        """A copy that is complete becomes the log, if it is to; what the mark says is believed once (R): its
        log start would outlive a truncation below it.
        """
        log_dirs, name = self._context.log_dirs, f"{order.topic}-{order.partition}"
        if not order.is_new:
            replaced = future_files.take_place(log_dirs, order.log_dir, name, order.topic_id)
            if replaced is not None:
                self._on_replaced(replaced)
        moved = future_files.read_mark(path)
        if moved is not None:
            if moved.recovery_point >= 0:
                known = {
                    RECOVERY_POINTS: moved.recovery_point,
                    HIGH_WATERMARKS: moved.high_watermark,
                    LOG_STARTS: moved.log_start,
                }
                self._starting_points(order.log_dir).enter(order.topic, order.partition, known)
            future_files.settle_mark(log_dirs, path, moved)

    def _check_dir(self, log_dir: str) -> None:
        """(R) Or an empty log might be made where a file system is not mounted any more."""
        context, number = self._context, 0
        if context.log_dirs.is_online(log_dir):
            number = context.log_dirs.probe(log_dir)
            if not number:
                return
            context.blame_disk(log_dir, OSError(number, os.strerror(number)))
        raise KafkaError(KAFKA_STORAGE_ERROR, f"log directory {log_dir} is out of service")

    def _take_back(self, order: control.ServeReplica, row: RowWriter, recovery_point: int) -> None:
        row.values[RECOVERY_POINT] = recovery_point  # (R) first, or the housekeeper writes the old one again
        row.publish()
        self._starting_points(order.log_dir).take_back(order.topic, order.partition, recovery_point)

    def _write_start(self, order: control.ServeReplica, row: RowWriter, offset: int) -> None:
        def publish() -> None:
            row.values[LOG_START_OFFSET] = offset
            row.publish()

        self._starting_points(order.log_dir).write_log_start(order.topic, order.partition, offset, publish)

    def _prefault(self, path: str, name: str, position: int, length: int) -> None:
        message = control.Prefault(path=f"{path}/{name}", position=position, length=length)
        self._context.outbox.send(self._context.housekeeper_slot, message)
