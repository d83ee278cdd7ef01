"""The controller's decisions about rows and workers, in a world without processes."""

from typing import TypeVar

import msgspec

from tailrace.core.metadata.image import PartitionImage
from tailrace.shm.slots import Layout
from tailrace.workers.assignments import Assignments
from tailrace.workers.control import Message, ReplicaStarted
from tailrace.workers.orders import Replica

T = TypeVar("T")
A, B = b"a" * 16, b"b" * 16
GATEWAY = 2


def state(
    partition: int = 0,
    *,
    epoch: int = 0,
    change: int = 0,
    leader: int = 0,
    replicas: tuple[int, ...] = (0,),
    isr: tuple[int, ...] | None = None,
) -> PartitionImage:
    """A partition as the controller has staged it; `change` is its partition epoch."""
    return PartitionImage(
        partition=partition,
        replicas=replicas,
        isr=replicas if isr is None else isr,
        leader=leader,
        leader_epoch=epoch,
        partition_epoch=change,
        directories=("d",) * len(replicas),
    )


class World:
    """Assignments, what they sent, and the row generations of a state table."""

    def __init__(self, *, row_count: int = 10, workers_max: int = 2, brokers: int = 1) -> None:
        self.sent: list[tuple[int, Message]] = []
        self.generations: dict[int, int] = {}
        self.layout = Layout(brokers, workers_max)
        self.gone: set[int] = set()
        self.living: dict[int, int] = {}  # the incarnation in a slot, if it is another than was asked for
        self.assignments = Assignments(
            row_count=row_count,
            layout=self.layout,
            first_id=0,
            generation=lambda row: self.generations.get(row, 0),
            send=self._send,
            is_there=lambda broker: broker not in self.gone,
        )
        self.is_full = False

    def _send(self, slot: int, message: Message, *, only: int = 0) -> bool:
        if self.is_full or only not in (0, self.living.get(slot, only)):
            return False
        self.sent.append((slot, message))
        return True

    def take(self) -> list[tuple[int, Message]]:
        sent, self.sent = self.sent, []
        return sent

    def told(self, kind: type[T]) -> list[T]:
        """What was sent of this kind."""
        return [message for _, message in self.take() if isinstance(message, kind)]

    def started(self, replica: Replica) -> None:
        self.generations[replica.row] = replica.row_generation
        self.assignments.on_started(
            replica.slot,
            replica.incarnation,
            ReplicaStarted(
                row=replica.row, row_generation=replica.row_generation, leader_epoch=replica.leader_epoch
            ),
        )

    def place(
        self,
        topic_id: bytes = A,
        partition: int = 0,
        *,
        topic: str = "t",
        epoch: int = 0,
        configs: dict[str, str] | None = None,
        is_new: bool = True,
    ) -> Replica:
        """The only replica of a partition is given a seat."""
        return self.assignments.place(
            topic,
            topic_id,
            state(partition, epoch=epoch),
            configs or {},
            broker=0,
            log_dir="/data",
            is_new=is_new,
        )

    def serving(self, topic_id: bytes = A, partition: int = 0, incarnation: int = 7) -> Replica:
        """A replica that has come up on its worker."""
        replica = self.place(topic_id, partition)
        self.assignments.serve_slot(replica.slot, incarnation)
        self.started(replica)
        self.take()
        return replica

    def renew(self, replica: Replica) -> None:
        """The next leader epoch is staged."""
        old = replica.state
        self.assignments.update(
            replica.topic_id,
            msgspec.structs.replace(
                old, leader_epoch=old.leader_epoch + 1, partition_epoch=old.partition_epoch + 1
            ),
        )

    def replicated(self, *, leader: int = 0) -> list[Replica]:
        """A partition of three brokers: each is told."""
        at = state(replicas=(0, 1, 2), leader=leader)
        replicas = [
            self.assignments.place("t", A, at, {}, broker=broker, log_dir=f"/{broker}", is_new=True)
            for broker in at.replicas
        ]
        self.serve()
        return replicas

    def serve(self) -> None:
        """Every worker hears what it has not heard."""
        for slot in self.layout.all_workers():
            self.assignments.serve_slot(slot, 7)
