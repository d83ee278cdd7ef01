"""Replicas of one worker that move to another log directory: their copies, made a piece a turn beside what
the worker serves, and how they come to an end. What is copied core/replication/future.py decides, which files
there are workers/future_files.py.

    an order names a directory -> copying -> CopyMade, as often as it is not answered
    CompleteMove -> the rest, the mark -> MoveEnded -> an order in the new directory

A worker that dies has its successor begin anew, unless the mark is there and the directory committed.
"""

import time
from collections.abc import Callable

from tailrace.core.config import log_config
from tailrace.core.errors import KafkaError
from tailrace.core.log.directory import RealDirectory, is_full
from tailrace.core.log.flush import Flush
from tailrace.core.log.log import Log
from tailrace.core.replication.copy_limit import CopyLimit
from tailrace.core.replication.future import FutureReplica
from tailrace.workers import future_files
from tailrace.workers.background import Background
from tailrace.workers.control_moves import CopyMade, MoveEnded
from tailrace.workers.future_files import Moved, Progress
from tailrace.workers.leader_files import LeaderFile
from tailrace.workers.process import ProcessContext
from tailrace.workers.replica import Replica
from tailrace.workers.say import say

COPY_BYTES = 256 * 1024  # in a turn, then what is served has its own
COPY_BYTES_MAX = 8 * 1024 * 1024  # where more is appended than that
SYNC_BYTES = 64 * 1024 * 1024  # copied between two syncs
LEFT_BYTES = 1024 * 1024  # that may be to be synced while nothing is served
SAY_AGAIN_MS = 1000
FULL_PAUSE_MS = 1000  # until a full disk is tried again
POLL_MS = 20  # while a sync is under way
IDLE_MS = 3_600_000


class _Move:
    """One replica and its copy, which there is once there is room for it."""

    def __init__(self, replica: Replica, log_dir: str) -> None:
        self.replica = replica
        self.log_dir = log_dir
        self.path = ""
        self.future: FutureReplica | None = None
        self.source = LeaderFile(replica.path)
        self.progress: Progress | None = None
        self.limit: CopyLimit | None = None
        self.due_ms = 0  # not before that
        self.said_ms = -SAY_AGAIN_MS
        self.unsynced = 0  # bytes
        self.budget, self.lag = COPY_BYTES, 0
        self.is_syncing = False
        self.is_complete = False  # its log is closed

    def open(self, context: ProcessContext) -> None:
        """Make the copy, empty, in the place of what is left of others. OSError, KafkaError: it cannot be."""
        order, log = self.replica.order, self.replica.log
        name, first = f"{order.topic}-{order.partition}", log.segments[0].base_offset
        future_files.remove_futures(self.log_dir, name)
        self.path = f"{self.log_dir}/{future_files.future_name(name)}"
        directory = RealDirectory(self.path, kept_free=context.config.disk_reserve_bytes)
        self.progress = Progress(self.path)
        self.progress.write(0, first)  # also while there is no room: what waits is shown
        copy = Log.open(
            directory,
            name,
            log_config(order.configs, context.config),
            now_ms=time.time_ns() // 1_000_000,
            log_start_offset=first,
            topic_id=order.topic_id,
        )
        self.future = FutureReplica(log, copy)
        self.lag = self.future.lag

    def close(self) -> None:
        """Its descriptors."""
        self.source.close()
        if self.progress is not None:
            self.progress.close()
        if self.future is not None:
            self.future.log.close(clean=False)
        self.progress = self.future = None

    def wait_for_room(self, now_ms: int) -> None:
        """The disk is full. What is copied stays, if it can be gone on with."""
        self.due_ms = now_ms + FULL_PAUSE_MS
        if self.future is not None and self.future.log.is_closed:
            self.close()


