"""What gateways ask of the partitions that a worker leads, entry by entry: appends, looks by time, questions.

All that a ring holds is one run; its completions go out every RUN_BYTES of it, after the rows are shown.
"""

import time
from collections.abc import Callable

from tailrace.core.errors import KAFKA_STORAGE_ERROR, NONE, NOT_LEADER_OR_FOLLOWER, KafkaError
from tailrace.core.log.directory import is_full
from tailrace.shm.arena import Arena, LargeFile
from tailrace.shm.links import DESCRIPTOR
from tailrace.shm.region import ShmError
from tailrace.shm.ring import DescriptorConsumer, DescriptorProducer
from tailrace.workers.completions import Completions
from tailrace.workers.descriptors import (
    ASK,
    ASK_AGAIN,
    COMPLETIONS_MAX,
    LOOK_UP,
    MAX_TIMESTAMP,
    ONCE_COMMITTED,
    PRODUCE,
    Entry,
    arena_name,
    pack,
)
from tailrace.workers.held_acks import HeldAcks, Origin
from tailrace.workers.leader_asks import Asks
from tailrace.workers.log_dirs import is_broken
from tailrace.workers.process import ProcessContext
from tailrace.workers.replica import Replica
from tailrace.workers.replicas import Replicas
from tailrace.workers.say import say

TELL_FULL_S = 60.0  # between two lines of the broker's log that say that a disk is full
NO_RING_S = 0.005  # between two tries to make one, while the run directory is full
RUN_BYTES = 16 * 1024  # appended, after which its clients are told while the run goes on


