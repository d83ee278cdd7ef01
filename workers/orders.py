"""A replica as the controller has it, and what workers and gateways are told about it."""

from collections.abc import Sequence

import msgspec

from tailrace.core.metadata.image import PartitionImage
from tailrace.core.metadata.records import NO_LEADER
from tailrace.workers.control import (
    Assigned,
    ConfigureReplica,
    HeldReplica,
    ReplicaPlace,
    ServeReplica,
    StopReplica,
    Unassigned,
)

Key = tuple[bytes, int, int]
"""Topic id, partition, id of the broker that has this replica of it."""
Name = tuple[str, int, int]
"""The same with the topic's name: whose directory."""


class Replica(msgspec.Struct, kw_only=True, eq=False):
    """One partition replica of this host and who serves it."""

    topic: str
    topic_id: bytes
    state: PartitionImage  # the partition as staged
    broker: int  # its id
    row: int
    row_generation: int
    slot: int
    log_dir: str  # empty: nobody knows which
    configs: dict[str, str]
    is_new: bool = False
    incarnation: int = 0  # of the worker that was told, 0: nobody yet
    told_orders: int = 0  # to that one, since it began with this replica
    order_due: bool = False  # it has to hear of the partition's state once more
    closing: bool = False  # it has failed, and is asked to let go for certain
    close_due: bool = False  # that has to be said yet
    started_in: int = -1  # the leader epoch in which that one serves, as it said
    spent: int = -1  # up to this leader epoch nobody leads here any more, or is told to (R)
    asked_to_resign: int = -1  # the leader epoch that it was asked to give up
    offline_code: int = 0  # not 0: nobody serves it, and requests are answered this
    deleting: bool = False
    copy_rate: int = 0  # bytes a second while it is out of sync, 0: no limit
    future_log_dir: str = ""  # where it is to move to; empty: it stays
    future_rate: int = 0  # bytes a second that it may copy there, 0: no limit
    completing: bool = False  # it has been told to complete that: (R) no order before it has answered
    configs_due: bool = False  # its worker has to be told of `configs` once more

    @property
    def partition(self) -> int:
        """Its index."""
        return self.state.partition

    @property
    def leader_epoch(self) -> int:
        """The epoch in which it serves, or is to serve."""
        return self.state.leader_epoch

    @property
    def leads(self) -> bool:
        """Whether it is the leader of the partition."""
        return self.state.leader == self.broker

    @property
    def started(self) -> bool:
        """Whether it serves in the present leader epoch."""
        return self.started_in == self.state.leader_epoch

    @property
    def is_spent(self) -> bool:
        """Whether it leads in an epoch in which it must not: a dead process had it, or one that resigned."""
        return self.leads and self.spent >= self.leader_epoch

    @property
    def key(self) -> Key:
        """Topic id, partition and broker."""
        return self.topic_id, self.partition, self.broker

    @property
    def name(self) -> Name:
        """Topic, partition and broker."""
        return self.topic, self.partition, self.broker


def served_by_nobody(held: HeldReplica) -> PartitionImage:
    """The partition of a replica that is held and that there is no more."""
    return PartitionImage(
        partition=held.partition,
        replicas=(),
        isr=(),
        leader=NO_LEADER,
        leader_epoch=held.leader_epoch,
        partition_epoch=held.partition_epoch,
        directories=(),
    )


def serve_order(replica: Replica, leader: Replica | None, rows: tuple[int, ...]) -> ServeReplica:
    """`leader`: the one there is, if it has said that it leads in this epoch."""
    state = replica.state
    return ServeReplica(
        topic=replica.topic,
        topic_id=replica.topic_id,
        partition=replica.partition,
        row=replica.row,
        row_generation=replica.row_generation,
        leader_epoch=state.leader_epoch,
        log_dir=replica.log_dir,
        configs=replica.configs,
        is_new=replica.is_new,
        leader=state.leader,
        leader_slot=0 if leader is None else leader.slot,
        leader_incarnation=0 if leader is None else leader.incarnation,
        replicas=state.replicas,
        isr=state.isr,
        partition_epoch=state.partition_epoch,
        lineage=state.lineage,
        rows=rows,
        leader_log_dir="" if leader is None else leader.log_dir,
        copy_rate=replica.copy_rate,
        future_log_dir=replica.future_log_dir,
        future_rate=replica.future_rate,
    )


def stop_order(replica: Replica, *, delete: bool) -> StopReplica:
    """`delete`: its files go, too."""
    return StopReplica(
        topic=replica.topic,
        topic_id=replica.topic_id,
        partition=replica.partition,
        row=replica.row,
        row_generation=replica.row_generation,
        log_dir=replica.log_dir,
        delete=delete,
    )


def configure_order(replica: Replica) -> ConfigureReplica:
    """Other configs than those it was served with."""
    return ConfigureReplica(row=replica.row, row_generation=replica.row_generation, configs=replica.configs)


def assigned(leader: Replica, replicas: Sequence[Replica]) -> Assigned:
    """`replicas`: all of the partition, the leader among them."""
    return Assigned(
        topic=leader.topic,
        topic_id=leader.topic_id,
        partition=leader.partition,
        broker=leader.broker,
        row=leader.row,
        row_generation=leader.row_generation,
        worker_slot=leader.slot,
        worker_incarnation=leader.incarnation,
        leader_epoch=leader.leader_epoch,
        log_dir=leader.log_dir,
        replicas=tuple(map(_place, replicas)),
    )


def _place(replica: Replica) -> ReplicaPlace:
    return ReplicaPlace(
        broker=replica.broker,
        row=replica.row,
        row_generation=replica.row_generation,
        worker_slot=replica.slot,
        log_dir=replica.log_dir,
    )


def unassigned(topic_id: bytes, partition: int, error_code: int) -> Unassigned:
    """Nobody leads it."""
    return Unassigned(topic_id=topic_id, partition=partition, error_code=error_code)
