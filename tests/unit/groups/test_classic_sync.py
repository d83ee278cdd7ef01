"""SyncGroup: who gets which assignment, and when."""

import pytest

from tailrace.core.errors import (
    COORDINATOR_NOT_AVAILABLE,
    FENCED_INSTANCE_ID,
    ILLEGAL_GENERATION,
    INCONSISTENT_GROUP_PROTOCOL,
    KAFKA_STORAGE_ERROR,
    MESSAGE_TOO_LARGE,
    NONE,
    NOT_COORDINATOR,
    NOT_ENOUGH_REPLICAS,
    REBALANCE_IN_PROGRESS,
    UNKNOWN_MEMBER_ID,
    UNKNOWN_SERVER_ERROR,
)
from tests.support.classic_group import ClassicBench


def joined(bench: ClassicBench, count: int = 2) -> list[str]:
    """A group whose first generation has begun; the first leads."""
    bench.runs_timers = False
    members = [bench.enter()[0] for _ in range(count)]
    bench.runs_timers = True
    bench.runtime.advance(0)
    assert bench.group.state == "CompletingRebalance"
    return members


def test_each_gets_its_own_and_one_the_leader_forgot_nothing() -> None:
    bench = ClassicBench()
    first, second, third = joined(bench, 3)
    two, three = bench.sync(second), bench.sync(third)
    assert two == three == []
    (one,) = bench.sync(first, {first: b"1", second: b"2", "who": b"?"})
    assert [one.assignment, two[0].assignment, three[0].assignment] == [b"1", b"2", b""]
    assert (one.protocol_type, one.protocol_name) == ("consumer", "range")
    assert bench.group.state == "Stable"


def test_nobody_hears_of_an_assignment_that_is_not_in_the_log() -> None:
    bench = ClassicBench()
    first, second = joined(bench)
    two = bench.sync(second)
    bench.runtime.holds = True
    one = bench.sync(first, {first: b"1", second: b"2"})
    assert one == two == []
    bench.runtime.release()
    assert [member.assignment for member in bench.written().members] == [b"1", b"2"]
    assert (one[0].assignment, two[0].assignment) == (b"1", b"2")


def test_who_syncs_late_gets_its_own_at_once() -> None:
    bench = ClassicBench()
    first, second = joined(bench)
    bench.sync(first, {second: b"2"})
    assert bench.sync(second)[0].assignment == b"2"


@pytest.mark.parametrize(
    ("append_error", "told"),
    [
        (NOT_ENOUGH_REPLICAS, COORDINATOR_NOT_AVAILABLE),
        (KAFKA_STORAGE_ERROR, NOT_COORDINATOR),
        (MESSAGE_TOO_LARGE, UNKNOWN_SERVER_ERROR),
        (UNKNOWN_SERVER_ERROR, UNKNOWN_SERVER_ERROR),
    ],
)
def test_an_assignment_that_cannot_be_written_is_tried_again_by_all(append_error: int, told: int) -> None:
    bench = ClassicBench()
    first, second = joined(bench)
    two = bench.sync(second)
    bench.runtime.error = append_error
    (one,) = bench.sync(first, {first: b"1", second: b"2"})
    assert one.error_code == two[0].error_code == told
    assert bench.group.state == "PreparingRebalance"
    bench.runtime.error = NONE
    bench.join(first)
    assert bench.join(second)[0].generation_id == 2
    assert bench.sync(first, {first: b"3"})[0].assignment == b"3"


def test_what_the_leader_says_twice_counts_once() -> None:
    bench = ClassicBench()
    (first,) = joined(bench, 1)
    bench.runtime.holds = True
    lost = bench.sync(first, {first: b"1"})
    again = bench.sync(first, {first: b"2"})
    assert lost[0].error_code == REBALANCE_IN_PROGRESS
    bench.runtime.release()
    assert again[0].assignment == b"1" == bench.written().members[0].assignment


def test_an_assignment_that_comes_after_the_next_rebalance_began_is_nobodys() -> None:
    bench = ClassicBench()
    first, second = joined(bench)
    bench.runtime.holds = True
    one = bench.sync(first, {first: b"1"})
    bench.join(second, {"range": b"new"})
    assert one[0].error_code == REBALANCE_IN_PROGRESS
    bench.runtime.release()
    assert bench.group.state == "PreparingRebalance"
    assert bench.group.members.by_id[first].assignment == b""


def test_an_assignment_is_for_its_generation_alone() -> None:
    bench = ClassicBench()
    (first,) = joined(bench, 1)
    bench.runtime.holds = True
    bench.sync(first, {first: b"1"})
    bench.join(first, {"range": b"new"})
    assert (bench.group.state, bench.group.generation) == ("CompletingRebalance", 2)
    two = bench.sync(first, {first: b"2"})
    bench.runtime.release(1)
    assert two == []
    bench.runtime.release()
    assert two[0].assignment == b"2"


def test_a_member_that_leaves_while_it_waits_is_told() -> None:
    bench = ClassicBench()
    _, second = joined(bench)
    waiting = bench.sync(second)
    assert bench.leave((second, None)) == [NONE]
    assert waiting[0].error_code == UNKNOWN_MEMBER_ID


def test_it_is_refused_as_kafka_does() -> None:
    bench = ClassicBench()
    bench.runs_timers = False
    bench.join(instance="a")
    member, _ = bench.enter()
    bench.runs_timers = True
    bench.runtime.advance(0)
    refusals = {
        UNKNOWN_MEMBER_ID: [
            bench.sync("who"),
            bench.sync(member, instance="other"),
            bench.sync("", generation=9),
        ],
        FENCED_INSTANCE_ID: [bench.sync(member, instance="a", generation=9)],
        ILLEGAL_GENERATION: [
            bench.sync(member, generation=0),
            bench.sync(member, generation=2, protocol_name="x"),
        ],
        INCONSISTENT_GROUP_PROTOCOL: [
            bench.sync(member, version=5),
            bench.sync(member, version=5, protocol_type="consumer"),
            bench.sync("who", version=5, protocol_name="range"),
            bench.sync(member, version=5, protocol_type="connect", protocol_name="range"),
            bench.sync(member, version=5, protocol_type="consumer", protocol_name="sticky"),
        ],
    }
    for code, answers in refusals.items():
        assert [answer.error_code for (answer,) in answers] == [code] * len(answers)
    assert bench.sync(member, version=5, protocol_type="consumer", protocol_name="range") == []


def test_while_members_join_nobody_syncs() -> None:
    bench = ClassicBench()
    first, second = bench.stable(None, None)
    bench.join(first)
    assert bench.sync(second)[0].error_code == REBALANCE_IN_PROGRESS


def test_an_empty_group_has_no_members_to_sync() -> None:
    bench = ClassicBench()
    assert bench.sync("who", generation=0)[0].error_code == UNKNOWN_MEMBER_ID


def test_a_dead_group_is_coordinated_elsewhere() -> None:
    bench = ClassicBench()
    (member,) = bench.stable(None)
    bench.group.give_up(UNKNOWN_MEMBER_ID)
    assert bench.sync(member)[0].error_code == COORDINATOR_NOT_AVAILABLE
    assert bench.heartbeat(member) == COORDINATOR_NOT_AVAILABLE
    assert bench.group.commit_error(member, None, 1) == COORDINATOR_NOT_AVAILABLE
