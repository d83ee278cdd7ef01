"""A leader, by hand: who gets what, what is committed, who votes."""

from collections.abc import Callable

import pytest

from tailrace.core.errors import (
    DUPLICATE_VOTER,
    NOT_LEADER_OR_FOLLOWER,
    REQUEST_TIMED_OUT,
    VOTER_NOT_FOUND,
    KafkaError,
)
from tailrace.core.raft.messages import FetchSnapshotRequest, OffsetAndEpoch, VoteRequest
from tailrace.core.raft.quorum_state import QuorumState
from tailrace.core.raft.voters import ReplicaKey, Voter
from tests.unit.raft.script import FETCH_MS, Script, data, key, voter_set


def test_an_epoch_begins_with_its_leaders_name_and_the_first_with_the_voters() -> None:
    script = Script().elected()
    assert [(b.base_offset, b.next_offset) for b in script.log.batches] == [(0, 1), (1, 3)]
    again = Script(log=script.log, state=QuorumState(1, key(1))).elected()
    assert [(b.base_offset, b.next_offset, b.epoch) for b in again.log.batches[2:]] == [(3, 4, 2)]


def test_a_majority_commits_and_says_so_at_once() -> None:
    script = Script().elected()
    assert script.fetch(2, 3) == [
        "BecameLeader(epoch=1)",
        "to 2: Fetch e1 #0 [], hw 3",
        "Committed(high_watermark=3)",
    ]


def test_what_is_appended_goes_out_before_it_is_synced_and_counts_after() -> None:
    """(R) The own log counts as far as it is on disk."""
    script = Script().established()
    assert script.append() == ["to 2: Fetch e1 #0 [3@1], hw 3", "to 3: Fetch e1 #0 [3@1], hw 3", "sync 4"]
    assert script.fetch(2) == []
    assert script.synced() == ["to 2: Fetch e1 #0 [], hw 4", "Committed(high_watermark=4)"]


def test_two_others_commit_what_the_leader_has_not_synced() -> None:
    script = Script().established()
    script.append()
    script.fetch(2)
    assert script.fetch(3)[-1] == "Committed(high_watermark=4)"


def test_batches_that_come_together_are_sent_and_synced_together() -> None:
    script = Script().established()
    assert script.append(3) == [
        "to 2: Fetch e1 #0 [3@1 4@1 5@1], hw 3",
        "to 3: Fetch e1 #0 [3@1 4@1 5@1], hw 3",
        "sync 6",
    ]
    assert script.append(2) == []  # one sync at a time
    assert script.synced() == ["sync 8"]


def test_an_older_epoch_is_not_committed_by_counting() -> None:
    """(R) Here a majority has the batch of epoch 1, and one who has epoch 2 could still be elected."""
    script = Script(1).elected()
    assert script.fetch(2, 1, last_epoch=1) == ["to 2: Fetch e2 #0 [1@2 2@2], hw 0"]
    assert script.node.high_watermark == 0
    assert "Committed(high_watermark=4)" in script.fetch(2)


def test_a_fetch_that_has_nothing_to_get_is_held_for_so_long() -> None:
    script = Script().established()
    assert script.fetch(2, number=7) == []
    assert script.wait(49) == []
    assert "to 2: Fetch e1 #7 [], hw 3" in script.wait(1)


def test_fetches_that_are_held_long_enough_are_answered_together() -> None:
    script = Script().established()
    assert script.fetch(2, number=7) == []
    assert script.wait(20) == []
    assert script.fetch(3, number=8) == []
    assert script.wait(29) == []
    told = script.wait(1)
    assert "to 2: Fetch e1 #7 [], hw 3" in told
    assert "to 3: Fetch e1 #8 [], hw 3" in told, "it is soon due, and would wake all once more"


def test_a_fetch_of_another_epoch_is_refused() -> None:
    """(R) Its offset is of another log."""
    script = Script().established()
    assert script.fetch(2, 9, epoch=0) == ["to 2: Fetch e1 #0 error 74, leader 1"]
    assert script.fetch(2, 9, epoch=2) == ["to 2: Fetch e1 #0 error 75, leader 1"]
    assert script.node.high_watermark == 3


@pytest.mark.parametrize(
    ("offset", "last_epoch", "answer"),
    [
        (4, 2, "diverging at 2@1"),  # epoch 2 was never here
        (3, 1, "diverging at 2@1"),  # epoch 1 ended earlier
        (9, 3, "diverging at 3@3"),  # longer than it can be
        (2, 1, "[2@3 3@4 4@4], hw 0"),
    ],
)
def test_a_log_that_parts_is_told_where(offset: int, last_epoch: int, answer: str) -> None:
    """The leader's epochs: 1 1 3, then its own, 4."""
    script = Script(1, 1, 3).elected()
    assert script.fetch(2, offset, last_epoch=last_epoch) == [f"to 2: Fetch e4 #0 {answer}"]


