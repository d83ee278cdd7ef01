"""A KIP-848 group under clients that join, leave, die, dawdle and lose answers, while topics come and go,
writes fail and the coordinator restarts from its log.

At every step: no partition belongs to two members. In the end: the group is stable, every partition of every
topic subscribed to belongs to a subscriber, and where all subscribe alike loads differ by one at most.
"""

from random import Random

import pytest

from tailrace.core import errors
from tailrace.core.groups.records import decode_record
from tailrace.core.groups.runtime import GroupConfig
from tailrace.core.metadata.records import PartitionRecord
from tailrace.core.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatRequestTopicPartitions,
    ConsumerGroupHeartbeatResponse,
)
from tests.support.consumer_groups import GROUP, GroupBench

STEPS = 250
TRY_AGAIN = {errors.COORDINATOR_NOT_AVAILABLE, errors.NOT_COORDINATOR, errors.UNRELEASED_INSTANCE_ID}
SUBSCRIPTIONS: list[tuple[list[str] | None, str]] = [
    (["t0"], ""),
    (["t0", "t1"], ""),
    (None, "t.*"),
    (["t1"], "t2"),
]

Partition = tuple[bytes, int]


class Client:
    """What a client believes. It takes new partitions only after it has let go of those it must give back."""

    def __init__(self, member_id: str, instance_id: str | None) -> None:
        self.member_id, self.instance_id = member_id, instance_id
        self.epoch = 0
        self.owned: set[Partition] = set()
        self.told: set[Partition] = set()
        self.subscription = SUBSCRIPTIONS[0]
        self.dead = False

    def request(self) -> ConsumerGroupHeartbeatRequest:
        names, pattern = self.subscription
        owned: dict[bytes, list[int]] = {}
        for topic_id, partition in sorted(self.owned):
            owned.setdefault(topic_id, []).append(partition)
        return ConsumerGroupHeartbeatRequest(
            group_id=GROUP,
            member_id=self.member_id,
            member_epoch=self.epoch,
            instance_id=self.instance_id,
            rebalance_timeout_ms=20_000,
            subscribed_topic_names=names or [],
            subscribed_topic_regex=pattern,
            topic_partitions=[
                ConsumerGroupHeartbeatRequestTopicPartitions(topic_id, parts)
                for topic_id, parts in owned.items()
            ],
        )

    def hear(self, answer: ConsumerGroupHeartbeatResponse) -> None:
        if answer.error_code in TRY_AGAIN:
            return
        if answer.error_code:
            self.forget()
            return
        self.epoch = answer.member_epoch
        if answer.assignment is not None:
            self.told = {
                (topic.topic_id, partition)
                for topic in answer.assignment.topic_partitions
                for partition in topic.partitions
            }
            if self.told >= self.owned:
                self.owned = set(self.told)

    def let_go(self) -> None:
        self.owned = set(self.told)

    def forget(self) -> None:
        self.epoch, self.owned, self.told = 0, set(), set()


