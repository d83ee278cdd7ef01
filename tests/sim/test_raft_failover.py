"""How long a quorum is without a leader, in virtual time: links take 1 ms, syncs 5 ms."""

from msgspec import structs

from tailrace.core.raft.node import RaftNode
from tailrace.core.raft.settings import RaftSettings
from tailrace.core.raft.voters import ReplicaKey
from tests.sim.raft_cluster import Cluster, Member, Pace
from tests.sim.raft_story import brief
from tests.sim.world import Weather, World

HOP_MS, SYNC_MS = 1, 5
PACE = Pace(sync_ms=(SYNC_MS, SYNC_MS), settings=RaftSettings(key=ReplicaKey(0)))


def settled(voters: int, seed: int = 0) -> tuple[Cluster, Member]:
    """A cluster with a leader that has committed something."""
    world = World(seed, Weather(delay_ms=(HOP_MS, HOP_MS)), brief)
    cluster = Cluster(world, voters, pace=PACE)
    wait_for_leader(cluster, 500)
    leader = cluster.leader()
    assert leader is not None
    end = cluster.propose(leader)
    assert end is not None
    everybody = cluster.members.values()
    world.run_until(lambda: all(m.high_watermark >= end for m in everybody), within_ms=500)
    return cluster, leader


def wait_for_leader(cluster: Cluster, within_ms: int) -> None:
    """Somebody leads, and is up."""
    cluster.world.run_until(lambda: cluster.leader() is not None, within_ms=within_ms)


def kill(cluster: Cluster, member: Member, *, is_known: bool) -> None:
    """Its process dies, and the others may know."""
    member.crash(power=False)
    for other in cluster.members.values():
        if is_known:
            other.do(lambda node, now_ms: node.peer_died(member.node_id, now_ms))


def test_three_that_start_together_have_a_leader_after_two_syncs() -> None:
    world = World(0, Weather(delay_ms=(HOP_MS, HOP_MS)), brief)
    cluster = Cluster(world, 3, pace=PACE)
    wait_for_leader(cluster, 4 * HOP_MS + 2 * SYNC_MS)
    assert cluster.leader() is cluster.members[1]


def test_a_quorum_of_one_leads_after_the_sync_of_its_vote() -> None:
    world = World(0)
    cluster = Cluster(world, 1, pace=PACE)
    wait_for_leader(cluster, SYNC_MS)
    leader = cluster.members[1]
    world.run_until(lambda: leader.high_watermark > 0, within_ms=SYNC_MS)
    end = cluster.propose(leader)
    assert end is not None
    world.run_until(lambda: leader.high_watermark >= end, within_ms=SYNC_MS)


def test_a_quorum_of_one_wants_no_clock() -> None:
    cluster, leader = settled(1)
    cluster.world.run(cluster.world.now_ms + 2 * RaftSettings(key=ReplicaKey(0)).check_quorum_ms)
    assert leader.node is not None
    assert leader.node.next_deadline_ms > cluster.world.now_ms + 10**9


def test_a_known_death_costs_two_syncs_and_two_hops() -> None:
    for seed in range(10):
        cluster, leader = settled(3, seed)
        kill(cluster, leader, is_known=True)
        wait_for_leader(cluster, 2 * SYNC_MS + 2 * HOP_MS)


def test_a_known_death_is_as_quick_when_the_first_in_rank_is_behind() -> None:
    """One round more: who has the longer log goes next, at once."""
    cluster, leader = settled(3)
    world, behind = cluster.world, cluster.members[2]
    assert leader is cluster.members[1]
    world.pause(behind.name)
    end = cluster.propose(leader)
    assert end is not None
    world.run_until(lambda: leader.high_watermark >= end, within_ms=100)
    world.resume(behind.name)
    kill(cluster, leader, is_known=True)
    wait_for_leader(cluster, 4 * SYNC_MS + 4 * HOP_MS)
    assert cluster.leader() is cluster.members[3]


def test_a_leader_that_resigns_is_followed_after_two_syncs() -> None:
    cluster, leader = settled(3)
    leader.do(RaftNode.resign)
    within_ms = 2 * SYNC_MS + 3 * HOP_MS
    cluster.world.run_until(lambda: cluster.leader() not in (None, leader), within_ms=within_ms)


def test_an_unknown_death_costs_the_fetch_timeout() -> None:
    for seed in range(10):
        cluster, leader = settled(3, seed)
        kill(cluster, leader, is_known=False)
        settings = PACE.settings
        within_ms = settings.fetch_timeout_ms + 4 * HOP_MS + 2 * SYNC_MS + 2 * settings.election_timeout_ms
        wait_for_leader(cluster, within_ms)


def test_a_leader_without_a_majority_resigns() -> None:
    cluster, leader = settled(3)
    cluster.world.partition([leader.name])
    assert leader.node is not None
    node = leader.node
    within_ms = PACE.settings.check_quorum_ms + PACE.settings.fetch_wait_ms
    cluster.world.run_until(lambda: not node.is_leader, within_ms=within_ms)


def test_one_who_was_cut_off_does_not_disturb_when_it_is_back() -> None:
    """Pre-vote: its epoch did not grow meanwhile, and nobody votes for it."""
    cluster, leader = settled(3)
    world = cluster.world
    lonely = next(m for m in cluster.members.values() if m is not leader)
    world.partition([m.name for m in cluster.members.values() if m is not lonely], [lonely.name])
    world.run(world.now_ms + 5000)
    world.heal()
    world.run(world.now_ms + 2000)
    assert leader.node is not None
    assert leader.node.is_leader
    assert lonely.node is not None
    assert lonely.node.epoch == leader.node.epoch


def test_observers_follow_and_do_not_count() -> None:
    world = World(0, Weather(delay_ms=(HOP_MS, HOP_MS)), brief)
    cluster = Cluster(world, 1, 2, pace=PACE)
    world.run_until(lambda: all(m.high_watermark > 2 for m in cluster.members.values()), within_ms=500)
    world.run(world.now_ms + SYNC_MS + 2 * HOP_MS)
    leader = cluster.leader()
    assert leader is not None
    assert leader.node is not None
    status = leader.node.describe(world.now_ms)
    assert [voter.key.node_id for voter in status.voters] == [1]
    assert {observer.log_end_offset for observer in status.observers} == {status.high_watermark}
    assert sorted(observer.key.node_id for observer in status.observers) == [2, 3]
    cluster.members[2].crash(power=False)
    cluster.members[3].crash(power=False)
    end = cluster.propose(leader)
    assert end is not None
    world.run_until(lambda: leader.high_watermark >= end, within_ms=SYNC_MS)


def test_patience_is_a_setting() -> None:
    slow = structs.replace(PACE.settings, fetch_timeout_ms=2000, election_timeout_ms=1000)
    world = World(0, Weather(delay_ms=(HOP_MS, HOP_MS)), brief)
    cluster = Cluster(world, 3, pace=structs.replace(PACE, settings=slow))
    wait_for_leader(cluster, 500)
    leader = cluster.leader()
    assert leader is not None
    world.run(world.now_ms + 200)
    leader.crash(power=False)
    world.run(world.now_ms + 1900)
    assert cluster.leader() is None
    wait_for_leader(cluster, 3000)
