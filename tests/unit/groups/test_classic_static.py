"""Static members: known by their group instance id, replaced and fenced."""

import pytest

from tailrace.core.errors import (
    FENCED_INSTANCE_ID,
    KAFKA_STORAGE_ERROR,
    NONE,
    NOT_COORDINATOR,
    REBALANCE_IN_PROGRESS,
    UNKNOWN_MEMBER_ID,
)
from tests.support.classic_group import REBALANCE_MS, SESSION_MS, ClassicBench


def test_a_static_member_joins_at_once_under_an_id_with_its_name() -> None:
    bench = ClassicBench()
    (answer,) = bench.join(instance="a")
    assert answer.error_code == NONE
    assert answer.member_id.startswith("a-")
    assert [member.group_instance_id for member in answer.members] == ["a"]


def test_one_that_comes_back_unchanged_goes_on_and_nobody_rebalances() -> None:
    bench = ClassicBench()
    leader, old = bench.stable("a", "b")
    (answer,) = bench.join(instance="b")
    assert (answer.error_code, answer.generation_id, answer.leader) == (NONE, 1, leader)
    assert answer.member_id != old
    assert (answer.members, answer.skip_assignment) == ([], False)
    assert bench.group.state == "Stable"
    assert bench.heartbeat(leader) == NONE
    assert bench.sync(answer.member_id)[0].assignment == old.encode()


def test_the_id_it_had_is_fenced() -> None:
    bench = ClassicBench()
    _, old = bench.stable("a", "b")
    bench.join(instance="b")
    assert bench.heartbeat(old, instance="b") == FENCED_INSTANCE_ID
    assert bench.heartbeat(old) == UNKNOWN_MEMBER_ID
    assert bench.sync(old, instance="b")[0].error_code == FENCED_INSTANCE_ID
    assert bench.join(old, instance="b")[0].error_code == FENCED_INSTANCE_ID
    assert bench.leave((old, "b")) == [FENCED_INSTANCE_ID]
    assert bench.group.commit_error(old, "b", 1) == FENCED_INSTANCE_ID


def test_a_name_nobody_has_is_unknown() -> None:
    bench = ClassicBench()
    (member,) = bench.stable("a")
    assert bench.heartbeat(member, instance="other") == UNKNOWN_MEMBER_ID


def test_its_new_id_is_in_the_log_before_it_hears_of_it() -> None:
    bench = ClassicBench()
    _, old = bench.stable("a", "b")
    bench.runtime.holds = True
    answers = bench.join(instance="b")
    assert answers == []
    bench.runtime.release()
    assert [member.member_id for member in bench.written().members][1] == answers[0].member_id
    assert [member.assignment for member in bench.written().members][1] == old.encode()


def test_a_leader_that_comes_back_is_told_not_to_assign() -> None:
    bench = ClassicBench()
    _, other = bench.stable("a", "b")
    (answer,) = bench.join(instance="a")
    assert answer.skip_assignment
    assert answer.leader == answer.member_id
    assert {member.member_id for member in answer.members} == {answer.member_id, other}


def test_an_old_leader_that_comes_back_does_not_know_that_it_leads() -> None:
    bench = ClassicBench()
    old, _ = bench.stable("a", "b")
    (answer,) = bench.join(instance="a", version=8)
    assert (answer.leader, answer.members, answer.skip_assignment) == (old, [], False)
    assert bench.group.members.leader == answer.member_id


def test_if_its_new_id_cannot_be_written_the_old_one_stays() -> None:
    bench = ClassicBench()
    _, old = bench.stable("a", "b")
    bench.runtime.error = KAFKA_STORAGE_ERROR
    (answer,) = bench.join(protocols={"range": b"new"}, instance="b")
    assert (answer.error_code, answer.member_id) == (NOT_COORDINATOR, "")
    assert bench.heartbeat(old, instance="b") == NONE
    assert bench.group.members.by_id[old].protocols == {"range": b"r"}


def test_a_rebalance_meanwhile_answers_it_with_the_next_generation() -> None:
    bench = ClassicBench()
    leader, _ = bench.stable("a", "b")
    bench.runtime.holds = True
    waiting = bench.join(instance="b")
    bench.join(leader, instance="a")
    assert waiting[0].generation_id == 2
    bench.runtime.error = KAFKA_STORAGE_ERROR
    bench.runtime.release()
    assert waiting[0].member_id in bench.group.members


@pytest.mark.parametrize("error", [NONE, KAFKA_STORAGE_ERROR])
def test_once_a_rebalance_began_it_waits_for_the_next_generation(error: int) -> None:
    bench = ClassicBench()
    leader, _, third = bench.stable("a", "b", "c")
    bench.runtime.holds = True
    waiting = bench.join(instance="b")
    bench.join(leader, instance="a")
    bench.runtime.error = error
    bench.runtime.release()
    assert waiting == []
    bench.join(third, instance="c")
    assert waiting[0].generation_id == 2


def test_one_that_comes_back_twice_is_answered_by_its_own_record() -> None:
    bench = ClassicBench()
    bench.stable("a", "b")
    bench.runtime.holds = True
    lost = bench.join(instance="b")
    again = bench.join(instance="b")
    assert lost[0].error_code == FENCED_INSTANCE_ID
    bench.runtime.release(1)
    assert again == []
    bench.runtime.release()
    assert again[0].error_code == NONE


