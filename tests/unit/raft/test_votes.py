"""Elections, seen from one node."""

import pytest

from tailrace.core.errors import KAFKA_STORAGE_ERROR, KafkaError
from tailrace.core.raft.messages import (
    BeginQuorumEpochRequest,
    EndQuorumEpochRequest,
    OffsetAndEpoch,
    VoteRequest,
    VoteResponse,
)
from tailrace.core.raft.quorum_state import QuorumState
from tests.unit.raft.script import ELECTION_MS, FETCH_MS, Script, key, new_log, voter_set


def asks(node_id: int, epoch: int, end: tuple[int, int] = (0, 0), *, pre_vote: bool = False) -> VoteRequest:
    """A candidate's question; end: where its log ends."""
    return VoteRequest(epoch, key(node_id), OffsetAndEpoch(*end), pre_vote)


def says(
    node_id: int, epoch: int, granted: bool = True, *, pre_vote: bool = False, leader_id: int = -1
) -> VoteResponse:
    """A voter's answer."""
    return VoteResponse(epoch, leader_id, key(node_id), granted, pre_vote)


def test_a_vote_is_told_when_it_is_on_disk() -> None:
    """(R) Both of its parts, the epoch and the vote, in one write."""
    script = Script()
    assert script.get(asks(2, 1)) == ["LeaderChanged(epoch=1, leader_id=-1)", "store e1 voted 2"]
    assert script.stored() == ["to 2: Vote e1 yes, leader -1"]


def test_who_knows_no_voters_helps_nobody_whose_log_is_empty() -> None:
    """(R) Two new disks of three would lose all that the third has."""
    script = Script(voters=voter_set())
    script.get(asks(2, 1))
    assert script.stored() == ["to 2: Vote e1 no, leader -1"]
    script.get(asks(3, 2, (3, 1)))
    assert script.stored() == ["to 3: Vote e2 yes, leader -1"]


def test_who_knows_no_voters_never_asks_for_votes_but_who_leads() -> None:
    """(R)"""
    script = Script(voters=voter_set(), bootstrap=(1, 2, 3))
    told = script.wait(10 * ELECTION_MS)
    assert {line.partition(":")[0] for line in told} == {"to 2", "to 3"}
    assert all("Fetch? e0" in line for line in told), told


def test_one_candidate_gets_the_vote_of_an_epoch_and_gets_it_again() -> None:
    """(R)"""
    script = Script()
    script.get(asks(2, 1))
    script.stored()
    assert script.get(asks(3, 1)) == ["to 3: Vote e1 no, leader -1"]
    assert script.get(asks(2, 1)) == ["to 2: Vote e1 yes, leader -1"]


def test_a_vote_outlives_its_process() -> None:
    script = Script(state=QuorumState(1, key(2)))
    assert script.get(asks(3, 1)) == ["to 3: Vote e1 no, leader -1"]


def test_the_vote_for_a_lost_disk_is_not_one_for_its_successor() -> None:
    script = Script(state=QuorumState(1, key(2)))
    again = VoteRequest(1, key(2, disk=2), OffsetAndEpoch(0, 0))
    assert script.get(again) == ["to 2: Vote e1 no, leader -1"]


@pytest.mark.parametrize(
    ("end", "granted"),
    [((2, 2), "yes"), ((9, 1), "no"), ((1, 2), "no"), ((1, 3), "yes"), ((3, 2), "yes")],
)
def test_a_shorter_log_gets_no_vote(end: tuple[int, int], granted: str) -> None:
    """(R) The last epoch counts first, then the length. This one's log ends at 2, in epoch 2."""
    script = Script(1, 2)
    script.get(asks(2, 5, end))
    assert script.stored()[0] == f"to 2: Vote e5 {granted}, leader -1"


def test_an_old_epoch_gets_nothing() -> None:
    script = Script(state=QuorumState(5))
    assert script.get(asks(2, 4, (9, 4))) == ["to 2: Vote e5 no, leader -1"]
    assert script.get(asks(2, 4, (9, 4), pre_vote=True)) == ["to 2: Pre-vote e5 no, leader -1"]


def test_a_pre_vote_costs_nothing() -> None:
    """No epoch, no vote, no write: both may be told the same."""
    script = Script()
    assert script.get(asks(2, 0, pre_vote=True)) == ["to 2: Pre-vote e0 yes, leader -1"]
    assert script.get(asks(3, 0, pre_vote=True)) == ["to 3: Pre-vote e0 yes, leader -1"]
    assert script.node.epoch == 0


def test_who_hears_the_leader_wants_no_other() -> None:
    script = Script().following(2, 1)
    assert script.get(asks(3, 1, pre_vote=True)) == ["to 3: Pre-vote e1 yes, leader -1"]
    script.answer()
    assert script.get(asks(3, 1, pre_vote=True)) == ["to 3: Pre-vote e1 no, leader 2"]


def test_who_knows_the_leader_of_an_epoch_votes_for_no_other_in_it() -> None:
    script = Script().following(2, 1)
    script.wait(FETCH_MS * 2)
    assert not script.node.role.has_leader
    assert script.get(asks(3, 1))[-1] == "to 3: Vote e1 no, leader -1"


