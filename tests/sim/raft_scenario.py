"""A Raft cluster in bad weather, then in good: nothing is lost in the one, and it gets on in the other.

0 ms ..           records are proposed; nodes crash, stall, resign, lose disks, voters come and go
then              links hold, everybody comes back
within a second   a leader, three records more, and everybody has everything
"""

from collections.abc import Callable
from functools import partial

from msgspec import Struct, structs

from tailrace.core.raft.node import RaftNode
from tailrace.core.raft.voters import ReplicaKey, Voter
from tests.sim.raft_cluster import Cluster, MakeNode, Member, Pace
from tests.sim.raft_story import brief
from tests.sim.world import Weather, World

CALM = 1000  # ms that a cluster has to recover in


class Climate(Struct, frozen=True, kw_only=True):
    """How bad it gets. Chances are per ms of the bad time."""

    bad_ms: int = 400
    voters: tuple[int, ...] = (3, 3, 5)
    observers: tuple[int, ...] = (0, 1)
    proposals: float = 0.1
    crashes: float = 0.012
    crash_leader: float = 0.4  # of the crashes
    pauses: float = 0.006
    partitions: float = 0.004
    resignations: float = 0.003
    snapshots: float = 0.01
    lost_disks: float = 0.0015
    changes: float = 0.004
    false_hints: float = 0.001
    one_batch_fetches: float = 0.3  # chance that fetches bring one batch each
    restart_ms: int = 150  # at most
    slow_syncs: tuple[float, ...] = (0.0, 0.05)
    slow_links: tuple[float, ...] = (0.0, 0.015, 0.05)


CHANGEABLE = Climate()
QUICK_DEATHS = Climate(  # leaders die as soon as they are elected, and come back soon
    voters=(3,), observers=(0,), proposals=0.2, crashes=0.06, crash_leader=0.8, one_batch_fetches=1.0,
    restart_ms=40, lost_disks=0.0, changes=0.0,
)  # fmt: skip
SLOW_DISKS = Climate(
    voters=(3,), observers=(0,), proposals=0.02, crashes=0.06, restart_ms=20, slow_syncs=(0.5,),
    partitions=0.02, lost_disks=0.0, changes=0.0,
)  # fmt: skip
SLOW_LINKS = Climate(
    voters=(3,), observers=(0,), proposals=0.3, slow_links=(0.3,), resignations=0.05, lost_disks=0.0,
    changes=0.0,
)  # fmt: skip
COMING_AND_GOING = Climate(
    voters=(3, 4, 5), observers=(1, 2), changes=0.1, partitions=0.04, crashes=0.02, lost_disks=0.0
)
LOSING_DISKS = Climate(voters=(3, 4, 5), changes=0.05, lost_disks=0.02, snapshots=0.05)
SINGLE = Climate(voters=(1,), observers=(0, 1), crashes=0.03, lost_disks=0.0, changes=0.0)
PAIR = Climate(voters=(2,))
CLIMATES = (
    *(CHANGEABLE, CHANGEABLE, CHANGEABLE, QUICK_DEATHS, SLOW_DISKS, SLOW_LINKS, COMING_AND_GOING),
    *(LOSING_DISKS, SINGLE, PAIR),
)