def test_who_parts_is_counted_for_nothing() -> None:
    """(R)"""
    script = Script(1).elected()
    script.fetch(2, 9, last_epoch=1)
    assert script.node.high_watermark == 0


def test_who_is_behind_the_log_is_told_which_snapshot_to_take() -> None:
    script = Script().established()
    script.append(3)
    script.synced()
    script.fetch(2)
    script.log.take_snapshot(5, voter_set(1, 2, 3))
    for offset, last_epoch in ((0, 0), (4, 1), (5, 0)):
        assert script.fetch(3, offset, last_epoch=last_epoch) == ["to 3: Fetch e1 #0 take snapshot 5@1"]
    assert script.fetch(3, 5, last_epoch=1)[0] == "to 3: Fetch e1 #0 [5@1], hw 6"


def test_a_snapshot_is_given_in_pieces_and_another_than_the_newest_not() -> None:
    script = Script().established()
    script.log.take_snapshot(3, voter_set(1, 2, 3))
    ask = FetchSnapshotRequest(1, 1, key(3), OffsetAndEpoch(3, 1), 2, 4)
    assert script.get(ask) == ["to 3: Snapshot e1 3@1 byte 2 + 4 of 7 error 0"]
    ask = FetchSnapshotRequest(1, 1, key(3), OffsetAndEpoch(2, 1), 0, 4)
    assert script.get(ask) == ["to 3: Snapshot e1 2@1 byte 0 + 0 of 7 error 98"]


def test_a_leader_whom_no_majority_fetches_from_resigns() -> None:
    script = Script().established()
    told = script.wait(FETCH_MS * 2)
    assert "LostLeadership(epoch=1)" in told
    assert "to 2: EndQuorumEpoch e1 1" in told


def test_a_leader_whom_one_of_two_fetches_from_stays() -> None:
    script = Script().established()
    for _ in range(20):
        script.wait(50)
        script.fetch(3)
    assert script.node.is_leader


def test_voters_that_do_not_fetch_are_told_again() -> None:
    script = Script().elected()
    assert "to 3: BeginQuorumEpoch e1 1" in script.wait(150)


def test_a_newer_epoch_ends_the_leadership() -> None:
    script = Script().established()
    told = script.get(VoteRequest(5, key(2), OffsetAndEpoch(3, 1)))
    assert told == ["LostLeadership(epoch=1)", "LeaderChanged(epoch=5, leader_id=-1)", "store e5 voted 2"]
    with pytest.raises(KafkaError) as refusal:
        script.append()
    assert refusal.value.code == NOT_LEADER_OR_FOLLOWER


def test_a_leader_that_resigns_names_the_longest_log_first() -> None:
    script = Script().established()
    script.append()
    script.fetch(3)
    script.node.resign(script.now_ms)
    message = [send for send in script.sent if not script.out()] and script.sent[-1].message
    assert getattr(message, "preferred_successors", None) == (key(3), key(2))


# Voters come and go.


def refusal_of(change: Callable[[], object]) -> int:
    """The code with which something is refused."""
    with pytest.raises(KafkaError) as refusal:
        change()
    return refusal.value.code


def adding(script: Script, voter: ReplicaKey) -> int:
    """The code with which a new voter is refused."""
    return refusal_of(lambda: script.node.add_voter(Voter(voter), script.now_ms))


def removing(script: Script, voter: ReplicaKey) -> int:
    """The code with which the removal of a voter is refused."""
    return refusal_of(lambda: script.node.remove_voter(voter, script.now_ms))


def test_a_new_voter_counts_as_soon_as_it_is_in_the_log() -> None:
    """(R) Three of four are a majority then."""
    script = Script().established()
    script.fetch(4)
    end = script.node.add_voter(Voter(key(4)), script.now_ms)
    script.out()
    script.synced()
    assert len(script.node.voters.latest) == 4
    script.fetch(2, end)
    assert script.node.high_watermark < end
    script.fetch(3, end)
    assert script.node.high_watermark == end


def test_a_removed_voter_does_not_count_any_more() -> None:
    script = Script().established()
    end = script.node.remove_voter(key(3), script.now_ms)
    script.out()
    script.synced()
    script.fetch(3, end)
    assert script.node.high_watermark < end
    script.fetch(2, end)
    assert script.node.high_watermark == end


