"""Clients of both protocols in one group come, go, die and are slow; coordinators restart, writes fail.

At every step: no partition belongs to two members, whichever protocol the group has. In the end: it has the
protocol of those that are left, and every partition an owner.
"""

from random import Random
from typing import Any

import pytest

from tailrace.core import errors
from tailrace.core.errors import NONE
from tailrace.core.groups.classic import ClassicGroup
from tailrace.core.groups.consumer import ConsumerGroup
from tailrace.core.groups.consumer_protocol import (
    ConsumerProtocolAssignment,
    ConsumerProtocolSubscription,
    ConsumerProtocolTopicPartitions,
    decode_assignment,
    encode_consumer_protocol,
)
from tailrace.core.groups.coordinator import GroupCoordinator
from tailrace.core.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatRequestTopicPartitions,
)
from tailrace.core.protocol.messages.heartbeat import HeartbeatRequest
from tailrace.core.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from tailrace.core.protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupRequestMember
from tailrace.core.protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from tests.support.group_runtime import FakeRuntime

GROUP, TOPIC, COUNT = "readers", "orders", 7
STEPS = 300


class Client:
    """What both have: an id, partitions, and requests that are answered now or later."""

    def __init__(self, simulation: "Simulation", name: str) -> None:
        self.simulation = simulation
        self.name = self.member_id = name
        self.owned: set[int] = set()
        self.dead = False

    def ask(self, key: int, version: int, message: Any) -> list[Any]:
        return self.simulation.runtime.ask(self.simulation.shard.handle, key, version, message)

    def step(self) -> None:
        raise NotImplementedError

    def leave(self) -> None:
        raise NotImplementedError

    def lose_requests(self) -> None:
        """The coordinator is another one: nobody answers what was asked of the last."""


class New(Client):
    """A client of the consumer protocol."""

    epoch = 0

    def step(self) -> None:
        topic_id = self.simulation.runtime.image.topics_by_name[TOPIC].topic_id
        owned = ConsumerGroupHeartbeatRequestTopicPartitions(topic_id, sorted(self.owned))
        request = ConsumerGroupHeartbeatRequest(
            group_id=GROUP,
            member_id=self.member_id,
            member_epoch=self.epoch,
            rebalance_timeout_ms=20_000,
            subscribed_topic_names=[TOPIC],
            topic_partitions=[owned] if self.owned else [],
        )
        (answer,) = self.ask(68, 1, request)
        if answer.error_code in (
            errors.FENCED_MEMBER_EPOCH,
            errors.UNKNOWN_MEMBER_ID,
            errors.GROUP_ID_NOT_FOUND,
        ):
            self.epoch, self.owned = 0, set()
        elif answer.error_code == NONE:
            self.epoch = answer.member_epoch
            if answer.assignment is not None:
                self.owned = {
                    part for topic in answer.assignment.topic_partitions for part in topic.partitions
                }

    def leave(self) -> None:
        self.ask(
            68, 1, ConsumerGroupHeartbeatRequest(group_id=GROUP, member_id=self.member_id, member_epoch=-1)
        )


class Old(Client):
    """An eager client of the classic protocol: it gives all back before it joins again."""

    generation = -1
    is_in = False

    def __init__(self, simulation: "Simulation", name: str) -> None:
        super().__init__(simulation, name)
        self.member_id = ""
        self.joins: list[Any] | None = None
        self.syncs: list[Any] | None = None

    def step(self) -> None:
        if self.joins is not None:
            if self.joins:
                self.joined(self.joins[0])
        elif self.syncs is not None:
            if self.syncs:
                self.synced(self.syncs[0])
        elif not self.is_in:
            self.join()
        else:
            (answer,) = self.ask(12, 4, HeartbeatRequest(GROUP, self.generation, self.member_id))
            self.hear(answer.error_code)

    def hear(self, error: int) -> None:
        """NONE, or join again; under another id if this one is not known any more."""
        if error != NONE:
            self.owned, self.is_in, self.joins, self.syncs = set(), False, None, None
        if error in (errors.UNKNOWN_MEMBER_ID, errors.FENCED_INSTANCE_ID):
            self.member_id = ""

    def join(self) -> None:
        metadata = encode_consumer_protocol(ConsumerProtocolSubscription([TOPIC]), 1)
        protocols = [JoinGroupRequestProtocol("range", metadata)]
        self.joins = self.ask(
            11, 5, JoinGroupRequest(GROUP, 10_000, 20_000, self.member_id, None, "consumer", protocols)
        )

    def joined(self, answer: Any) -> None:
        self.joins = None
        if answer.error_code == errors.MEMBER_ID_REQUIRED:
            self.member_id = answer.member_id
            return
        self.hear(answer.error_code)
        if answer.error_code != NONE:
            return
        self.member_id, self.generation = answer.member_id, answer.generation_id
        split: list[SyncGroupRequestAssignment] = []
        if answer.leader == self.member_id:
            members = [member.member_id for member in answer.members]
            for place, member_id in enumerate(members):
                topics = [ConsumerProtocolTopicPartitions(TOPIC, list(range(place, COUNT, len(members))))]
                assignment = encode_consumer_protocol(ConsumerProtocolAssignment(topics), 1)
                split.append(SyncGroupRequestAssignment(member_id, assignment))
        request = SyncGroupRequest(GROUP, self.generation, self.member_id, None, "consumer", "range", split)
        self.syncs = self.ask(14, 5, request)

    def synced(self, answer: Any) -> None:
        self.syncs = None
        self.hear(answer.error_code)
        if answer.error_code == NONE:
            self.is_in = True
            topics = decode_assignment(answer.assignment).assigned_partitions
            self.owned = {partition for topic in topics for partition in topic.partitions}

    def leave(self) -> None:
        self.ask(13, 3, LeaveGroupRequest(group_id=GROUP, members=[LeaveGroupRequestMember(self.member_id)]))

    def lose_requests(self) -> None:
        self.joins = self.syncs = None


