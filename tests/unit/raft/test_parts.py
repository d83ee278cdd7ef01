"""The plain values and functions of Raft: messages, files, records, sets of voters, majorities."""

import msgspec
import pytest

from tailrace.core.raft.control_records import leader_change_batch, voters_batch, voters_of
from tailrace.core.raft.messages import (
    BeginQuorumEpochRequest,
    EndQuorumEpochRequest,
    FetchRequest,
    FetchResponse,
    FetchSnapshotRequest,
    FetchSnapshotResponse,
    Message,
    OffsetAndEpoch,
    VoteRequest,
    VoteResponse,
    decode_message,
    encode_message,
)
from tailrace.core.raft.quorum import ReplicaProgress, Tally, majority_offset
from tailrace.core.raft.quorum_state import QuorumState, decode_quorum_state, encode_quorum_state
from tailrace.core.raft.raft_log import (
    check_fetch,
    epoch_end_offset,
    needs_snapshot,
    split_batches,
    truncation_point,
)
from tailrace.core.raft.settings import Jitter
from tailrace.core.raft.snapshot import parse_snapshot_name, snapshot_name
from tailrace.core.raft.voters import CHANGES_KEPT, Voter, VoterHistory, VoterSet
from tailrace.core.records.batch import check_batch
from tests.unit.raft.script import data, key, new_log, stored_batch, voter_set

END = OffsetAndEpoch(7, 2)

# A leader change and a set of voters as Kafka 4.3.1's DumpLogSegments prints them.
LEADER_CHANGE_VALUE = "00000000000104000000010000000002000000000300030000000100000000020000"
VOTERS_VALUE_START = "000004" + "00000001" + "01" * 16 + "01"  # version, count, first voter, no endpoints