class Simulation:
    """One run; the seed says all that happens."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        assignors = self.random.choice([("uniform", "range"), ("range", "uniform")])
        self.assignor = assignors[0]
        self.bench = GroupBench({"t0": 5, "t1": 3}, GroupConfig(group_consumer_assignors=assignors))
        self.runtime = self.bench.runtime
        self.clients: list[Client] = []
        self.made = 0
        self.events = [
            *[self.beat] * 12,
            *[self.let_go] * 4,
            *[self.join] * 2,
            *(self.leave, self.die, self.bounce, self.resubscribe, self.lose_answer, self.many_at_once),
            *(self.fail_write, self.restart, self.time_passes, self.topics_change),
        ]

    def run(self) -> None:
        for _ in range(STEPS):
            self.random.choice(self.events)()
            self.check_owners()
        self.settle()

    # -- events

    def alive(self) -> Client | None:
        clients = [client for client in self.clients if not client.dead]
        return self.random.choice(clients) if clients else None

    def send(self, client: Client) -> list[ConsumerGroupHeartbeatResponse]:
        return self.bench.send(client.request())

    def beat(self, client: Client | None = None) -> None:
        client = client or self.alive()
        if client is not None:
            for answer in self.send(client):
                client.hear(answer)

    def let_go(self) -> None:
        if client := self.alive():
            client.let_go()

    def join(self) -> None:
        if len(self.clients) < 8:
            self.made += 1
            instance_id = f"i{self.made}" if self.random.random() < 0.3 else None
            client = Client(f"m{self.made}", instance_id)
            client.subscription = self.random.choice(SUBSCRIPTIONS)
            self.clients.append(client)
            self.beat(client)

    def leave(self) -> None:
        if client := self.alive():
            self.clients.remove(client)
            self.bench.beat(client.member_id, -1, instance_id=client.instance_id)

    def die(self) -> None:
        if client := self.alive():
            client.dead = True  # its partitions are its own until its session ends

    def bounce(self) -> None:
        """A static member goes and comes back under another id."""
        client = self.alive()
        if client is None or client.instance_id is None:
            return
        client.forget()
        answer = self.bench.beat(client.member_id, -2, instance_id=client.instance_id)
        if answer.error_code == errors.NONE:
            self.made += 1
            client.member_id = f"m{self.made}"
        self.beat(client)

    def resubscribe(self) -> None:
        if client := self.alive():
            client.subscription = self.random.choice(SUBSCRIPTIONS)
            self.beat(client)

    def lose_answer(self) -> None:
        if client := self.alive():
            self.send(client)

    def many_at_once(self) -> None:
        """Requests that come while a write is under way, some of which fail."""
        self.runtime.holds = True
        clients = self.random.sample(self.clients, min(len(self.clients), 3))
        answers = [(client, self.send(client)) for client in clients if not client.dead]
        self.runtime.release(self.random.randrange(3))
        self.runtime.error = self.random.choice([errors.NONE, errors.NOT_LEADER_OR_FOLLOWER])
        self.runtime.holds = False
        self.runtime.release()
        self.runtime.error = errors.NONE
        for client, heard in answers:
            client.hear(heard[0])

    def fail_write(self) -> None:
        self.runtime.error = errors.NOT_ENOUGH_REPLICAS
        self.beat()
        self.runtime.error = errors.NONE

    def restart(self) -> None:
        before = self.bench.group.describe()
        self.compact()
        self.bench.restart()
        after = self.bench.group.describe()
        for group in (before, after):
            group.members.sort(key=lambda member: member.member_id)
            for member in group.members:
                for told in (member.assignment, member.target_assignment):
                    told.topic_partitions.sort(key=lambda topic: topic.topic_id)
        assert after == before

    def compact(self) -> None:
        """Of every key the newest record alone, up to a random place, as compaction leaves it."""
        end = self.random.randrange(len(self.runtime.log) + 1)
        last = {key: place for place, (key, _) in enumerate(self.runtime.log[:end])}
        self.runtime.log = [
            record
            for place, record in enumerate(self.runtime.log)
            if place >= end or (last[record[0]] == place and record[1] is not None)
        ]

    def time_passes(self) -> None:
        for _ in range(self.random.randrange(10)):
            self.runtime.advance(self.random.choice([500, 5_000]))
            for client in self.clients:
                if not client.dead and self.random.random() < 0.8:
                    self.beat(client)
            self.check_owners()

    def topics_change(self) -> None:
        image, name = self.runtime.image, self.random.choice(["t0", "t1", "t2"])
        topic = image.topics_by_name.get(name)
        if topic is None:
            self.runtime.create_topic(name, self.random.randrange(1, 6))
        elif self.random.random() < 0.3:
            self.runtime.delete_topic(name)
        elif len(topic.partitions) < 9:
            grown = PartitionRecord(
                topic_id=topic.topic_id,
                partition=len(topic.partitions),
                replicas=(1,),
                isr=(1,),
                leader=1,
                leader_epoch=0,
                partition_epoch=0,
            )
            image.replay([grown], image.metadata_offset + 1)
        self.bench.group.on_metadata()

    # -- what holds

    def members(self) -> list[Client]:
        """Those that the coordinator believes to be members."""
        known = {member.member_id for member in self.bench.group.describe().members}
        return [client for client in self.clients if client.member_id in known]

    def check_owners(self) -> None:
        """(R) No partition has two owners, whatever they have heard."""
        owned = [partition for client in self.members() for partition in client.owned]
        assert len(owned) == len(set(owned))
        self.clients = [client for client in self.clients if not client.dead or client in self.members()]

    def settle(self) -> None:
        for _ in range(100):
            self.runtime.advance(1_000)
            for client in self.clients:
                if not client.dead:
                    self.beat(client)
                    client.let_go()
            self.check_owners()
        assert not [client for client in self.clients if client.dead]
        assert self.bench.group.state == ("Stable" if self.clients else "Empty")
        image, wanted = self.runtime.image, set[Partition]()
        for client in self.clients:
            names = self.names(client)
            ids = {image.topics_by_name[name].topic_id for name in names}
            assert {topic_id for topic_id, _ in client.owned} <= ids
            wanted |= {
                (topic_id, p) for topic_id in ids for p in range(len(image.topics_by_id[topic_id].partitions))
            }
        assert {partition for client in self.clients for partition in client.owned} == wanted
        if (
            self.assignor == "uniform"
            and len({frozenset(self.names(client)) for client in self.clients}) == 1
        ):
            loads = [len(client.owned) for client in self.clients]
            assert max(loads) - min(loads) <= 1

    def names(self, client: Client) -> set[str]:
        names, pattern = client.subscription
        by_pattern = {"": set[str](), "t2": {"t2"}, "t.*": {"t0", "t1", "t2"}}[pattern]
        return ({*(names or [])} | by_pattern) & self.runtime.image.topics_by_name.keys()


@pytest.mark.parametrize("seed", range(60))
def test_no_partition_has_two_owners_and_all_settles(seed: int) -> None:
    Simulation(seed).run()


def test_the_log_of_a_long_life_says_no_more_than_its_end() -> None:
    """What a compacted log holds is in proportion to the members there are."""
    simulation = Simulation(1)
    simulation.run()
    live = {key: value for key, value in simulation.runtime.log if value is not None}
    latest = dict(simulation.runtime.log)
    kept = [decode_record(key, latest[key]) for key in live if latest[key] is not None]
    assert len(kept) <= 2 + 3 * len(simulation.clients) + len(SUBSCRIPTIONS)
