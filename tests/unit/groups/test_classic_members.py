"""Heartbeat, LeaveGroup, who may commit offsets, and what is shown of a group."""

import pytest

from tailrace.core.errors import (
    COORDINATOR_NOT_AVAILABLE,
    GROUP_ID_NOT_FOUND,
    ILLEGAL_GENERATION,
    NON_EMPTY_GROUP,
    NONE,
    REBALANCE_IN_PROGRESS,
    UNKNOWN_MEMBER_ID,
)
from tailrace.core.protocol.messages.leave_group import LeaveGroupRequest
from tests.support.classic_group import RANGE, SESSION_MS, ClassicBench


def test_heartbeats_keep_a_member() -> None:
    bench = ClassicBench()
    (member,) = bench.stable(None)
    for _ in range(5):
        bench.runtime.advance(SESSION_MS - 1)
        assert bench.heartbeat(member) == NONE
    bench.runtime.advance(SESSION_MS)
    assert bench.heartbeat(member) == UNKNOWN_MEMBER_ID


def test_a_heartbeat_of_another_generation_is_refused_and_keeps_nobody() -> None:
    bench = ClassicBench()
    (member,) = bench.stable(None)
    bench.runtime.advance(SESSION_MS - 1)
    assert bench.heartbeat(member, 0) == bench.heartbeat(member, 2) == ILLEGAL_GENERATION
    bench.runtime.advance(1)
    assert bench.heartbeat(member) == UNKNOWN_MEMBER_ID


def test_while_members_sync_heartbeats_are_good() -> None:
    bench = ClassicBench()
    member, _ = bench.enter()
    assert bench.group.state == "CompletingRebalance"
    assert bench.heartbeat(member) == NONE


def test_who_leaves_is_gone_and_the_others_rebalance() -> None:
    bench = ClassicBench()
    first, second, third = bench.stable(None, None, None)
    assert bench.leave((first, None), ("who", None), ("", None), ("", "name")) == [
        NONE,
        UNKNOWN_MEMBER_ID,
        UNKNOWN_MEMBER_ID,
        UNKNOWN_MEMBER_ID,
    ]
    assert bench.group.members.leader == second
    assert bench.heartbeat(third) == REBALANCE_IN_PROGRESS


def test_if_nobody_left_nobody_rebalances() -> None:
    bench = ClassicBench()
    (member,) = bench.stable(None)
    assert bench.leave(("who", None)) == [UNKNOWN_MEMBER_ID]
    assert bench.heartbeat(member) == NONE


def test_one_that_leaves_while_it_waits_is_told_and_the_others_go_on() -> None:
    bench = ClassicBench()
    first, second = bench.stable(None, None)
    again = bench.join(first)
    assert bench.leave((first, None)) == [NONE]
    assert (again[0].error_code, again[0].member_id) == (UNKNOWN_MEMBER_ID, "")
    assert bench.join(second)[0].leader == second


def test_the_last_one_to_leave_hears_of_it_when_the_log_knows() -> None:
    bench = ClassicBench()
    (member,) = bench.stable(None)
    bench.runtime.holds = True
    message = LeaveGroupRequest("g", member_id=member)
    answers = bench.runtime.ask(bench.group.leave, 13, 2, message)
    assert answers == []
    bench.runtime.release()
    assert answers[0].error_code == NONE
    assert bench.written().members == []


@pytest.mark.parametrize("version", [0, 2])
def test_old_clients_leave_one_by_one(version: int) -> None:
    bench = ClassicBench()
    (member,) = bench.stable(None)
    for code in (NONE, UNKNOWN_MEMBER_ID):
        message = LeaveGroupRequest("g", member_id=member)
        (answer,) = bench.runtime.ask(bench.group.leave, 13, version, message)
        assert (answer.error_code, answer.members) == (code, [])


