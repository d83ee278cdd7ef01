"""How generations begin and end: those that fail to come, time, and what is told to whom."""

import pytest

from tailrace.core.errors import NONE, REBALANCE_IN_PROGRESS, UNKNOWN_MEMBER_ID
from tailrace.core.groups.records import GroupMetadataMember, GroupMetadataValue
from tests.support.classic_group import REBALANCE_MS, SESSION_MS, ClassicBench


def test_members_that_do_not_join_again_are_removed() -> None:
    bench = ClassicBench()
    first, second = bench.stable(None, None)
    again = bench.join(first, session_timeout_ms=60_000)
    for _ in range(REBALANCE_MS // 5_000 - 1):
        bench.runtime.advance(5_000)
        assert bench.heartbeat(second) == REBALANCE_IN_PROGRESS
    assert again == []
    bench.runtime.advance(5_000)
    assert [member.member_id for member in again[0].members] == [first]
    assert bench.heartbeat(second) == UNKNOWN_MEMBER_ID


def test_a_leader_that_does_not_join_again_is_followed_by_one_that_did() -> None:
    bench = ClassicBench()
    first, second = bench.stable(None, None)
    again = bench.join(second, {"range": b"new"})
    for _ in range(REBALANCE_MS // 5_000):
        bench.heartbeat(first)
        bench.runtime.advance(5_000)
    assert again[0].leader == second
    assert first not in bench.group.members


def test_the_longest_rebalance_timeout_counts() -> None:
    bench = ClassicBench()
    first, _ = bench.stable(None, None)
    again = bench.join(first, rebalance_timeout_ms=1_000)
    bench.runtime.advance(1_000)
    assert again == []


def test_a_silent_member_is_removed_and_the_others_rebalance() -> None:
    bench = ClassicBench()
    first, second = bench.stable(None, None)
    bench.runtime.advance(SESSION_MS - 1)
    assert bench.heartbeat(first) == NONE
    bench.runtime.advance(1)
    assert second not in bench.group.members
    assert bench.heartbeat(first) == REBALANCE_IN_PROGRESS


def test_a_member_that_waits_for_the_next_generation_needs_no_heartbeats() -> None:
    bench = ClassicBench()
    first, second = bench.stable(None, None)
    again = bench.join(first)
    for _ in range(REBALANCE_MS // 5_000 - 1):
        bench.runtime.advance(5_000)
        bench.heartbeat(second)
    assert again == []
    bench.join(second)
    assert again[0].error_code == NONE
    bench.runtime.advance(SESSION_MS - 1)  # its session began with the answer
    assert first in bench.group.members
    bench.runtime.advance(1)
    assert first not in bench.group.members


def test_a_member_that_waits_for_its_assignment_needs_no_heartbeats() -> None:
    bench = ClassicBench()
    bench.runs_timers = False
    leader, _ = bench.enter()
    member, _ = bench.enter()
    bench.runs_timers = True
    bench.runtime.advance(0)
    synced = bench.sync(member)
    for _ in range(2 * SESSION_MS // 5_000):
        bench.heartbeat(leader)
        bench.runtime.advance(5_000)
    bench.sync(leader)
    assert synced[0].error_code == NONE
    bench.runtime.advance(SESSION_MS - 1)  # its session began with the answer
    assert member in bench.group.members
    bench.runtime.advance(1)
    assert member not in bench.group.members


def test_a_second_first_rebalance_waits_no_longer_than_the_first() -> None:
    bench = ClassicBench(group_initial_rebalance_delay_ms=3_000)
    first, _ = bench.enter()
    bench.runtime.advance(3_000)
    bench.sync(first)
    second, _ = bench.enter()
    third, _ = bench.enter()
    bench.leave((first, None), (second, None), (third, None))
    assert bench.group.state == "Empty"
    _, joined = bench.enter()
    bench.runtime.advance(3_000)
    assert joined[0].error_code == NONE


def test_a_member_that_never_was_in_a_generation_waits_five_minutes_at_most() -> None:
    bench = ClassicBench()
    (first,) = bench.stable(None)
    bench.join(first, rebalance_timeout_ms=1_000_000, session_timeout_ms=1_800_000)
    bench.sync(first)
    _, joined = bench.enter()
    for _ in range(300):
        assert joined == []
        bench.heartbeat(first)
        bench.runtime.advance(1_000)
    assert (joined[0].error_code, joined[0].member_id) == (UNKNOWN_MEMBER_ID, "")


def test_a_group_whose_members_are_all_silent_is_empty_and_says_so_in_the_log() -> None:
    bench = ClassicBench()
    bench.stable(None, None)
    bench.runtime.advance(SESSION_MS + REBALANCE_MS)
    assert bench.group.state == "Empty"
    value = bench.written()
    assert (value.generation, value.members, value.leader, value.protocol) == (2, [], None, None)
    assert value.protocol_type == "consumer"
    assert value.current_state_timestamp == bench.group.current_state_timestamp


def test_members_that_never_sync_are_removed_after_the_rebalance_timeout() -> None:
    bench = ClassicBench()
    bench.runs_timers = False
    first, _ = bench.enter()
    second, _ = bench.enter()
    bench.runs_timers = True
    bench.runtime.advance(0)
    bench.sync(first, {first: b"a", second: b"b"})
    assert bench.group.state == "Stable"
    for _ in range(REBALANCE_MS // 5_000):
        assert (bench.heartbeat(first), bench.heartbeat(second)) == (NONE, NONE)
        bench.runtime.advance(5_000)
    assert set(bench.group.members.by_id) == {first}
    assert bench.heartbeat(first) == REBALANCE_IN_PROGRESS


def test_a_leader_that_never_syncs_lets_the_others_go_on() -> None:
    bench = ClassicBench()
    bench.runs_timers = False
    first, _ = bench.enter()
    second, _ = bench.enter()
    bench.runs_timers = True
    bench.runtime.advance(0)
    waiting = bench.sync(second)
    for _ in range(REBALANCE_MS // 5_000):
        bench.heartbeat(first)
        assert waiting == []
        bench.runtime.advance(5_000)
    assert waiting[0].error_code == REBALANCE_IN_PROGRESS
    assert set(bench.group.members.by_id) == {second}
    assert bench.join(second)[0].leader == second


def test_when_all_have_synced_nobody_is_removed() -> None:
    bench = ClassicBench()
    members = bench.stable(None, None)
    for _ in range(2 * REBALANCE_MS // 5_000):
        bench.runtime.advance(5_000)
        assert [bench.heartbeat(member) for member in members] == [NONE, NONE]


def test_a_new_member_has_a_stable_group_rebalance() -> None:
    bench = ClassicBench()
    (first,) = bench.stable(None)
    second, joined = bench.enter()
    assert bench.heartbeat(first) == REBALANCE_IN_PROGRESS
    assert joined == []
    (answer,) = bench.join(first)
    assert answer.generation_id == joined[0].generation_id == 2
    assert {member.member_id for member in answer.members} == {first, second}


def test_a_rebalance_that_cannot_end_is_not_looked_at_all_the_time() -> None:
    bench = ClassicBench()
    members = [
        GroupMetadataMember(
            member_id=name, group_instance_id=name, rebalance_timeout=0, session_timeout=session_ms
        )
        for name, session_ms in (("a", 6_000), ("b", 60_000))
    ]
    bench.group.replay(GroupMetadataValue("consumer", 1, "range", "a", -1, members))
    bench.group.on_loaded()
    bench.runtime.advance(6_000)  # a is gone; b, which is static, neither joins nor is removed
    assert bench.group.state == "PreparingRebalance"
    bench.runtime.advance(54_000)
    assert bench.group.state == "Empty"


def test_negative_rebalance_timeouts_are_none() -> None:
    bench = ClassicBench()
    (first,) = bench.stable(None)
    bench.join(first, rebalance_timeout_ms=-5)
    assert bench.group.members.rebalance_timeout_ms == 0


@pytest.mark.parametrize("waits", ["join", "sync"])
def test_who_waits_in_a_group_that_ends_is_told(waits: str) -> None:
    bench = ClassicBench()
    first, second = bench.stable(None, None)
    waiting: list[int] = []
    answers = bench.join(first)
    if waits == "sync":
        bench.join(second)
        answers = bench.sync(second)  # type: ignore[assignment]
    bench.group.give_up(UNKNOWN_MEMBER_ID)
    waiting += [answer.error_code for answer in answers]
    assert waiting == [UNKNOWN_MEMBER_ID]
    assert bench.group.state == "Dead"
    assert bench.runtime.timers.next_deadline_ms() is None
