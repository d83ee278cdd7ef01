"""Raft nodes in a world: each a `Member` with a disk, whose effects are performed with delays.

What the memory of a process holds dies with it. Of its disk a crash leaves what was synced, and any part of
what was not; a sync that was under way may have been done.
"""

from collections.abc import Callable
from functools import partial

from msgspec import Struct, structs

from tailrace.core.errors import KafkaError
from tailrace.core.raft.effects import Effect, InstallSnapshot, Send, StoreVote, Sync
from tailrace.core.raft.messages import Message, OffsetAndEpoch
from tailrace.core.raft.node import RaftNode
from tailrace.core.raft.quorum_state import QuorumState
from tailrace.core.raft.settings import RaftSettings
from tailrace.core.raft.voters import ReplicaKey, Voter, VoterSet
from tailrace.core.records.record import NewRecord, build_batch
from tests.sim.memory_log import MemoryLog
from tests.sim.raft_oracle import Oracle
from tests.sim.world import World

NEVER = 2**62


class Pace(Struct, frozen=True, kw_only=True):
    """How slow disks are, and how patient nodes."""

    sync_ms: tuple[int, int] = (0, 2)
    slow_sync: float = 0.0
    slow_sync_ms: int = 60
    settings: RaftSettings = RaftSettings(
        key=ReplicaKey(0),
        election_timeout_ms=40,
        fetch_timeout_ms=60,
        request_timeout_ms=30,
        fetch_wait_ms=20,
        retry_ms=8,
        successor_delay_ms=10,
        snapshot_piece_bytes=24,
    )


class Member:
    """One node with its disk."""

    def __init__(self, cluster: "Cluster", node_id: int) -> None:
        self.cluster, self.node_id = cluster, node_id
        self.name = str(node_id)
        self.disk_count = 0
        self.logs: dict[ReplicaKey, MemoryLog] = {}  # those it has lost, too
        self.node: RaftNode | None = None
        self.incarnation = 0
        self.high_watermark = 0
        self.led_epoch = -1
        self.voters = VoterSet()  # that counted when the oracle last looked
        self._timer_at = NEVER
        self._storing: QuorumState | None = None
        self.new_disk()
        cluster.world.add(self.name, self.receive)
        self._start()

    def new_disk(self) -> None:
        """An empty one: somebody else, by its directory id."""
        self.disk_count += 1
        self.key = ReplicaKey(self.node_id, bytes((self.node_id, self.disk_count)) * 8)
        self.empty_disk()
        self.logs[self.key] = self.log

    def empty_disk(self) -> None:
        """All that was on it is lost, and nobody has seen that yet: `logs` has what it had."""
        self.vote = QuorumState()
        self.log = MemoryLog(self.cluster.oracle.on_append)

    def _start(self) -> None:
        cluster, world = self.cluster, self.cluster.world
        self.incarnation += 1
        settings = cluster.settings_of(self, world.random.getrandbits(60))
        node = cluster.make_node(
            settings,
            self.log,
            self.vote,
            cluster.initial_voters_of(self),
            world.now_ms,
            synced_offset=self.log.synced,
            high_watermark=self.committed_before(),
        )
        self.node, self.high_watermark, self._storing = node, node.high_watermark, None
        self._timer_at = NEVER
        self.after_event()

    def committed_before(self) -> int:
        """What an earlier incarnation has said to be committed, where this one knows it."""
        return 0

    # What happens to it.

    def receive(self, _source: str, message: Message) -> None:
        """A message came."""
        assert self.node is not None
        self.node.step(message, self.cluster.world.now_ms)
        self.after_event()

    def crash(self, *, power: bool) -> None:
        """The process dies; with power off, so does what was not synced."""
        world = self.cluster.world
        if self.node is None:
            return
        world.crash(self.name)
        self.node = None
        if self._storing is not None and world.chance(0.5):
            self.vote = self._storing
        if power:
            self.log.crash(world.survivors(self.log.synced, self.log.log_end_offset))

    def restart(self) -> None:
        """It comes back with what its disk has."""
        if self.node is None:
            self.cluster.world.restart(self.name, self.receive)
            self._start()

    def do(self, action: Callable[[RaftNode, int], object]) -> object:
        """Something is asked of the node; None if it is down or refuses."""
        if self.node is None or self.cluster.world.places[self.name].is_paused:
            return None
        try:
            return action(self.node, self.cluster.world.now_ms)
        except KafkaError as error:
            self.cluster.world.tell("{} refuses: {}", self.name, error)
            return None
        finally:
            self.after_event()

    # What it wants done.

    def after_event(self) -> None:
        """Performs its effects, and sees to its clock."""
        node, world = self.node, self.cluster.world
        assert node is not None
        node.rejoin((Voter(member.key) for member in self.cluster.members.values()), world.now_ms)
        for effect in node.take_effects(world.now_ms):
            match effect:
                case Send():
                    world.send(self.name, str(effect.target), effect.message)
                case StoreVote():
                    self._storing = effect.state
                    world.after(self.name, self.cluster.sync_ms(), partial(self._stored, effect.state))
                case Sync():
                    end = (self.log.log_end_offset, self.log.cuts)
                    world.after(self.name, self.cluster.sync_ms(), partial(self._synced, effect, end))
                case InstallSnapshot():
                    world.after(self.name, self.cluster.sync_ms(), partial(self._install, effect))
                case _:
                    world.tell("{}: {}", self.name, effect)
                    self.on_effect(effect)
        deadline = node.next_deadline_ms
        if deadline < self._timer_at:
            self._timer_at = deadline
            world.after(self.name, max(deadline - world.now_ms, 0), self._tick)
        self.cluster.oracle.look_at(self)

    def on_effect(self, effect: Effect) -> None:
        """Something that the node only tells."""

    def _tick(self) -> None:
        node, now_ms = self.node, self.cluster.world.now_ms
        assert node is not None
        self._timer_at = NEVER
        node.tick(now_ms)
        self.after_event()

    def _stored(self, state: QuorumState) -> None:
        assert self.node is not None
        if state is not self._storing:
            return  # a newer one took its place
        self.vote = state
        self.node.on_vote_stored(state, self.cluster.world.now_ms)
        self.after_event()

    def _synced(self, sync: Sync, end: tuple[int, int]) -> None:
        node = self.node
        assert node is not None
        if end[1] == self.log.cuts:  # as core/log/flush.py: else it proves nothing
            self.log.synced = max(self.log.synced, end[0])
        node.on_synced(sync, self.cluster.world.now_ms)
        self.after_event()

    def _install(self, effect: InstallSnapshot) -> None:
        node, world = self.node, self.cluster.world
        assert node is not None
        self.log.install_snapshot(effect.snapshot_id, self.cluster.voters_of[effect.snapshot_id])
        node.on_snapshot_installed(effect.snapshot_id, world.now_ms)
        self.after_event()