def test_the_session_of_one_that_comes_back_begins_with_the_answer() -> None:
    bench = ClassicBench()
    bench.stable("a", "b")
    bench.join(instance="a", session_timeout_ms=60_000)
    bench.runtime.holds = True
    answers = bench.join(instance="b")
    bench.runtime.advance(SESSION_MS)
    bench.runtime.release()
    bench.runtime.advance(SESSION_MS - 1)
    assert answers[0].member_id in bench.group.members
    bench.runtime.advance(1)
    assert answers[0].member_id not in bench.group.members


def test_a_leader_that_is_late_is_followed_though_it_stays() -> None:
    bench = ClassicBench()
    late, second = bench.stable("a", "b")
    bench.join(late, instance="a", session_timeout_ms=60_000, rebalance_timeout_ms=2_000)
    (answer,) = bench.join(second, {"range": b"x"}, instance="b", rebalance_timeout_ms=2_000)
    assert answer.leader == late
    bench.sync(late)
    bench.sync(second)
    again = bench.join(second, {"range": b"y"}, instance="b", rebalance_timeout_ms=2_000)
    bench.runtime.advance(2_000)
    assert (again[0].leader, len(again[0].members)) == (second, 2)


def test_one_that_comes_back_with_another_protocol_has_all_rebalance() -> None:
    bench = ClassicBench()
    bench.runs_timers = False
    (one, two) = [bench.join(protocols={"range": b"", "sticky": b""}, instance=name) for name in ("a", "b")]
    bench.runs_timers = True
    bench.runtime.advance(0)
    leader = one[0].member_id
    bench.sync(leader)
    bench.sync(two[0].member_id)
    assert bench.join(protocols={"sticky": b""}, instance="b") == []
    assert bench.heartbeat(leader, instance="a") == REBALANCE_IN_PROGRESS


def test_one_that_comes_back_while_all_sync_has_all_rebalance() -> None:
    bench = ClassicBench()
    bench.runs_timers = False
    bench.join(instance="a")
    second = bench.join(instance="b")
    bench.runs_timers = True
    bench.runtime.advance(0)
    syncing = bench.sync(second[0].member_id)
    assert bench.join(instance="b") == []
    assert syncing[0].error_code == FENCED_INSTANCE_ID
    assert bench.group.state == "PreparingRebalance"


def test_one_that_comes_back_while_it_waits_takes_over_the_waiting() -> None:
    bench = ClassicBench()
    leader, member_id = bench.stable("a", "b")
    waiting = bench.join(member_id, {"range": b"new"}, instance="b")
    again = bench.join(instance="b")
    assert (waiting[0].error_code, waiting[0].member_id) == (FENCED_INSTANCE_ID, member_id)
    assert again == []
    bench.join(leader, instance="a")
    assert again[0].generation_id == 2


def test_one_that_fails_to_join_again_stays_until_its_session_ends() -> None:
    bench = ClassicBench()
    leader, late = bench.stable("a", "b")
    bench.join(leader, instance="a", session_timeout_ms=60_000)
    bench.runtime.advance(SESSION_MS - 1)
    assert late in bench.group.members
    bench.runtime.advance(1)
    assert late not in bench.group.members
    assert bench.group.generation == 2


def test_one_whose_session_outlasts_the_rebalance_is_in_the_next_generation() -> None:
    bench = ClassicBench()
    leader, late = bench.stable("a", "b")
    again = bench.join(leader, instance="a", rebalance_timeout_ms=2_000)
    bench.join(late, {"range": b"x"}, instance="b", rebalance_timeout_ms=2_000)
    assert again[0].generation_id == 2
    bench.sync(leader)
    bench.sync(late)
    again = bench.join(leader, instance="a", rebalance_timeout_ms=2_000)
    bench.runtime.advance(2_000)
    assert again[0].generation_id == 3
    assert [member.group_instance_id for member in again[0].members] == ["a", "b"]


def test_a_rebalance_without_a_rebalance_timeout_that_nobody_joins_ends_with_the_sessions() -> None:
    bench = ClassicBench()
    bench.runs_timers = False
    one, two = (bench.join(instance=name, rebalance_timeout_ms=0) for name in "ab")
    bench.runs_timers = True
    bench.runtime.advance(0)
    assert one[0].error_code == two[0].error_code == NONE
    bench.runtime.advance(SESSION_MS)
    assert bench.group.state == "Empty"


@pytest.mark.parametrize("named_by", ["id", "name"])
def test_a_static_member_leaves_when_told_by_whoever_knows_it(named_by: str) -> None:
    bench = ClassicBench()
    leader, other = bench.stable("a", "b")
    assert bench.leave((other if named_by == "id" else "", "b")) == [NONE]
    assert bench.heartbeat(leader, instance="a") == REBALANCE_IN_PROGRESS
    assert other not in bench.group.members


def test_the_replaced_member_that_never_syncs_is_removed_as_any_other() -> None:
    bench = ClassicBench()
    bench.runs_timers = False
    one, two = (bench.join(instance=name, session_timeout_ms=60_000) for name in "ab")
    bench.runs_timers = True
    bench.runtime.advance(0)
    bench.sync(one[0].member_id)
    (answer,) = bench.join(instance="b", session_timeout_ms=60_000)
    assert answer.generation_id == 1
    bench.runtime.advance(REBALANCE_MS)
    assert answer.member_id not in bench.group.members
    assert two[0].member_id not in bench.group.members
