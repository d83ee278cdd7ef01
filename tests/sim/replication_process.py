"""One process of a simulated broker: it leads some partitions and follows others, as a worker would."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from tailrace.core.errors import KafkaError
from tailrace.core.replication import high_watermark
from tailrace.core.replication.follower import LINKED, FollowerPartition
from tailrace.core.replication.followers import Followers
from tailrace.core.replication.isr import InSync, PartitionState, Proposal
from tailrace.core.replication.leaders import Leaders
from tailrace.core.replication.partition import LeaderPartition
from tailrace.core.replication.pending import PendingAcks
from tests.sim.replication_controller import Order
from tests.sim.replication_memory import Peer, Row, TopicPartition, Words

if TYPE_CHECKING:
    from tests.sim.replication import Cluster, SimulatedLog

LAG_MS_MAX = 300
MIN_INSYNC = 2


class Process:
    """See the module. All its state goes with it; logs, rows, rings and words stay."""

    def __init__(self, cluster: Cluster, broker: int, incarnation: int) -> None:
        self.cluster, self.broker, self.incarnation = cluster, broker, incarnation
        self.peer: Peer = (broker, incarnation)
        self.name = f"broker {broker}"
        memory = cluster.memory
        self.words = memory.words[self.peer] = Words()
        self.leaders, self.followers = Leaders(self.words), Followers()
        self.pending: dict[TopicPartition, PendingAcks[tuple[int, int]]] = {}
        self.orders: dict[TopicPartition, Order] = {}
        self.deaths: list[Peer] = []
        self.connected: set[Peer] = set()

    # Orders

    def obey(self, order: Order) -> None:
        """What the controller says, unless it has said something newer."""
        tp, before = order.topic_partition, self.orders.get(order.topic_partition)
        if before is not None and order.state.partition_epoch < before.state.partition_epoch:
            return
        self.orders[tp] = order
        mine = self.leaders.partitions.get(tp)
        if order.leader == self.broker and order.leader_process == self.peer:
            if mine is not None and mine.leader_epoch == order.leader_epoch:
                if mine.adopt(order.state, self.now):
                    self.show_leader(mine)
                self.fail_if_too_few(mine)
            elif self.leaders.may_lead(tp, order.leader_epoch):
                self.lead(order)
            return
        if mine is not None:
            self.stop_leading(tp)
        if self.broker not in order.state.replicas:
            self.followers.remove(tp)
        elif order.leader_process is not None:
            self.follow(order, order.leader_process)

    @property
    def now(self) -> int:
        """Virtual."""
        return self.cluster.world.now_ms

    def lead(self, order: Order) -> None:
        """From now on, in this epoch."""
        cluster, tp = self.cluster, order.topic_partition
        if tp in self.leaders.partitions:
            self.stop_leading(tp)
        self.followers.remove(tp)
        log = cluster.log(tp, self.broker)
        rows = [(row.leader_epoch, row.high_watermark) for row in cluster.rows_of(tp)]
        mark = high_watermark.starting_high_watermark(
            rows, lineage=order.lineage, leader_epoch=order.leader_epoch,
            own_high_watermark=log.high_watermark, log_end_offset=log.log_end_offset,
        )  # fmt: skip
        cluster.check_new_leader(tp, self.broker, order.leader_epoch, order.lineage, mark)
        in_sync = InSync(
            replica_id=self.broker, leader_epoch=order.leader_epoch, state=order.state,
            lag_ms_max=LAG_MS_MAX, min_insync_replicas=MIN_INSYNC, log_end_offset=log.log_end_offset,
            high_watermark=mark, now_ms=self.now,
        )  # fmt: skip
        partition = LeaderPartition(tp, log, in_sync, counts_synced=cluster.synced_only)
        self.leaders.lead(partition)
        self.pending[tp] = PendingAcks()
        self.show_leader(partition)

    def stop_leading(self, tp: TopicPartition) -> None:
        """What is pending is answered with an error."""
        partition = self.leaders.partitions[tp]
        self.show_leader(partition, leads=False)
        self.leaders.resign(tp)
        self.pending.pop(tp).fail()

    def resign(self, tp: TopicPartition, leader_epoch: int) -> bool:
        """The controller asks for it. Returns whether it does not lead in that epoch any more."""
        mine = self.leaders.partitions.get(tp)
        if mine is not None and mine.leader_epoch == leader_epoch:
            self.stop_leading(tp)
        return tp in self.orders and self.orders[tp].leader_epoch >= leader_epoch

    def follow(self, order: Order, leader: Peer) -> None:
        """That process leads."""
        tp = order.topic_partition
        if not self.cluster.is_live(leader):  # (R) its words may be another's by now
            return
        partition = self.followers.partitions.get(tp)
        if partition is None:
            row = self.cluster.memory.rows.get((tp, self.broker), Row())
            partition = FollowerPartition(
                tp, self.broker, self.cluster.log(tp, self.broker), shown_epoch=row.leader_epoch,
                counts_synced=self.cluster.synced_only,
            )  # fmt: skip
            self.followers.add(partition)
        elif partition.leader_epoch == order.leader_epoch and partition.state:
            return  # only something else has changed
        self.connect(leader)
        self.followers.follow(tp, order.leader_epoch, leader, self.now)

    def connect(self, peer: Peer) -> None:
        """Rings in both directions."""
        if peer not in self.connected and self.cluster.is_live(peer):
            self.connected.add(peer)
            push = self.cluster.push(self.peer, peer)
            self.leaders.connect(peer, push, self.cluster.frame_max)
            self.followers.connect(peer, push)

    # A turn

    def turn(self) -> None:
        """Some of what a worker does in a turn, in any order: a death may come between any two."""
        world = self.cluster.world
        self.bury()
        for _ in range(world.random.randint(1, 4)):
            world.random.choice(
                (self.take_frames, self.take_frames, self.store_acks, self.read_words, self.tick, self.copy,
                 self.say_marks, self.sync)
            )()  # fmt: skip

    def bury(self) -> None:
        """(R) First of all: a successor may have asked already."""
        deaths, self.deaths = self.deaths, []
        for peer in deaths:
            self.leaders.on_peer_died(peer)
            self.followers.on_peer_died(peer)
            self.connected.discard(peer)

    def take_frames(self) -> None:
        """A few of each ring."""
        cluster = self.cluster
        for (source, target), ring in list(cluster.memory.rings.items()):
            if target != self.peer or not cluster.is_live(source) or source in self.deaths:
                continue
            self.connect(source)
            for _ in range(cluster.world.random.randint(1, 5)):
                if not ring.frames or source not in self.connected:
                    break
                frame = ring.frames.popleft()
                if cluster.is_from_follower(frame):
                    self.leaders.on_frame(source, frame)
                else:
                    assert not self.followers.on_frame(source, frame, self.now), "a disk refuses"
        for downstream in self.leaders.downstreams.values():
            downstream.send_waiting()

    def copy(self) -> None:
        """From the files of a leader, alive or dead."""
        for partition, peer in self.followers.copying():
            log = self.cluster.log(partition.topic_partition, peer[0])
            self.followers.copy(
                partition, log.read, self.cluster.world.random.choice((1, 500, 5000)), self.now
            )

    def store_acks(self) -> None:
        """Rows, then words."""
        touched = self.followers.take_touched()
        for partition in touched:
            log = partition.log
            row = Row(partition.shown_epoch, log.high_watermark, log.log_end_offset)
            if partition.topic_partition in self.followers.partitions:
                self.cluster.show(partition.topic_partition, self.broker, row)
        for peer, number, offset in self.followers.acks(touched):
            words = self.cluster.memory.words.get(peer)
            if words is not None:
                words.words[number] = offset

    def read_words(self) -> None:
        """What followers have acknowledged."""
        for partition in self.leaders.on_acks(self.words.moved(), self.now):
            self.show_leader(partition)

    def show_leader(self, partition: LeaderPartition, *, leads: bool = True) -> None:
        """(R) The row, then the acknowledgements."""
        tp, mark = partition.topic_partition, partition.in_sync.high_watermark
        log = partition.log
        self.cluster.show(tp, self.broker, Row(partition.leader_epoch, mark, log.log_end_offset, leads))
        partition.on_shown()
        for end, number in self.pending[tp].take(mark) if leads else ():
            self.cluster.acknowledge(tp, end, number)

    def fail_if_too_few(self, partition: LeaderPartition) -> None:
        """NOT_ENOUGH_REPLICAS_AFTER_APPEND."""
        if not partition.in_sync.has_enough:
            self.pending[partition.topic_partition].fail()

    def tick(self) -> None:
        """What comes with time."""
        self.read_words()
        self.followers.tick(self.now)
        for downstream in self.leaders.downstreams.values():
            downstream.send_waiting()
        for partition in self.leaders.partitions.values():
            partition.in_sync.tick(self.now)
            proposal = partition.in_sync.propose(self.now)
            if proposal is not None:
                self.cluster.propose(self, partition.topic_partition, proposal)

    def say_marks(self) -> None:
        """High watermarks that no data has told."""
        for downstream in self.leaders.downstreams.values():
            downstream.say_marks()

    def sync(self) -> None:
        """Some logs to the disk."""
        for tp in self.cluster.topic_partitions:
            if self.cluster.world.chance(0.5):
                continue
            log = self.cluster.log(tp, self.broker)
            log.sync()
            mine = self.leaders.partitions.get(tp)
            if mine is not None and mine.append_local():
                self.show_leader(mine)
            if tp in self.followers.partitions:
                self.followers.synced(self.followers.partitions[tp])

    def on_answer(self, tp: TopicPartition, proposal: Proposal, error: int, state: PartitionState) -> None:
        """Of the controller, to a proposal."""
        mine = self.leaders.partitions.get(tp)
        if mine is not None and mine.leader_epoch == proposal.leader_epoch:
            if mine.on_answer(proposal, error, state, self.now):
                self.show_leader(mine)
            self.fail_if_too_few(mine)

    # Clients

    def produce(self, tp: TopicPartition, batches: list[tuple[int, bytes]], *, acks_all: bool) -> None:
        """A run of appends."""
        mine = self.leaders.partitions.get(tp)
        if mine is None:
            return
        log = cast("SimulatedLog", mine.log)
        for number, batch in batches:
            if acks_all:
                try:
                    mine.in_sync.check_enough()
                except KafkaError:
                    return
            end = log.produce(batch, mine.leader_epoch)
            if acks_all:
                self.pending[tp].add(end, (end, number))
        if mine.replicate():
            self.show_leader(mine)

    def is_settled(self) -> bool:
        """Whether all that it follows is linked, and nothing waits."""
        return all(one.state == LINKED and not one.is_copying for one in self.followers.partitions.values())
