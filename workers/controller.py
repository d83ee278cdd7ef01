"""The controller: decides for all brokers of the host, writes the decision to the metadata log, and only then
tells anybody.

One turn of its loop takes all that has come in, stages records, syncs them once, publishes the commit, and
flushes the messages that depend on them. A controller that dies has therefore told nobody what is not on
disk; its successor replays the log and asks the workers what they hold.
"""

import errno
import signal
import time
from collections.abc import Callable, Iterable, Sequence

from tailrace.core import errors
from tailrace.core.log.directory import DiskFullError
from tailrace.core.metadata.configs import told_configs
from tailrace.core.metadata.image import PartitionImage, TopicImage
from tailrace.core.metadata.records import NO_LEADER, BrokerRegistered, PartitionChange, Record
from tailrace.shm import state_table as rows
from tailrace.shm.slots import STOPPING, SUPERVISOR_SLOT
from tailrace.shm.state_table import RowWriter, topic_id_words
from tailrace.workers.assignments import Assignments, Key, Replica
from tailrace.workers.blame import Blame
from tailrace.workers.control import (
    AllocateProducerIds,
    AlterConfigs,
    CreatePartitions,
    CreateTopics,
    DeleteTopics,
    Hello,
    Message,
    ReplicaFailed,
    Replicas,
    ReplicaStarted,
    ReplicaStopped,
    WorkerDied,
)
from tailrace.workers.failed_dirs import FailedDirs
from tailrace.workers.gateway_requests import GatewayRequests
from tailrace.workers.metadata_log import MetadataLog
from tailrace.workers.presence import Presence
from tailrace.workers.process import ProcessContext
from tailrace.workers.retries import Retries
from tailrace.workers.survey import Place, Survey
from tailrace.workers.takeover import TakeOver

ROOM_S = 1.0  # between two looks whether a full disk has room for the metadata log


Hear = Callable[[], Sequence[tuple[int, int, Message]]]
"""What has come in since the last call: from which slot and incarnation."""