def test_an_election_from_its_beginning_to_its_end() -> None:
    script = Script()
    assert script.wait(0) == [
        "to 2: Pre-vote? e0 of 1-EBAQ at 0@0",
        "to 3: Pre-vote? e0 of 1-EBAQ at 0@0",
    ]
    assert script.get(says(2, 0, pre_vote=True)) == [
        "LeaderChanged(epoch=1, leader_id=-1)",
        "store e1 voted 1",
    ]
    assert script.stored() == ["to 2: Vote? e1 of 1-EBAQ at 0@0", "to 3: Vote? e1 of 1-EBAQ at 0@0"]
    assert script.get(says(3, 1)) == [
        "LeaderChanged(epoch=1, leader_id=1)",
        "to 2: BeginQuorumEpoch e1 1",
        "to 3: BeginQuorumEpoch e1 1",
        "sync 3",
    ]
    assert [batch.epoch for batch in script.log.batches] == [1, 1]


def test_a_quorum_of_one_elects_itself_and_commits_with_its_own_sync() -> None:
    script = Script(voters=voter_set(1))
    assert script.wait(0) == ["LeaderChanged(epoch=1, leader_id=-1)", "store e1 voted 1"]
    assert script.stored() == ["LeaderChanged(epoch=1, leader_id=1)", "sync 3"]
    assert script.synced() == ["BecameLeader(epoch=1)", "Committed(high_watermark=3)"]
    assert script.append(5) == ["sync 8"]
    assert script.synced() == ["Committed(high_watermark=8)"]


def test_votes_of_others_than_voters_do_not_count() -> None:
    """(R) Neither of strangers, nor of a voter's new disk, nor the same one twice."""
    script = Script(voters=voter_set(1, 2, 3, 4, 5))
    script.wait(0)
    script.get(says(2, 0, pre_vote=True))
    script.get(says(3, 0, pre_vote=True))
    script.stored()
    script.get(says(2, 1))
    for voter in (key(2), key(9), key(3, disk=2)):
        script.get(VoteResponse(1, -1, voter, granted=True))
    assert not script.node.is_leader
    script.get(says(3, 1))
    assert script.node.is_leader


def test_who_restarts_does_not_go_on_as_a_candidate() -> None:
    """(R) Its votes were for a log whose end may be lost."""
    script = Script(state=QuorumState(3, key(1)))
    script.get(says(2, 3))
    script.get(says(3, 3))
    assert not script.node.is_leader
    script.wait(0)
    script.get(says(2, 3, pre_vote=True))
    assert script.node.epoch == 4


def test_a_log_without_its_vote_votes_for_nobody_in_its_last_epoch() -> None:
    """(R) Nobody knows whom it had voted for."""
    script = Script(7, state=QuorumState())
    assert script.get(asks(2, 7, (9, 7))) == ["to 2: Vote e7 no, leader -1"]


def test_a_prospective_that_learns_of_a_leader_follows_it() -> None:
    script = Script()
    script.wait(0)
    told = script.get(says(2, 0, granted=False, pre_vote=True, leader_id=3))
    assert told[0] == "LeaderChanged(epoch=0, leader_id=3)"
    assert told[1].startswith("to 3: Fetch? e0")


def test_an_election_that_nobody_wins_is_tried_again_later() -> None:
    script = Script()
    script.wait(0)
    script.get(says(2, 0, pre_vote=True))
    script.stored()
    script.get(says(2, 1, granted=False))
    script.get(says(3, 1, granted=False))
    told = script.wait(ELECTION_MS)
    assert told[0] == "to 2: Pre-vote? e1 of 1-EBAQ at 0@0"


def test_who_is_not_a_voter_asks_for_no_votes_and_finds_the_leader() -> None:
    script = Script(node_id=4)
    told = script.wait(120)
    assert {line.partition(" #")[0] for line in told} == {f"to {n}: Fetch? e0" for n in (1, 2, 3)}


def test_the_first_of_the_successors_goes_at_once_and_the_next_a_little_later() -> None:
    for place, expected in enumerate(["store e2 voted 1", "sync"]):
        script = Script().following(2, 1)
        others = (key(1), key(3)) if place == 0 else (key(3), key(1))
        told = script.get(EndQuorumEpochRequest(1, 2, others))
        assert (expected in told) == (place == 0)
        assert "store e2 voted 1" in [*told, *script.wait(script.node.settings.successor_delay_ms)]


def test_a_dead_leader_is_replaced_at_once_by_the_first_in_rank() -> None:
    script = Script().following(2, 1)
    script.node.peer_died(3, 0)
    assert script.out() == []
    script.node.peer_died(2, 0)
    assert script.out() == ["LeaderChanged(epoch=2, leader_id=-1)", "store e2 voted 1"]


def test_a_wrong_hint_is_put_right_by_the_leader_itself() -> None:
    script = Script(node_id=3).following(1, 1)
    script.node.peer_died(1, 0)
    assert script.out() == ["LeaderChanged(epoch=1, leader_id=-1)"]
    assert script.get(says(2, 1, granted=False, pre_vote=True, leader_id=1)) == []
    told = script.get(BeginQuorumEpochRequest(1, 1))
    assert told[0] == "LeaderChanged(epoch=1, leader_id=1)"


def test_two_leaders_of_one_epoch_cannot_be() -> None:
    script = Script().following(2, 1)
    with pytest.raises(AssertionError, match="two leaders"):
        script.get(BeginQuorumEpochRequest(1, 3))


def test_a_log_that_takes_nothing_makes_no_leader() -> None:
    log = new_log()

    def full(batch: bytes, leader_epoch: int, now_ms: int) -> object:
        raise KafkaError(KAFKA_STORAGE_ERROR, f"no room for {len(batch)} of {leader_epoch} at {now_ms}")

    log.append_as_leader = full  # type: ignore[method-assign]
    script = Script(voters=voter_set(1), log=log)
    script.wait(0)
    assert "LostLeadership(epoch=1)" in script.stored()
    assert not script.node.is_leader
