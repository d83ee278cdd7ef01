"""Which worker of which broker serves which replica of a partition, on which row: the decisions of the
controller that is active about the processes of all brokers of the host.

Sans-IO: deaths, answers and partitions as staged come in; control messages go out through `send`. Rules:

* (R) A worker is told to lead only in a leader epoch that nobody led in before: not in one that a dead
  process had, nor in one that was resigned.
* A row is given away again only after its worker has said ReplicaStopped, or is dead; then under a new
  generation.
* Gateways and followers hear of a leader when its worker has published the row in that epoch, not before.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from tailrace.core import errors
from tailrace.core.metadata.image import PartitionImage
from tailrace.shm.slots import SUPERVISOR_SLOT, Layout
from tailrace.workers.control import (
    Assigned,
    HeldReplica,
    LogDirFailed,
    Message,
    ReplicaStarted,
    ResignLeadership,
    RetireWorker,
    Unassigned,
    WantWorker,
)
from tailrace.workers.orders import (
    Key,
    Name,
    Replica,
    assigned,
    configure_order,
    serve_order,
    served_by_nobody,
    stop_order,
    unassigned,
)
from tailrace.workers.seats import Seats


class Send(Protocol):
    """As `Outbox.send`."""

    def __call__(self, slot: int, message: Message, *, only: int = 0) -> bool: ...


class Assignments:
    """All replicas of the host."""

    def __init__(
        self,
        *,
        row_count: int,
        layout: Layout,
        first_id: int,
        generation: Callable[[int], int],
        send: Send,
        is_there: Callable[[int], bool],
    ) -> None:
        """`first_id`: of the first of the host's brokers, whose ids are consecutive. `is_there`: whether a
        broker is not fenced; the others are told nothing.
        """
        self.brokers = range(first_id, first_id + layout.brokers)
        self.by_key: dict[Key, Replica] = {}
        self.offline: set[Key] = set()
        self.seats = Seats(row_count, layout, self.brokers)
        self.by_row = self.seats.by_row
        self._deleting_names: dict[Name, int] = {}
        self._held_back: dict[Name, Replica] = {}
        self._due: dict[int, set[int]] = {}  # rows of a worker slot with something to be told
        self._wanted: set[int] = set()
        self._told: dict[tuple[bytes, int], Assigned | Unassigned] = {}  # what gateways know
        self._former: dict[tuple[bytes, int], set[int]] = {}  # rows of the gone: `keep_rows`
        self._generation = generation
        self._send = send
        self._is_there = is_there
        self.gateways = layout.gateways()

    # What there is.

    def replicas_of(self, topic_id: bytes, partition: int) -> list[Replica]:
        """Those of a partition, but for the ones that are being deleted."""
        keys = ((topic_id, partition, broker) for broker in self.brokers)
        return [self.by_key[key] for key in keys if key in self.by_key]

    def _answered(self, slot: int, incarnation: int, row: int, row_generation: int) -> Replica | None:
        """The replica that a worker speaks of, if it is still the one that it was told about."""
        replica = self.by_row.get(row)
        if replica is None or (replica.slot, replica.incarnation) != (slot, incarnation):
            return None
        return replica if replica.row_generation == row_generation else None

    def of_answer(self, slot: int, incarnation: int, row: int, row_generation: int) -> Replica | None:
        """The replica that this worker may speak for."""
        replica = self._answered(slot, incarnation, row, row_generation)
        return None if replica is None or replica.deleting else replica

    # What begins, changes and ends.

    def adopt(
        self,
        held: HeldReplica,
        topic: str,
        state: PartitionImage,
        configs: dict[str, str],
        slot: int,
        incarnation: int,
        log_dir: str,
    ) -> None:
        """A worker that outlived a controller serves this replica, and is told only what is new to it; where
        it is to lie by what is committed, `log_dir`, it may wait to open it.
        """
        replica = Replica(
            topic=topic,
            topic_id=held.topic_id,
            state=state,
            broker=self.seats.owner_of(slot),
            row=held.row,
            row_generation=held.row_generation,
            slot=slot,
            log_dir=held.log_dir,
            configs=configs,
            incarnation=incarnation,
            told_orders=1,
            started_in=held.leader_epoch if held.started else -1,
            spent=-1 if held.leads else held.leader_epoch,
            configs_due=True,  # (R) the dead controller may have committed others and told nobody
            future_log_dir=held.future_log_dir,
        )
        self._enter(replica)
        known, staged = (held.leader_epoch, held.partition_epoch), (state.leader_epoch, state.partition_epoch)
        replica.order_due = not replica.leads or known != staged
        if log_dir not in ("", held.log_dir):
            self.move(replica, log_dir)
        self.want(slot)  # the dead controller's wish may have been lost with it

    def adopt_deleted(self, held: HeldReplica, slot: int) -> None:
        """A worker holds a replica of a topic that is gone, or that has moved: it is told to delete it. (R)
        Until it has, the name is not free: its files would be taken for those of one made again, or go
        together with them.
        """
        replica = Replica(
            topic=held.topic,
            topic_id=held.topic_id,
            state=served_by_nobody(held),
            broker=self.seats.owner_of(slot),
            row=held.row,
            row_generation=held.row_generation,
            slot=slot,
            log_dir=held.log_dir,
            configs={},
            deleting=True,
        )
        self.seats.enter(replica)
        self._note_due(replica)
        self._deleting_names[replica.name] = replica.row

    def place(
        self,
        topic: str,
        topic_id: bytes,
        state: PartitionImage,
        configs: dict[str, str],
        *,
        broker: int,
        log_dir: str,
        is_new: bool = False,
        offline_code: int = 0,
        former_row: int = 0,
    ) -> Replica:
        """Choose a worker of that broker and a row, the one it had before if free, for a replica that nobody
        serves.
        """
        first = self.by_key.get((topic_id, state.partition, state.replicas[0]))
        row = self.seats.take_row(former_row)
        replica = Replica(
            topic=topic,
            topic_id=topic_id,
            state=state,
            broker=broker,
            row=row,
            row_generation=self._generation(row) + 1,
            slot=self.seats.pick_slot(topic, broker, first),
            log_dir=log_dir,
            configs=configs,
            is_new=is_new,
            offline_code=offline_code,
        )
        self._enter(replica)
        if replica.name in self._deleting_names:
            self._held_back[replica.name] = replica  # its directory still belongs to the deleted one
        if offline_code:
            self.offline.add(replica.key)
        else:
            self.want(replica.slot)
        return replica

    def _enter(self, replica: Replica) -> None:
        self.by_key[replica.key] = replica
        self.seats.enter(replica)
        self._note_due(replica)

    def keep_rows(self, topic_id: bytes, partition: int, rows: Iterable[int]) -> None:
        """(R) What replicas have shown that are gone counts until a leader has begun that was told of it:
        readers may have seen their high watermark, and the next leader goes on from there.
        """
        former = self._former.setdefault((topic_id, partition), set())
        for row in rows:
            if row not in self.by_row:
                self.seats.keep_row(row)
            former.add(row)

    def _forget_former(self, topic_id: bytes, partition: int) -> None:
        for row in self._former.pop((topic_id, partition), ()):
            if row not in self.by_row:  # else it is freed once its worker has deleted the log
                self.seats.free_row(row)

    def tell_again(self, replica: Replica) -> None:
        """Something of its order has changed."""
        replica.order_due = True
        self._note_due(replica)

    def move(self, replica: Replica, log_dir: str) -> None:
        """It is there now: its worker, which has let go of the old log, opens it anew."""
        generation, replica.log_dir, replica.future_log_dir = replica.row_generation, log_dir, ""
        self._let_go(replica)
        replica.row_generation = max(replica.row_generation, generation + 1)  # (R) or it opens nothing
        self._note_due(replica)

    def _note_due(self, replica: Replica) -> None:
        self._due.setdefault(replica.slot, set()).add(replica.row)

    def want(self, slot: int) -> None:
        """A process is to live there."""
        self.seats.not_retiring(slot)
        if slot not in self._wanted and self._send(SUPERVISOR_SLOT, WantWorker(slot=slot)):
            self._wanted.add(slot)

    def update(self, topic_id: bytes, state: PartitionImage) -> None:
        """The partition is staged like this now: its replicas hear of it, those that left it are deleted."""
        for replica in self.replicas_of(topic_id, state.partition):
            replica.state = state
            if replica.broker in state.replicas:
                self.tell_again(replica)
            else:
                self.keep_rows(topic_id, state.partition, (replica.row,))
                self._delete(replica)
        self.tell(topic_id, state)

    def throttle(self, rates: Mapping[Key, int]) -> None:
        """What replicas may copy, in bytes a second; those that are not named as much as they can."""
        for replica in self.by_key.values():
            rate = rates.get(replica.key, 0)
            if replica.copy_rate != rate:
                replica.copy_rate = rate
                self.tell_again(replica)

    def configure(self, topic_id: bytes, partition_count: int, configs: dict[int, dict[str, str]]) -> None:
        """Other configs of the topic are staged, on each broker: `serve_slot` says it to the workers."""
        for partition in range(partition_count):
            for replica in self.replicas_of(topic_id, partition):
                replica.configs = configs[replica.broker]
                replica.configs_due = True
                self._note_due(replica)

    def delete_topic(self, topic_id: bytes, partition_count: int) -> None:
        """The removal of the topic is staged: gateways forget it, workers delete its files."""
        for partition in range(partition_count):
            self._announce(unassigned(topic_id, partition, errors.UNKNOWN_TOPIC_OR_PARTITION))
            self._told.pop((topic_id, partition), None)
            self._forget_former(topic_id, partition)
            for replica in self.replicas_of(topic_id, partition):
                self._delete(replica)

    def _delete(self, replica: Replica) -> None:
        del self.by_key[replica.key]
        self.offline.discard(replica.key)
        name = replica.name
        if self._held_back.get(name) is replica:  # never existed but in the log
            del self._held_back[name]
            self._free(replica)
            return
        replica.deleting = True
        replica.started_in = -1
        self._deleting_names[name] = replica.row
        if replica.incarnation and not replica.closing:
            self.say(replica, stop_order(replica, delete=True))
        else:
            self._note_due(replica)
            self.want(replica.slot)  # serve_slot says it to whoever lives there next

    def _free(self, replica: Replica) -> None:
        is_former = replica.row in self._former.get((replica.topic_id, replica.partition), ())
        if self.seats.leave(replica, keep_row=is_former):
            self._wanted.discard(replica.slot)
            self._send(SUPERVISOR_SLOT, RetireWorker(slot=replica.slot))
        name = replica.name
        if self._deleting_names.get(name) == replica.row:
            del self._deleting_names[name]
            waiting = self._held_back.pop(name, None)
            if waiting is not None:
                self._note_due(waiting)

    # What workers are told, and say.

    def serve_slot(self, slot: int, incarnation: int) -> None:
        """Tell a live worker what it has not been told yet."""
        due = self._due.get(slot)
        for row in sorted(due or ()):
            replica = self.by_row.get(row)
            assert due is not None
            if replica is None or replica.slot != slot or self._tell_worker(replica, incarnation):
                due.discard(row)

    def _tell_worker(self, replica: Replica, incarnation: int) -> bool:
        """Whether nothing is left to be told until something happens."""
        if replica.closing:
            if replica.close_due:
                replica.close_due = not self.say(replica, stop_order(replica, delete=False))
            return not replica.close_due
        if replica.deleting:
            if not replica.incarnation and self.say(replica, stop_order(replica, delete=True), incarnation):
                replica.incarnation = incarnation
            return replica.incarnation != 0
        if replica.offline_code or replica.completing or self._held_back.get(replica.name) is replica:
            return True
        if not self._is_there(replica.broker):
            return False
        if replica.is_spent:  # (R) it leads again in its next epoch, which comes by `update`
            return True
        if (replica.order_due or not replica.incarnation) and not self._give_order(replica, incarnation):
            return False
        if replica.configs_due:
            replica.configs_due = not self.say(replica, configure_order(replica))
        return not replica.configs_due

    def say(self, replica: Replica, message: Message, incarnation: int = 0) -> bool:
        """To the worker that has the replica, or is given it; (R) not to one that came since unnoticed."""
        return self._send(replica.slot, message, only=incarnation or replica.incarnation)

    def _give_order(self, replica: Replica, incarnation: int) -> bool:
        others = self.replicas_of(replica.topic_id, replica.partition)
        leader = next((other for other in others if other.leads and other.started), None)
        former = self._former.get((replica.topic_id, replica.partition), ())
        order = serve_order(replica, leader, (*(other.row for other in others), *sorted(former)))
        if not self.say(replica, order, incarnation):
            return False
        if not replica.incarnation:
            replica.configs_due = False
        replica.incarnation = incarnation
        replica.told_orders += 1
        replica.order_due = False
        return True

    def on_started(self, slot: int, incarnation: int, message: ReplicaStarted) -> bool:
        """The worker has published the row: gateways may send requests there, followers may link to it.
        False: it spoke of the past.
        """
        replica = self.of_answer(slot, incarnation, message.row, message.row_generation)
        if replica is None or replica.offline_code or message.leader_epoch != replica.leader_epoch:
            return False
        is_first = not replica.started
        replica.started_in = message.leader_epoch
        replica.is_new = False
        if replica.leads:
            self._forget_former(replica.topic_id, replica.partition)
        if replica.leads and is_first:
            for other in self.replicas_of(replica.topic_id, replica.partition):
                if other is not replica:
                    self.tell_again(other)
        self.tell(replica.topic_id, replica.state)
        return True

    def on_failed(
        self, slot: int, incarnation: int, row: int, row_generation: int, error_code: int, *, is_full: bool
    ) -> Replica | None:
        """The worker could not open the replica, or lost its directory. Returns it, offline from now on;
        None: that is known.

        (R) An order that is on its way to the worker may have it open the log once more: only when it has
        answered a StopReplica to that nobody leads there.
        """
        replica = self.of_answer(slot, incarnation, row, row_generation)
        if replica is None:  # (R) also one that is deleted: its files are there still, ReplicaStopped comes
            return None
        if replica.told_orders == 1:
            if not is_full:
                replica.spent = replica.leader_epoch
            self._let_go(replica)
        elif not replica.closing:
            replica.closing = replica.close_due = True
            self._note_due(replica)
        if replica.offline_code:
            return None
        self.take_offline(replica, error_code)
        return replica

    def _let_go(self, replica: Replica) -> None:
        replica.incarnation = replica.told_orders = 0
        replica.started_in = -1
        replica.closing = replica.close_due = replica.completing = False
        replica.row_generation = self._generation(replica.row) + 1

    def on_stopped(self, slot: int, incarnation: int, row: int, row_generation: int) -> None:
        """A deleted replica is gone: its row, its name and perhaps its worker are free."""
        replica = self._answered(slot, incarnation, row, row_generation)
        if replica is None:
            return
        if replica.closing:
            replica.spent = replica.leader_epoch
            self._let_go(replica)
            self._note_due(replica)
        elif replica.deleting:
            self._free(replica)

    def ask_to_resign(self, replica: Replica) -> None:
        """Its worker is to give up the leadership, once an epoch."""
        if replica.asked_to_resign < replica.leader_epoch and self.say(
            replica,
            ResignLeadership(
                row=replica.row, row_generation=replica.row_generation, leader_epoch=replica.leader_epoch
            ),
        ):
            replica.asked_to_resign = replica.leader_epoch

    def take_offline(self, replica: Replica, error_code: int) -> None:
        """Nobody serves this replica until it is revived; its neighbours are not touched."""
        replica.offline_code = error_code or errors.KAFKA_STORAGE_ERROR
        replica.started_in = -1
        self.offline.add(replica.key)
        self.tell(replica.topic_id, replica.state)

    def fail_log_dir(self, log_dir: str) -> int:
        """This directory is out of service: nobody serves what lies in it, and the workers that do are told.
        Returns how many replicas that are.
        """
        lost = [replica for replica in self.by_key.values() if replica.log_dir == log_dir]
        for replica in lost:
            if not replica.offline_code:
                self.take_offline(replica, errors.KAFKA_STORAGE_ERROR)
        told = [each for each in self.by_key.values() if log_dir in (each.log_dir, each.future_log_dir)]
        for slot in sorted({replica.slot for replica in told if replica.incarnation}):
            self._send(slot, LogDirFailed(log_dir=log_dir))
        return len(lost)

    def revive(self, replica: Replica) -> None:
        """Try again: as leader in a leader epoch that nobody had (R), which is for the caller to stage."""
        replica.offline_code = 0
        self.offline.discard(replica.key)
        self.tell_again(replica)
        self.want(replica.slot)

    def on_worker_death(self, slot: int) -> list[Replica]:
        """Its incarnation is dead. Returns the replicas that it had been given."""
        self.seats.not_retiring(slot)
        orphans: list[Replica] = []
        for replica in self.seats.replicas_of(slot):
            if replica.incarnation:
                self._note_due(replica)
                if replica.deleting:
                    replica.incarnation, replica.closing = 0, False
                    continue
                replica.spent = replica.leader_epoch
                self._let_go(replica)
                orphans.append(replica)
        return orphans

    # What gateways are told.

    def tell(self, topic_id: bytes, state: PartitionImage) -> None:
        """Who leads the partition, if that is not what gateways know; nothing while its leader opens it."""
        replicas = self.replicas_of(topic_id, state.partition)
        leader = next((replica for replica in replicas if replica.leads), None)
        if leader is None or leader.offline_code:
            codes = [each.offline_code for each in replicas if each.broker in state.isr and each.offline_code]
            code = leader.offline_code if leader is not None else (*codes, errors.NOT_LEADER_OR_FOLLOWER)[0]
            self._announce(unassigned(topic_id, state.partition, code))
        elif leader.started:
            self._announce(assigned(leader, replicas))

    def _announce(self, message: Assigned | Unassigned) -> None:
        key = (message.topic_id, message.partition)
        if self._told.get(key) != message:
            self._told[key] = message
            for gateway in self.gateways:
                self._send(gateway, message)

    def tell_gateway(self, gateway: int) -> bool:
        """Everything that a gateway must know, in answer to its Hello. False: it does not keep up."""
        return all(self._send(gateway, message) for message in self._told.values())