class Controller:
    """While its process leads the quorum."""

    def __init__(self, context: ProcessContext, log: MetadataLog, hear: Hear) -> None:
        self._context = context
        self._hear = hear
        self._log = log
        self._blame = Blame()
        self._died: list[WorkerDied] = []
        self._retries = Retries()
        self._lagging: set[int] = set()
        table = context.state_table
        self.assignments = Assignments(
            row_count=table.rows,
            layout=context.layout,
            first_id=context.brokers[0].node_id,
            generation=lambda row: table.read_word(row, rows.ROW_GENERATION),
            send=self._send,
        )
        self._requests = GatewayRequests(context, log, self.assignments)
        self._failed_dirs = FailedDirs(context, self.assignments)
        self._presence = Presence(context, log, self.assignments)
        self._worker_slots = context.layout.all_workers()
        self._known = dict.fromkeys(self._worker_slots, 0)

    def take_over(self, take_over: TakeOver) -> bool:
        """Begin with what the log says and what the workers that live hold. False: the disk has no room now,
        for what everything else waits for. A broker that starts says so: DiskFullError.
        """
        context, image, assignments = self._context, self._log.image, self.assignments
        self._known.update(take_over.incarnations)
        held = take_over.adopt_into(assignments, image)
        surveys = {
            broker.node_id: Survey(
                broker.log_dirs, image, take_over.held_topics(), first_of_run=take_over.first_of_run
            )
            for broker in context.brokers
        }
        places: dict[Key, Place] = {}
        records: list[Record] = []
        if take_over.first_of_run:
            epoch = image.metadata_offset
            records += [
                BrokerRegistered(broker_id=broker.node_id, broker_epoch=epoch, rack=broker.config.rack)
                for broker in context.brokers
            ]
        for topic in image.topics_by_name.values():
            for partition in topic.partitions:
                key = _key_of(topic, partition)
                if key not in held:
                    place = places[key] = surveys[key[2]].place(topic, partition)
                    moved = place.directory_id if place.directory_id != partition.directory else None
                    if partition.leader != NO_LEADER:
                        records.append(_new_epoch(*key[:2], partition.leader_epoch + 1, moved))
                    elif take_over.first_of_run:  # all brokers start with the host
                        records.append(_new_epoch(*key[:2], partition.leader_epoch + 1, moved, key[2]))
        try:
            if records:
                self._log.stage(records, _now_ms())
        except DiskFullError:
            if take_over.first_of_run:
                raise
            return False
        self._assign_unheld(take_over, held, places)
        take_over.retire_idle(assignments)
        for gateway in assignments.gateways:
            assignments.tell_gateway(gateway)
        for slot, incarnation, message in take_over.early:
            self._take(slot, incarnation, message)
        return True

    def _assign_unheld(self, take_over: TakeOver, held: set[Key], places: dict[Key, Place]) -> None:
        image = self._log.image
        unheld = [
            (topic, partition)
            for topic in image.topics_by_name.values()
            for partition in topic.partitions
            if _key_of(topic, partition) not in held
        ]
        # Those that had a row come first, before it is given to another.
        unheld.sort(key=lambda pair: _key_of(*pair) not in take_over.rows)
        for topic, partition in unheld:
            key = _key_of(topic, partition)
            log_dir = places[key].path
            code = errors.NOT_LEADER_OR_FOLLOWER if partition.leader == NO_LEADER else errors.NONE
            if not log_dir or key in take_over.quarantined:
                code = errors.KAFKA_STORAGE_ERROR
            self.assignments.assign(
                topic.name,
                *key[:2],
                partition.leader_epoch,
                told_configs(image, topic.name, key[2]),
                broker=key[2],
                log_dir=log_dir,
                offline_code=code,
                former_row=take_over.rows.get(key, 0),
            )

    def turn(self) -> None:
        """Everything that has come in, and everything that follows from it."""
        dead = (
            self._find_dead()
        )  # before the frames: a death in the slot table has its WorkerDied in the ring (R)
        for slot, incarnation, message in self._hear():
            self._take(slot, incarnation, message)
        self._bury(dead)
        self._failed_dirs.look()
        self._presence.look(_now_ms())
        self._retry_due()
        for slot in self._worker_slots:
            if self._known[slot]:
                self.assignments.serve_slot(slot, self._known[slot])
        self._catch_up_lagging()

    def next_retry_s(self) -> float:
        """Seconds until there is something to do without being told."""
        return self._retries.wait_s(time.monotonic(), 3600.0)

    def _send(self, slot: int, message: Message) -> bool:
        sent = self._context.outbox.send(slot, message)
        if not sent and slot in self.assignments.gateways and self._context.slots.live_incarnation(slot):
            self._lagging.add(slot)
        return sent

    def _catch_up_lagging(self) -> None:
        """A gateway that let too much pile up has missed something: it hears everything again once it has
        read on.
        """
        for slot in [slot for slot in self._lagging if self._context.outbox.is_empty(slot)]:
            self._lagging.discard(slot)
            self.assignments.tell_gateway(slot)

    # Deaths.

    def _find_dead(self) -> list[int]:
        """Worker slots whose known incarnation is dead. New incarnations become known."""
        dead: list[int] = []
        for slot in self._worker_slots:
            incarnation = self._context.slots.live_incarnation(slot)
            if incarnation == self._known[slot]:
                continue
            if self._known[slot]:
                dead.append(slot)
            self._known[slot] = incarnation
        return dead

    def _bury(self, dead: Iterable[int]) -> None:
        """One batch with the new leader epochs of all that the dead led, then their replicas are served anew
        (R).
        """
        died, self._died = self._died, []
        if self._context.slots.state(SUPERVISOR_SLOT) == STOPPING:
            return
        for death in died:
            self._note_blame(death)
        orphans = [replica for slot in dead for replica in self.assignments.on_worker_death(slot)]
        self._renew([replica for replica in orphans if not replica.offline_code])

    def _note_blame(self, death: WorkerDied) -> None:
        replica = self.assignments.by_row.get(death.row)
        if replica is None or (replica.slot, replica.incarnation) != (death.slot, death.incarnation):
            return  # (R) the frame came late: another has the row by now, and alone writes it
        if death.signal == signal.SIGKILL:
            return  # somebody's hand or the kernel's out-of-memory killer: not the partition's fault
        disk_fault = death.signal == signal.SIGBUS
        log_dirs = self._context.log_dirs_of(replica.broker)
        if disk_fault and log_dirs.can_be_spared(replica.log_dir):
            log_dirs.fail(replica.log_dir, errno.EIO)
        if self._blame.on_death(death.row, time.monotonic(), disk_fault=disk_fault):
            self._publish_offline(replica)
            self.assignments.take_offline(replica, errors.KAFKA_STORAGE_ERROR)

    def _publish_offline(self, replica: Replica) -> None:
        """Its owner is dead, so the row is ours to write; the next controller reads there that it is
        quarantined.
        """
        writer = RowWriter(self._context.state_table, replica.row)
        values = writer.values
        values[rows.TOPIC_ID_HI], values[rows.TOPIC_ID_LO] = topic_id_words(replica.topic_id)
        values[rows.PARTITION] = replica.partition
        values[rows.ROW_GENERATION] = replica.row_generation
        values[rows.ROLE] = rows.ROLE_OFFLINE
        values[rows.OWNER] = replica.slot << 32
        writer.publish()

    def _renew(self, replicas: list[Replica]) -> None:
        if self._stage_epochs(replicas):
            for replica in replicas:
                self.assignments.renew(replica, replica.leader_epoch + 1)

    def _stage_epochs(self, replicas: list[Replica]) -> bool:
        """A new leader epoch for each. If there is no room for that they are offline (R), or they would be
        served in the old one, and tried again.
        """
        keys = [(replica.topic_id, replica.partition, replica.leader_epoch + 1) for replica in replicas]
        try:
            if keys:
                self._log.stage([_new_epoch(*key) for key in keys], _now_ms())
        except DiskFullError:
            for replica in replicas:
                self._retries.note(replica.row, time.monotonic(), is_full=True)
                self.assignments.take_offline(replica, errors.KAFKA_STORAGE_ERROR)
            return False
        return True

    def _retry_due(self) -> None:
        to_revive: list[Replica] = []
        for row, same_epoch in self._retries.take_due(time.monotonic()):
            replica = self.assignments.by_row.get(row)
            is_gone = replica is None or not self._is_dir_online(replica)
            if replica is None or is_gone or not replica.offline_code or replica.deleting:
                self._retries.forget(row)
            elif same_epoch:
                self.assignments.reopen(replica)
            else:
                to_revive.append(replica)
        if self._stage_epochs(to_revive):
            for replica in to_revive:
                self.assignments.revive(replica, replica.leader_epoch + 1)

    # Frames.

    def _take(self, slot: int, incarnation: int, message: Message) -> None:
        assignments = self.assignments
        match message:
            case ReplicaStarted():
                if assignments.on_started(slot, incarnation, message):
                    self._retries.forget(message.row)
            case ReplicaFailed():
                self._on_failed(slot, incarnation, message)
            case ReplicaStopped():
                assignments.on_stopped(slot, incarnation, message.row, message.row_generation)
            case (
                CreateTopics() | DeleteTopics() | CreatePartitions() | AlterConfigs() | AllocateProducerIds()
            ):
                self._requests.take(slot, incarnation, message)
            case Hello():
                assignments.tell_gateway(slot)
            case WorkerDied():
                self._died.append(message)
            case Replicas():
                pass  # asked for by TakeOver, answered twice by a worker that was slow
            case _:
                raise AssertionError(f"{type(message).__name__} is not for a controller")

    def _on_failed(self, slot: int, incarnation: int, message: ReplicaFailed) -> None:
        replica = self.assignments.on_failed(
            slot, incarnation, message.row, message.row_generation, message.error_code
        )
        if replica is not None and self._is_dir_online(replica):
            full = message.is_full
            self._retries.note(message.row, time.monotonic(), is_full=full, same_epoch=full)

    def _is_dir_online(self, replica: Replica) -> bool:
        return self._context.log_dirs_of(replica.broker).is_online(replica.log_dir)


def _key_of(topic: TopicImage, partition: PartitionImage) -> Key:
    """The only replica of a partition."""
    return topic.topic_id, partition.partition, partition.replicas[0]


def _new_epoch(
    topic_id: bytes,
    partition: int,
    leader_epoch: int,
    directory: str | None = None,
    leader: int | None = None,
) -> PartitionChange:
    return PartitionChange(
        topic_id=topic_id,
        partition=partition,
        leader=leader,
        leader_epoch=leader_epoch,
        directory=directory,
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
