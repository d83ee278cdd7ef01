"""Brokers and replicas that die, return, move and are elected in any order: what must hold of the image after
every decision. TAILRACE_METADATA_SEEDS says how many stories; the seed of a failed one is printed.
"""

import os
import random
from collections.abc import Callable, Sequence

import pytest

from tailrace.core.errors import KafkaError
from tailrace.core.metadata.alter_partition import alter_partitions
from tailrace.core.metadata.batches import batch_of, records_of
from tailrace.core.metadata.brokers import (
    Registration,
    fail_log_dirs,
    fence,
    may_stop,
    register,
    shut_down,
    start_all,
    unfence,
    unregister,
)
from tailrace.core.metadata.delta import MetadataDelta, delta_between
from tailrace.core.metadata.directories import assign_directories, fill_directories
from tailrace.core.metadata.elections import ELECT_PREFERRED, ELECT_UNCLEAN, elect_leaders, rebalance
from tailrace.core.metadata.image import MetadataImage, PartitionImage, TopicImage
from tailrace.core.metadata.leadership import LeaderRules, elect_leaderless, leaders_replaced, replicas_died
from tailrace.core.metadata.partitions import create_partitions
from tailrace.core.metadata.reassignments import ongoing, reassign
from tailrace.core.metadata.records import NO_LEADER, PartitionChange, Record
from tailrace.core.metadata.requests import IsrProposal, MorePartitions, NewTopic, Reassignment
from tailrace.core.metadata.snapshot import decode_snapshot, encode_snapshot
from tailrace.core.metadata.topics import TopicDefaults, create_topics

SEEDS = int(os.environ.get("TAILRACE_METADATA_SEEDS", "60"))
STEPS = 120
BROKERS = range(4)
DEFAULTS = TopicDefaults(num_partitions=2, replication_factor=2, partitions_free=1000)
RULES = LeaderRules()