class Appends:
    """`publish` shows the rows that were touched: before anybody is told of what is in them (R)."""

    def __init__(
        self,
        context: ProcessContext,
        replicas: Replicas,
        completions: Completions,
        held: HeldAcks,
        asks: Asks,
        publish: Callable[[], object],
    ) -> None:
        self._context = context
        self._replicas = replicas
        self._by_row = replicas.by_row
        self._touched = replicas.touched
        self._commit = replicas.commit
        self._completions = completions
        self._held = held
        self._asks = asks
        self._publish = publish
        self._arenas: dict[tuple[int, int], Arena] = {}
        self._tell_full_s = 0.0

    def forget(self, slot: int, incarnation: int) -> None:
        """That gateway is dead."""
        arena = self._arenas.pop((slot, incarnation), None)
        if arena is not None:
            arena.close()

    def take(self, slot: int, incarnation: int, ring: DescriptorConsumer) -> None:
        """All that a gateway asks now."""
        context = self._context
        try:
            back = context.links.outgoing(slot, DESCRIPTOR, COMPLETIONS_MAX)
        except ShmError:  # (R) no room for a ring to answer in: the entries wait in theirs
            context.pause(NO_RING_S)
            return
        entries = ring.pop_all()
        if back is None or not context.slots.is_live(slot, incarnation):
            return  # (R) that gateway is dead, and its successor has other requests under the same tokens
        arena = self._arenas.get((slot, incarnation))
        if arena is None:
            try:
                arena = Arena.attach(f"{context.run_dir}/{arena_name(slot, incarnation)}")
            except FileNotFoundError:
                if context.slots.is_live(slot, incarnation):
                    raise
                return  # it died just now, and the supervisor has removed its arena
            self._arenas[slot, incarnation] = arena
        now_ms = time.time_ns() // 1_000_000
        answers: list[bytes] = []
        size = 0
        for entry in entries:
            answer = self._on_entry(entry, arena, slot, incarnation, now_ms)
            if answer is not None:
                answers.append(answer)
            size += entry[6]
            if size >= RUN_BYTES:
                self._complete(answers, slot, back)
                answers, size = [], 0
        if answers or self._touched:
            self._complete(answers, slot, back)

    def _complete(self, answers: list[bytes], slot: int, back: DescriptorProducer) -> None:
        """Publish what was appended, then tell the gateway so (R): whoever hears of an append can read it."""
        if self._touched:
            self._publish()
        if answers or self._completions.is_waiting:
            self._completions.send(slot, back, answers)

    def _on_entry(self, entry: Entry, arena: Arena, slot: int, incarnation: int, now_ms: int) -> bytes | None:
        kind, token, row, generation, source, position, length, extra = entry
        if kind == ASK_AGAIN:
            return self._asks.again(entry, arena, slot, incarnation)
        replica = self._by_row.get(row)
        if replica is None or not replica.leads or replica.order.row_generation != generation:
            return pack(kind, token, NOT_LEADER_OR_FOLLOWER, -1, -1, -1, -1, 0)
        self._context.slots.set_current_row(self._context.slot, row)
        try:
            if kind == LOOK_UP:
                return self._look_up(replica, token, source)
            if kind == ASK:
                return self._asks.take(entry, replica, arena, slot, incarnation)
            assert kind == PRODUCE
            origin = (slot, incarnation, token)
            waits = extra == ONCE_COMMITTED
            if source:
                return self._append_large(replica, origin, source, position, length, now_ms, waits)
            return self._append(replica, origin, arena.view[position : position + length], now_ms, waits)
        except (KafkaError, OSError) as error:
            if is_full(error):
                self._tell_full(error)
            elif is_broken(error) or isinstance(error, OSError):
                self._replicas.fail(replica, error)
            code = error.code if isinstance(error, KafkaError) else KAFKA_STORAGE_ERROR
            return pack(kind, token, code, -1, -1, -1, -1, 0)

    def _tell_full(self, error: Exception) -> None:
        """The broker's log hears of it, not of each request that is refused."""
        now_s = time.monotonic()
        if now_s >= self._tell_full_s:
            self._tell_full_s = now_s + TELL_FULL_S
            say(f"tailrace: {error}; appends are refused until there is room\n")

    def _append(
        self, replica: Replica, origin: Origin, batch: "memoryview[int]", now_ms: int, waits: bool
    ) -> bytes | None:
        log, epoch = replica.log, replica.led_epoch
        if waits and replica.leading is not None:
            replica.leading.in_sync.check_enough()
        done = log.append_as_leader(batch, epoch, now_ms)
        commit = self._commit
        if commit is None:
            self._touched.add(replica)
        else:
            commit.appended(replica)
        time_ms, start = done.log_append_time_ms, log.log_start_offset
        completion = pack(PRODUCE, origin[2], NONE, done.base_offset, time_ms, start, epoch, 0)
        if not waits or (commit is None and replica.leading is None):
            return completion
        return self._held.answer(done.last_offset + 1, replica, origin, completion)

    def _append_large(
        self,
        replica: Replica,
        origin: Origin,
        source: int,
        position: int,
        length: int,
        now_ms: int,
        waits: bool,
    ) -> bytes | None:
        try:
            large = LargeFile.attach(self._context.run_dir, *origin[:2], source)
        except (OSError, ShmError):  # its gateway is dead, or memory is short: nothing is wrong with the disk
            return pack(PRODUCE, origin[2], NOT_LEADER_OR_FOLLOWER, -1, -1, -1, -1, 0)
        try:
            view = large.view[position : position + length]
            try:
                return self._append(replica, origin, view, now_ms, waits)
            finally:
                view.release()
        finally:
            large.close()

    @staticmethod
    def _look_up(replica: Replica, token: int, timestamp: int) -> bytes:
        log = replica.log
        found = log.max_timestamp() if timestamp == MAX_TIMESTAMP else log.offset_for_timestamp(timestamp)
        if found is not None and not replica.is_committed(found[0] + 1):
            found = None
        offset, found_timestamp, epoch = found or (-1, -1, -1)
        return pack(LOOK_UP, token, NONE, offset, found_timestamp, log.log_start_offset, epoch, 0)
