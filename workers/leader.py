"""A replica worker: leads the partitions that the controller gives it.

One turn: take all entries of all rings; append each batch; publish the rows that moved; only then complete
the entries, so that whoever hears of an append can read it. All that a ring holds is one run.
"""

import time
from contextlib import suppress

from tailrace.core.config import log_config
from tailrace.core.errors import (
    KAFKA_STORAGE_ERROR,
    NONE,
    NOT_LEADER_OR_FOLLOWER,
    KafkaError,
)
from tailrace.core.log.directory import RealDirectory
from tailrace.core.log.flush import SyncFailedError
from tailrace.core.log.log import Log
from tailrace.shm.arena import Arena, LargeFile
from tailrace.shm.links import DESCRIPTOR
from tailrace.shm.region import ShmError
from tailrace.shm.ring import DescriptorConsumer, DescriptorProducer
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
    ROLE_LEADER,
    ROLE_NONE,
    ROLE_OFFLINE,
    ROW_GENERATION,
    SEGMENT_GENERATION,
    SYNC_FAILED,
    TOPIC_ID_HI,
    TOPIC_ID_LO,
    RowWriter,
    topic_id_words,
)
from tailrace.shm.words import fence
from tailrace.workers import control
from tailrace.workers.descriptors import (
    COMPLETIONS_MAX,
    LOOK_UP,
    MAX_TIMESTAMP,
    PRODUCE,
    ROW_ADVANCED,
    arena_name,
    pack,
)
from tailrace.workers.flusher import Flusher
from tailrace.workers.process import CONTROLLER_SLOT, HOUSEKEEPER_SLOT, ProcessContext
from tailrace.workers.starting_points import StartingPoints

TICK_S = 1.0
RUN_BYTES = 16 * 1024  # appended, after which its clients are told while the run goes on
Entry = tuple[int, int, int, int, int, int, int, int]


class Replica:
    """One partition that this worker leads."""

    __slots__ = ("generations_before", "log", "order", "path", "row")

    def __init__(
        self, order: control.BecomeLeader, log: Log, row: RowWriter, path: str, generations_before: int
    ) -> None:
        self.generations_before = generations_before  # segment generations its predecessor published
        self.order = order
        self.log = log
        self.row = row
        self.path = path

    def publish(self) -> None:
        """Show the log's state. The only replica of its partition: what it holds is committed."""
        log, values = self.log, self.row.values
        end = log.log_end_offset
        values[LEADER_EPOCH] = self.order.leader_epoch
        values[LOG_START_OFFSET] = log.log_start_offset
        values[LOG_END_OFFSET] = end
        values[HIGH_WATERMARK] = end
        values[LAST_STABLE_OFFSET] = end
        values[HIGH_WATERMARK_POSITION] = log.active_position
        values[HW_SEGMENT_BASE_OFFSET] = log.active_base_offset
        values[ACTIVE_SEGMENT_BASE_OFFSET] = log.active_base_offset
        values[SEGMENT_GENERATION] = self.generations_before + log.segment_generation
        self.row.publish()

    def publish_recovery_point(self, recovery_point: int) -> None:
        """What is on the disk by now: the housekeeper writes it down, who opens the log next trusts it."""
        self.row.values[RECOVERY_POINT] = recovery_point
        self.row.publish()


