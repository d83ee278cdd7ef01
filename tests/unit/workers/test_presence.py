"""Two brokers under one controller: what it does when all processes of the other are dead, and when it is
back.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tailrace.core.errors import NOT_LEADER_OR_FOLLOWER
from tailrace.core.metadata.records import NO_LEADER
from tailrace.core.metadata.requests import NewTopic
from tailrace.shm.names import RunDir
from tailrace.shm.slots import (
    CONTROLLER,
    GATEWAY,
    READY,
    STOPPING,
    SUPERVISOR,
    SUPERVISOR_SLOT,
    WORKER,
)
from tailrace.workers.control import Assigned, CreateTopics, Message, ServeReplica, Unassigned
from tailrace.workers.controller import Controller
from tailrace.workers.metadata_follower import MetadataFollower
from tailrace.workers.metadata_log import open_metadata_log
from tailrace.workers.process import ProcessContext
from tailrace.workers.takeover import TakeOver
from tests.support.shared import make_shared
from tests.unit.workers.controller_run import heard, say, started


class Host:
    """Brokers 0 and 1; the controller of the first decides."""

    def __init__(self, path: Path) -> None:
        self.run_dir = RunDir.create(str(path))
        self.shared = make_shared(path / "data", self.run_dir, brokers="2")
        self.layout, self.slots = self.shared.layout, self.shared.slots
        self.begin(SUPERVISOR_SLOT, SUPERVISOR)
        context = self.begin(self.layout.controller(0), CONTROLLER)
        self.gateways = [self.begin(slot, GATEWAY) for slot in self.layout.gateways()]
        self.log = open_metadata_log(context)
        self.slots.set_active_epoch(context.slot, 1)
        self.controller = Controller(context, self.log)
        self.controller.take_over(TakeOver(context, first_of_run=True))
        self.controller.turn()

    def begin(self, slot: int, role: int) -> ProcessContext:
        """A process takes the slot and serves."""
        broker = self.layout.broker_of(slot)
        context = ProcessContext(self.shared, slot, self.slots.begin(slot, role, broker, 0))
        self.slots.set_state(slot, READY)
        return context

    def die(self, *slots: int) -> None:
        """The processes in these slots are reaped, and the controller looks."""
        for slot in slots:
            self.slots.mark_dead(slot, self.slots.incarnation(slot))
        self.controller.turn()

    def create(self, partitions: int) -> None:
        """A topic, asked for through the gateway of the second broker."""
        topic = NewTopic(name="t", num_partitions=partitions)
        request = CreateTopics(request_id=1, topics=[topic], validate_only=False, timeout_ms=1000)
        say(self.gateways[1], self.layout.controller(0), request)
        self.controller.turn()

    def serve(self, broker: int) -> list[ServeReplica]:
        """The first worker of a broker begins and does what it is told."""
        worker = self.begin(self.layout.workers(broker)[0], WORKER)
        self.controller.turn()
        orders = [message for message in heard(worker) if isinstance(message, ServeReplica)]
        for order in orders:
            say(worker, self.layout.controller(0), started(order))
        self.controller.turn()
        return orders

    def leader(self) -> tuple[int, int]:
        """Of the partition of the second broker, with its epoch."""
        partition = next(part for _, part in self.log.image.walk() if part.replicas == (1,))
        return partition.leader, partition.leader_epoch

    def told(self, gateway: int) -> list[Message]:
        """What a gateway has heard of leaders since it was asked last."""
        return [each for each in heard(self.gateways[gateway]) if isinstance(each, Assigned | Unassigned)]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """With a partition on each broker, both led."""
    made = Host(tmp_path)
    made.create(2)
    made.serve(0)
    made.serve(1)
    for gateway in (0, 1):
        assert sorted(each.broker for each in made.told(gateway) if isinstance(each, Assigned)) == [0, 1]
    try:
        yield made
    finally:
        made.controller.close()
        made.run_dir.remove()


def everything_of(host: Host, broker: int) -> list[int]:
    """The slots of a broker in which somebody lives."""
    layout = host.layout
    slots = [
        layout.controller(broker),
        layout.gateway(broker),
        layout.housekeeper(broker),
        *layout.workers(broker),
    ]
    return [slot for slot in slots if host.slots.live_incarnation(slot)]


def test_a_worker_is_of_the_broker_whose_partition_it_leads(host: Host) -> None:
    by_key = host.controller.assignments.by_key
    assert {replica.broker: host.layout.broker_of(replica.slot) for replica in by_key.values()} == {
        0: 0,
        1: 1,
    }
    paths = {replica.broker: replica.log_dir for replica in by_key.values()}
    assert paths == {broker: f"{Path(host.run_dir.path).parent}/data/broker-{broker}" for broker in (0, 1)}


def test_a_broker_is_fenced_only_when_the_last_of_its_processes_is_dead(host: Host) -> None:
    """(R) Who lives may still append, or acknowledge."""
    *others, last = everything_of(host, 1)
    for slot in others:
        host.die(slot)
        assert not host.log.image.brokers[1].fenced
    leader, epoch = host.leader()
    assert leader == 1
    host.die(last)
    assert host.log.image.brokers[1].fenced
    assert host.leader()[0] == NO_LEADER
    assert host.leader()[1] > epoch
    assert not host.log.image.brokers[0].fenced
    assert host.told(0)[-1] == Unassigned(
        topic_id=host.log.image.topics_by_name["t"].topic_id,
        partition=next(key[1] for key in host.controller.assignments.by_key if key[2] == 1),
        error_code=NOT_LEADER_OR_FOLLOWER,
    )


def test_a_broker_that_is_back_leads_in_an_epoch_that_nobody_had(host: Host) -> None:
    host.die(*everything_of(host, 1))
    _, epoch = host.leader()
    assert not host.serve(1), "its worker is told nothing before its gateway serves"
    host.gateways[1] = host.begin(host.layout.gateway(1), GATEWAY)
    host.controller.turn()
    assert host.leader() == (1, epoch + 1)
    host.die(host.layout.workers(1)[0])
    (order,) = host.serve(1)
    assert order.leader_epoch == host.leader()[1] == epoch + 2


def test_what_is_made_meanwhile_lies_with_who_is_there(host: Host) -> None:
    host.die(*everything_of(host, 1))
    request = CreateTopics(
        request_id=2, topics=[NewTopic(name="u", num_partitions=3)], validate_only=False, timeout_ms=1000
    )
    say(host.gateways[0], host.layout.controller(0), request)
    host.controller.turn()
    assert {part.leader for part in host.log.image.topics_by_name["u"].partitions} == {0}


def test_nobody_is_fenced_while_the_host_stops(host: Host) -> None:
    host.slots.set_state(SUPERVISOR_SLOT, STOPPING)
    host.die(*everything_of(host, 1))
    assert not host.log.image.brokers[1].fenced


def test_every_process_follows_the_log_of_the_controller_that_decides(host: Host) -> None:
    follower = MetadataFollower.of(host.gateways[1])
    assert follower.poll()
    assert follower.image.metadata_offset == host.log.image.metadata_offset


def test_the_successor_of_the_controller_leaves_fenced_who_is_gone(host: Host) -> None:
    host.die(*everything_of(host, 1))
    before = host.leader()
    slot = host.layout.controller(0)
    host.controller.close()
    host.slots.mark_dead(slot, host.slots.incarnation(slot))
    host.slots.mark_dead(host.layout.workers(0)[0], host.slots.incarnation(host.layout.workers(0)[0]))
    context = host.begin(slot, CONTROLLER)
    host.log = open_metadata_log(context)
    host.controller = Controller(context, host.log)
    host.controller.take_over(TakeOver(context, first_of_run=False))
    host.controller.turn()
    assert host.leader() == before
    host.gateways[1] = host.begin(host.layout.gateway(1), GATEWAY)
    host.controller.turn()
    assert host.leader() == (1, before[1] + 1)
    assert [order.leader_epoch for order in host.serve(1)] == [before[1] + 1]