MakeNode = Callable[..., RaftNode]


class Cluster:
    """Members 1 to n, of which the first are voters."""

    def __init__(
        self,
        world: World,
        voters: int,
        observers: int = 0,
        pace: Pace | None = None,
        make_node: MakeNode = RaftNode,
    ) -> None:
        self.world, self.pace, self.make_node = world, pace or Pace(), make_node
        self.members: dict[int, Member] = {}
        self.oracle = self.make_oracle()
        self.voters_of: dict[OffsetAndEpoch, VoterSet] = {}
        self.proposed = 0
        ids = range(1, voters + 1)
        self.initial_voters = VoterSet(Voter(ReplicaKey(i, bytes((i, 1)) * 8)) for i in ids)
        for node_id in range(1, voters + observers + 1):
            self.members[node_id] = self.make_member(node_id)

    def make_oracle(self) -> Oracle:
        """Who watches."""
        return Oracle(self.world, self.members)

    def make_member(self, node_id: int) -> Member:
        """With an empty disk."""
        return Member(self, node_id)

    def settings_of(self, member: Member, seed: int) -> RaftSettings:
        """What a new incarnation is started with."""
        ids = tuple(self.members)
        return structs.replace(self.pace.settings, key=member.key, seed=seed, bootstrap=ids)

    def initial_voters_of(self, member: Member) -> VoterSet:
        """(R) Nobody, for one whose log is empty when another's is not."""
        if not member.log.log_end_offset and any(m.log.log_end_offset for m in self.members.values()):
            return VoterSet()
        return self.initial_voters

    def sync_ms(self) -> int:
        """How long the next sync takes."""
        random, pace = self.world.random, self.pace
        if pace.slow_sync and random.random() < pace.slow_sync:
            return random.randint(0, pace.slow_sync_ms)
        return random.randint(*pace.sync_ms)

    def leader(self) -> Member | None:
        """Who leads the newest epoch, of those that are up and say they lead."""
        leading = [m for m in self.members.values() if m.node is not None and m.node.is_leader]
        return max(leading, key=lambda m: m.node.epoch if m.node else 0, default=None)

    def propose(self, member: Member) -> int | None:
        """A record more, if this member leads: the end offset that has to be committed."""
        if member.node is None or not member.node.is_leader:
            return None
        self.proposed += 1
        value = self.proposed.to_bytes(4, "big")
        batch = bytes(build_batch([NewRecord(value=value)]))
        end = member.do(lambda node, now_ms: node.append(batch, now_ms))
        assert isinstance(end, int | None)
        return end

    def take_snapshot(self, member: Member) -> None:
        """A snapshot at a place that it knows to be committed."""
        node, log = member.node, member.log
        if node is None or node.installing is not None:
            return
        ends = [b.next_offset for b in log.batches if b.next_offset <= min(node.high_watermark, log.synced)]
        if ends:
            end = self.world.random.choice(ends)
            voters = node.voters.at(end)
            log.take_snapshot(end, voters)
            assert log.snapshot is not None
            self.voters_of[log.snapshot.snapshot_id] = voters
            self.world.tell("{} has a snapshot {}", member.name, log.snapshot.snapshot_id)

    def lose_disk(self, member: Member) -> None:
        """The process dies and its disk is empty."""
        member.crash(power=True)
        self.world.tell("{} loses its disk", member.name)
        member.new_disk()