def test_a_voter_with_a_new_disk_votes_again_after_two_changes() -> None:
    """Its old key goes first; each is committed before the next."""
    script = Script().established()
    present = [Voter(key(1)), Voter(key(2)), Voter(key(3, disk=2))]
    assert not script.node.rejoin(present, script.now_ms), "it has not been heard of"
    script.fetch(3, disk=2)
    assert script.node.rejoin(present, script.now_ms)
    assert script.node.voters.latest == voter_set(1, 2)
    assert not script.node.rejoin(present, script.now_ms), "that is not committed"
    end = settle(script)
    assert not script.node.rejoin(present, script.now_ms), "it lags behind"
    script.fetch(3, end, disk=2)
    assert script.node.rejoin(present, script.now_ms)
    assert [voter.key for voter in script.node.voters.latest] == [key(1), key(2), key(3, disk=2)]
    settle(script)
    assert not script.node.rejoin(present, script.now_ms)


def settle(script: Script) -> int:
    """All is synced, 2 has it: where it ends."""
    script.out()
    script.synced()
    script.fetch(2)
    assert script.node.high_watermark == script.log.log_end_offset
    return script.log.log_end_offset


def test_a_voter_that_was_removed_stays_so_unless_all_join() -> None:
    script = Script().established()
    present = [Voter(key(number)) for number in (1, 2, 3)]
    script.node.remove_voter(key(3), script.now_ms)
    script.fetch(3, settle(script))
    assert not script.node.rejoin(present, script.now_ms)
    assert script.node.rejoin(present, script.now_ms, auto_join=True)
    assert script.node.voters.latest == voter_set(1, 2, 3)


def test_one_change_at_a_time_and_none_in_a_new_epoch() -> None:
    """(R)"""
    script = Script().elected()
    assert removing(script, key(3)) == REQUEST_TIMED_OUT
    script.established()
    script.node.remove_voter(key(3), script.now_ms)
    assert removing(script, key(2)) == REQUEST_TIMED_OUT


def test_changes_that_make_no_sense_are_refused_as_kafka_does() -> None:
    script = Script().established()
    script.fetch(5, 0, last_epoch=0)
    assert adding(script, key(2, disk=2)) == DUPLICATE_VOTER
    assert removing(script, key(2, disk=2)) == VOTER_NOT_FOUND
    assert adding(script, key(4)) == REQUEST_TIMED_OUT  # it has never fetched
    assert adding(script, key(5)) == REQUEST_TIMED_OUT  # it is behind
    single = Script(voters=voter_set(1))
    single.wait(0)
    single.stored()
    single.synced()
    assert removing(single, key(1)) == VOTER_NOT_FOUND  # nobody would be left


def test_a_leader_that_is_removed_goes_when_that_is_committed() -> None:
    script = Script().established()
    end = script.node.remove_voter(key(1), script.now_ms)
    script.out()
    script.synced()
    script.fetch(2, end)
    assert script.node.is_leader
    told = script.fetch(3, end)
    assert "LostLeadership(epoch=1)" in told
    assert f"Committed(high_watermark={end})" in told
    assert not script.node.is_voter


def test_the_quorum_is_described_with_times_of_the_wall_clock() -> None:
    script = Script().established()
    script.wait(10)
    script.append()
    script.fetch(2)
    script.fetch(9)
    status = script.node.describe(script.now_ms)
    assert (status.leader_id, status.leader_epoch, status.high_watermark) == (1, 1, 3)
    two, three = status.voters[1:]
    assert (two.key, two.log_end_offset, two.last_fetch_ms, two.last_caught_up_ms) == (key(2), 4, 10, 10)
    assert (three.log_end_offset, three.last_fetch_ms, three.last_caught_up_ms) == (3, 0, 0)
    assert [observer.key for observer in status.observers] == [key(9)]
    assert status.voters[0].log_end_offset == 4


def test_only_a_leader_describes_and_changes() -> None:
    script = Script()
    for ask in (
        lambda: script.node.describe(0),
        lambda: script.node.append(data(), 0),
        lambda: script.node.add_voter(Voter(key(4)), 0),
    ):
        with pytest.raises(KafkaError) as refusal:
            ask()
        assert refusal.value.code == NOT_LEADER_OR_FOLLOWER


def test_observers_without_end_are_not_remembered() -> None:
    script = Script().established()
    for node_id in range(10, 200):
        script.fetch(node_id)
    assert len(script.node.describe(0).observers) <= 64
    assert {voter.log_end_offset for voter in script.node.describe(0).voters} == {3}
