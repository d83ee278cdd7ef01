"""A replica worker: leads the partitions that the controller gives it.

One turn: take all entries of all rings; append each batch; publish the rows that moved; only then complete
the entries, so that whoever hears of an append can read it. All that a ring holds is one run.
"""

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from tailrace.core.config import log_config
from tailrace.core.errors import (
    KAFKA_STORAGE_ERROR,
    NONE,
    NOT_LEADER_OR_FOLLOWER,
    KafkaError,
)
from tailrace.core.log.directory import RealDirectory, is_full
from tailrace.core.log.flush import SyncFailedError
from tailrace.core.metadata.topics import OFFSETS_TOPIC
from tailrace.shm.arena import Arena, LargeFile
from tailrace.shm.links import DESCRIPTOR
from tailrace.shm.region import ShmError
from tailrace.shm.ring import DescriptorConsumer, DescriptorProducer
from tailrace.shm.slots import Layout
from tailrace.shm.state_table import (
    HIGH_WATERMARK,
    RECOVERY_POINT,
    ROLE,
    ROLE_NONE,
    ROLE_OFFLINE,
    SYNC_FAILED,
)
from tailrace.shm.words import fence
from tailrace.workers import control
from tailrace.workers.commit import Commit, Origin
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
from tailrace.workers.flusher import Flusher
from tailrace.workers.leader_asks import Asks
from tailrace.workers.log_dirs import is_broken
from tailrace.workers.process import ProcessContext
from tailrace.workers.replica import PAGE, Opener, Replica
from tailrace.workers.say import say
from tailrace.workers.starting_points import StartingPoints

if TYPE_CHECKING:
    from tailrace.workers.coordinator_host import CoordinatorHost

TICK_S = 1.0
TELL_FULL_S = 60.0  # between two lines of the broker's log that say that a disk is full
NO_RING_S = 0.005  # between two tries to make one, while the run directory is full
RUN_BYTES = 16 * 1024  # appended, after which its clients are told while the run goes on


