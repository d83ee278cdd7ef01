"""JoinGroup: who gets in, with which id, and what the others hear of it."""

import pytest

from tailrace.core.errors import (
    COORDINATOR_NOT_AVAILABLE,
    GROUP_MAX_SIZE_REACHED,
    INCONSISTENT_GROUP_PROTOCOL,
    INVALID_SESSION_TIMEOUT,
    KAFKA_STORAGE_ERROR,
    MEMBER_ID_REQUIRED,
    NONE,
    NOT_COORDINATOR,
    REBALANCE_IN_PROGRESS,
    UNKNOWN_MEMBER_ID,
    UNKNOWN_SERVER_ERROR,
)
from tests.support.classic_group import REBALANCE_MS, SESSION_MS, ClassicBench

BOTH = {"sticky": b"s", "range": b"r"}


@pytest.mark.parametrize("version", [0, 3])
def test_an_old_client_is_in_the_group_with_its_first_join(version: int) -> None:
    bench = ClassicBench()
    (answer,) = bench.join(version=version, client_id="old")
    assert answer.error_code == NONE
    assert answer.member_id == answer.leader == bench.group.members.leader
    assert answer.member_id.startswith("old-")
    assert (answer.generation_id, answer.protocol_name) == (1, "range")
    assert [(member.member_id, member.metadata) for member in answer.members] == [(answer.member_id, b"r")]


@pytest.mark.parametrize("version", [4, 9])
def test_a_dynamic_member_joins_with_the_id_it_is_given(version: int) -> None:
    bench = ClassicBench()
    (told,) = bench.join(version=version)
    assert told.error_code == MEMBER_ID_REQUIRED
    assert told.member_id.startswith("client-")
    assert told.protocol_name == (None if version >= 7 else "")
    assert not bench.group.members.by_id
    (joined,) = bench.join(told.member_id, version=version)
    assert (joined.error_code, joined.member_id, joined.generation_id) == (NONE, told.member_id, 1)


def test_an_id_that_is_not_used_is_forgotten_after_a_session() -> None:
    bench = ClassicBench()
    member_id = bench.given_id()
    bench.runtime.advance(SESSION_MS)
    (answer,) = bench.join(member_id)
    assert (answer.error_code, answer.member_id) == (UNKNOWN_MEMBER_ID, member_id)


def test_a_rebalance_waits_for_an_id_that_was_given_out() -> None:
    bench = ClassicBench()
    (first,) = bench.stable(None)
    second = bench.given_id()
    again = bench.join(first)
    assert again == []
    assert bench.join(second)[0].generation_id == again[0].generation_id == 2


def test_a_rebalance_ends_when_the_id_it_waits_for_expires() -> None:
    bench = ClassicBench()
    (first,) = bench.stable(None)
    bench.given_id(session_timeout_ms=6_000)
    again = bench.join(first)
    bench.runtime.advance(5_999)
    assert again == []
    bench.runtime.advance(1)
    assert again[0].generation_id == 2


def test_an_id_that_was_given_out_may_not_join_as_a_static_member() -> None:
    bench = ClassicBench()
    (answer,) = bench.join(bench.given_id(), instance="a")
    assert answer.error_code == UNKNOWN_SERVER_ERROR


def test_an_unknown_id_is_told_so() -> None:
    bench = ClassicBench()
    (answer,) = bench.join("who", protocols={})
    assert (answer.error_code, answer.member_id) == (UNKNOWN_MEMBER_ID, "who")
    assert bench.group.is_done
    assert bench.runtime.log == []


@pytest.mark.parametrize("session_ms", [-1, 5_999, 1_800_001])
def test_sessions_out_of_bounds_are_refused_before_anything_else(session_ms: int) -> None:
    bench = ClassicBench()
    (answer,) = bench.join("who", {}, session_timeout_ms=session_ms)
    assert (answer.error_code, answer.member_id) == (INVALID_SESSION_TIMEOUT, "who")
    assert bench.group.is_done


def test_the_first_member_must_speak_something() -> None:
    bench = ClassicBench()
    assert bench.join(protocol_type="")[0].error_code == INCONSISTENT_GROUP_PROTOCOL
    assert bench.join(protocols={})[0].error_code == INCONSISTENT_GROUP_PROTOCOL


