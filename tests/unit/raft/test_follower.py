"""A follower, by hand: what it fetches, takes, cuts."""

import pytest

from tailrace.core.raft.control_records import voters_batch
from tailrace.core.raft.messages import (
    FetchResponse,
    FetchSnapshotResponse,
    OffsetAndEpoch,
)
from tests.sim.memory_log import MemoryLog
from tests.unit.raft.script import FETCH_MS, Script, data, key, new_log, stored_batch, voter_set


def diverging(script: Script, offset: int, epoch: int) -> FetchResponse:
    """The leader says where the logs part."""
    number = script.last_fetch().number
    return FetchResponse(number, script.node.epoch, 2, diverging=OffsetAndEpoch(offset, epoch))


def test_a_fetch_says_what_is_on_disk() -> None:
    """(R) It is sent when the log is synced, and its offset is an acknowledgement."""
    script = Script().following(2, 1)
    assert script.answer(stored_batch(0, 1)) == ["sync 1"]
    assert script.synced()[0].startswith("to 2: Fetch? e1")
    assert script.last_fetch().fetch_offset == 1


def test_a_log_that_was_not_synced_before_the_start_is_synced_before_the_first_fetch() -> None:
    """(R)"""
    log = new_log()
    log.append_as_leader(data(), 1, 0)
    script = Script(log=log)
    script.node.synced_offset = 0
    script.node.become_follower(1, 2, 0)
    assert script.out() == ["LeaderChanged(epoch=1, leader_id=2)", "sync 1"]
    assert script.synced()[0].startswith("to 2: Fetch? e1")


def test_a_new_epoch_is_on_disk_before_anything_is_fetched_in_it() -> None:
    script = Script()
    script.node.become_follower(3, 2, 0)
    assert script.out() == ["LeaderChanged(epoch=3, leader_id=2)", "store e3 voted None"]
    assert script.stored()[0].startswith("to 2: Fetch? e3")


def test_it_knows_of_a_commit_as_far_as_it_has_the_log() -> None:
    script = Script().following(2, 1)
    assert "Committed(high_watermark=1)" in script.answer(stored_batch(0, 1), high_watermark=5)


def test_the_high_watermark_does_not_go_back() -> None:
    """(R)"""
    script = Script(1).following(2, 2)
    script.answer(high_watermark=1)
    script.answer(high_watermark=0)
    assert script.node.high_watermark == 1


def test_a_late_answer_is_not_taken() -> None:
    script = Script().following(2, 1)
    late = FetchResponse(script.last_fetch().number - 1, 1, 2, records=stored_batch(0, 1))
    assert script.get(late) == []
    script.answer(stored_batch(0, 1))
    assert script.log.log_end_offset == 1


def test_an_answer_of_an_older_epoch_is_not_taken() -> None:
    """(R)"""
    script = Script().following(2, 1)
    old = script.last_fetch()
    script.node.become_follower(2, 3, 0)
    script.out()
    assert script.get(FetchResponse(old.number, 1, 2, records=stored_batch(0, 1))) == []
    assert script.log.log_end_offset == 0


def test_only_what_begins_at_the_end_is_appended() -> None:
    script = Script(1).following(2, 2)
    script.answer(stored_batch(0, 1), stored_batch(1, 1))
    assert script.log.log_end_offset == 1
    script.answer(stored_batch(1, 1), stored_batch(2, 1), stored_batch(9, 1))
    assert script.log.log_end_offset == 3


@pytest.mark.parametrize(
    ("epochs", "told", "end"),
    [
        ((1, 1, 2, 2), (3, 2), 3),  # both have epoch 2, the leader less of it
        ((1, 1, 2, 2), (2, 1), 2),  # the leader has no epoch 2
        ((1, 2, 2), (3, 1), 1),  # and more of epoch 1 than this one
        ((2, 2), (1, 1), 0),  # nothing in common
    ],
)
def test_a_log_that_parts_is_cut_where_they_may_agree(
    epochs: tuple[int, ...], told: tuple[int, int], end: int
) -> None:
    """(R) Then it asks again."""
    script = Script(*epochs).following(2, 3)
    script.get(diverging(script, *told))
    assert script.log.log_end_offset == end
    assert script.last_fetch().fetch_offset == end


def test_what_is_committed_is_never_cut() -> None:
    """(R) Rather nothing works than that."""
    script = Script(1, 1).following(2, 2)
    script.answer(high_watermark=2)
    with pytest.raises(AssertionError, match="never truncated"):
        script.get(diverging(script, 1, 1))


