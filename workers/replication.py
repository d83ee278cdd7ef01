"""Replication between the workers of a host: rings to their peers, links, acknowledgements.

core/replication decides; this is what it decides with. A worker is the leader of some partitions and follows
others; to another worker it has one ring each way for all of them, made when the first follower asks.

    appended -> frames to the followers' rings -> they append, show their rows, store their words, ring
             -> the words moved -> the high watermark -> the row -> the acknowledgements

A follower shows its row before it stores its word (R): who becomes leader looks at the rows.
"""

import time
from collections.abc import Callable

from tailrace.core.errors import KafkaError
from tailrace.core.replication.copy_limit import CopyLimit
from tailrace.core.replication.downstream import Downstream, Link
from tailrace.core.replication.follower import LINKED, FollowerPartition
from tailrace.core.replication.followers import Followers
from tailrace.core.replication.frames import is_from_follower
from tailrace.core.replication.isr import PartitionState
from tailrace.core.replication.leaders import Leaders
from tailrace.core.replication.partition import LeaderPartition, TopicPartition
from tailrace.shm.link_slots import AckWords, LinkSlots
from tailrace.shm.region import ShmError
from tailrace.shm.ring import BYTES, ByteConsumer
from tailrace.workers import control
from tailrace.workers.leader_files import LeaderFile
from tailrace.workers.process import ProcessContext
from tailrace.workers.replica import PAGE, Replica

RING_BYTES = 64 * 1024
COPY_BYTES = 1024 * 1024  # from leaders' files in a turn, then others have theirs
IDLE_S = 3600.0
MARKS_MS = 5  # until followers hear of a high watermark that no data has told, if nobody waits for it

Peer = tuple[int, int]
"""Slot and incarnation of another worker."""


