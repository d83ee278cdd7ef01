"""The replicas of one worker: what the controller orders about them, from the opening of a log to its end.

A replica is in one of three roles, which an order changes: it leads, it follows, or it waits for who leads.

Rules (R), each with a test:
- it leads in a leader epoch once: who has resigned may have a successor already;
- it resigns before it says so: nothing is appended or acknowledged in that epoch afterwards.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from tailrace.core.config import log_config, min_insync_replicas
from tailrace.core.errors import (
    KAFKA_STORAGE_ERROR,
    NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    NOT_LEADER_OR_FOLLOWER,
    KafkaError,
)
from tailrace.core.log.directory import RealDirectory, is_full
from tailrace.core.log.flush import SyncFailedError
from tailrace.core.metadata.topics import OFFSETS_TOPIC
from tailrace.core.replication.high_watermark import starting_high_watermark
from tailrace.core.replication.isr import InSync, PartitionState
from tailrace.core.replication.partition import LeaderPartition
from tailrace.shm.region import ShmError
from tailrace.shm.state_table import (
    HIGH_WATERMARK,
    LEADER_EPOCH,
    PARTITION,
    RECOVERY_POINT,
    ROLE,
    ROLE_FOLLOWER,
    ROLE_LEADER,
    ROLE_NONE,
    ROLE_OFFLINE,
    SYNC_FAILED,
    TOPIC_ID_HI,
    TOPIC_ID_LO,
    topic_id_words,
)
from tailrace.workers import control, future_files
from tailrace.workers.commit import Commit
from tailrace.workers.control_moves import CompleteMove
from tailrace.workers.future_replicas import FutureReplicas
from tailrace.workers.held_acks import HeldAcks
from tailrace.workers.leader_asks import Asks
from tailrace.workers.process import ProcessContext
from tailrace.workers.replica import PAGE, Opener, Replica
from tailrace.workers.replication import Replication
from tailrace.workers.starting_points import StartingPoints

if TYPE_CHECKING:
    from tailrace.workers.coordinator_host import CoordinatorHost


class Replicas:
    """See the module. `touched` are those whose row is to be published at the end of the run."""

    def __init__(
        self,
        context: ProcessContext,
        held: HeldAcks,
        asks: Asks,
        take_flushed: Callable[[bool], None],
    ) -> None:
        """take_flushed: hears what became of the syncs under way, waits for them if told so."""
        self._context = context
        self._held = held
        self._asks = asks
        self._take_flushed = take_flushed
        self.by_row: dict[int, Replica] = {}
        self.touched: set[Replica] = set()
        self.coordinators: dict[int, CoordinatorHost] = {}  # by row
        self.commit: Commit | None = None
        if context.config.flush_policy != PAGE:
            self.commit = Commit(context, held, self._synced, self.fail)
        self.replication = Replication(context, self.touched.add, self.fail)
        self._starting_points: dict[str, StartingPoints] = {}
        self.futures = FutureReplicas(context, self._blame)
        self._opener = Opener(context, self._starting_points_of, self.futures.remove)

    # -- orders of the controller

    def obey(self, asker: int, message: control.Message) -> None:
        """What the controller in that slot says."""
        match message:
            case control.ServeReplica():
                self.serve(message)
            case control.StopReplica():
                self.stop(message)
            case control.ConfigureReplica():
                self._configure(message)
            case control.ResignLeadership():
                self._resign_as_told(message)
            case control.PartitionAltered():
                self._on_altered(message)
            case CompleteMove():
                self._complete_move(message)
            case control.LogDirFailed():
                self.let_go_of(message.log_dir)
            case control.ReportReplicas():
                held = [_held(replica) for replica in self.by_row.values()]
                self._context.outbox.send(asker, control.Replicas(replicas=held))
            case _:
                raise AssertionError(f"no worker is told {type(message).__name__}")

    def serve(self, order: control.ServeReplica) -> None:
        """Open it if need be, and take the role that the order says."""
        slots, slot = self._context.slots, self._context.slot
        slots.set_current_row(slot, order.row)
        slots.set_long_operation(slot, 1)
        replica = self.by_row.get(order.row)
        try:
            if replica is not None and replica.order.row_generation != order.row_generation:
                self._close(replica)
                replica = None
            if replica is None:
                replica = self.by_row[order.row] = self._opener.open(order)
            elif not _is_older(order, replica.order):
                replica.order = order
            has_role = self._take_role(replica)
            replica.publish()
            self.futures.obey(replica)
        except (OSError, KafkaError, ShmError) as error:
            self._not_served(replica, order, error)
            return
        finally:
            slots.set_long_operation(slot, 0)
        row, generation, epoch = order.row, order.row_generation, replica.order.leader_epoch
        if has_role:
            self._say(control.ReplicaStarted(row=row, row_generation=generation, leader_epoch=epoch))
        else:
            self._say(control.Resigned(row=row, row_generation=generation, leader_epoch=epoch))

    def _not_served(
        self, replica: Replica | None, order: control.ServeReplica, error: OSError | KafkaError | ShmError
    ) -> None:
        error.__traceback__ = None  # its frames hold views of the mapping
        no_room = isinstance(error, ShmError) or is_full(error)
        if replica is not None:
            self._take_out(replica, error, ROLE_NONE if no_room else ROLE_OFFLINE)
        if not isinstance(error, ShmError):
            self._blame(order.log_dir, error)
        self._say_failed(order, str(error), is_full=no_room)

    def _take_role(self, replica: Replica) -> bool:
        """False: it is to lead in an epoch that it has resigned."""
        order = replica.order
        if order.leader != self._context.node_id:
            if replica.leads:
                self._resign(replica)
            self.replication.follow(replica)
            replica.row.values[ROLE] = ROLE_FOLLOWER
        elif replica.leads and replica.led_epoch == order.leader_epoch:
            self._adopt(replica)
        elif order.leader_epoch > replica.led_epoch:
            self._lead(replica)
        else:  # (R)
            return False
        return True

    # -- leading

    def _lead(self, replica: Replica) -> None:
        order, log = replica.order, replica.log
        if replica.leads:
            self._resign(replica)
        self.replication.leave(replica)
        if len(order.replicas) > 1:
            self._lead_others(replica, self._starting_high_watermark(replica))
        else:
            log.high_watermark = log.log_end_offset
            if self.commit is not None:
                replica.commit_what_is_synced()
        replica.leads, replica.led_epoch = True, order.leader_epoch
        replica.row.values[ROLE] = ROLE_LEADER
        if order.topic == OFFSETS_TOPIC:
            self._coordinate(replica)

    def _starting_high_watermark(self, replica: Replica) -> int:
        order, log = replica.order, replica.log
        key = (*topic_id_words(order.topic_id), order.partition)
        rows = [self._context.state_table.read(row) for row in order.rows]
        return starting_high_watermark(
            [
                (row[LEADER_EPOCH], row[HIGH_WATERMARK])
                for row in rows
                if (row[TOPIC_ID_HI], row[TOPIC_ID_LO], row[PARTITION]) == key
            ],
            lineage=order.lineage,
            leader_epoch=order.leader_epoch,
            own_high_watermark=log.high_watermark,
            log_end_offset=log.log_end_offset,
        )

    def _lead_others(self, replica: Replica, high_watermark: int) -> None:
        context, order, log = self._context, replica.order, replica.log
        replica.commit_with_others()
        in_sync = InSync(
            replica_id=context.node_id,
            leader_epoch=order.leader_epoch,
            state=_state(order),
            lag_ms_max=context.config.replica_lag_time_max_ms,
            min_insync_replicas=min_insync_replicas(order.configs, context.config),
            log_end_offset=log.log_end_offset,
            high_watermark=high_watermark,
            now_ms=_now_ms(),
        )
        partition = LeaderPartition(
            (order.topic_id, order.partition), log, in_sync, counts_synced=self.commit is not None
        )
        self.replication.lead(replica, partition)

    def _adopt(self, replica: Replica) -> None:
        """In the same epoch: who is in sync has changed, or others join one that led alone."""
        order, leading = replica.order, replica.leading
        if leading is not None:
            self.replication.adopt(replica, _state(order))
            self._fail_if_too_few(replica)
        elif len(order.replicas) > 1:
            self._lead_others(replica, replica.committed)
        self.touched.add(replica)

    def _fail_if_too_few(self, replica: Replica) -> None:
        """As long as too few are in sync nothing more is committed: producers need not wait for their
        time-out to hear of it.
        """
        if replica.leading is not None and not replica.leading.in_sync.has_enough:
            self._held.release(replica)
            self._held.fail(replica, NOT_ENOUGH_REPLICAS_AFTER_APPEND)

    def _resign(self, replica: Replica) -> None:
        """(R) From here on it appends and acknowledges nothing."""
        row = replica.order.row
        mark = replica.committed
        self._end_coordinator(row)
        self.replication.resign(replica)
        replica.leads = False
        replica.log.high_watermark = mark
        if self.commit is not None:
            self.commit.forget(replica)
        self._held.fail(replica, NOT_LEADER_OR_FOLLOWER)
        replica.row.values[ROLE] = ROLE_NONE
        self.touched.add(replica)

    def _resign_as_told(self, order: control.ResignLeadership) -> None:
        replica = self.by_row.get(order.row)
        if replica is not None and replica.order.row_generation == order.row_generation:
            if replica.leads and replica.led_epoch <= order.leader_epoch:
                self._resign(replica)
                replica.publish()
            replica.led_epoch = max(replica.led_epoch, order.leader_epoch)  # (R) never after this
        self._say(
            control.Resigned(
                row=order.row, row_generation=order.row_generation, leader_epoch=order.leader_epoch
            )
        )

    def _on_altered(self, answer: control.PartitionAltered) -> None:
        replica = self.by_row.get(answer.row)
        if replica is not None and replica.order.row_generation == answer.row_generation:
            self.replication.on_altered(replica, answer)
            self._fail_if_too_few(replica)

    def _synced(self, replica: Replica) -> None:
        self.replication.synced(replica)
        self.touched.add(replica)

    def _configure(self, order: control.ConfigureReplica) -> None:
        replica = self.by_row.get(order.row)
        if replica is None or replica.order.row_generation != order.row_generation:
            return
        config = self._context.config
        replica.log.config = log_config(order.configs, config)
        if replica.leading is not None:
            replica.leading.in_sync.min_insync_replicas = min_insync_replicas(order.configs, config)
            replica.leading.append_local()  # perhaps as many as are asked for now have it
            self._fail_if_too_few(replica)
            self.touched.add(replica)

    def _coordinate(self, replica: Replica) -> None:
        """Host the groups whose offsets this partition holds."""
        from tailrace.workers.coordinator_host import CoordinatorHost

        row = replica.row.row
        appended = self.touched.add if self.commit is None else self.commit.appended
        host = CoordinatorHost(self._context, replica, self._asks, appended, self.fail)
        self.coordinators[row] = host
        self._asks.later[row] = host.take

    def _end_coordinator(self, row: int) -> None:
        coordinator = self.coordinators.pop(row, None)
        if coordinator is not None:
            del self._asks.later[row]
            coordinator.close()

    def _complete_move(self, order: CompleteMove) -> None:
        """(R) Neither led nor followed from here on, until another order comes: what was appended now would
        be in the old directory alone.
        """
        replica = self.by_row.get(order.row)
        if replica is None or replica.order.row_generation != order.row_generation:
            return
        if replica.leads:
            self._resign(replica)
        replica.led_epoch = max(replica.led_epoch, order.leader_epoch)
        self.replication.leave(replica)
        replica.publish_role(ROLE_NONE)
        self._context.slots.set_long_operation(self._context.slot, 1)
        try:
            self.futures.complete(replica)
        finally:
            self._context.slots.set_long_operation(self._context.slot, 0)

    # -- the end of a replica

    def stop(self, order: control.StopReplica) -> None:
        """Close it, or delete it."""
        self._take_flushed(not order.delete)  # as in `close_all`
        replica = self.by_row.get(order.row)
        if replica is not None and replica.order.row_generation == order.row_generation:
            if order.delete:
                self.futures.drop(order.row)
            self._forget(replica, NOT_LEADER_OR_FOLLOWER)
            replica.publish_role(ROLE_NONE)
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
        elif order.delete:
            self._delete_wherever(order, replica)
        self._say(control.ReplicaStopped(row=order.row, row_generation=order.row_generation))

    def _delete_wherever(self, order: control.StopReplica, held: Replica | None) -> None:
        """It is not served as the order says, and may lie elsewhere: it was moving when its worker died, or
        was to be opened anew in another directory and is served from the one before. (R) All goes, or a topic
        that is made anew under that name meets what is left; but nothing of one that was ordered since.
        """
        key = (order.topic_id, order.partition)
        for replica in [each for each in self.by_row.values() if each.key == key]:
            if replica is not held or replica.order.row_generation > order.row_generation:
                return
            self._close(replica)
            replica.publish_role(ROLE_NONE)
        log_dirs, name = self._context.log_dirs, f"{order.topic}-{order.partition}"
        for log_dir in (each.path for each in log_dirs.online()):
            path = f"{log_dir}/{name}"
            if log_dir != order.log_dir and not future_files.is_log_of(path, order.topic_id):
                continue
            try:
                self._forget_offsets(log_dir, order.topic, order.partition)
                RealDirectory(path).destroy()
            except OSError as error:
                self._blame(log_dir, error)
        with suppress(OSError):  # at the next start
            for leftover in future_files.leftovers(log_dirs, name):
                self.futures.remove(leftover)

    def _forget(self, replica: Replica, error_code: int) -> None:
        """This process has it no more; whoever waits for it hears this error."""
        self.by_row.pop(replica.row.row, None)
        self._end_coordinator(replica.row.row)
        self.replication.forget(replica)
        self.futures.keep(replica.row.row)
        replica.leads = False
        self.touched.discard(replica)
        if self.commit is not None:
            self.commit.forget(replica)
        self._held.fail(replica, error_code)

    def _close(self, replica: Replica) -> None:
        self._forget(replica, NOT_LEADER_OR_FOLLOWER)
        replica.log.close(clean=False)

    def close_all(self) -> None:
        """Close every log cleanly; the rows stay, led by nobody. The syncs under way have ended before (R):
        an error that one has reported is not reported again.
        """
        self.futures.close()
        for replica in list(self.by_row.values()):
            try:
                replica.log.close(clean=True)
            except (OSError, KafkaError) as error:
                self.fail(replica, error)
            else:
                replica.publish_recovery_point(replica.log.recovery_point)
        self.replication.close()

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

    def fail(self, replica: Replica, error: Exception) -> None:
        """Its disk failed: this replica goes offline, and with it its log directory if that is to blame."""
        self._drop(replica, error)
        self._blame(replica.order.log_dir, error)

    def _drop(self, replica: Replica, error: Exception) -> None:
        """This replica goes offline, its neighbours go on."""
        self._take_out(replica, error)
        self._say_failed(replica.order, f"{replica.path}: {error}")

    def _take_out(self, replica: Replica, error: Exception, role: int = ROLE_OFFLINE) -> None:
        self._forget(replica, KAFKA_STORAGE_ERROR)
        values = replica.row.values
        if isinstance(error, SyncFailedError) or isinstance(error.__cause__, SyncFailedError):
            values[RECOVERY_POINT] = SYNC_FAILED  # (R) nobody tries again, as if that could help
            replica.log.distrust_page_cache()
        replica.publish_role(role)
        error.__traceback__ = None  # its frames hold views of the mapping
        with suppress(OSError):  # the disk has failed already, and the next open finds out what it holds
            replica.log.close(clean=False)

    def _say_failed(self, order: control.ServeReplica, message: str, *, is_full: bool = False) -> None:
        self._say(
            control.ReplicaFailed(
                row=order.row,
                row_generation=order.row_generation,
                error_code=KAFKA_STORAGE_ERROR,
                message=message,
                is_full=is_full,
            )
        )

    def _blame(self, log_dir: str, error: Exception) -> None:
        """What failed there may be all of the directory."""
        if self._context.blame_disk(log_dir, error):
            self.let_go_of(log_dir)

    def let_go_of(self, log_dir: str) -> None:
        """The directory is out of service, and so is every replica in it; nothing of it is touched."""
        self.futures.drop_in(log_dir)
        for replica in [held for held in self.by_row.values() if held.order.log_dir == log_dir]:
            self._drop(replica, KafkaError(KAFKA_STORAGE_ERROR, "its log directory is out of service"))

    def _say(self, message: control.Message) -> None:
        self._context.tell_controller(message)


def _is_older(order: control.ServeReplica, known: control.ServeReplica) -> bool:
    return (order.leader_epoch, order.partition_epoch) < (known.leader_epoch, known.partition_epoch)


def _state(order: control.ServeReplica) -> PartitionState:
    return PartitionState(replicas=order.replicas, isr=order.isr, partition_epoch=order.partition_epoch)


def _held(replica: Replica) -> control.HeldReplica:
    order = replica.order
    return control.HeldReplica(
        topic=order.topic,
        topic_id=order.topic_id,
        partition=order.partition,
        row=order.row,
        row_generation=order.row_generation,
        leader_epoch=order.leader_epoch,
        log_dir=order.log_dir,
        started=True,
        leads=replica.leads,
        partition_epoch=order.partition_epoch,
        future_log_dir=order.future_log_dir,
    )


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