def test_a_sync_that_was_under_way_when_the_log_was_cut_proves_nothing() -> None:
    """(R)"""
    script = Script(1).following(2, 2)
    assert script.answer(stored_batch(1, 2)) == ["sync 2"]
    script.node.become_follower(3, 3, 0)
    script.out()
    script.node.truncate(1, 0)
    script.log.append_as_follower(memoryview(stored_batch(1, 3)), 0)
    told = script.synced()
    assert told == ["sync 2"]
    assert script.node.synced_offset == 1


def test_voters_count_when_they_are_in_the_log_and_no_longer_when_they_are_cut() -> None:
    """(R)"""
    script = Script(1).following(2, 2)
    batch = voters_batch(voter_set(1, 2, 3, 4), 0)
    script.answer(stored_batch(1, 2, batch))
    assert script.node.voters.latest == voter_set(1, 2, 3, 4)
    script.synced()
    script.get(diverging(script, 1, 1))
    assert script.node.voters.latest == voter_set(1, 2, 3)


def test_voters_are_read_from_the_log_at_a_start() -> None:
    log = new_log()
    log.append_as_leader(data(), 1, 0)
    log.append_as_leader(voters_batch(voter_set(2, 3), 0), 1, 0)
    assert not Script(log=log).node.is_voter
    log.append_as_leader(voters_batch(voter_set(1, 2, 3), 0), 1, 0)
    assert Script(log=log).node.is_voter


def test_who_hears_nothing_asks_again_and_then_for_votes() -> None:
    script = Script().following(2, 1)
    first = script.last_fetch().number
    script.wait(FETCH_MS // 2)
    assert script.last_fetch().number != first
    assert "to 3: Pre-vote? e1 of 1-EBAQ at 0@0" in script.wait(FETCH_MS // 2)


def test_a_leader_that_leads_no_more_is_left_at_once() -> None:
    script = Script().following(2, 1)
    told = script.get(FetchResponse(script.last_fetch().number, 1, -1, error_code=6))
    assert told == ["LeaderChanged(epoch=1, leader_id=-1)"]


def snapshot_of(offset: int) -> MemoryLog:
    """A log whose beginning is in a snapshot, with other voters."""
    log = new_log()
    for _ in range(offset):
        log.append_as_leader(data(), 1, 0)
    log.take_snapshot(offset, voter_set(1, 2))
    return log


def test_a_snapshot_is_fetched_in_pieces_and_takes_the_place_of_the_log() -> None:
    source = snapshot_of(30)
    size = len(source.snapshot_bytes)
    script = Script(1).following(2, 2)
    wanted = OffsetAndEpoch(30, 1)
    response = FetchResponse(script.last_fetch().number, 2, 2, snapshot_id=wanted)
    assert script.get(response) == ["to 2: Snapshot? e2 30@1 from byte 0"]
    half = size // 2
    for position, end in ((0, half), (half, size)):
        number = getattr(script.sent[-1].message, "number", 0)
        piece = source.snapshot_bytes[position:end]
        told = script.get(FetchSnapshotResponse(number, 2, 2, wanted, 0, position, size, piece))
    assert told == ["install 30@1"]
    assert script.wait(20) == []  # until it is there nothing is fetched
    script.log.install_snapshot(wanted, voter_set(1, 2))
    script.node.on_snapshot_installed(wanted, script.now_ms)
    told = script.out()
    assert told[0].startswith("to 2: Fetch? e2")
    assert told[1] == "Committed(high_watermark=30)"
    assert script.last_fetch().fetch_offset == 30
    assert script.last_fetch().last_fetched_epoch == 1
    assert script.node.voters.latest == voter_set(1, 2)


def test_who_is_about_to_get_a_snapshot_asks_for_no_votes() -> None:
    """(R) It would lead with a log that is about to be replaced."""
    script = Script(1).following(2, 2)
    script.node.installing = OffsetAndEpoch(30, 1)
    told = script.wait(FETCH_MS * 5)
    assert not any("ote?" in line for line in told)
    script.node.peer_died(2, script.now_ms)
    assert script.out() == []


def test_a_snapshot_that_is_gone_is_asked_for_by_another_fetch() -> None:
    script = Script(1).following(2, 2)
    wanted = OffsetAndEpoch(30, 1)
    script.get(FetchResponse(script.last_fetch().number, 2, 2, snapshot_id=wanted))
    number = getattr(script.sent[-1].message, "number", 0)
    told = script.get(FetchSnapshotResponse(number, 2, 2, wanted, 98))
    assert told[0].startswith("to 2: Fetch? e2")


def test_an_observer_follows_without_a_vote() -> None:
    script = Script(node_id=4).following(2, 1)
    script.answer(stored_batch(0, 1), high_watermark=1)
    assert script.node.high_watermark == 1
    told = script.wait(FETCH_MS * 3)
    assert not any("ote?" in line for line in told)
    assert script.node.key == key(4)
