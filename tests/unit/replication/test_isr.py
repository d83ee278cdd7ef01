"""In-sync replicas and the high watermark of one partition."""

import pytest
from msgspec.structs import replace

from tailrace.core import errors
from tailrace.core.errors import KafkaError
from tailrace.core.replication.isr import RESEND_MS, RETRY_MS, InSync, PartitionState, Proposal

LAG = 30_000


def state(isr: tuple[int, ...], epoch: int, replicas: tuple[int, ...] = (0, 1, 2)) -> PartitionState:
    """As committed."""
    return PartitionState(replicas=replicas, isr=isr, partition_epoch=epoch)


def leader(isr: tuple[int, ...] = (0, 1, 2), *, needed: int = 1, end: int = 10, mark: int = 5) -> InSync:
    """Replica 0 leads in epoch 3 since 0 ms."""
    tracker = InSync(
        replica_id=0, leader_epoch=3, state=state(isr, 7), lag_ms_max=LAG, min_insync_replicas=needed,
        log_end_offset=end, high_watermark=mark, now_ms=0,
    )  # fmt: skip
    tracker.on_append(end, end)
    return tracker


def proposed(tracker: InSync, now_ms: int) -> Proposal:
    """What it proposes then."""
    found = tracker.propose(now_ms)
    assert found is not None
    return found


def test_the_high_watermark_waits_for_every_in_sync_replica() -> None:
    tracker = leader()
    assert not tracker.on_ack(1, 10, 1)
    assert tracker.high_watermark == 5
    assert tracker.on_ack(2, 8, 1)
    assert tracker.high_watermark == 8
    assert not tracker.on_append(20, 20)
    assert tracker.on_ack(2, 20, 2)
    assert tracker.high_watermark == 10


def test_it_never_moves_back() -> None:
    """A follower that comes back with a shorter log is waited for."""
    tracker = leader()
    tracker.on_ack(1, 10, 1)
    tracker.on_ack(2, 10, 1)
    tracker.on_link_lost(2)
    tracker.on_append(20, 20)
    assert not tracker.on_ack(1, 20, 2)
    assert not tracker.on_ack(2, 6, 2)
    assert tracker.high_watermark == 10


def test_a_lone_replica_commits_what_it_counts() -> None:
    tracker = leader((0,))
    assert tracker.on_append(20, 15)  # synced up to 15
    assert tracker.high_watermark == 15


def test_an_acknowledgement_of_what_nobody_sent_does_not_count() -> None:
    tracker = leader((0, 1))
    assert not tracker.on_ack(1, 11, 1)
    assert not tracker.on_ack(9, 10, 1)
    assert tracker.high_watermark == 5


def test_a_replica_that_joins_counts_before_it_is_proposed() -> None:
    """(R) The controller may have committed it long before the leader hears of it."""
    tracker = leader((0, 1), end=10, mark=5)
    tracker.on_ack(1, 10, 1)
    tracker.on_ack(2, 10, 1)
    proposal = proposed(tracker, 2)
    assert proposal == Proposal(isr=(0, 1, 2), leader_epoch=3, partition_epoch=7)
    tracker.on_append(20, 20)
    assert not tracker.on_ack(1, 20, 3)
    assert tracker.high_watermark == 10
    assert tracker.on_answer(proposal, errors.NONE, state((0, 1, 2), 8), 4) is False
    assert tracker.on_ack(2, 15, 5)
    assert tracker.high_watermark == 15


def test_a_replica_that_leaves_counts_until_that_is_committed() -> None:
    """(R) Until then it may be elected."""
    tracker = leader()
    tracker.on_ack(1, 10, 1)
    tracker.on_append(20, 20)
    tracker.on_ack(1, 20, 2)
    tracker.tick(LAG + 1)
    tracker.tick(LAG + 2)
    tracker.followers[2].caught_up_ms = 0
    proposal = proposed(tracker, LAG + 2)
    assert proposal.isr == (0, 1)
    assert not tracker.on_ack(1, 20, LAG + 3)
    assert tracker.on_answer(proposal, errors.NONE, state((0, 1), 8), LAG + 4)
    assert tracker.high_watermark == 20


def test_a_proposal_that_may_have_been_done_counts() -> None:
    """(R) Said twice, the first refused: the other may have been done, by another controller."""
    tracker = leader((0, 1))
    tracker.on_ack(2, 10, 1)
    proposal = proposed(tracker, 1)
    assert tracker.propose(2) is None
    again = proposed(tracker, 1 + RESEND_MS)
    assert again == replace(proposal, attempt=2)
    tracker.on_answer(proposal, errors.OPERATION_NOT_ATTEMPTED, None, RESEND_MS + 2)
    assert tracker.maximal_isr == {0, 1, 2}
    assert tracker.adopt(state((0, 1), 9), RESEND_MS + 3) is False
    assert tracker.maximal_isr == {0, 1}


def test_a_proposal_whose_last_attempt_is_refused_counts_no_more() -> None:
    """Or nothing would be committed as long as the one who was to join is away."""
    tracker = leader((0, 1))
    tracker.on_ack(2, 10, 1)
    proposed(tracker, 1)
    again = proposed(tracker, 1 + RESEND_MS)
    tracker.on_link_lost(2)
    tracker.on_append(20, 20)
    assert not tracker.on_ack(1, 20, RESEND_MS + 2)
    assert tracker.on_answer(again, errors.INELIGIBLE_REPLICA, None, RESEND_MS + 3)
    assert tracker.high_watermark == 20


