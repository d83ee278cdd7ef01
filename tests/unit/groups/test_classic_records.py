"""What a classic group keeps in the log, and what becomes of it when another coordinator reads that."""

import pytest

from tailrace.core.errors import NONE, REBALANCE_IN_PROGRESS, UNKNOWN_MEMBER_ID
from tailrace.core.groups.consumer_protocol import ConsumerProtocolSubscription, encode_consumer_protocol
from tailrace.core.groups.records import GroupMetadataKey, GroupMetadataMember, GroupMetadataValue, encode_key
from tests.support.classic_group import REBALANCE_MS, SESSION_MS, ClassicBench


def test_a_generation_is_kept_as_kafka_does() -> None:
    bench = ClassicBench()
    first, second = bench.stable(None, "b")
    value = bench.written()
    assert (value.protocol_type, value.generation, value.protocol, value.leader) == (
        "consumer",
        1,
        "range",
        first,
    )
    assert value.members == [
        GroupMetadataMember(
            member_id=member_id,
            group_instance_id=name,
            client_id="client",
            client_host="/127.0.0.1",
            rebalance_timeout=REBALANCE_MS,
            session_timeout=SESSION_MS,
            subscription=b"r",
            assignment=member_id.encode(),
        )
        for member_id, name in ((first, None), (second, "b"))
    ]


def test_members_go_on_after_a_restart() -> None:
    bench = ClassicBench()
    first, second = bench.stable(None, "b")
    shown = bench.group.describe()
    bench.restart()
    assert bench.group.describe() == shown
    assert bench.group.generation == 1
    assert bench.heartbeat(first) == bench.heartbeat(second, instance="b") == NONE
    assert bench.sync(first)[0].assignment == first.encode()


def test_sessions_begin_anew_when_all_is_loaded() -> None:
    bench = ClassicBench()
    first, second = bench.stable(None, None)
    bench.runtime.advance(SESSION_MS - 1)
    bench.restart()
    bench.runtime.advance(SESSION_MS - 1)
    assert bench.heartbeat(first) == NONE
    bench.runtime.advance(1)
    assert second not in bench.group.members
    assert bench.heartbeat(first) == REBALANCE_IN_PROGRESS


def test_after_a_restart_the_next_generation_has_the_next_number() -> None:
    bench = ClassicBench()
    (member,) = bench.stable(None)
    bench.restart()
    assert bench.join(member)[0].generation_id == 2


def test_what_was_not_written_is_gone_after_a_restart() -> None:
    bench = ClassicBench()
    member, _ = bench.enter()
    bench.restart()
    assert (bench.group.state, bench.group.protocol_type) == ("Empty", None)
    assert bench.heartbeat(member, 1) == UNKNOWN_MEMBER_ID


def test_a_group_that_is_too_large_after_a_restart_rebalances() -> None:
    bench = ClassicBench()
    first, _ = bench.stable(None, None)
    bench.runtime.config = type(bench.runtime.config)(group_max_size=1)
    bench.restart()
    assert bench.heartbeat(first) == REBALANCE_IN_PROGRESS


def test_records_of_old_brokers_have_the_session_as_rebalance_timeout() -> None:
    bench = ClassicBench()
    member = GroupMetadataMember(member_id="m", session_timeout=9_000, subscription=b"", assignment=b"")
    bench.group.replay(GroupMetadataValue("consumer", 4, "range", "m", -1, [member]))
    assert bench.group.members.rebalance_timeout_ms == 9_000
    assert (bench.group.state, bench.group.generation, bench.group.current_state_timestamp) == (
        "Stable",
        4,
        -1,
    )


def test_a_leader_that_is_no_member_does_not_lead() -> None:
    bench = ClassicBench()
    member = GroupMetadataMember(member_id="m", session_timeout=9_000)
    bench.group.replay(GroupMetadataValue("consumer", 4, "range", "gone", -1, [member]))
    bench.group.on_loaded()
    (answer,) = bench.join("m")
    assert answer.leader == "m"


def test_a_tombstone_ends_the_group() -> None:
    bench = ClassicBench()
    (member,) = bench.stable(None)
    bench.leave((member, None))
    (record,) = bench.group.tombstones()
    assert record == (encode_key(GroupMetadataKey("g")), None)
    bench.runtime.write([record], lambda _: None)
    assert (bench.group.state, bench.group.is_done) == ("Dead", True)


def test_what_follows_a_tombstone_is_a_group_again() -> None:
    bench = ClassicBench()
    bench.stable(None)
    value = bench.written()
    bench.group.give_up(UNKNOWN_MEMBER_ID)
    bench.group.replay(None)
    bench.group.replay(value)
    assert (bench.group.state, bench.group.is_done) == ("Stable", False)


def test_a_group_without_members_or_record_is_done() -> None:
    bench = ClassicBench()
    assert bench.group.is_done
    bench.given_id()
    assert not bench.group.is_done
    bench.runtime.advance(SESSION_MS)
    assert not bench.group.is_done  # its record is in the log


def subscription(*topics: str) -> dict[str, bytes]:
    """What consumers of these topics say."""
    return {"range": encode_consumer_protocol(ConsumerProtocolSubscription(list(topics)), 1)}


def test_the_topics_of_consumers_are_known_from_one_generation_to_the_next() -> None:
    bench = ClassicBench()
    bench.runs_timers = False
    first, _ = bench.enter(protocols=subscription("a", "b"))
    second, _ = bench.enter(protocols=subscription("b", "c"))
    bench.runs_timers = True
    assert bench.group.subscribed_topics() is None
    bench.runtime.advance(0)
    assert bench.group.subscribed_topics() == {"a", "b", "c"}
    bench.sync(first)
    bench.restart()
    assert bench.group.subscribed_topics() == {"a", "b", "c"}
    bench.leave((first, None), (second, None))
    assert bench.group.subscribed_topics() == set()


@pytest.mark.parametrize(
    "garbage", [b"", b"\0", b"\0\0\x7f\xff\xff\xff", b"\xff\xff\xff\xff", bytes(1000)[:5]]
)
def test_garbage_for_a_subscription_does_no_harm(garbage: bytes) -> None:
    bench = ClassicBench()
    (answer,) = bench.join(protocols={"range": garbage}, version=3)
    assert answer.error_code == NONE
    assert bench.group.subscribed_topics() is None


def test_what_others_than_consumers_read_nobody_knows() -> None:
    bench = ClassicBench()
    bench.join(protocols=subscription("a"), version=3, protocol_type="connect")
    assert bench.group.subscribed_topics() is None