class Storm:
    """What befalls one cluster, by the chance of its world."""

    def __init__(self, cluster: Cluster, climate: Climate) -> None:
        self.cluster, self.climate, self.world = cluster, climate, cluster.world
        self.lost: set[int] = set()  # node ids whose disk was lost, until they are voters again
        self.is_over = False

    def begin(self) -> None:
        """Draws when each kind of thing happens."""
        climate = self.climate
        kinds: list[tuple[float, Callable[[], object]]] = [
            (climate.proposals, self._propose),
            (climate.crashes, self._crash),
            (climate.pauses, self._pause),
            (climate.partitions, self._part),
            (climate.resignations, self._resign),
            (climate.snapshots, self._snapshot),
            (climate.lost_disks, self._lose_disk),
            (climate.changes, self._change_voters),
            (climate.false_hints, self._false_hint),
        ]
        for chance, action in kinds:
            at = 0.0
            while chance and (at := at + self.world.random.expovariate(chance)) < climate.bad_ms:
                self.world.at(int(at), action)

    def _any(self) -> Member:
        return self.world.random.choice(list(self.cluster.members.values()))

    def _propose(self) -> None:
        leader = self.cluster.leader()
        for member in (leader, self._any()):
            if member is not None:
                self.cluster.propose(member)

    def _crash(self) -> None:
        leader = self.cluster.leader()
        member = (
            leader if leader is not None and self.world.chance(self.climate.crash_leader) else self._any()
        )
        if member.node is not None:
            member.crash(power=self.world.chance(0.5))
            self._hint(member)
            self.world.at(
                self.world.now_ms + self.world.random.randint(1, self.climate.restart_ms), member.restart
            )

    def _hint(self, dead: Member) -> None:
        """Others may hear of a death, soon or late."""
        late = 3 if self.world.chance(0.7) else 300
        for other in self.cluster.members.values():
            if other is not dead and other.node is not None and self.world.chance(0.7):
                told = partial(other.do, lambda node, now_ms: node.peer_died(dead.node_id, now_ms))
                self.world.after(other.name, self.world.random.randint(0, late), told)

    def _false_hint(self) -> None:
        self._hint(self._any())

    def _pause(self) -> None:
        member = self._any()
        if member.node is not None:
            self.world.pause(member.name)
            wake_at = self.world.now_ms + self.world.random.randint(5, 120)
            self.world.at(wake_at, partial(self.world.resume, member.name))

    def _part(self) -> None:
        names = [member.name for member in self.cluster.members.values()]
        if len(names) == 1:
            return
        self.world.random.shuffle(names)
        cut = self.world.random.randint(1, len(names) - 1)
        if self.world.chance(0.3):
            self.world.cut(names[0], names[1])
        else:
            self.world.partition(names[:cut], names[cut:])
        self.world.at(self.world.now_ms + self.world.random.randint(10, 150), self.world.heal)

    def _resign(self) -> None:
        leader = self.cluster.leader()
        if leader is not None:
            leader.do(RaftNode.resign)

    def _snapshot(self) -> None:
        self.cluster.take_snapshot(self._any())

    def _lose_disk(self) -> None:
        """As many as the quorum can do without, and no other until they are replaced."""
        member, leader = self._any(), self.cluster.leader()
        if leader is None or leader.node is None or self.lost:
            return
        voters = leader.node.voters.latest
        settled = leader.node.voters.latest_offset < leader.node.high_watermark
        if settled and member.key in voters and len(voters) >= 3:
            self.lost.add(member.node_id)
            self.cluster.lose_disk(member)
            self.world.at(self.world.now_ms + self.world.random.randint(1, 100), member.restart)

    def _change_voters(self) -> None:
        leader = self.cluster.leader()
        if leader is not None and leader.node is not None:
            self._change(leader, leader.node)

    def _change(self, leader: Member, node: RaftNode) -> None:
        """Those who lost their disks first; else anybody out or in, as long as three are left."""
        voters = node.voters.latest
        for node_id in sorted(self.lost):
            member = self.cluster.members[node_id]
            old = voters.get(node_id)
            if old is not None and old.key == member.key:
                if node.voters.latest_offset < node.high_watermark:
                    self.lost.discard(node_id)
            elif old is not None:
                _remove(leader, old.key)
            else:
                _add(leader, member.key)
            return
        if self.is_over:
            return
        member = self._any()
        if member.key in voters and len(voters) > 3:
            _remove(leader, member.key)
        elif voters.get(member.node_id) is None:
            _add(leader, member.key)

    def end(self) -> None:
        """Good weather for good."""
        world = self.world
        self.is_over = True
        world.tell("the storm is over")
        world.heal()
        world.weather = Weather()
        self.cluster.pace = structs.replace(self.cluster.pace, slow_sync=0.0)
        for member in self.cluster.members.values():
            world.resume(member.name)
            member.restart()

    def recover(self) -> None:
        """(R) A cluster in good weather gets on; at its end everybody has everything."""
        world, cluster = self.world, self.cluster
        wanted: list[int] = []

        def is_settled() -> bool:
            """Three records more are committed at each, and lost voters are voters again."""
            return (
                len(wanted) >= 3
                and not self.lost
                and all(
                    m.node is not None
                    and m.node.high_watermark >= max(wanted[-1], cluster.oracle.committed_end)
                    for m in cluster.members.values()
                )
            )

        def push() -> None:
            """Now and then a record, or what is left to change."""
            leader = cluster.leader()
            if leader is not None and leader.node is not None:
                if len(wanted) < 3 or cluster.oracle.committed_end < wanted[-1]:
                    end = cluster.propose(leader)
                    if end is not None:
                        wanted.append(end)
                if self.lost:
                    self._change(leader, leader.node)
            if not is_settled():
                world.at(world.now_ms + 15, push)

        push()
        world.run_until(is_settled, within_ms=CALM)
        cluster.oracle.check_end()


def _add(leader: Member, key: ReplicaKey) -> None:
    leader.do(lambda node, now_ms: node.add_voter(Voter(key), now_ms))


def _remove(leader: Member, key: ReplicaKey) -> None:
    leader.do(lambda node, now_ms: node.remove_voter(key, now_ms))


def play(seed: int, climate: Climate | None = None, make_node: MakeNode = RaftNode) -> World:
    """One run; Broken if a promise was."""
    world = World(seed, describe=brief)
    climate = climate or CLIMATES[seed % len(CLIMATES)]
    random = world.random
    roughness = random.choice([0.0, 0.3, 1.0])
    world.weather = Weather(
        delay_ms=(0, random.choice([1, 2, 10])),
        slow=random.choice(climate.slow_links),
        slow_ms=150,
        drop=random.choice([0.0, 0.02, 0.15]) * roughness,
        duplicate=0.1 * roughness,
    )
    pace = Pace(sync_ms=(0, random.choice([0, 2, 8])), slow_sync=random.choice(climate.slow_syncs))
    if random.random() < climate.one_batch_fetches:
        pace = structs.replace(pace, settings=structs.replace(pace.settings, fetch_bytes_max=1))
    cluster = Cluster(world, random.choice(climate.voters), random.choice(climate.observers), pace, make_node)
    storm = Storm(cluster, climate)
    storm.begin()
    try:
        world.run(climate.bad_ms)
        storm.end()
        storm.recover()
    except AssertionError as error:
        if error.__class__ is AssertionError:  # one of the node's own
            world.fail(f"assertion: {error}")
        raise
    return world