def test_it_says_when_it_proposes_again() -> None:
    tracker = leader((0, 1))
    assert tracker.due_ms is None
    tracker.on_ack(2, 10, 1)
    proposal = proposed(tracker, 1)
    assert tracker.due_ms == 1 + RESEND_MS
    tracker.on_answer(proposal, errors.INELIGIBLE_REPLICA, None, 5)
    assert tracker.due_ms == 5 + RETRY_MS
    tracker.on_link_lost(2)
    assert tracker.propose(5 + RETRY_MS) is None
    assert tracker.due_ms is None


@pytest.mark.parametrize(("error", "counts"), [
    (errors.INELIGIBLE_REPLICA, False), (errors.OPERATION_NOT_ATTEMPTED, False),
    (errors.INVALID_UPDATE_VERSION, True), (errors.FENCED_LEADER_EPOCH, True),
    (errors.UNKNOWN_SERVER_ERROR, True),
])  # fmt: skip
def test_what_is_refused_for_sure_counts_no_more(error: int, counts: bool) -> None:
    tracker = leader((0, 1))
    tracker.on_ack(2, 10, 1)
    proposal = proposed(tracker, 1)
    tracker.on_answer(proposal, error, None, 2)
    assert (2 in tracker.maximal_isr) is counts
    assert tracker.propose(3) is None
    if not counts:
        assert proposed(tracker, 2 + RETRY_MS) == proposal


def test_older_news_of_the_controller_change_nothing() -> None:
    tracker = leader()
    assert not tracker.adopt(state((0,), 7), 1)
    assert not tracker.adopt(state((0,), 6), 1)
    assert tracker.isr == {0, 1, 2}


def test_a_follower_behind_the_high_watermark_cannot_join() -> None:
    tracker = leader((0, 1), end=10, mark=5)
    tracker.on_append(20, 20)
    tracker.on_ack(1, 7, 1)
    tracker.on_ack(2, 4, 1)
    assert not tracker.may_join(2)
    tracker.on_ack(2, 9, 1)
    assert not tracker.may_join(2), "it lacks what was there before this epoch"
    tracker.on_ack(2, 10, 1)
    assert tracker.may_join(2)


def test_caught_up_is_who_reached_what_the_leader_had_within_the_time() -> None:
    """Also one that never reaches the end of a log which grows all the time."""
    tracker, end = leader((0, 1), end=0, mark=0), 0
    for now_ms in range(0, 4 * LAG, LAG // 4):
        end += 100
        tracker.on_append(end, end)
        tracker.on_ack(1, end - 150, now_ms)
        tracker.tick(now_ms)
        assert tracker.propose(now_ms) is None
    for now_ms in range(4 * LAG, 8 * LAG, LAG // 4):
        end += 100
        tracker.on_append(end, end)
        tracker.on_ack(1, end // 2, now_ms)
        tracker.tick(now_ms)
        if tracker.propose(now_ms):
            return
    pytest.fail("it stays in sync for ever")


def test_an_idle_partition_keeps_its_followers() -> None:
    """Nobody acknowledges anything where nothing is written; the first append after hours is no reason."""
    tracker = leader()
    for replica in (1, 2):
        tracker.on_ack(replica, 10, 0)
    for now_ms in range(0, 100 * LAG, LAG // 2):
        tracker.tick(now_ms)
    tracker.on_append(11, 11)
    tracker.tick(100 * LAG)
    assert tracker.propose(100 * LAG) is None


def test_who_was_stopped_does_not_blame_others() -> None:
    tracker = leader()
    for replica in (1, 2):
        tracker.on_ack(replica, 10, 0)
    tracker.tick(0)
    tracker.on_append(11, 11)
    tracker.tick(10 * LAG)  # SIGSTOP
    assert tracker.propose(10 * LAG) is None


def test_nothing_is_committed_with_too_few_in_sync() -> None:
    """As in Kafka."""
    tracker = leader((0,), needed=2)
    assert not tracker.on_append(20, 20)
    with pytest.raises(KafkaError) as caught:
        tracker.check_enough()
    assert caught.value.code == errors.NOT_ENOUGH_REPLICAS
    tracker.on_ack(1, 20, 1)
    assert tracker.on_answer(proposed(tracker, 1), errors.NONE, state((0, 1), 8), 2)
    assert tracker.high_watermark == 20
    tracker.check_enough()


def test_a_topic_with_fewer_replicas_than_wanted_needs_all_of_them() -> None:
    tracker = leader((0,), needed=2)
    assert tracker.adopt(state((0,), 8, (0,)), 1)
    assert tracker.has_enough


def test_replicas_come_and_go() -> None:
    """A reassignment: 3 is added, joins, and 1 is removed."""
    tracker = leader((0, 1))
    tracker.on_ack(1, 10, 0)
    tracker.adopt(state((0, 1), 8, (0, 1, 3)), 1)
    assert tracker.followers.keys() == {1, 3}
    tracker.on_ack(3, 10, 2)
    assert proposed(tracker, 2).isr == (0, 1, 3)
    tracker.adopt(state((0, 3), 9, (0, 3)), 3)
    assert tracker.maximal_isr == {0, 3}
    assert not tracker.on_ack(1, 10, 4)
