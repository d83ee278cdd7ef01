"""A controller over a real metadata log and real rings, in one process with peers that speak when told to."""

from pathlib import Path

from tailrace.core.metadata.requests import NewTopic
from tailrace.shm.names import RunDir
from tailrace.shm.ring import ByteConsumer
from tailrace.shm.slots import CONTROLLER, GATEWAY, SUPERVISOR, WORKER
from tailrace.workers.control import (
    ConfigureReplica,
    CreateTopics,
    HeldReplica,
    Message,
    Replicas,
    ReplicaStarted,
    ServeReplica,
    TopicResults,
    WorkerDied,
)
from tailrace.workers.controller import Controller
from tailrace.workers.metadata_log import MetadataLog
from tailrace.workers.process import ProcessContext
from tailrace.workers.quorum_member import Member
from tests.support.shared import make_shared

SUPERVISOR_AT, CONTROLLER_AT, GATEWAY_AT, WORKER_AT = 0, 1, 2, 4


class Run:
    """Peers of a controller that speak when told to."""

    def __init__(self, path: Path) -> None:
        self.run_dir = RunDir.create(str(path))
        (path / "data").mkdir()
        self.shared = make_shared(path / "data", self.run_dir)
        self.slots = self.shared.slots
        self.supervisor = self.begin(SUPERVISOR_AT, SUPERVISOR)
        self.gateway = self.begin(GATEWAY_AT, GATEWAY)
        self.member = self.new_member()

    def begin(self, slot: int, role: int) -> ProcessContext:
        return ProcessContext(self.shared, slot, self.slots.begin(slot, role, 0, 0))

    @property
    def controller(self) -> Controller:
        """The one that decides now."""
        assert self.member.controller is not None
        return self.member.controller

    @property
    def log(self) -> MetadataLog:
        """Its log."""
        return self.member.log

    def turn(self) -> None:
        """All that can be done now."""
        assert self.member.turn()

    def new_member(
        self, worker: ProcessContext | None = None, replicas: list[HeldReplica] | None = None
    ) -> Member:
        """A controller starts; a worker that lives answers what it holds."""
        member = self.member = Member(self.begin(CONTROLLER_AT, CONTROLLER))
        if worker is not None:
            say(worker, CONTROLLER_AT, Replicas(replicas=replicas or []))
        member.turn()
        return member

    def die(self, slot: int) -> None:
        self.slots.mark_dead(slot, self.slots.incarnation(slot))

    def worker_dies(self, incarnation: int, row: int, signum: int) -> None:
        """As the supervisor tells it: the frame, then the slot table."""
        say(
            self.supervisor,
            CONTROLLER_AT,
            WorkerDied(slot=WORKER_AT, incarnation=incarnation, row=row, signal=signum),
        )
        self.die(WORKER_AT)

    def create(self, name: str, partitions: int = 1) -> TopicResults:
        topic = NewTopic(name=name, num_partitions=partitions)
        say(
            self.gateway,
            CONTROLLER_AT,
            CreateTopics(request_id=1, topics=[topic], validate_only=False, timeout_ms=1000),
        )
        self.turn()
        (answer,) = heard(self.gateway)
        assert isinstance(answer, TopicResults)
        return answer

    def serve(self) -> tuple[ProcessContext, list[ServeReplica]]:
        """A worker begins and does what it is told."""
        worker = self.begin(WORKER_AT, WORKER)
        self.turn()
        orders = [message for message in heard(worker) if isinstance(message, ServeReplica)]
        for order in orders:
            say(worker, CONTROLLER_AT, started(order))
        self.turn()
        return worker, orders


def started(order: ServeReplica) -> ReplicaStarted:
    """What a worker says that did as it was told."""
    return ReplicaStarted(row=order.row, row_generation=order.row_generation, leader_epoch=order.leader_epoch)


def held(order: ServeReplica, leader_epoch: int | None = None, *, leads: bool = True) -> HeldReplica:
    """What a worker says that does as it was told."""
    return HeldReplica(
        topic=order.topic,
        topic_id=order.topic_id,
        partition=order.partition,
        row=order.row,
        row_generation=order.row_generation,
        leader_epoch=order.leader_epoch if leader_epoch is None else leader_epoch,
        log_dir=order.log_dir,
        started=True,
        leads=leads,
        partition_epoch=order.partition_epoch,
    )


def configured(order: ServeReplica, **configs: str) -> ConfigureReplica:
    """What a worker is told of the configs of what it serves."""
    told = {name.replace("_", "."): value for name, value in configs.items()}
    return ConfigureReplica(row=order.row, row_generation=order.row_generation, configs=told)


def say(context: ProcessContext, slot: int, message: Message) -> None:
    """A process says something to the one in that slot."""
    assert context.outbox.send(slot, message)
    assert context.outbox.flush()


def heard(context: ProcessContext) -> list[Message]:
    """What a process was told since it was asked last."""
    messages: list[Message] = []
    for slot, incarnation, ring in context.links.poll():
        assert isinstance(ring, ByteConsumer)
        messages += context.inbox.read(slot, incarnation, ring)
    context.links.drop_dead()
    return messages
