"""Several brokers with a controller each, over real logs and rings, in one process: the workers and gateways
speak when told to.
"""

from collections.abc import Callable, Collection
from errno import EIO
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tailrace.core.errors import KAFKA_STORAGE_ERROR
from tailrace.core.metadata.image import MetadataImage, PartitionImage
from tailrace.core.metadata.records import RESOURCE_TOPIC
from tailrace.core.metadata.requests import SET, ConfigChange, NewTopic, ResourceChange
from tailrace.shm.names import RunDir
from tailrace.shm.ring import ByteConsumer
from tailrace.shm.slots import CONTROLLER, GATEWAY, READY, SUPERVISOR, SUPERVISOR_SLOT, WORKER
from tailrace.workers.background import Background
from tailrace.workers.control import (
    AlterConfigs,
    AlterPartition,
    Assigned,
    CreateTopics,
    HeldReplica,
    LogDirFailed,
    Message,
    PartitionAltered,
    ReplicaFailed,
    Replicas,
    ReplicaStarted,
    ReplicaStopped,
    ReportReplicas,
    Resigned,
    ResignLeadership,
    ServeReplica,
    StopReplica,
    Unassigned,
)
from tailrace.workers.controller import Controller
from tailrace.workers.process import ProcessContext
from tailrace.workers.quorum_member import Member
from tests.support.shared import close_shared, make_shared
from tests.support.waiting import wait_until
from tests.unit.workers.controller_run import heard, held, say

T = TypeVar("T")
Key = tuple[str, int, int]
"""Topic, partition, broker."""


class Worker:
    """A worker process that does as it is told, but for what it is told not to do."""

    def __init__(self, context: ProcessContext) -> None:
        self.context = context
        self.orders: dict[int, ServeReplica] = {}  # by row: the last
        self.heard: list[Message] = []  # all that it ever was told
        self.resigned: dict[int, int] = {}
        self.is_slow_to_resign = False

    def turn(self) -> bool:
        """Hear and obey. Whether there was anything."""
        context = self.context
        messages: list[Message] = []
        for slot, incarnation, ring in context.links.poll():
            assert isinstance(ring, ByteConsumer)
            told = context.inbox.read(slot, incarnation, ring)
            messages += told if context.obeys(slot) else []
        context.links.drop_dead()
        for message in messages:
            self.heard.append(message)
            if isinstance(message, ServeReplica):
                self.orders[message.row] = message
                self._say(
                    ReplicaStarted(
                        row=message.row,
                        row_generation=message.row_generation,
                        leader_epoch=message.leader_epoch,
                    )
                )
            elif isinstance(message, ResignLeadership) and not self.is_slow_to_resign:
                self.resign(message)
            elif isinstance(message, LogDirFailed):
                for order in [each for each in self.orders.values() if each.log_dir == message.log_dir]:
                    self.lose(order)
            elif isinstance(message, StopReplica):
                self.orders.pop(message.row, None)
                self._say(ReplicaStopped(row=message.row, row_generation=message.row_generation))
            elif isinstance(message, ReportReplicas):
                self._say(Replicas(replicas=[self._held(order) for order in self.orders.values()]))
        return bool(messages)

    def lose(self, order: ServeReplica) -> None:
        """The log of this replica can be used no more."""
        self.orders.pop(order.row, None)
        self._say(
            ReplicaFailed(
                row=order.row,
                row_generation=order.row_generation,
                error_code=KAFKA_STORAGE_ERROR,
                message="it broke",
            )
        )

    def resign(self, asked: ResignLeadership) -> None:
        """As asked."""
        self.resigned[asked.row] = asked.leader_epoch
        self._say(
            Resigned(row=asked.row, row_generation=asked.row_generation, leader_epoch=asked.leader_epoch)
        )

    def resign_now(self) -> None:
        """All that was asked and not done."""
        for asked in self.told(ResignLeadership):
            if self.resigned.get(asked.row, -1) < asked.leader_epoch:
                self.resign(asked)

    def _held(self, order: ServeReplica) -> HeldReplica:
        broker = self.context.node_id
        leads = order.leader == broker and self.resigned.get(order.row, -1) < order.leader_epoch
        return held(order, leads=leads)

    def _say(self, message: Message) -> None:
        slot, _ = self.context.active_controller()
        say(self.context, slot, message)

    def told(self, kind: type[T]) -> list[T]:
        """What it was told of this kind, ever."""
        return [message for message in self.heard if isinstance(message, kind)]

    @property
    def last(self) -> ServeReplica:
        """What it was told last of the only replica that it has."""
        return self.told(ServeReplica)[-1]