class Leader:
    """All replicas of one worker process."""

    def __init__(self, context: ProcessContext) -> None:
        self._context = context
        self._replicas: dict[int, Replica] = {}
        self._arenas: dict[tuple[int, int], Arena] = {}
        self._touched: set[Replica] = set()
        self._last_tick_ms = 0
        self._tell_full_s = 0.0
        self._flusher: Flusher[Replica] = Flusher()
        self._starting_points: dict[str, StartingPoints] = {}
        self._opener = Opener(context, self._starting_points_of)
        self._completions = Completions(context)
        self._asks = Asks(context, self._completions)
        self._coordinators: dict[int, CoordinatorHost] = {}  # by row
        self._commit: Commit | None = None
        if context.config.flush_policy != PAGE:
            self._commit = Commit(context, self._completions, self._touched.add, self._fail)

    # -- the loop

    def serve(self) -> None:
        """Turn until a stop is asked for."""
        context = self._context
        links = context.links
        while not context.stopping:
            found = links.poll()
            for slot, incarnation in links.drop_dead():  # (R) first: a successor may have asked already
                self._forget(slot, incarnation)
            for slot, incarnation, ring in found:
                if isinstance(ring, DescriptorConsumer):
                    self._on_entries(slot, incarnation, ring)
                else:
                    for message in context.inbox.read(slot, incarnation, ring):
                        if context.obeys(slot):
                            self._on_message(slot, message)
            context.outbox.flush()
            if self._commit is not None:
                self._commit.turn()
            for coordinator in list(self._coordinators.values()):
                coordinator.turn()
            if self._touched:
                self._publish_touched()
            if self._completions.is_waiting:
                self._completions.send_waiting()
            now_ms = time.monotonic_ns() // 1_000_000
            if now_ms - self._last_tick_ms >= TICK_S * 1000:
                self._last_tick_ms = now_ms
                self._tick()
            if not found:
                # one that lingers keeps the thread that syncs from beginning
                context.wait(self._timeout_s(), lingers=self._commit is None or not self._commit.is_syncing)

    def _timeout_s(self) -> float:
        if self._completions.is_waiting:
            return 0.005
        commit_s = TICK_S if self._commit is None else self._commit.timeout_s()
        return min(
            [TICK_S, commit_s, *(coordinator.timeout_s() for coordinator in self._coordinators.values())]
        )

    def close(self) -> None:
        """Close every log cleanly; the rows stay, led by nobody."""
        self._take_flushed(wait=True)  # (R) an error that a sync has reported is not reported again
        self._publish_touched()
        self._completions.send_waiting()  # what is held still is not acknowledged: gateways hear of our end
        for replica in list(self._replicas.values()):
            try:
                replica.log.close(clean=True)
            except (OSError, KafkaError) as error:
                self._fail(replica, error)
            else:
                replica.publish_recovery_point(replica.log.recovery_point)

    def _take_flushed(self, *, wait: bool = False) -> None:
        if self._commit is not None and wait:
            self._commit.finish()
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
        for row, replica in list(self._replicas.items()):
            if row not in self._replicas:  # it went out of service with one before
                continue
            self._context.slots.set_current_row(self._context.slot, row)
            try:
                replica.log.tick(now_ms)
                if self._commit is None:
                    self._flusher.start_due(replica, now_ms)
            except (OSError, KafkaError) as error:
                if not is_full(error):  # or it is done at a later tick
                    self._fail(replica, error)
        if self._commit is not None:
            self._commit.tick(list(self._replicas.values()))
        self._context.slots.set_current_row(self._context.slot, -1)

    def _forget(self, slot: int, incarnation: int) -> None:
        arena = self._arenas.pop((slot, incarnation), None)
        if arena is not None:
            arena.close()
        self._completions.forget(slot)
        self._asks.forget(slot, incarnation)

    # -- entries of gateways

    def _on_entries(self, slot: int, incarnation: int, ring: DescriptorConsumer) -> None:
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
            self._publish_touched()
        self._completions.send(slot, back, answers)

    def _on_entry(self, entry: Entry, arena: Arena, slot: int, incarnation: int, now_ms: int) -> bytes | None:
        kind, token, row, generation, source, position, length, extra = entry
        if kind == ASK_AGAIN:
            return self._asks.again(entry, arena, slot, incarnation)
        replica = self._replicas.get(row)
        if replica is None or replica.order.row_generation != generation:
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
                self._fail(replica, error)
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
        log, epoch = replica.log, replica.order.leader_epoch
        done = log.append_as_leader(batch, epoch, now_ms)
        commit = self._commit
        if commit is None:
            self._touched.add(replica)
        else:
            commit.appended(replica)
        time_ms, start = done.log_append_time_ms, log.log_start_offset
        completion = pack(PRODUCE, origin[2], NONE, done.base_offset, time_ms, start, epoch, 0)
        if commit is None or not waits:
            return completion
        return commit.answer(done.last_offset + 1, replica, origin, completion)

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

    def _publish_touched(self) -> None:
        for replica in self._touched:
            replica.publish()
        fence()  # pairs with the waiters': the rows are published before their words are read (R)
        waiters = self._context.waiters
        for replica in self._touched:
            row = replica.row.row
            for waiter in waiters.satisfied(row, replica.row.values[HIGH_WATERMARK]):
                self._completions.notice(Layout.gateway(waiter), row)
        if self._commit is not None:
            self._commit.ask(self._touched)
        self._touched.clear()

    # -- orders of the controller

    def _on_message(self, asker: int, message: control.Message) -> None:
        match message:
            case control.ServeReplica():
                self._serve_replica(message)
            case control.StopReplica():
                self._stop_replica(message)
            case control.ConfigureReplica():
                self._configure(message)
            case control.LogDirFailed():
                self._let_go_of(message.log_dir)
            case control.ReportReplicas():
                held = [_held(replica.order) for replica in self._replicas.values()]
                self._context.outbox.send(asker, control.Replicas(replicas=held))
            case _:
                raise AssertionError(f"no worker is told {type(message).__name__}")

    def _configure(self, order: control.ConfigureReplica) -> None:
        replica = self._replicas.get(order.row)
        if replica is not None and replica.order.row_generation == order.row_generation:
            replica.log.config = log_config(order.configs, self._context.config)

    def _say(self, message: control.Message) -> None:
        self._context.tell_controller(message)

    def _serve_replica(self, order: control.ServeReplica) -> None:
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
                replica = self._opener.open(order)
            except (OSError, KafkaError) as error:
                self._blame(order.log_dir, error)
                self._say(
                    control.ReplicaFailed(
                        row=order.row,
                        row_generation=order.row_generation,
                        error_code=KAFKA_STORAGE_ERROR,
                        is_full=is_full(error),
                        message=str(error),
                    )
                )
                return
            finally:
                slots.set_long_operation(slot, 0)
            self._replicas[order.row] = replica
            if order.topic == OFFSETS_TOPIC:
                self._coordinate(replica)
        self._say(
            control.ReplicaStarted(
                row=order.row,
                row_generation=order.row_generation,
                leader_epoch=replica.order.leader_epoch,
            )
        )

    def _coordinate(self, replica: Replica) -> None:
        """Host the groups whose offsets this partition holds."""
        from tailrace.workers.coordinator_host import CoordinatorHost

        row = replica.row.row
        appended = self._touched.add if self._commit is None else self._commit.appended
        host = CoordinatorHost(self._context, replica, self._asks, appended, self._fail)
        self._coordinators[row] = host
        self._asks.later[row] = host.take

    def _end_coordinator(self, row: int) -> None:
        coordinator = self._coordinators.pop(row, None)
        if coordinator is not None:
            del self._asks.later[row]
            coordinator.close()

    def _stop_replica(self, order: control.StopReplica) -> None:
        self._take_flushed(wait=not order.delete)  # as in `close`
        replica = self._replicas.get(order.row)
        if replica is not None and replica.order.row_generation == order.row_generation:
            del self._replicas[order.row]
            self._end_coordinator(order.row)
            self._touched.discard(replica)
            if self._commit is not None:
                self._commit.forget(replica, NOT_LEADER_OR_FOLLOWER)
            replica.row.values[ROLE] = ROLE_NONE
            replica.row.publish()
            try:
                if order.delete:
                    self._forget_offsets(order.log_dir, replica.order.topic, order.partition)
                    replica.log.delete()
                else:
                    replica.log.close(clean=True)
            except (OSError, KafkaError) as error:
                with suppress(OSError):
                    replica.log.close(clean=False)
                self._blame(order.log_dir, error)
        elif order.delete and self._context.log_dirs.is_online(order.log_dir):
            try:
                self._forget_offsets(order.log_dir, order.topic, order.partition)
                RealDirectory(f"{order.log_dir}/{order.topic}-{order.partition}").destroy()
            except OSError as error:
                self._blame(order.log_dir, error)
        self._say(control.ReplicaStopped(row=order.row, row_generation=order.row_generation))

    def _starting_points_of(self, log_dir: str) -> StartingPoints:
        found = self._starting_points.get(log_dir)
        if found is None:
            found = self._starting_points[log_dir] = StartingPoints(log_dir)
        return found

    def _forget_offsets(self, log_dir: str, topic: str, partition: int) -> None:
        """After this the housekeeper writes nothing of the deleted log; should the disk be too full for it,
        whoever makes a log of that name finds the entry, and is stopped by it.
        """
        with suppress(KafkaError):
            self._starting_points_of(log_dir).take_back(topic, partition)

    def _fail(self, replica: Replica, error: Exception) -> None:
        """Its disk failed: this replica goes offline, and with it its log directory if that is to blame."""
        self._drop(replica, error)
        self._blame(replica.order.log_dir, error)

    def _drop(self, replica: Replica, error: Exception) -> None:
        """This replica goes offline, its neighbours go on."""
        self._replicas.pop(replica.row.row, None)
        self._end_coordinator(replica.row.row)
        self._touched.discard(replica)
        if self._commit is not None:
            self._commit.forget(replica, KAFKA_STORAGE_ERROR)
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

    def _blame(self, log_dir: str, error: Exception) -> None:
        """What failed there may be all of the directory."""
        if self._context.blame_disk(log_dir, error):
            self._let_go_of(log_dir)

    def _let_go_of(self, log_dir: str) -> None:
        """The directory is out of service, and so is every replica in it; nothing of it is touched."""
        for replica in [held for held in self._replicas.values() if held.order.log_dir == log_dir]:
            self._drop(replica, KafkaError(KAFKA_STORAGE_ERROR, "its log directory is out of service"))


def _held(order: control.ServeReplica) -> control.HeldReplica:
    return control.HeldReplica(
        topic=order.topic,
        topic_id=order.topic_id,
        partition=order.partition,
        row=order.row,
        row_generation=order.row_generation,
        leader_epoch=order.leader_epoch,
        log_dir=order.log_dir,
        started=True,
    )


def run(context: ProcessContext) -> None:
    """Lead what the controller says until SIGTERM."""
    leader = Leader(context)
    context.ready()
    leader.serve()
    leader.close()