class Leader:
    """All replicas of one worker process."""

    def __init__(self, context: ProcessContext) -> None:
        self._context = context
        self._replicas: dict[int, Replica] = {}
        self._arenas: dict[tuple[int, int], Arena] = {}
        self._touched: set[Replica] = set()
        self._notices: dict[int, list[int]] = {}  # gateway slot -> rows it is to be told of
        self._last_tick_ms = 0
        self._flusher: Flusher[Replica] = Flusher()
        self._starting_points = StartingPoints(context.data_dir)

    # -- the loop

    def serve(self) -> None:
        """Turn until a stop is asked for."""
        context = self._context
        links = context.links
        while not context.stopping:
            found = links.poll()
            for slot, incarnation, ring in found:
                if isinstance(ring, DescriptorConsumer):
                    self._on_entries(slot, incarnation, ring)
                else:
                    for message in context.inbox.read(slot, incarnation, ring):
                        self._on_message(message)
            for slot, incarnation in links.drop_dead():
                self._forget(slot, incarnation)
            context.outbox.flush()
            if self._notices:
                self._send_notices()
            now_ms = time.monotonic_ns() // 1_000_000
            if now_ms - self._last_tick_ms >= TICK_S * 1000:
                self._last_tick_ms = now_ms
                self._tick()
            if not found:
                context.wait(0.005 if self._notices else TICK_S, lingers=True)

    def close(self) -> None:
        """Close every log cleanly; the rows stay, led by nobody."""
        self._take_flushed(wait=True)  # (R) an error that a sync has reported is not reported again
        for replica in list(self._replicas.values()):
            try:
                replica.log.close(clean=True)
            except (OSError, KafkaError) as error:
                self._fail(replica, error)
            else:
                replica.publish_recovery_point(replica.log.recovery_point)

    def _take_flushed(self, *, wait: bool = False) -> None:
        for replica, error in self._flusher.take_done(wait=wait):
            if self._replicas.get(replica.row.row) is not replica:
                continue  # deleted or failed meanwhile
            if error is None:
                replica.publish_recovery_point(replica.log.recovery_point)
            else:
                self._fail(replica, error)

    def _tick(self) -> None:
        """What comes with time: rolls by age, expired producers, flushes."""
        self._take_flushed()
        now_ms = time.time_ns() // 1_000_000
        for replica in list(self._replicas.values()):
            self._context.slots.set_current_row(self._context.slot, replica.row.row)
            try:
                replica.log.tick(now_ms)
                self._flusher.start_due(replica, now_ms)
            except (OSError, KafkaError) as error:
                self._fail(replica, error)
        self._context.slots.set_current_row(self._context.slot, -1)

    def _forget(self, slot: int, incarnation: int) -> None:
        arena = self._arenas.pop((slot, incarnation), None)
        if arena is not None:
            arena.close()
        self._notices.pop(slot, None)

    # -- entries of gateways

    def _on_entries(self, slot: int, incarnation: int, ring: DescriptorConsumer) -> None:
        context = self._context
        back = context.links.outgoing(slot, DESCRIPTOR, COMPLETIONS_MAX)
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
            answers.append(answer)
            size += entry[6]
            if size >= RUN_BYTES:
                self._complete(answers, slot, back)
                answers, size = [], 0
        context.slots.add_progress(context.slot)
        if answers:
            self._complete(answers, slot, back)

    def _complete(self, answers: list[bytes], slot: int, back: DescriptorProducer) -> None:
        """Publish what was appended, then tell the gateway so (R): whoever hears of an append can read it."""
        if self._touched:
            self._publish_touched()
        for answer in answers:
            pushed = back.try_push(answer)
            assert pushed, "a gateway has fewer entries under way than the ring back has room for"
        self._push_notices(slot, back)
        back.publish()
        self._context.bells.ring(slot)

    def _on_entry(self, entry: Entry, arena: Arena, slot: int, incarnation: int, now_ms: int) -> bytes:
        kind, token, row, generation, source, position, length, _ = entry
        replica = self._replicas.get(row)
        if replica is None or replica.order.row_generation != generation:
            return pack(kind, token, NOT_LEADER_OR_FOLLOWER, -1, -1, -1, -1, 0)
        self._context.slots.set_current_row(self._context.slot, row)
        try:
            if kind == LOOK_UP:
                return self._look_up(replica, token, source)
            assert kind == PRODUCE
            if source:
                return self._append_large(
                    replica, token, (slot, incarnation, source), position, length, now_ms
                )
            return self._append(replica, token, arena.view[position : position + length], now_ms)
        except KafkaError as error:
            return pack(kind, token, error.code, -1, -1, -1, -1, 0)
        except OSError as error:
            self._fail(replica, error)
            return pack(kind, token, KAFKA_STORAGE_ERROR, -1, -1, -1, -1, 0)

    def _append(self, replica: Replica, token: int, batch: "memoryview[int]", now_ms: int) -> bytes:
        log, epoch = replica.log, replica.order.leader_epoch
        done = log.append_as_leader(batch, epoch, now_ms)
        self._touched.add(replica)
        start = log.log_start_offset
        return pack(PRODUCE, token, NONE, done.base_offset, done.log_append_time_ms, start, epoch, 0)

    def _append_large(
        self,
        replica: Replica,
        token: int,
        source: tuple[int, int, int],
        position: int,
        length: int,
        now_ms: int,
    ) -> bytes:
        try:
            large = LargeFile.attach(self._context.run_dir, *source)
        except (OSError, ShmError):  # its gateway is dead, or memory is short: nothing is wrong with the disk
            return pack(PRODUCE, token, NOT_LEADER_OR_FOLLOWER, -1, -1, -1, -1, 0)
        try:
            view = large.view[position : position + length]
            try:
                return self._append(replica, token, view, now_ms)
            finally:
                view.release()
        finally:
            large.close()

    @staticmethod
    def _look_up(replica: Replica, token: int, timestamp: int) -> bytes:
        log = replica.log
        found = log.max_timestamp() if timestamp == MAX_TIMESTAMP else log.offset_for_timestamp(timestamp)
        offset, found_timestamp, epoch = found or (-1, -1, -1)
        return pack(LOOK_UP, token, NONE, offset, found_timestamp, log.log_start_offset, epoch, 0)

    def _publish_touched(self) -> None:
        for replica in self._touched:
            replica.publish()
        fence()  # pairs with the waiters': the rows are published before their words are read (R)
        waiters = self._context.waiters
        for replica in self._touched:
            row = replica.row.row
            for waiter in waiters.satisfied(row, replica.row.values[HIGH_WATERMARK]):
                self._notices.setdefault(self._gateway_slot(waiter), []).append(row)
        self._touched.clear()

    @staticmethod
    def _gateway_slot(waiter: int) -> int:
        """The gateway of broker `waiter`."""
        assert waiter == 0, "one broker"
        return 2

    def _push_notices(self, slot: int, back: DescriptorProducer) -> None:
        rows = self._notices.pop(slot, None)
        while rows:
            if not back.try_push(pack(ROW_ADVANCED, rows[-1], 0, 0, 0, 0, 0, 0)):
                self._notices[slot] = rows  # the next turn tries again
                return
            rows.pop()

    def _send_notices(self) -> None:
        for slot in list(self._notices):
            back = self._context.links.outgoing(slot, DESCRIPTOR, COMPLETIONS_MAX)
            if back is None:
                del self._notices[slot]
                continue
            self._push_notices(slot, back)
            back.publish()
            self._context.bells.ring(slot)

    # -- orders of the controller

    def _on_message(self, message: control.Message) -> None:
        match message:
            case control.BecomeLeader():
                self._become_leader(message)
            case control.StopReplica():
                self._stop_replica(message)
            case control.ReportReplicas():
                self._say(control.Replicas(replicas=[_held(r.order) for r in self._replicas.values()]))
            case _:
                raise AssertionError(f"no worker is told {type(message).__name__}")

    def _say(self, message: control.Message) -> None:
        self._context.outbox.send(CONTROLLER_SLOT, message)

    def _become_leader(self, order: control.BecomeLeader) -> None:
        replica = self._replicas.get(order.row)
        if replica is not None and replica.order.row_generation == order.row_generation:
            if order.leader_epoch > replica.order.leader_epoch:
                replica.order = order
                replica.publish()
        else:
            slots, slot = self._context.slots, self._context.slot
            slots.set_current_row(slot, order.row)
            slots.set_long_operation(slot, 1)
            try:
                replica = self._open(order)
            except (OSError, KafkaError) as error:
                self._say(
                    control.ReplicaFailed(
                        row=order.row,
                        row_generation=order.row_generation,
                        error_code=KAFKA_STORAGE_ERROR,
                        message=str(error),
                    )
                )
                return
            finally:
                slots.set_long_operation(slot, 0)
            self._replicas[order.row] = replica
        self._say(
            control.ReplicaStarted(
                row=order.row,
                row_generation=order.row_generation,
                leader_epoch=replica.order.leader_epoch,
            )
        )

    def _open(self, order: control.BecomeLeader) -> Replica:
        context = self._context
        path = f"{order.log_dir}/{order.topic}-{order.partition}"
        row = RowWriter(context.state_table, order.row)
        values = row.values
        topic_id = topic_id_words(order.topic_id)
        was_here = (
            topic_id == (values[TOPIC_ID_HI], values[TOPIC_ID_LO]) and values[PARTITION] == order.partition
        )
        directory = RealDirectory(path)
        start = self._starting_points.find(
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
        if log.recovery_point < start.recovery_point:  # (R) the disk has lost what it said it held
            self._take_back(order, row, log.recovery_point)
        log.on_prefault = lambda name, position, length: self._prefault(path, name, position, length)
        # recovery may have made new inodes: no generation is published twice, so that readers open them anew
        replica = Replica(order, log, row, path, values[SEGMENT_GENERATION] if was_here else 0)
        values[TOPIC_ID_HI], values[TOPIC_ID_LO] = topic_id
        values[PARTITION] = order.partition
        values[ROW_GENERATION] = order.row_generation
        values[ROLE] = ROLE_LEADER
        values[OWNER] = context.slot << 32 | context.incarnation
        values[RECOVERY_POINT] = log.recovery_point
        replica.publish()
        return replica

    def _take_back(self, order: control.BecomeLeader, row: RowWriter, recovery_point: int) -> None:
        row.values[RECOVERY_POINT] = recovery_point  # (R) first, or the housekeeper writes the old one again
        row.publish()
        self._starting_points.take_back(order.topic, order.partition, recovery_point)

    def _prefault(self, path: str, name: str, position: int, length: int) -> None:
        message = control.Prefault(path=f"{path}/{name}", position=position, length=length)
        self._context.outbox.send(HOUSEKEEPER_SLOT, message)

    def _stop_replica(self, order: control.StopReplica) -> None:
        self._take_flushed(wait=not order.delete)  # as in `close`
        replica = self._replicas.get(order.row)
        if replica is not None and replica.order.row_generation == order.row_generation:
            del self._replicas[order.row]
            self._touched.discard(replica)
            replica.row.values[ROLE] = ROLE_NONE
            replica.row.publish()
            if order.delete:
                self._forget_offsets(replica.order.topic, order.partition)
                replica.log.delete()
            else:
                replica.log.close(clean=True)
        elif order.delete:
            self._forget_offsets(order.topic, order.partition)
            RealDirectory(f"{self._context.data_dir}/{order.topic}-{order.partition}").destroy()
        self._say(control.ReplicaStopped(row=order.row, row_generation=order.row_generation))

    def _forget_offsets(self, topic: str, partition: int) -> None:
        """After this the housekeeper writes nothing of the deleted log; should the disk be too full for it,
        whoever makes a log of that name finds the entry, and is stopped by it.
        """
        with suppress(KafkaError):
            self._starting_points.take_back(topic, partition)

    def _fail(self, replica: Replica, error: Exception) -> None:
        """Its disk failed: this replica goes offline, its neighbours go on."""
        self._replicas.pop(replica.row.row, None)
        self._touched.discard(replica)
        replica.row.values[ROLE] = ROLE_OFFLINE
        if isinstance(error, SyncFailedError) or isinstance(error.__cause__, SyncFailedError):
            replica.row.values[RECOVERY_POINT] = SYNC_FAILED
            replica.log.distrust_page_cache()
        replica.row.publish()
        error.__traceback__ = None  # its frames hold views of the mapping
        with suppress(OSError):  # the disk has failed already, and the next open finds out what it holds
            replica.log.close(clean=False)
        order = replica.order
        self._say(
            control.ReplicaFailed(
                row=order.row,
                row_generation=order.row_generation,
                error_code=KAFKA_STORAGE_ERROR,
                message=f"{replica.path}: {error}",
            )
        )


def _held(order: control.BecomeLeader) -> control.HeldReplica:
    return control.HeldReplica(
        topic_id=order.topic_id,
        partition=order.partition,
        row=order.row,
        row_generation=order.row_generation,
        leader_epoch=order.leader_epoch,
        started=True,
    )


def run(context: ProcessContext) -> None:
    """Lead what the controller says until SIGTERM."""
    leader = Leader(context)
    context.ready()
    leader.serve()
    leader.close()
