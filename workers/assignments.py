"""Which worker of which broker serves which partition, on which row: the decisions of the controller that is
active about the processes of all brokers of the host.

Sans-IO: deaths, answers and topics come in; control messages go out through `send`. Rules:

* A replica is given to an incarnation of a worker only in a leader epoch that nobody served before (R): the
controller
  raises it, in the log, after the supervisor stored the death of the one that had it.
* A row is given away again only after its worker has said ReplicaStopped, or is dead; then under a new
generation.
* Gateways hear of an assignment when the worker has published the row, not before.
"""

import heapq
from collections.abc import Callable, Iterable

import msgspec

from tailrace.core import errors
from tailrace.core.metadata.placement import pick_worker
from tailrace.core.metadata.topics import INTERNAL_TOPICS
from tailrace.shm.slots import SUPERVISOR_SLOT, Layout
from tailrace.workers.control import (
    Assigned,
    ConfigureReplica,
    HeldReplica,
    LogDirFailed,
    Message,
    ReplicaStarted,
    RetireWorker,
    ServeReplica,
    StopReplica,
    Unassigned,
    WantWorker,
)

Send = Callable[[int, Message], bool]
Key = tuple[bytes, int, int]
"""Topic id, partition, id of the broker that has this replica of it."""
Name = tuple[str, int, int]
"""The same with the topic's name: whose directory."""


class Replica(msgspec.Struct, kw_only=True):
    """One partition replica of this host and who serves it."""

    topic: str
    topic_id: bytes
    partition: int
    broker: int  # its id
    row: int
    row_generation: int
    leader_epoch: int
    slot: int
    log_dir: str  # empty: nobody knows which
    configs: dict[str, str]
    is_new: bool = False
    incarnation: int = 0  # of the worker that was told, 0: nobody yet
    started: bool = False
    offline_code: int = 0  # not 0: nobody serves it, and requests are answered this
    deleting: bool = False
    configs_due: bool = False  # its worker has to be told of `configs` once more

    @property
    def key(self) -> Key:
        """Topic id, partition and broker."""
        return self.topic_id, self.partition, self.broker

    @property
    def name(self) -> Name:
        """Topic, partition and broker."""
        return self.topic, self.partition, self.broker