class Replication:
    """Of one worker process. `changed` is told of replicas whose row is to be published, `failed` of those
    whose disk refuses.
    """

    def __init__(
        self,
        context: ProcessContext,
        changed: Callable[[Replica], object],
        failed: Callable[[Replica, Exception], object],
    ) -> None:
        self._context, self._changed, self._failed = context, changed, failed
        self._slots: LinkSlots | None = None  # made for the first peer
        self._leaders: Leaders | None = None
        self.is_connected = False  # whether it has ever had to do with other workers
        self._followers = Followers()
        self._replicas: dict[TopicPartition, Replica] = {}
        self._peers: set[Peer] = set()
        self._words: dict[Peer, AckWords] = {}
        self._files: dict[FollowerPartition, LeaderFile] = {}
        self._limits: dict[FollowerPartition, CopyLimit] = {}
        self._copy_due_ms = 0  # all that is to be copied is throttled until then
        self._to_ring: set[int] = set()
        self._unconnected: set[Replica] = set()  # there was no room for a ring to their leader
        self._incomplete: set[Replica] = set()  # led here, and not all of their replicas are in sync
        self._is_due = False  # something follows from what followers have acknowledged
        self._proposed_to = 0  # the newest controller, by its epoch, that heard a proposal
        self._tick_ms = max(1, context.config.replica_lag_time_max_ms // 2)
        self._tick_due_ms = self._turned_ms = 0
        self._marks_due_ms = 0  # when followers hear at the latest of what is committed; 0: they know
        self._propose_again_ms = 0  # not before; 0: nothing waits for an answer, or was refused

    @property
    def is_active(self) -> bool:
        """Whether this worker has a replica that has others."""
        return bool(self._replicas)

    @property
    def has_followed(self) -> bool:
        """Whether `show_followed` has something to show."""
        return self._followers.is_touched

    def has_work(self) -> bool:
        """Takes what followers have acknowledged. Whether something follows from it (of most acknowledgements
        nothing does, as others are missing still), or something is to be copied or shown.
        """
        slots, followers = self._slots, self._followers
        if slots is None:
            return False
        if slots.has_moved():
            self._take_acks(slots, _now_ms())
        return self._is_due or followers.is_touched or (followers.is_copying and not self._copy_due_ms)

    # -- roles

    def may_lead(self, replica: Replica, leader_epoch: int) -> bool:
        """(R) Whether this process has not led in that epoch before, with others."""
        return self._leaders is None or self._leaders.may_lead(replica.key, leader_epoch)

    def lead(self, replica: Replica, partition: LeaderPartition) -> None:
        """In its leader epoch, from now on. ShmError: there is no memory for that now."""
        leaders = self._made()[1]
        self.leave(replica)
        leaders.lead(partition)
        replica.leading = partition
        self._replicas[replica.key] = replica
        self._note(replica, partition)

    def adopt(self, replica: Replica, state: PartitionState) -> None:
        """Who is in sync has changed, in the same leader epoch."""
        partition = replica.leading
        if partition is not None:
            partition.adopt(state, _now_ms())
            self._note(replica, partition)

    def _note(self, replica: Replica, partition: LeaderPartition) -> None:
        if len(partition.in_sync.isr) < len(partition.in_sync.replicas):
            self._incomplete.add(replica)
        else:
            self._incomplete.discard(replica)

    def resign(self, replica: Replica) -> None:
        """It leads no more: no acknowledgement of its links counts from now on (R)."""
        if self._leaders is not None:
            self._leaders.resign(replica.key)
        replica.leading = None
        self._incomplete.discard(replica)
        self._replicas.pop(replica.key, None)

    def follow(self, replica: Replica) -> None:
        """The leader that its order names, or nobody until another order names one."""
        order, key = replica.order, replica.key
        partition = replica.following
        if partition is None:
            partition = replica.following = FollowerPartition(
                key,
                self._context.node_id,
                replica.log,
                shown_epoch=replica.shown_epoch,
                counts_synced=self._context.config.flush_policy != PAGE,
            )
            self._followers.add(partition)
            self._replicas[key] = replica
        self._unconnected.discard(replica)
        self._limit(partition, order.copy_rate)
        if order.leader_slot and partition.leader_epoch == order.leader_epoch and partition.state:
            return  # only something else has changed
        if not order.leader_slot:
            if order.leader_epoch > partition.leader_epoch:
                self._followers.leave(key)
            return
        peer = (order.leader_slot, order.leader_incarnation)
        self._forget_file(partition)
        self._files[partition] = LeaderFile(f"{order.leader_log_dir}/{order.topic}-{order.partition}")
        if self._connect(peer):
            self._followers.follow(key, order.leader_epoch, peer, _now_ms())
        elif self._context.slots.is_live(*peer):
            self._unconnected.add(replica)

    def _limit(self, partition: FollowerPartition, rate: int) -> None:
        known = self._limits.get(partition)
        if (known.rate if known else 0) != rate:
            self._limits.pop(partition, None)
            self._copy_due_ms = 0
            if rate:
                self._limits[partition] = CopyLimit(rate, _now_ms())

    def leave(self, replica: Replica) -> None:
        """It follows nobody: it is to lead, or to go."""
        if replica.following is not None:
            self._followers.remove(replica.key)
            self._forget_file(replica.following)
            self._limits.pop(replica.following, None)
            replica.following = None
            self._unconnected.discard(replica)
            del self._replicas[replica.key]

    def forget(self, replica: Replica) -> None:
        """It is gone from this process."""
        self.leave(replica)
        self.resign(replica)
        if self._leaders is not None:
            self._leaders.forget(replica.key)

    def _forget_file(self, partition: FollowerPartition) -> None:
        file = self._files.pop(partition, None)
        if file is not None:
            file.close()

    # -- peers

    def _made(self) -> tuple[LinkSlots, Leaders]:
        slots, leaders = self._slots, self._leaders
        if slots is None or leaders is None:
            context = self._context
            slots = self._slots = LinkSlots.create(context.run_dir, context.slot, context.incarnation)
            leaders = self._leaders = Leaders(slots)
            self.is_connected = True
        return slots, leaders

    def _connect(self, peer: Peer) -> bool:
        """Whether there is a ring to that process; not if it is dead, or there is no room for one now."""
        if peer in self._peers:
            return True
        slot, incarnation = peer
        try:
            leaders = self._made()[1]
            ring = self._context.links.outgoing(slot, BYTES, RING_BYTES)
        except ShmError:
            return False
        if ring is None or not self._context.slots.is_live(slot, incarnation):
            return False  # (R) a ring is for one incarnation
        to_ring = self._to_ring

        def push(frame: bytes) -> bool:
            if not ring.try_push(frame):
                return False
            to_ring.add(slot)
            return True

        self._peers.add(peer)
        leaders.connect(peer, push, ring.frame_max)
        self._followers.connect(peer, push)
        return True

    def bury(self, slot: int, incarnation: int) -> None:
        """(R) Before anything of its successor is read."""
        peer = (slot, incarnation)
        self._peers.discard(peer)
        words = self._words.pop(peer, None)
        if words is not None:
            words.close()
        if self._leaders is not None:
            self._leaders.on_peer_died(peer)
        self._followers.on_peer_died(peer)

    def on_frames(self, slot: int, incarnation: int, ring: ByteConsumer) -> bool:
        """What another worker says. False: there is no room for a ring to answer in, it waits in its own."""
        peer = (slot, incarnation)
        if not self._connect(peer):
            return not self._context.slots.is_live(slot, incarnation)
        leaders, now_ms = self._made()[1], _now_ms()
        self._copy_due_ms = 0
        while (frame := ring.pop()) is not None:
            if is_from_follower(frame):
                leaders.on_frame(peer, frame)
                continue
            for partition, error in self._followers.on_frame(peer, frame, now_ms):
                replica = self._replicas.get(partition.topic_partition)
                if replica is not None:  # else it went out of service with one before
                    self._failed(replica, error)
        return True

    # -- a turn

    def turn(self) -> None:
        """Acknowledgements, copies, and what comes with time."""
        slots, leaders = self._slots, self._leaders
        if slots is None or leaders is None:
            return
        now_ms = _now_ms()
        self._take_acks(slots, now_ms)
        if self._is_due:
            self._is_due = False
            for replica in self._incomplete:  # perhaps a follower has caught up just now
                self._propose(replica, now_ms)
        if self._followers.is_copying and self._copy_due_ms <= now_ms:
            self._copy()
        for downstream in leaders.downstreams.values():
            if downstream.is_waiting:
                downstream.send_waiting()
        if now_ms != self._turned_ms:
            self._turned_ms = now_ms
            self._tick(now_ms)

    def _take_acks(self, slots: LinkSlots, now_ms: int) -> None:
        assert self._leaders is not None, "made with the slots"
        moved = slots.moved()
        if moved:
            advanced = self._leaders.on_acks(moved, now_ms)
            for partition in advanced:
                self._changed(self._replicas[partition.topic_partition])
            self._is_due |= bool(advanced or self._incomplete)

    def _copy(self) -> None:
        now_ms, left = _now_ms(), COPY_BYTES
        dues: list[int] = []
        self._copy_due_ms = 0
        for partition, _ in self._followers.copying():
            if partition not in self._files:
                continue  # (R) it went together with one before it, as their log directory did
            limit = self._limits.get(partition)
            budget = left if limit is None else min(left, limit.allowance(now_ms))
            if limit is not None and budget <= 0:
                dues.append(limit.due_ms())
                continue
            copied = self._copy_some(partition, budget, now_ms)
            if limit is not None:
                limit.spend(copied)
            left -= copied
            if left <= 0:
                return
        if dues and len(dues) == len(self._followers.copying()):
            self._copy_due_ms = min(dues)

    def _copy_some(self, partition: FollowerPartition, budget: int, now_ms: int) -> int:
        file = self._files[partition]
        try:
            copied = self._followers.copy(partition, file.read, budget, now_ms)
        except (KafkaError, OSError) as error:
            self._failed(self._replicas[partition.topic_partition], error)
            return 0
        if partition.state != LINKED:
            file.close()
        return copied

    def _tick(self, now_ms: int) -> None:
        due_ms = self._followers.next_due_ms()
        if due_ms is not None and due_ms <= now_ms:
            self._followers.tick(now_ms)
        if 0 < self._marks_due_ms <= now_ms:
            self.say_marks()
        is_due = 0 < self._propose_again_ms <= now_ms
        if now_ms < self._tick_due_ms and not is_due:
            return
        self._tick_due_ms = now_ms + self._tick_ms
        self._propose_again_ms = 0
        for replica in list(self._unconnected):
            self.follow(replica)
        for replica in list(self._replicas.values()):
            if replica.leading is not None:
                replica.leading.in_sync.tick(now_ms)
                self._propose(replica, now_ms)

    def timeout_s(self) -> float:
        """How long the worker may sleep."""
        if not self._replicas:
            return IDLE_S
        due_ms = self._followers.next_due_ms()
        waits = any(downstream.is_waiting for downstream in self._downstreams())
        now_ms = _now_ms()
        due_s = IDLE_S if due_ms is None else max(0.0, (due_ms - now_ms) / 1000)
        if self._copy_due_ms:
            due_s = min(due_s, max(0.0, (self._copy_due_ms - now_ms) / 1000))
        for at_ms in (self._propose_again_ms, self._marks_due_ms):
            if at_ms:
                due_s = min(due_s, max(0.0, (at_ms - now_ms) / 1000))
        return min(due_s, self._tick_ms / 1000, 0.001 if waits else IDLE_S)  # nobody tells of room in a ring

    def before_sleep(self) -> None:
        """Followers that have not heard of the newest high watermarks hear of them now if a reader waits for
        that there, else with the next data, or in MARKS_MS.
        """
        links = [link for downstream in self._downstreams() for link in downstream.behind()]
        if any(self._is_awaited(link) for link in links):
            self.say_marks()
        elif links and not self._marks_due_ms:
            self._marks_due_ms = _now_ms() + MARKS_MS

    def _is_awaited(self, link: Link) -> bool:
        order = self._replicas[link.topic_partition].order
        mark, satisfied = link.in_sync.shown, self._context.waiters.satisfied
        return any(satisfied(row, mark) for row in order.rows if row != order.row)

    def say_marks(self) -> None:
        """Followers hear of the newest high watermarks."""
        self._marks_due_ms = 0
        for downstream in self._downstreams():
            downstream.say_marks()
        self.ring()

    def _downstreams(self) -> list[Downstream]:
        return [] if self._leaders is None else list(self._leaders.downstreams.values())

    def show_followed(self) -> list[Replica]:
        """Publish the rows of what is followed, then acknowledge (R). Returns whose rows moved."""
        shown: dict[FollowerPartition, Replica] = {}
        for partition in self._followers.take_touched():
            replica = self._replicas.get(partition.topic_partition)
            if replica is None or replica.following is not partition:
                continue
            try:
                replica.publish()
            except (KafkaError, OSError) as error:
                self._failed(replica, error)  # and perhaps others with it
            else:
                shown[partition] = replica
        for peer, number, offset in self._followers.acks(shown):
            words = self._words_of(peer)
            if words is not None:
                words.store(number, offset)
                self._to_ring.add(peer[0])
        return [replica for partition, replica in shown.items() if replica.following is partition]

    def synced(self, replica: Replica) -> None:
        """More of its log is on the disk."""
        if replica.following is not None:
            self._followers.synced(replica.following)
        elif replica.leading is not None:
            replica.leading.append_local()

    def _words_of(self, peer: Peer) -> AckWords | None:
        words = self._words.get(peer)
        if words is None:
            try:
                words = AckWords(self._context.run_dir, *peer)
            except FileNotFoundError:  # that leader is dead
                return None
            self._words[peer] = words
        return words

    def ring(self) -> None:
        """Wake the peers that were sent something."""
        if self._to_ring:
            self._context.bells.ring_many(self._to_ring)
            self._to_ring.clear()

    # -- who is in sync

    def _propose(self, replica: Replica, now_ms: int) -> None:
        assert replica.leading is not None
        proposal = replica.leading.in_sync.propose(now_ms)
        self._look_again(replica.leading)
        epoch, order = self._context.active_controller()[1], replica.order
        if proposal is None or epoch < self._proposed_to:  # (R) an older one may refuse what that has done
            return
        self._proposed_to = epoch
        self._context.tell_controller(
            control.AlterPartition(
                row=order.row,
                row_generation=order.row_generation,
                topic_id=order.topic_id,
                partition=order.partition,
                leader_epoch=proposal.leader_epoch,
                partition_epoch=proposal.partition_epoch,
                isr=proposal.isr,
                attempt=proposal.attempt,
            )
        )

    def _look_again(self, partition: LeaderPartition) -> None:
        at_ms = partition.in_sync.due_ms
        if at_ms is not None:
            self._propose_again_ms = min(at_ms, self._propose_again_ms or at_ms)

    def on_altered(self, replica: Replica, answer: control.PartitionAltered) -> None:
        """The controller's answer to a proposal."""
        partition = replica.leading
        if partition is None:
            return
        state = None
        if not answer.error_code:
            state = PartitionState(
                replicas=answer.replicas, isr=answer.isr, partition_epoch=answer.partition_epoch
            )
        proposal, now_ms = partition.in_sync.in_flight, _now_ms()
        answered = (answer.proposed, answer.attempt)
        if proposal is not None and (proposal.partition_epoch, proposal.attempt) == answered:
            partition.on_answer(proposal, answer.error_code, state, now_ms)
            self._look_again(partition)  # a broker that comes back is fenced a moment longer than they wait
        elif state is not None:
            partition.adopt(state, now_ms)
        self._note(replica, partition)
        self._changed(replica)

    def close(self) -> None:
        """The last of an orderly stop."""
        for words in self._words.values():
            words.close()
        for file in self._files.values():
            file.close()
        if self._slots is not None:
            self._slots.close()


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
