"""A controller that never fails: who leads, who is in sync, who replicates. Its orders are late, not lost."""

from random import Random

from msgspec import Struct

from tailrace.core.errors import (
    FENCED_LEADER_EPOCH,
    INELIGIBLE_REPLICA,
    INVALID_UPDATE_VERSION,
    NONE,
)
from tailrace.core.replication.isr import PartitionState, Proposal
from tests.sim.replication_memory import Peer, TopicPartition


class Order(Struct, frozen=True):
    """What a replica's process is told of a partition."""

    topic_partition: TopicPartition
    leader: int
    leader_process: Peer | None
    leader_epoch: int
    lineage: int
    state: PartitionState


class Assigned:
    """One partition as it is committed."""

    def __init__(self, topic_partition: TopicPartition, replicas: tuple[int, ...], unclean: bool) -> None:
        self.topic_partition = topic_partition
        self.replicas, self.isr = replicas, replicas
        self.leader, self.leader_epoch, self.partition_epoch, self.lineage = -1, -1, 0, -1
        self.unclean = unclean
        self.target: tuple[int, ...] | None = None  # of a reassignment under way
        self.resigning = False

    def state(self) -> PartitionState:
        """For the leader."""
        return PartitionState(replicas=self.replicas, isr=self.isr, partition_epoch=self.partition_epoch)


class Controller:
    """Decides; `changed` collects partitions of which processes have to be told."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.partitions: dict[TopicPartition, Assigned] = {}
        self.alive: dict[int, Peer] = {}
        self.changed: dict[TopicPartition, None] = {}
        self.to_resign: list[Assigned] = []
        self.elections = self.unclean_elections = 0

    def order(self, one: Assigned) -> Order:
        """What is committed now."""
        process = self.alive.get(one.leader)
        return Order(one.topic_partition, one.leader, process, one.leader_epoch, one.lineage, one.state())

    def on_start(self, broker: int, process: Peer) -> None:
        """A process is there: it hears of all its partitions, and may lead those without a leader."""
        self.alive[broker] = process
        for one in self.partitions.values():
            if broker in one.replicas:
                self.changed[one.topic_partition] = None
                if one.leader < 0:
                    self.elect(one)

    def on_death(self, broker: int) -> None:
        """(R) Only now may another lead."""
        del self.alive[broker]
        for one in self.partitions.values():
            if one.leader == broker:
                one.leader, one.resigning = -1, False
                one.partition_epoch += 1
                self.elect(one)
            elif broker in one.isr and len(one.isr) > 1 and self.random.random() < 0.5:
                one.isr = tuple(r for r in one.isr if r != broker)
                one.partition_epoch += 1
                if not one.resigning:
                    one.leader_epoch += 1  # as Kafka, when the controller shrinks
                self.changed[one.topic_partition] = None

    def elect(self, one: Assigned) -> None:
        """From the in-sync set, else nobody, or anybody."""
        able = [r for r in one.replicas if r in one.isr and r in self.alive]
        unclean = [r for r in one.replicas if r in self.alive] if one.unclean else []
        if not able and not unclean:
            return
        self.elections += 1
        one.leader = self.random.choice(able or unclean)
        one.leader_epoch += 1
        one.partition_epoch += 1
        if not able:
            self.unclean_elections += 1
            one.isr, one.lineage = (one.leader,), one.leader_epoch
        elif self.random.random() < 0.5:  # dead members may stay, or be taken out
            one.isr = tuple(r for r in one.isr if r in self.alive)
        self.changed[one.topic_partition] = None
        self._finish_reassignment(one)

    def on_resigned(self, topic_partition: TopicPartition, leader_epoch: int) -> None:
        """The leader has stopped, and shown its last high watermark."""
        one = self.partitions[topic_partition]
        if one.resigning and one.leader_epoch == leader_epoch:
            one.leader, one.resigning = -1, False
            self.elect(one)
            self._finish_reassignment(one)

    def on_refused(self, topic_partition: TopicPartition, broker: int, leader_epoch: int) -> None:
        """It lacks what is committed, so it is not in sync, whatever was committed before the power went."""
        one = self.partitions[topic_partition]
        if one.leader == broker and one.leader_epoch == leader_epoch and len(one.isr) > 1:
            one.isr = tuple(r for r in one.isr if r != broker)
            one.leader, one.resigning = -1, False
            one.partition_epoch += 1
            self.elect(one)

    def alter(
        self, topic_partition: TopicPartition, proposal: Proposal, leader: int
    ) -> tuple[int, PartitionState]:
        """AlterPartition, as Kafka checks it."""
        one = self.partitions[topic_partition]
        if proposal.leader_epoch != one.leader_epoch or leader != one.leader:
            return FENCED_LEADER_EPOCH, one.state()
        if proposal.partition_epoch != one.partition_epoch:
            return INVALID_UPDATE_VERSION, one.state()
        joining = set(proposal.isr) - set(one.isr)
        if any(r not in self.alive or r not in one.replicas for r in joining) or leader not in proposal.isr:
            return INELIGIBLE_REPLICA, one.state()
        one.isr = proposal.isr
        one.partition_epoch += 1
        self._finish_reassignment(one)
        self.changed[topic_partition] = None
        return NONE, one.state()

    def reassign(self, one: Assigned, target: tuple[int, ...]) -> None:
        """Adds replicas now; removes the others once those are in sync."""
        one.target = target
        one.replicas = (*one.replicas, *(r for r in target if r not in one.replicas))
        one.partition_epoch += 1
        self._finish_reassignment(one)
        self.changed[one.topic_partition] = None

    def _finish_reassignment(self, one: Assigned) -> None:
        target = one.target
        if target is None or not set(target) <= set(one.isr) or one.resigning:
            return
        one.replicas = one.isr = target
        one.target = None
        one.partition_epoch += 1
        if one.leader not in target:
            self.to_resign.append(one)  # it leads on until it has said that it stopped