class AtOnce(Background[Any]):
    """What is done beside a loop is done within it."""

    def __init__(self, ring: Callable[[], object] | None = None) -> None:
        super().__init__(ring)
        self._outcomes: list[tuple[Any, OSError | None]] = []

    def submit(self, token: Any, job: Callable[[], object]) -> None:
        """It is done when this returns."""
        job()
        self._outcomes.append((token, None))

    def take_done(self, *, wait: bool = False) -> list[tuple[Any, OSError | None]]:
        """Those since the last call."""
        del wait
        outcomes, self._outcomes = self._outcomes, []
        return outcomes


class Cluster:
    """All processes of a host with so many brokers; each has its first worker alone."""

    failed: Collection[int] = ()  # brokers that have lost all log directories, and so do not start

    def __init__(self, path: Path, brokers: int = 3, **settings: str) -> None:
        self.run_dir = RunDir.create(str(path))
        self.shared = make_shared(path / "data", self.run_dir, brokers=str(brokers), **settings)
        for log_dirs in (self.shared.brokers[broker].log_dirs for broker in self.failed):
            for each in log_dirs.dirs:
                log_dirs.fail(each.path, EIO)
        self.layout, self.slots = self.shared.layout, self.shared.slots
        self.supervisor = self.begin(SUPERVISOR_SLOT, SUPERVISOR)
        self._now_ms = 1000
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr("tailrace.workers.quorum._now_ms", lambda: self._now_ms)
        self._patch.setattr("tailrace.workers.quorum.Background", AtOnce)
        self.members: dict[int, Member] = {}
        self.gateways: dict[int, ProcessContext] = {}
        self.workers: dict[int, Worker] = {}
        there = [broker for broker in range(brokers) if broker not in self.failed]
        for broker in there:
            self.members[broker] = Member(self.begin(self.layout.controller(broker), CONTROLLER))
            self.gateways[broker] = self.begin(self.layout.gateway(broker), GATEWAY)
        self.settle()
        for broker in there:
            self.begin_worker(broker)
        self.settle()

    def end(self) -> None:
        """Nothing is left."""
        self._patch.undo()
        for member in self.members.values():
            member.log.close()
        self.run_dir.remove()
        close_shared(self.shared)

    def begin(self, slot: int, role: int) -> ProcessContext:
        """A process takes the slot and serves."""
        broker = self.layout.broker_of(slot)
        context = ProcessContext(self.shared, slot, self.slots.begin(slot, role, broker, 0))
        self.slots.set_state(slot, READY)
        return context

    def begin_worker(self, broker: int) -> Worker:
        """The first worker of a broker."""
        worker = self.workers[broker] = Worker(self.begin(self.layout.workers(broker)[0], WORKER))
        return worker

    @property
    def active(self) -> int:
        """The broker whose controller decides."""
        return next(broker for broker, member in self.members.items() if member.controller is not None)

    @property
    def controller(self) -> Controller:
        """The one that decides."""
        found = self.members[self.active].controller
        assert found is not None
        return found

    @property
    def image(self) -> MetadataImage:
        """Its image."""
        return self.members[self.active].log.image

    def partition(self, index: int = 0, topic: str = "t") -> PartitionImage:
        """As the controller has it."""
        return self.image.topics_by_name[topic].partitions[index]

    def settle(self) -> None:
        """Everybody does what there is to do, until nobody has anything."""
        wait_until(self._is_settled, "a controller that decides and workers that obeyed", 10)

    def _is_settled(self) -> bool:
        """The quorum has a time of its own, by rounds: on a machine that is slow it would elect another."""
        quiet = 0
        for _ in range(200):
            for member in self.members.values():
                assert member.turn(), "it leads on"
            self._now_ms += 1
            busy = [worker.turn() for worker in self.workers.values()]
            decides = [member for member in self.members.values() if member.controller is not None]
            is_done = bool(decides) and all(member.log.is_committed for member in decides)
            quiet = quiet + 1 if is_done and not any(busy) else 0
            if quiet == 5:
                return True
        return False

    def kill(self, slot: int) -> None:
        """The process in this slot is reaped."""
        incarnation = self.slots.live_incarnation(slot)
        if incarnation:
            self.slots.mark_dead(slot, incarnation)
        broker = self.layout.broker_of(slot)
        if slot == self.layout.controller(broker):
            self.members.pop(broker).log.close()
        elif slot == self.layout.gateway(broker):
            del self.gateways[broker]
        else:
            self.workers.pop(broker, None)

    def kill_broker(self, broker: int) -> None:
        """All of its processes, and the rest goes on."""
        layout = self.layout
        for slot in (layout.controller(broker), layout.gateway(broker), *layout.workers(broker)):
            if self.slots.live_incarnation(slot):
                self.kill(slot)
        self.settle()

    def bring_back(self, broker: int) -> None:
        """It dies and is back before any other process has looked."""
        layout = self.layout
        for slot in (layout.controller(broker), layout.gateway(broker), *layout.workers(broker)):
            if self.slots.live_incarnation(slot):
                self.kill(slot)
        self.start_broker(broker)

    def start_broker(self, broker: int) -> None:
        """It is back."""
        self.members[broker] = Member(self.begin(self.layout.controller(broker), CONTROLLER))
        self.begin_worker(broker)
        self.gateways[broker] = self.begin(self.layout.gateway(broker), GATEWAY)
        self.settle()

    def say(self, sender: ProcessContext, message: Message) -> None:
        """To the controller that decides; then everybody does what there is to do."""
        say(sender, self.layout.controller(self.active), message)
        self.settle()

    def create(
        self, *assignments: tuple[int, ...], topic: str = "t", configs: dict[str, str] | None = None
    ) -> None:
        """A topic whose partitions have these replicas."""
        new = NewTopic(
            name=topic,
            assignments=[(index, list(replicas)) for index, replicas in enumerate(assignments)],
            configs=list((configs or {}).items()),
        )
        asked = CreateTopics(request_id=1, topics=[new], validate_only=False, timeout_ms=1000)
        self.say(next(iter(self.gateways.values())), asked)

    def alter(self, topic: str, key: str, value: str) -> None:
        """A config of a topic."""
        change = ConfigChange(key=key, operation=SET, value=value)
        resource = ResourceChange(resource_type=RESOURCE_TOPIC, name=topic, changes=[change])
        asked = AlterConfigs(request_id=2, resources=[resource], validate_only=False, replaces_all=False)
        self.say(next(iter(self.gateways.values())), asked)

    def propose(self, broker: int, *isr: int, epoch: int | None = None) -> PartitionAltered:
        """The worker of this broker, which leads the only partition, says who is in sync; the answer.

        `epoch`: of the partition, if not the present one.
        """
        worker, state = self.workers[broker], self.partition()
        order = worker.last
        self.say(
            worker.context,
            AlterPartition(
                row=order.row,
                row_generation=order.row_generation,
                topic_id=order.topic_id,
                partition=order.partition,
                leader_epoch=state.leader_epoch,
                partition_epoch=state.partition_epoch if epoch is None else epoch,
                isr=isr,
            ),
        )
        return worker.told(PartitionAltered)[-1]

    def replace_worker(self, broker: int) -> None:
        """It dies, and another comes in its place."""
        self.kill(self.layout.workers(broker)[0])
        self.begin_worker(broker)
        self.settle()

    def told(self, broker: int) -> list[Assigned | Unassigned]:
        """What the gateway of a broker has heard of leaders since it was asked last."""
        messages = heard(self.gateways[broker])
        return [message for message in messages if isinstance(message, Assigned | Unassigned)]