class Simulation:
    """One run."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.runtime = FakeRuntime({TOPIC: COUNT})
        self.clients: list[Client] = []
        self.made = 0
        self.protocols: set[str] = set()
        self.start()
        self.events = [
            *[self.one_steps] * 20,
            *(
                self.come,
                self.come,
                self.go,
                self.die,
                self.change_over,
                self.fail,
                self.restart,
                self.time_passes,
            ),
        ]

    def start(self) -> None:
        self.shard = self.runtime.shard = GroupCoordinator(self.runtime)
        for key, value in self.runtime.log:
            self.shard.replay(key, value)
        self.shard.on_loaded()

    def run(self) -> None:
        for _ in range(STEPS):
            self.random.choice(self.events)()
            self.runtime.advance(10)
            self.check_owners()
        self.settle()

    def alive(self) -> Client | None:
        clients = [client for client in self.clients if not client.dead]
        return self.random.choice(clients) if clients else None

    def one_steps(self) -> None:
        if client := self.alive():
            client.step()

    def come(self) -> None:
        if len(self.clients) < 6:
            self.made += 1
            kind = self.random.choice([Old, New])
            self.clients.append(kind(self, f"c{self.made}"))

    def go(self) -> None:
        if client := self.alive():
            self.clients.remove(client)
            client.leave()

    def die(self) -> None:
        if client := self.alive():
            client.dead = True

    def change_over(self) -> None:
        """A deployment moves all to one protocol, one after the other."""
        kind = self.random.choice([Old, New])
        for client in [client for client in self.clients if not client.dead and not isinstance(client, kind)]:
            self.clients.remove(client)
            client.leave()
            self.made += 1
            self.clients.append(kind(self, f"c{self.made}"))
            for _ in range(self.random.randrange(5)):
                self.one_steps()
                self.check_owners()

    def fail(self) -> None:
        self.runtime.error = errors.NOT_ENOUGH_REPLICAS
        self.one_steps()
        self.runtime.error = NONE

    def restart(self) -> None:
        self.runtime.timers.__init__()  # type: ignore[misc]
        self.start()
        for client in self.clients:
            client.lose_requests()

    def time_passes(self) -> None:
        for _ in range(self.random.randrange(6)):
            self.runtime.advance(4_000)
            for client in self.clients:
                if not client.dead and self.random.random() < 0.8:
                    client.step()
            self.check_owners()

    def members(self) -> list[Client]:
        group = self.shard.groups.get(GROUP)
        if isinstance(group, ConsumerGroup):
            ids = {member.member_id for member in group.describe().members}
        else:
            ids = set(group.members.by_id) if group is not None else set[str]()
        return [client for client in self.clients if client.member_id in ids]

    def check_owners(self) -> None:
        """(R) No partition has two owners."""
        group = self.shard.groups.get(GROUP)
        if group is not None:
            self.protocols.add(type(group).__name__)
        owned = [partition for client in self.members() for partition in client.owned]
        assert len(owned) == len(set(owned))
        self.clients = [client for client in self.clients if not client.dead or client in self.members()]

    def settle(self) -> None:
        for _ in range(300):
            self.runtime.advance(300)
            for client in self.clients:
                if not client.dead:
                    client.step()
            self.check_owners()
        group = self.shard.groups.get(GROUP)
        if not self.clients:
            assert group is None or group.state == "Empty"
            return
        assert group is not None
        assert group.state == "Stable"
        assert sorted(p for client in self.clients for p in client.owned) == list(range(COUNT))
        if any(isinstance(client, New) for client in self.clients):
            assert isinstance(group, ConsumerGroup)


@pytest.mark.parametrize("seed", range(40))
def test_no_partition_has_two_owners_while_groups_change_over(seed: int) -> None:
    Simulation(seed).run()


def test_the_simulation_sees_both_kinds_of_groups() -> None:
    simulation = Simulation(1)
    simulation.run()
    assert simulation.protocols == {ClassicGroup.__name__, ConsumerGroup.__name__}