class FutureReplicas:
    """See the module. `blame` hears of errors of the disk in a log directory."""

    def __init__(self, context: ProcessContext, blame: Callable[[str, Exception], object]) -> None:
        self._context = context
        self._blame = blame
        self._moves: dict[int, _Move] = {}  # by row
        self._syncs: Background[tuple[_Move, Flush]] = Background()
        self._removals: Background[None] = Background()

    @property
    def is_active(self) -> bool:
        """Whether some replica moves."""
        return bool(self._moves)

    def has_work(self) -> bool:
        """Whether there is something to be copied now."""
        now_ms = _now_ms()
        return any(move.due_ms <= now_ms for move in self._moves.values())

    def timeout_s(self) -> float:
        """How long the worker may sleep."""
        if not self._moves:
            return IDLE_MS / 1000
        return max(0.0, (min(move.due_ms for move in self._moves.values()) - _now_ms()) / 1000)

    # -- what orders say

    def obey(self, replica: Replica) -> None:
        """Its order may name another directory than before, or none."""
        row, order = replica.order.row, replica.order
        move = self._moves.get(row)
        if move is not None and (
            move.replica is not replica or move.is_complete or move.log_dir != order.future_log_dir
        ):
            self.drop(row)
            move = None
        if move is None and order.future_log_dir not in ("", order.log_dir):
            move = self._moves[row] = _Move(replica, order.future_log_dir)
            self._try(move, lambda: move.open(self._context))
        if move is not None and (move.limit.rate if move.limit else 0) != order.future_rate:
            move.limit = CopyLimit(order.future_rate, _now_ms()) if order.future_rate else None
            move.due_ms = 0

    def _try(self, move: _Move, act: Callable[[], object]) -> None:
        try:
            act()
        except (OSError, KafkaError) as error:
            self._failed(move, error)

    def _failed(self, move: _Move, error: Exception) -> None:
        """A full disk is waited for; anything else is the end of the move."""
        error.__traceback__ = None  # its frames hold views of the mapping
        if is_full(error):
            move.wait_for_room(_now_ms())
            return
        replica, log_dir = move.replica, move.log_dir
        order = replica.order
        say(f"tailrace: {order.topic}-{order.partition} does not move to {log_dir}: {error}\n")
        self.drop(order.row)
        self._blame(log_dir, error)
        self._say_ended(replica, log_dir, is_complete=False)

    # -- a turn

    def turn(self) -> None:
        """Copy a piece of each; sync what was copied; say what is made."""
        self._take_synced()
        now_ms = _now_ms()
        for move in list(self._moves.values()):
            if move.is_complete or now_ms < move.due_ms:
                continue
            self._try(move, lambda move=move: self._go_on(move, now_ms))  # type: ignore[misc]

    def _go_on(self, move: _Move, now_ms: int) -> None:
        if move.future is None:
            move.open(self._context)
        else:
            self._copy(move, move.future, now_ms)

    def _copy(self, move: _Move, future: FutureReplica, now_ms: int) -> None:
        limit = move.limit
        move.budget = min(2 * move.budget, COPY_BYTES_MAX) if future.lag > move.lag else COPY_BYTES
        budget = move.budget if limit is None else min(move.budget, limit.allowance(now_ms))
        if budget <= 0 and limit is not None:
            move.due_ms = limit.due_ms()
            return
        copied = future.copy(move.source.read, budget, time.time_ns() // 1_000_000)
        if limit is not None:
            limit.spend(copied)
        move.unsynced, move.lag = move.unsynced + copied, future.lag
        if move.progress is not None:
            move.progress.write(future.copied_bytes, future.log.log_end_offset)
        move.due_ms = now_ms if move.lag and copied else now_ms + POLL_MS
        if move.is_syncing:
            return
        if move.unsynced > (LEFT_BYTES if not move.lag else SYNC_BYTES):
            flush = future.log.begin_flush()
            move.is_syncing, move.unsynced = True, 0
            self._syncs.submit((move, flush), flush.run)
        elif not move.lag and now_ms - move.said_ms >= SAY_AGAIN_MS:
            move.said_ms = now_ms
            order = move.replica.order
            made = CopyMade(row=order.row, row_generation=order.row_generation, log_dir=move.log_dir)
            self._context.tell_controller(made)

    def _take_synced(self, *, wait: bool = False) -> None:
        for (move, flush), error in self._syncs.take_done(wait=wait):
            move.is_syncing = False
            order, future = move.replica.order, move.future
            if self._moves.get(order.row) is not move or future is None:
                continue
            if future.log.directory is not flush.directory:
                continue  # the copy was begun anew meanwhile
            if error is None:
                future.log.flushed(flush)
            else:
                self._failed(move, error)

    # -- the end

    def complete(self, replica: Replica) -> None:
        """It neither leads nor follows any more: the copy becomes the same, and gets its mark."""
        row = replica.order.row
        self._take_synced(wait=True)  # (R) an error that a sync has reported is not reported again
        move = self._moves.get(row)
        if move is None or move.future is None or move.replica is not replica or move.is_complete:
            self._say_ended(replica, "", is_complete=False)
            return
        log_dir = move.log_dir
        try:
            is_same = move.future.complete(move.source.read, time.time_ns() // 1_000_000)
            if is_same:
                future_files.write_mark(move.path, self._mark_of(replica))
                move.is_complete, move.due_ms = True, _now_ms() + IDLE_MS
        except (OSError, KafkaError) as error:
            self._failed(move, error)
            if is_full(error):
                self._say_ended(replica, "", is_complete=False)  # the old log is served, the move stays
            return
        if not is_same:
            self.drop(row)
        self._say_ended(replica, log_dir, is_complete=is_same)

    def _mark_of(self, replica: Replica) -> Moved:
        log = replica.log
        return Moved(
            source=self._context.log_dirs.id_of(replica.order.log_dir),
            recovery_point=log.log_end_offset,  # of the copy, which is on the disk
            high_watermark=min(log.high_watermark, log.log_end_offset),
            log_start=log.log_start_offset,
        )

    def _say_ended(self, replica: Replica, log_dir: str, *, is_complete: bool) -> None:
        order = replica.order
        self._context.tell_controller(
            MoveEnded(
                row=order.row,
                row_generation=order.row_generation,
                leader_epoch=max(order.leader_epoch, replica.led_epoch),
                log_dir=log_dir,
                is_complete=is_complete,
            )
        )

    def keep(self, row: int) -> None:
        """The replica is opened anew, or is out of service; its files stay, which may be its log."""
        move = self._moves.pop(row, None)
        if move is not None:
            move.close()

    def drop(self, row: int) -> None:
        """It does not move, and the copy goes."""
        move = self._moves.get(row)
        self.keep(row)
        if move is not None and move.path and self._context.log_dirs.is_online(move.log_dir):
            self.remove(future_files.take_name(move.path))

    def drop_in(self, log_dir: str) -> None:
        """This directory is out of service: nothing moves there."""
        for row, move in list(self._moves.items()):
            if move.log_dir == log_dir:
                self.keep(row)
                self._say_ended(move.replica, log_dir, is_complete=False)

    def remove(self, path: str) -> None:
        """What nobody needs any more, in the background; where that fails, at the next start."""
        self._removals.take_done()
        self._removals.submit(None, lambda: future_files.remove(path))

    def close(self) -> None:
        """The last of an orderly stop; copies begin anew with the next start."""
        self._take_synced(wait=True)
        self._removals.take_done(wait=True)
        for row in list(self._moves):
            self.keep(row)


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