def test_others_must_speak_with_all() -> None:
    bench = ClassicBench()
    bench.stable(None)
    assert bench.join(protocol_type="connect")[0].error_code == INCONSISTENT_GROUP_PROTOCOL
    assert bench.join(protocols={"sticky": b""})[0].error_code == INCONSISTENT_GROUP_PROTOCOL
    assert bench.join(protocols=BOTH)[0].error_code == MEMBER_ID_REQUIRED


def test_a_member_may_change_its_protocols_only_to_what_all_speak() -> None:
    bench = ClassicBench()
    _, second = bench.stable(None, None)
    (answer,) = bench.join(second, {"sticky": b""})
    assert (answer.error_code, answer.member_id) == (INCONSISTENT_GROUP_PROTOCOL, second)


def test_an_empty_group_may_take_up_another_protocol() -> None:
    bench = ClassicBench()
    (member_id,) = bench.stable(None)
    bench.leave((member_id, None))
    assert bench.group.state == "Empty"
    bench.enter(protocol_type="connect", protocols={"default": b""})
    assert (bench.group.protocol_type, bench.group.protocol_name) == ("connect", "default")


def test_the_protocol_is_the_one_most_prefer_of_those_all_speak() -> None:
    bench = ClassicBench()
    bench.runs_timers = False
    bench.enter(protocols={"own": b"", "range": b"", "sticky": b""})
    bench.enter(protocols=BOTH)
    bench.enter(protocols=BOTH)
    bench.runs_timers = True
    bench.runtime.advance(0)
    assert bench.group.protocol_name == "sticky"


def test_of_a_protocol_named_twice_the_first_counts() -> None:
    bench = ClassicBench()
    (answer,) = bench.join(protocols=[("range", b"1"), ("sticky", b"2"), ("range", b"3")], version=3)
    assert list(bench.group.members.by_id[answer.member_id].protocols.items()) == [
        ("range", b"1"),
        ("sticky", b"2"),
    ]


def test_only_the_leader_learns_who_is_there() -> None:
    bench = ClassicBench()
    bench.runs_timers = False
    first, one = bench.enter()
    second, two = bench.enter(protocols={"range": b"two"})
    bench.runs_timers = True
    bench.runtime.advance(0)
    assert [(member.member_id, member.metadata) for member in one[0].members] == [
        (first, b"r"),
        (second, b"two"),
    ]
    assert two[0].members == []
    assert one[0].leader == two[0].leader == first
    assert (one[0].protocol_type, one[0].skip_assignment) == ("consumer", False)


def test_a_full_group_takes_no_more() -> None:
    bench = ClassicBench(group_max_size=2)
    first, _ = bench.stable(None, None)
    (answer,) = bench.join()
    assert (answer.error_code, answer.member_id) == (GROUP_MAX_SIZE_REACHED, "")
    assert bench.join(first, {"range": b"new"}) == []  # those that are in it may come again


def test_while_members_join_again_the_first_of_them_have_the_room() -> None:
    bench = ClassicBench(group_max_size=2)
    first, second = bench.stable(None, None)
    third = bench.group.members
    third.pending.add("late")
    one = bench.join(first, {"range": b"new"})
    two = bench.join("late")
    (three,) = bench.join(second)
    assert (three.error_code, three.member_id) == (GROUP_MAX_SIZE_REACHED, "")
    assert one[0].generation_id == two[0].generation_id == 2  # and nobody waits for the one sent away
    assert set(bench.group.members.by_id) == {first, "late"}


def test_the_first_rebalance_waits_for_more_members_as_long_as_they_come() -> None:
    bench = ClassicBench(group_initial_rebalance_delay_ms=3_000)
    _, one = bench.enter(rebalance_timeout_ms=7_000)
    bench.runtime.advance(2_000)
    _, two = bench.enter(rebalance_timeout_ms=7_000)
    bench.runtime.advance(3_000)
    assert one == two == []
    bench.runtime.advance(1_000)
    assert one[0].generation_id == two[0].generation_id == 1