class Story:
    """One seed's cluster."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.image = MetadataImage()
        self.told: list[str] = []
        self.topic_count = 0
        self.incarnations = 0
        self.start_all()

    def do(self, what: str, records: Sequence[Record], *, joins: bool = False) -> None:
        """Replay what was decided, as it is after its way through the log, and check what became of it."""
        self.told.append(what)
        records = records_of(batch_of(records, 1)) if records else []
        before = {(topic.topic_id, part.partition): part for topic, part in self.image.walk()}
        changes = [record for record in records if isinstance(record, PartitionChange)]
        keys = [(record.topic_id, record.partition) for record in changes]
        assert len(set(keys)) == len(keys), "one change of a partition in a batch"
        old = next(iter([decode_snapshot(b"".join(encode_snapshot(self.image, 1, 1)))])).image
        delta = MetadataDelta()
        delta.note(self.image, records)
        self.image.replay(records, self.image.metadata_offset + len(records))
        for key in before:
            now = self.image.partition(*key)
            assert now is not None
            self.check_step(before[key], now, changed=key in keys, joins=joins)
        for topic, partition in self.image.walk():
            self.check(topic, partition)
        found = delta_between(old, self.image)
        assert {key for key, was in delta.partitions.items() if was != self.image.partition(*key)} == set(
            found.partitions
        )
        assert found.brokers <= delta.brokers
        assert found.topics_added == delta.topics_added

    @staticmethod
    def check_step(old: PartitionImage, new: PartitionImage, *, changed: bool, joins: bool) -> None:
        assert new.partition_epoch == old.partition_epoch + changed
        assert new.leader_epoch - old.leader_epoch in (0, 1)
        if new.leader != old.leader:
            assert new.leader_epoch == old.leader_epoch + 1, "one leader an epoch"
        if not set(old.replicas) <= set(new.replicas):
            assert new.leader_epoch == old.leader_epoch + 1
        arrived = (set(old.adding) & set(new.replicas)) - {*new.adding, *new.removing}
        assert arrived <= {*new.isr, *old.isr}, "a move ends with those it brought in sync"
        if new.lineage != old.lineage:
            assert new.lineage == new.leader_epoch
        else:
            assert new.leader in (NO_LEADER, *old.isr, *(new.isr if joins else ()))
            assert joins or set(new.isr) <= set(old.isr), "only its leader takes somebody into the ISR"

    def check(self, topic: TopicImage, partition: PartitionImage) -> None:
        assert partition.isr
        assert len(set(partition.isr)) == len(partition.isr)
        assert set(partition.isr) <= set(partition.replicas)
        assert len(set(partition.replicas)) == len(partition.replicas)
        assert set(partition.adding) | set(partition.removing) <= set(partition.replicas)
        assert not set(partition.adding) & set(partition.removing)
        assert set(partition.replicas) != set(partition.removing)
        if partition.leader == NO_LEADER:
            return
        assert partition.leader in partition.isr
        assert self.image.is_active(partition.leader), (topic.name, partition)
        assert self.image.serves_from(partition.leader, partition.directory_of(partition.leader))
        if len(partition.isr) > 1:
            assert all(map(self.image.is_active, partition.isr)), "who is dead is not waited for"

    # What happens.

    def registration(self, broker_id: int) -> Registration:
        self.incarnations += 1
        return Registration(
            broker_id=broker_id,
            incarnation_id=self.incarnations.to_bytes(16, "big"),
            listeners=(),
            log_dirs=(f"a{broker_id}", f"b{broker_id}"),
            rack=f"r{broker_id % 2}",
        )

    def start_all(self) -> None:
        there = self.chance.sample(BROKERS, self.chance.randint(1, len(BROKERS)))
        records, epochs = start_all(self.image, [self.registration(broker) for broker in there], RULES)
        self.do(f"all started: {there}", records, joins=False)
        assert {broker: self.image.brokers[broker].broker_epoch for broker in there} == epochs
        self.do("leaderless", elect_leaderless(self.image, RULES))

    def die(self) -> None:
        broker = self.chance.choice(list(self.image.brokers))
        if not self.image.brokers[broker].fenced:
            self.do(f"{broker} dies", fence(self.image, broker, RULES))

    def come(self) -> None:
        broker = self.chance.choice(BROKERS)
        if not self.image.is_active(broker):
            base = self.image.metadata_offset
            found = register(self.image, self.registration(broker), RULES, known_lives=False)
            assert found.broker_epoch == base + len(found.records) - 1
            self.do(f"{broker} registers", found.records)
            self.do(f"{broker} serves", unfence(self.image, broker, RULES))

    def stop(self) -> None:
        broker = self.chance.choice(list(self.image.brokers))
        epoch = self.image.brokers[broker].broker_epoch
        self.do(f"{broker} shuts down", shut_down(self.image, broker, epoch, RULES))
        assert may_stop(self.image, broker)

    def give_up(self) -> None:
        broker = self.chance.choice(list(self.image.brokers))
        if len(self.image.brokers) > 2 and self.chance.random() < 0.3:
            self.do(f"{broker} is given up", unregister(self.image, broker, RULES))

    def lose_disk(self) -> None:
        broker = self.chance.choice(list(self.image.brokers))
        log_dirs = self.image.brokers[broker].log_dirs
        if log_dirs:
            lost = self.chance.sample(log_dirs, 1)
            self.do(f"{broker} loses {lost}", fail_log_dirs(self.image, broker, lost, RULES))

    def move_disk(self) -> None:
        topic, partition = self.any_partition()
        broker = self.chance.choice(partition.replicas)
        if broker in self.image.brokers:
            epoch = self.image.brokers[broker].broker_epoch
            asked = [(self.chance.choice("ab") + str(broker), (topic.topic_id, partition.partition))]
            found = assign_directories(self.image, broker, epoch, asked, RULES)
            self.do(f"{broker} has {asked}", found.records)

    def worker_dies(self) -> None:
        dead = [
            (topic.topic_id, partition.partition, broker)
            for topic, partition in self.image.walk()
            for broker in partition.replicas
            if self.chance.random() < 0.2
        ]
        self.do(f"replicas died: {len(dead)}", replicas_died(self.image, dead, RULES))

    def quarantine(self) -> None:
        topic, partition = self.any_partition()
        replica = (topic.topic_id, partition.partition, self.chance.choice(partition.replicas))
        rules = LeaderRules(unusable=frozenset([replica]))
        self.do(f"unusable: {replica[1:]}", replicas_died(self.image, [replica], rules))
        now = self.image.partition(*replica[:2])
        assert now is not None
        assert now.leader != replica[2]
        self.do("usable again", elect_leaderless(self.image, RULES))

    def create(self) -> None:
        self.topic_count += 1
        unclean = str(self.chance.random() < 0.4).lower()
        factor = self.chance.randint(1, len(self.image.brokers))
        asked = NewTopic(
            name=f"t{self.topic_count}",
            replication_factor=factor,
            configs=[("unclean.leader.election.enable", unclean)],
        )
        decision = create_topics(self.image, [asked], DEFAULTS, lambda: self.topic_count.to_bytes(16, "big"))
        self.do(f"a topic, unclean {unclean}", fill_directories(self.image, decision.records))

    def grow(self) -> None:
        topic, _ = self.any_partition()
        more = MorePartitions(name=topic.name, count=len(topic.partitions) + 1)
        decision = create_partitions(self.image, [more], 1000)
        self.do("a partition", fill_directories(self.image, decision.records))

    def any_partition(self) -> tuple[TopicImage, PartitionImage]:
        if not self.image.topics_by_name:
            self.create_at_last()
        return self.chance.choice(list(self.image.walk()))

    def create_at_last(self) -> None:
        while not self.image.topics_by_name:
            self.come()
            self.create()

    def propose(self) -> None:
        topic, partition = self.any_partition()
        if partition.leader == NO_LEADER:
            return
        others = [broker for broker in partition.replicas if broker != partition.leader]
        isr = [partition.leader, *self.chance.sample(others, self.chance.randint(0, len(others)))]
        self.propose_isr(topic, partition, isr)

    def propose_isr(self, topic: TopicImage, partition: PartitionImage, isr: Sequence[int]) -> None:
        brokers = self.image.brokers
        known = [(broker, brokers[broker].broker_epoch if broker in brokers else -1) for broker in isr]
        proposal = IsrProposal(
            topic_id=topic.topic_id,
            partition=partition.partition,
            leader_epoch=partition.leader_epoch,
            partition_epoch=partition.partition_epoch,
            isr=known,
        )
        leader = partition.leader
        found = alter_partitions(self.image, leader, brokers[leader].broker_epoch, [proposal], RULES)
        self.do(f"proposed {isr} for {topic.name}-{partition.partition}", found.records, joins=True)
        if found.results[0].error_code == 0:
            now = self.image.partition(topic.topic_id, partition.partition)
            assert now is not None
            assert found.results[0].isr == now.isr
            assert found.results[0].partition_epoch == now.partition_epoch

    def move(self) -> None:
        topic, partition = self.any_partition()
        brokers = list(self.image.brokers)
        target = tuple(self.chance.sample(brokers, self.chance.randint(1, len(brokers))))
        asked = Reassignment(topic=topic.name, partition=partition.partition, replicas=target)
        found = reassign(self.image, [asked], RULES)
        self.do(f"move {topic.name}-{partition.partition} to {target}", self.filled(found.records))

    def filled(self, records: Sequence[Record]) -> list[Record]:
        assert leaders_replaced(self.image, records) is not None
        return fill_directories(self.image, records)

    def cancel(self) -> None:
        moves = ongoing(self.image, None)
        if moves:
            move = self.chance.choice(moves)
            asked = Reassignment(topic=move.topic, partition=move.partition, replicas=None)
            found = reassign(self.image, [asked], RULES)
            self.do(f"cancel {move.topic}-{move.partition}", found.records)
            if found.results[0].error_code == 0:
                assert move not in ongoing(self.image, None)

    def elect(self) -> None:
        kind = self.chance.choice((ELECT_PREFERRED, ELECT_UNCLEAN))
        self.do(f"election {kind}", elect_leaders(self.image, kind, None, RULES).records)

    def rebalance(self) -> None:
        self.do("rebalance", rebalance(self.image, RULES, limit=3))

    def settle(self) -> None:
        """Everybody returns and catches up: every move ends, every leader is the preferred one."""
        for broker in BROKERS:
            if not self.image.is_active(broker):
                found = register(self.image, self.registration(broker), RULES, known_lives=False)
                self.do(f"{broker} returns", found.records)
                self.do(f"{broker} serves", unfence(self.image, broker, RULES))
            known = self.image.brokers[broker]
            if len(known.log_dirs) < 2:  # a mended disk, and the same incarnation says so
                amended = Registration(
                    broker_id=broker,
                    incarnation_id=known.incarnation_id,
                    listeners=(),
                    log_dirs=(f"a{broker}", f"b{broker}"),
                )
                self.do("mended", register(self.image, amended, RULES, known_lives=True).records)
        self.do("leaderless", elect_leaderless(self.image, RULES))
        for topic, partition in list(self.image.walk()):
            self.propose_isr(topic, partition, sorted(partition.replicas))
        self.do("rebalance", rebalance(self.image, RULES))
        assert ongoing(self.image, None) == []
        for _, partition in self.image.walk():
            assert set(partition.isr) == set(partition.replicas)
            assert partition.leader == partition.replicas[0]


DEEDS: list[Callable[[Story], None]] = [
    Story.die, Story.die, Story.come, Story.come, Story.come, Story.stop, Story.give_up, Story.lose_disk,
    Story.move_disk, Story.worker_dies, Story.quarantine, Story.create, Story.grow, Story.propose,
    Story.propose, Story.propose, Story.move, Story.move, Story.cancel, Story.elect, Story.rebalance,
    Story.start_all,
]  # fmt: skip


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_happens_the_image_stays_sound(seed: int) -> None:
    story = Story(seed)
    try:
        for _ in range(STEPS):
            if story.topic_count == 0:
                story.create_at_last()
            story.chance.choice(DEEDS)(story)
        story.settle()
    except (AssertionError, KafkaError) as error:
        tail = "\n".join(story.told[-12:])
        raise AssertionError(f"TAILRACE_METADATA_SEEDS={seed + 1}, seed {seed}:\n{tail}") from error