@pytest.mark.parametrize(
    "message",
    [
        VoteRequest(1, key(1), END, pre_vote=True),
        VoteResponse(1, -1, key(2), granted=True),
        BeginQuorumEpochRequest(3, 1),
        EndQuorumEpochRequest(3, 1, (key(2), key(3))),
        FetchRequest(9, 3, key(2), 7, 2, 5, 500),
        FetchResponse(9, 3, 1, 0, 5, None, None, b"records"),
        FetchResponse(9, 3, 1, 0, 5, END, None),
        FetchResponse(9, 3, 1, 0, 5, None, END),
        FetchSnapshotRequest(9, 3, key(2), END, 100, 1000),
        FetchSnapshotResponse(9, 3, 1, END, 0, 100, 2000, b"piece"),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_survives_its_way(message: Message) -> None:
    assert decode_message(encode_message(message)) == message


@pytest.mark.parametrize("damaged", [b"", b"\x91\x63", b"\x92\x05", b"\x93\x03\xa1x\x01", b"\xc1"])
def test_what_is_no_message_is_refused(damaged: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_message(damaged)


@pytest.mark.parametrize("state", [QuorumState(), QuorumState(5, key(3), -1), QuorumState(7, None, 2)])
def test_the_vote_survives_on_disk(state: QuorumState) -> None:
    assert decode_quorum_state(encode_quorum_state(state)) == state


def test_the_vote_is_written_as_kafka_does() -> None:
    written = encode_quorum_state(QuorumState(5, key(1)))
    assert written == (
        b'{"leaderId":-1,"leaderEpoch":5,"votedId":1,"votedDirectoryId":"AQEBAQEBAQEBAQEBAQEBAQ","data_version":1}'
    )


def test_the_vote_of_an_older_kafka_is_read() -> None:
    old = (
        b'{"clusterId":"","leaderId":1,"leaderEpoch":4,"votedId":-1,"appliedOffset":0,'
        b'"currentVoters":[{"voterId":1}],"data_version":0}'
    )
    assert decode_quorum_state(old) == QuorumState(4, None, 1)


@pytest.mark.parametrize("damaged", [b"", b"{", b'{"data_version":2}', b'{"leaderEpoch":"x"}', b"[]"])
def test_what_is_no_vote_is_refused(damaged: bytes) -> None:
    with pytest.raises(ValueError, match="quorum state"):
        decode_quorum_state(damaged)


def test_control_records_are_sound_batches_of_kafkas_form() -> None:
    batch = leader_change_batch(1, voter_set(1, 2, 3), [key(1), key(2)], 5)
    header = check_batch(batch)
    assert header.is_control
    assert header.base_timestamp == 5
    assert bytes.fromhex("00000002") + b"\x44" + bytes.fromhex(LEADER_CHANGE_VALUE) in batch
    assert voters_of(batch) is None
    with_voters = voters_batch(voter_set(1, 2, 3), 5)
    assert check_batch(with_voters).record_count == 2
    assert bytes.fromhex("00000006") in with_voters
    assert bytes.fromhex(VOTERS_VALUE_START) in with_voters


def test_voters_survive_in_the_log() -> None:
    voters = VoterSet([Voter(key(1), (("CONTROLLER", "localhost", 65535),)), Voter(key(2))])
    assert voters_of(stored_batch(40, 3, voters_batch(voters, 0))) == (41, voters)


def test_a_set_of_voters_changes_by_one() -> None:
    voters = voter_set(1, 2, 3)
    assert (len(voters), voters.majority, voters.ids) == (3, 2, (1, 2, 3))
    assert voters.with_voter(Voter(key(4))).majority == 3
    assert voters.without(key(2)) == voter_set(1, 3)
    assert key(2, disk=2) not in voters
    assert (voters.rank(1), voters.rank(3), voters.rank(3, 1, 2)) == (0, 2, 0)


def test_sets_of_voters_come_and_go_with_their_records() -> None:
    history = VoterHistory(voter_set(1))
    history.add(10, voter_set(1, 2))
    history.add(20, voter_set(1, 2, 3))
    assert [len(history.at(end)) for end in (10, 11, 20, 21)] == [1, 2, 2, 3]
    history.truncate(20)
    assert (history.latest, history.latest_offset) == (voter_set(1, 2), 10)
    history.truncate(0)
    assert (history.latest, history.latest_offset) == (voter_set(1), -1)


def test_old_sets_of_voters_are_forgotten() -> None:
    history = VoterHistory(voter_set(1))
    for offset in range(10 * CHANGES_KEPT):
        history.add(offset, voter_set(1))
    history.truncate(0)
    assert history.latest_offset >= 9 * CHANGES_KEPT - 1


@pytest.mark.parametrize(
    ("ends", "expected"),
    [([5], 5), ([5, 3], 3), ([5, 3, 9], 5), ([5, 3, 9, 9], 5), ([1, 2, 3, 4, 5], 3), ([5, -1, -1], -1)],
)
def test_what_a_majority_has(ends: list[int], expected: int) -> None:
    assert majority_offset(ends) == expected


def test_an_election_of_four_is_lost_with_two() -> None:
    tally = Tally(voter_set(1, 2, 3, 4))
    for node_id in (1, 2):
        tally.count(key(node_id), granted=True)
    assert not tally.is_won
    tally.count(key(3), granted=False)
    assert not tally.is_lost
    tally.count(key(4), granted=False)
    assert tally.is_lost


def test_who_reaches_what_the_leader_had_was_caught_up_then() -> None:
    """As Kafka: by what the leader had at the fetch before."""
    progress = ReplicaProgress()
    progress.on_fetch(5, 10, now_ms=100)
    assert progress.caught_up_ms == -1
    progress.on_fetch(10, 20, now_ms=200)
    assert progress.caught_up_ms == 100
    progress.on_fetch(15, 20, now_ms=300)
    assert progress.caught_up_ms == 100
    progress.on_fetch(20, 20, now_ms=400)
    assert progress.caught_up_ms == 400


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [(0, (-1, 10)), (1, (1, 10)), (2, (2, 15)), (3, (2, 15)), (4, (4, 20)), (9, (4, 20))],
)
def test_where_epochs_end(epoch: int, expected: tuple[int, int]) -> None:
    """The log begins at 10 behind a snapshot of epoch 1."""
    entries = [(2, 10), (4, 15)]
    assert epoch_end_offset(entries, 10, 20, OffsetAndEpoch(10, 1), epoch) == expected


def test_an_epoch_below_a_log_that_begins_behind_its_snapshot_is_unknown() -> None:
    assert epoch_end_offset([(2, 10)], 10, 20, OffsetAndEpoch(15, 2), 1) == (-1, 10)
    assert epoch_end_offset([], 10, 10, OffsetAndEpoch(10, 1), 1) == (1, 10)


def test_where_logs_part() -> None:
    log = new_log()
    for epoch in (1, 1, 3, 3):
        log.append_as_leader(data(), epoch, 0)
    assert check_fetch(log, 0, 0) is None
    assert check_fetch(log, 4, 3) is None
    assert check_fetch(log, 5, 3) == OffsetAndEpoch(4, 3)
    assert check_fetch(log, 3, 2) == OffsetAndEpoch(2, 1)
    assert truncation_point(log, OffsetAndEpoch(1, 1)) == 1
    assert truncation_point(log, OffsetAndEpoch(9, 2)) == 2
    assert needs_snapshot(log, 0, 0) is None


def test_a_range_that_ends_in_a_batch_gives_the_whole_ones() -> None:
    whole = stored_batch(4, 2) + stored_batch(5, 3)
    assert [(b.base_offset, b.next_offset, b.epoch) for b in split_batches(whole)] == [(4, 5, 2), (5, 6, 3)]
    assert len(list(split_batches(whole[:-1]))) == 1
    assert list(split_batches(b"\xff" * 100)) == []


def test_names_of_snapshots_are_kafkas() -> None:
    snapshot_id = OffsetAndEpoch(1234, 5)
    assert snapshot_name(snapshot_id) == "00000000000000001234-0000000005.checkpoint"
    assert parse_snapshot_name(snapshot_name(snapshot_id)) == snapshot_id
    for other in ("00000000000000001234.log", snapshot_name(snapshot_id) + ".part", "quorum-state"):
        assert parse_snapshot_name(other) is None
    assert OffsetAndEpoch(9, 1) < OffsetAndEpoch(10, 0)


def test_jitter_is_the_same_for_a_seed_and_differs_between_seeds() -> None:
    one, two, three = Jitter(1), Jitter(1), Jitter(2)
    drawn = [one.below(100) for _ in range(50)]
    assert drawn == [two.below(100) for _ in range(50)]
    assert drawn != [three.below(100) for _ in range(50)]
    assert 0 <= min(drawn) < max(drawn) < 100