def test_the_first_rebalance_ends_with_the_rebalance_timeout() -> None:
    bench = ClassicBench(group_initial_rebalance_delay_ms=3_000)
    _, one = bench.enter(rebalance_timeout_ms=7_000)
    for _ in range(6):
        bench.enter(rebalance_timeout_ms=7_000)
        bench.runtime.advance(1_000)
    assert one == []
    bench.runtime.advance(1_000)
    assert one[0].generation_id == 1
    assert len(one[0].members) == 7


def test_a_follower_that_did_not_hear_of_its_generation_hears_again() -> None:
    bench = ClassicBench()
    first, second = bench.stable(None, None)
    (answer,) = bench.join(second)
    assert (answer.generation_id, answer.leader, answer.members) == (1, first, [])
    assert bench.group.state == "Stable"


def test_a_leader_that_did_not_hear_of_its_generation_hears_who_is_in_it() -> None:
    bench = ClassicBench()
    member_id, _ = bench.enter()
    (again,) = bench.join(member_id)
    assert again.generation_id == 1
    assert [member.member_id for member in again.members] == [member_id]


def test_a_leader_of_a_stable_group_that_joins_again_has_all_rebalance() -> None:
    bench = ClassicBench()
    first, second = bench.stable(None, None)
    assert bench.join(first) == []
    assert bench.heartbeat(second) == REBALANCE_IN_PROGRESS


def test_new_metadata_has_all_rebalance() -> None:
    bench = ClassicBench()
    first, second = bench.stable(None, None)
    assert bench.join(second, {"range": b"other"}) == []
    assert bench.heartbeat(first) == REBALANCE_IN_PROGRESS


def test_new_metadata_while_all_sync_sends_those_that_wait_back() -> None:
    bench = ClassicBench()
    bench.runs_timers = False
    first, _ = bench.enter()
    second, _ = bench.enter()
    bench.runs_timers = True
    bench.runtime.advance(0)
    waiting = bench.sync(second)
    joined = bench.join(second, {"range": b"other"})
    assert waiting[0].error_code == REBALANCE_IN_PROGRESS
    assert joined == []
    bench.join(first)
    assert joined[0].generation_id == 2


def test_who_asks_again_while_it_waits_gets_both_answers() -> None:
    bench = ClassicBench()
    first, second = bench.stable(None, None)
    lost = bench.join(first)
    again = bench.join(first)
    assert lost[0].error_code == REBALANCE_IN_PROGRESS
    bench.join(second)
    assert again[0].generation_id == 2


def test_before_version_1_the_session_is_the_time_to_join_again() -> None:
    bench = ClassicBench()
    (answer,) = bench.join(version=0, rebalance_timeout_ms=-1)
    member = bench.group.members.by_id[answer.member_id]
    assert member.rebalance_timeout_ms == SESSION_MS


def test_a_new_group_is_in_the_log_before_its_first_member_waits() -> None:
    bench = ClassicBench()
    bench.given_id()
    value = bench.written()
    assert (value.generation, value.protocol_type, value.protocol, value.leader) == (0, "", None, None)
    assert value.members == []
    assert len(bench.runtime.log) == 1


def test_a_first_join_whose_group_cannot_be_written_is_told_so() -> None:
    bench = ClassicBench(group_initial_rebalance_delay_ms=100)
    bench.runtime.error = KAFKA_STORAGE_ERROR
    (answer,) = bench.join(version=3)
    assert answer.error_code == NOT_COORDINATOR
    assert not bench.group.members.by_id
    bench.runtime.advance(REBALANCE_MS)
    assert bench.group.state == "Empty"


def test_the_member_id_of_a_long_client_id_fits_a_string() -> None:
    bench = ClassicBench()
    (answer,) = bench.join(client_id="ä" * 16_000 + "xyz" * 200)
    assert answer.error_code == MEMBER_ID_REQUIRED
    assert len(answer.member_id.encode()) <= 32_767


def test_nobody_joins_a_dead_group() -> None:
    bench = ClassicBench()
    bench.group.give_up(UNKNOWN_MEMBER_ID)
    assert bench.join()[0].error_code == COORDINATOR_NOT_AVAILABLE