def test_an_id_that_was_given_out_can_be_given_back() -> None:
    bench = ClassicBench()
    (first,) = bench.stable(None)
    pending = bench.given_id()
    again = bench.join(first)
    assert again == []
    assert bench.leave((pending, None)) == [NONE]
    assert again[0].generation_id == 2


def test_leaving_an_empty_group_begins_nothing() -> None:
    bench = ClassicBench()
    assert bench.leave((bench.given_id(), None)) == [NONE]
    assert (bench.group.state, bench.group.generation) == ("Empty", 0)
    assert bench.runtime.timers.next_deadline_ms() is None


def test_leaving_a_dead_group_is_refused_as_a_whole() -> None:
    bench = ClassicBench()
    bench.group.give_up(UNKNOWN_MEMBER_ID)
    (answer,) = bench.runtime.ask(bench.group.leave, 13, 5, LeaveGroupRequest("g"))
    assert answer.error_code == COORDINATOR_NOT_AVAILABLE


def test_members_of_this_generation_commit_offsets() -> None:
    bench = ClassicBench()
    (member,) = bench.stable(None)
    commit = bench.group.commit_error
    assert commit(member, None, 1) == NONE
    assert commit(member, None, 0) == commit(member, None, -1) == ILLEGAL_GENERATION
    assert commit("who", None, 1) == commit(member, "name", 1) == commit("", None, -1) == UNKNOWN_MEMBER_ID


def test_a_commit_is_a_sign_of_life() -> None:
    bench = ClassicBench()
    (member,) = bench.stable(None)
    for _ in range(3):
        bench.runtime.advance(SESSION_MS - 1)
        assert bench.group.commit_error(member, None, 1) == NONE


def test_offsets_are_committed_before_members_join_again_but_not_before_they_sync() -> None:
    bench = ClassicBench()
    first, second = bench.stable(None, None)
    bench.join(first)
    assert bench.group.commit_error(second, None, 1) == NONE
    bench.join(second)
    assert bench.group.commit_error(second, None, 2) == REBALANCE_IN_PROGRESS


def test_anybody_commits_to_an_empty_group_from_outside_of_the_protocol() -> None:
    bench = ClassicBench()
    assert bench.group.commit_error("", None, -1) == NONE
    assert bench.group.commit_error("", None, 0) == UNKNOWN_MEMBER_ID


def test_only_an_empty_group_may_be_deleted() -> None:
    bench = ClassicBench()
    (member,) = bench.stable(None)
    assert bench.group.can_delete() == NON_EMPTY_GROUP
    bench.leave((member, None))
    assert bench.group.can_delete() == NONE
    bench.group.replay(None)
    assert bench.group.can_delete() == GROUP_ID_NOT_FOUND
    assert bench.group.is_done


def test_a_stable_group_shows_what_its_members_asked_for_and_got() -> None:
    bench = ClassicBench()
    (member,) = bench.stable("a")
    shown = bench.group.describe()
    assert (shown.group_id, shown.group_state, shown.protocol_type, shown.protocol_data) == (
        "g",
        "Stable",
        "consumer",
        "range",
    )
    (one,) = shown.members
    assert (one.member_id, one.group_instance_id, one.client_id, one.client_host) == (
        member,
        "a",
        "client",
        "/127.0.0.1",
    )
    assert (one.member_metadata, one.member_assignment) == (RANGE["range"], member.encode())
    assert shown.authorized_operations == -(2**31)


def test_a_group_that_rebalances_shows_only_who_is_there() -> None:
    bench = ClassicBench()
    first, _ = bench.stable(None, None)
    bench.join(first)
    shown = bench.group.describe()
    assert (shown.group_state, shown.protocol_data) == ("PreparingRebalance", "")
    assert [member.member_metadata for member in shown.members] == [b"", b""]


def test_its_line_in_a_list() -> None:
    bench = ClassicBench()
    bench.stable(None)
    listed = bench.group.listed()
    assert (listed.group_id, listed.protocol_type, listed.group_state, listed.group_type) == (
        "g",
        "consumer",
        "Stable",
        "classic",
    )