class Assignments:
    """The rows of the state table but for the first ones, and the worker slots."""

    def __init__(
        self,
        *,
        row_count: int,
        layout: Layout,
        first_id: int,
        generation: Callable[[int], int],
        send: Send,
    ) -> None:
        """`first_id`: of the first of the host's brokers, whose ids are consecutive."""
        self.by_key: dict[Key, Replica] = {}
        self.by_row: dict[int, Replica] = {}
        self._by_slot: dict[int, set[int]] = {}
        self._deleting_names: dict[Name, int] = {}
        self._held_back: dict[Name, Replica] = {}
        self._retiring: set[int] = set()
        self._free_rows = list(range(layout.brokers, row_count))  # those before are the metadata logs'
        self._layout = layout
        self._brokers = range(first_id, first_id + layout.brokers)
        self._generation = generation
        self._send = send
        self.gateways = layout.gateways()

    @property
    def rows_free(self) -> int:
        """How many more replicas there is room for."""
        return len(self._free_rows)

    def slots_in_use(self) -> Iterable[int]:
        """The worker slots that hold replicas."""
        return self._by_slot.keys()

    def replicas_of(self, slot: int) -> list[Replica]:
        """The replicas of a worker slot."""
        return [self.by_row[row] for row in sorted(self._by_slot.get(slot, ()))]

    def adopt(
        self, held: HeldReplica, topic: str, configs: dict[str, str], slot: int, incarnation: int
    ) -> None:
        """A worker that outlived a controller serves this replica in the committed leader epoch: leave it
        be.
        """
        self._enter(
            Replica(
                topic=topic,
                topic_id=held.topic_id,
                partition=held.partition,
                broker=self._owner_of(slot),
                row=held.row,
                row_generation=held.row_generation,
                leader_epoch=held.leader_epoch,
                slot=slot,
                log_dir=held.log_dir,
                configs=configs,
                incarnation=incarnation,
                started=held.started,
                configs_due=True,  # (R) the dead controller may have committed others and told nobody
            )
        )
        self._send(
            SUPERVISOR_SLOT, WantWorker(slot=slot)
        )  # the dead controller's wish may have been lost with it

    def adopt_deleted(self, held: HeldReplica, slot: int) -> None:
        """A worker holds a replica of a topic that is gone: it is told to delete it. (R) Until it has, the
        name is not free: its files would be taken for those of a topic made again, or go together with them.
        """
        replica = Replica(
            topic=held.topic,
            topic_id=held.topic_id,
            partition=held.partition,
            broker=self._owner_of(slot),
            row=held.row,
            row_generation=held.row_generation,
            leader_epoch=held.leader_epoch,
            slot=slot,
            log_dir=held.log_dir,
            configs={},
            deleting=True,
        )
        self.by_row[replica.row] = replica
        self._by_slot.setdefault(slot, set()).add(replica.row)
        self._deleting_names[replica.name] = replica.row

    def finish_adopting(self) -> None:
        """After the last adoption: the rows that are left are free."""
        self._free_rows = [row for row in self._free_rows if row not in self.by_row]

    def assign(
        self,
        topic: str,
        topic_id: bytes,
        partition: int,
        leader_epoch: int,
        configs: dict[str, str],
        *,
        broker: int,
        log_dir: str,
        is_new: bool = False,
        offline_code: int = 0,
        former_row: int = 0,
    ) -> None:
        """Choose a worker of that broker and a row, the one it had before if free, for a replica that nobody
        serves.
        """
        row = self._take_row(former_row)
        slot = self._pick_slot(topic, broker)
        replica = Replica(
            topic=topic,
            topic_id=topic_id,
            partition=partition,
            broker=broker,
            row=row,
            row_generation=self._generation(row) + 1,
            leader_epoch=leader_epoch,
            slot=slot,
            log_dir=log_dir,
            configs=configs,
            is_new=is_new,
            offline_code=offline_code,
        )
        self._enter(replica)
        if replica.name in self._deleting_names:
            self._held_back[replica.name] = replica  # its directory still belongs to the deleted topic
        if not offline_code:
            self._want(slot)

    def _owner_of(self, slot: int) -> int:
        return self._brokers[self._layout.broker_of(slot)]

    def _pick_slot(self, topic: str, broker: int) -> int:
        """A worker of its own while there is one to have; partitions of internal topics share one."""
        if topic in INTERNAL_TOPICS:
            for replica in self.by_row.values():
                is_like = replica.topic in INTERNAL_TOPICS and replica.broker == broker
                if is_like and replica.slot not in self._retiring:
                    return replica.slot
        slots = self._layout.workers(self._brokers.index(broker))
        loads = {slot: len(self._by_slot.get(slot, ())) for slot in slots}
        return pick_worker(loads, slots[0], len(slots), frozenset(self._retiring))

    def _take_row(self, former_row: int) -> int:
        if former_row and former_row not in self.by_row:
            self._free_rows.remove(former_row)
            heapq.heapify(self._free_rows)
            return former_row
        return heapq.heappop(self._free_rows)

    def _enter(self, replica: Replica) -> None:
        self.by_key[replica.key] = replica
        self.by_row[replica.row] = replica
        self._by_slot.setdefault(replica.slot, set()).add(replica.row)

    def _want(self, slot: int) -> None:
        self._retiring.discard(slot)
        self._send(SUPERVISOR_SLOT, WantWorker(slot=slot))

    def serve_slot(self, slot: int, incarnation: int) -> None:
        """Tell a live worker about the replicas, and the configs, that it has not been told about."""
        for row in self._by_slot.get(slot, ()):
            replica = self.by_row[row]
            if replica.offline_code and not replica.deleting:
                continue
            if self._held_back.get(replica.name) is replica:
                continue
            if not replica.incarnation and self._send(slot, self._order(replica)):
                replica.incarnation = incarnation
            if replica.configs_due and replica.incarnation:
                replica.configs_due = not self._send(slot, _configure_message(replica))

    def _order(self, replica: Replica) -> ServeReplica | StopReplica:
        if replica.deleting:
            return _stop_message(replica)
        return ServeReplica(
            topic=replica.topic,
            topic_id=replica.topic_id,
            partition=replica.partition,
            row=replica.row,
            row_generation=replica.row_generation,
            leader_epoch=replica.leader_epoch,
            log_dir=replica.log_dir,
            configs=replica.configs,
            is_new=replica.is_new,
            leader=replica.broker,
            replicas=(replica.broker,),
            isr=(replica.broker,),
            partition_epoch=0,
            rows=(replica.row,),
        )

    def on_started(self, slot: int, incarnation: int, message: ReplicaStarted) -> bool:
        """The worker has published the row: gateways may send requests there. False: it spoke of the past."""
        replica = self._answered(slot, incarnation, message.row, message.row_generation)
        if replica is None or replica.deleting or message.leader_epoch != replica.leader_epoch:
            return False
        replica.started = True
        replica.is_new = False
        for gateway in self.gateways:
            self._send(gateway, _assigned(replica))
        return True

    def on_failed(
        self, slot: int, incarnation: int, row: int, row_generation: int, error_code: int
    ) -> Replica | None:
        """The worker could not open the replica, or lost its directory. Returns it, offline from now on."""
        replica = self._answered(slot, incarnation, row, row_generation)
        if replica is None or replica.deleting:  # (R) its files are there still: `on_stopped` frees its name
            return None
        self.take_offline(replica, error_code)
        return replica

    def on_stopped(self, slot: int, incarnation: int, row: int, row_generation: int) -> None:
        """A deleted replica is gone: its row, its name and perhaps its worker are free."""
        replica = self._answered(slot, incarnation, row, row_generation)
        if replica is not None and replica.deleting:
            self._free(replica)

    def _answered(self, slot: int, incarnation: int, row: int, row_generation: int) -> Replica | None:
        """The replica that a worker speaks of, if it is still the one that it was told about."""
        replica = self.by_row.get(row)
        if replica is None or (replica.slot, replica.incarnation) != (slot, incarnation):
            return None
        return replica if replica.row_generation == row_generation else None

    def take_offline(self, replica: Replica, error_code: int) -> None:
        """Nobody serves this replica until it is revived; its neighbours are not touched."""
        replica.offline_code = error_code or errors.KAFKA_STORAGE_ERROR
        replica.started = False
        for gateway in self.gateways:
            self._send(gateway, _unassigned(replica, replica.offline_code))

    def fail_log_dir(self, log_dir: str) -> int:
        """This directory is out of service: nobody serves what lies in it, and the workers that do are told.
        Returns how many partitions that are.
        """
        lost = [replica for replica in self.by_key.values() if replica.log_dir == log_dir]
        for replica in lost:
            if not replica.offline_code:
                self.take_offline(replica, errors.KAFKA_STORAGE_ERROR)
        for slot in sorted({replica.slot for replica in lost if replica.incarnation}):
            self._send(slot, LogDirFailed(log_dir=log_dir))
        return len(lost)

    def reopen(self, replica: Replica) -> None:
        """Try again in the same leader epoch (R): only one that could not be opened has led nothing in it."""
        replica.offline_code = replica.incarnation = 0
        self._want(replica.slot)

    def revive(self, replica: Replica, leader_epoch: int) -> None:
        """Try again, in a new leader epoch."""
        assert leader_epoch > replica.leader_epoch
        replica.offline_code = 0
        self.renew(replica, leader_epoch)
        self._want(replica.slot)

    def on_worker_death(self, slot: int) -> list[Replica]:
        """Its incarnation is dead. Returns the replicas that need a new leader epoch before they are served
        again.
        """
        self._retiring.discard(slot)
        orphans: list[Replica] = []
        for replica in self.replicas_of(slot):
            told, replica.incarnation, replica.started = replica.incarnation, 0, False
            if told and not replica.deleting and not replica.offline_code:
                orphans.append(replica)
        return orphans

    def renew(self, replica: Replica, leader_epoch: int) -> None:
        """The new leader epoch of a replica whose leader died is committed."""
        assert leader_epoch > replica.leader_epoch
        replica.leader_epoch = leader_epoch
        replica.row_generation = self._generation(replica.row) + 1
        replica.incarnation = 0

    def replicas_of_topic(self, topic_id: bytes, partition_count: int) -> list[Replica]:
        """Those of all brokers, in the order of their partitions."""
        keys = ((topic_id, index, broker) for index in range(partition_count) for broker in self._brokers)
        return [self.by_key[key] for key in keys if key in self.by_key]

    def configure(
        self, topic_id: bytes, partition_count: int, configs_on: Callable[[int], dict[str, str]]
    ) -> None:
        """Other configs of the topic are committed, on each broker: `serve_slot` says it to the workers."""
        configs = {broker: configs_on(broker) for broker in self._brokers}
        for replica in self.replicas_of_topic(topic_id, partition_count):
            replica.configs = configs[replica.broker]
            replica.configs_due = True

    def delete_topic(self, topic_id: bytes, partition_count: int) -> None:
        """The removal of the topic is committed: gateways forget it, workers delete its files."""
        for replica in self.replicas_of_topic(topic_id, partition_count):
            del self.by_key[replica.key]
            for gateway in self.gateways:
                self._send(gateway, _unassigned(replica, errors.UNKNOWN_TOPIC_OR_PARTITION))
            name = replica.name
            if self._held_back.get(name) is replica:  # never existed but in the log
                del self._held_back[name]
                self._free(replica)
                continue
            replica.deleting = True
            replica.started = False
            self._deleting_names[name] = replica.row
            if replica.incarnation:
                self._send(replica.slot, _stop_message(replica))
            else:
                self._want(replica.slot)  # serve_slot says it to whoever lives there next

    def _free(self, replica: Replica) -> None:
        del self.by_row[replica.row]
        rows = self._by_slot[replica.slot]
        rows.discard(replica.row)
        heapq.heappush(self._free_rows, replica.row)
        name = replica.name
        if self._deleting_names.get(name) == replica.row:
            del self._deleting_names[name]
            self._held_back.pop(name, None)
        if not rows:
            del self._by_slot[replica.slot]
            self._retiring.add(replica.slot)
            self._send(SUPERVISOR_SLOT, RetireWorker(slot=replica.slot))

    def tell_gateway(self, gateway: int) -> bool:
        """Everything that a gateway must know, in answer to its Hello. False: it does not keep up."""
        return all(
            self._send(
                gateway,
                _unassigned(replica, replica.offline_code) if replica.offline_code else _assigned(replica),
            )
            for replica in self.by_key.values()
            if replica.started or replica.offline_code
        )


def _assigned(replica: Replica) -> Assigned:
    return Assigned(
        topic=replica.topic,
        topic_id=replica.topic_id,
        partition=replica.partition,
        broker=replica.broker,
        row=replica.row,
        row_generation=replica.row_generation,
        worker_slot=replica.slot,
        worker_incarnation=replica.incarnation,
        leader_epoch=replica.leader_epoch,
        log_dir=replica.log_dir,
    )


def _unassigned(replica: Replica, error_code: int) -> Unassigned:
    return Unassigned(topic_id=replica.topic_id, partition=replica.partition, error_code=error_code)


def _configure_message(replica: Replica) -> ConfigureReplica:
    return ConfigureReplica(row=replica.row, row_generation=replica.row_generation, configs=replica.configs)


def _stop_message(replica: Replica) -> StopReplica:
    return StopReplica(
        topic=replica.topic,
        topic_id=replica.topic_id,
        partition=replica.partition,
        row=replica.row,
        row_generation=replica.row_generation,
        log_dir=replica.log_dir,
        delete=True,
    )
