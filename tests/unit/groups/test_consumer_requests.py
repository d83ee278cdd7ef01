"""Heartbeats that no group accepts, static members, and who may commit and fetch offsets."""

from typing import Any

import pytest

from tailrace.core import errors
from tailrace.core.errors import NONE, KafkaError
from tailrace.core.groups.consumer_requests import check_heartbeat
from tailrace.core.groups.coordinator import GroupCoordinator
from tailrace.core.groups.records import (
    ClassicMemberMetadata,
    ConsumerGroupMemberMetadataKey,
    ConsumerGroupMemberMetadataValue,
)
from tailrace.core.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatRequestTopicPartitions,
)
from tests.support.consumer_groups import GROUP, GroupBench, settle
from tests.support.group_runtime import FakeRuntime

ASSIGNORS = ("uniform", "range")
JOIN: dict[str, Any] = {
    "group_id": GROUP,
    "member_id": "one",
    "member_epoch": 0,
    "rebalance_timeout_ms": 1_000,
    "subscribed_topic_names": ["orders"],
    "topic_partitions": [],
}
BEAT: dict[str, Any] = {"group_id": GROUP, "member_id": "one", "member_epoch": 3}

REFUSED: list[tuple[str, int, dict[str, Any], int]] = [
    ("no member id in version 1", 1, {**JOIN, "member_id": ""}, errors.INVALID_REQUEST),
    ("blank member id", 1, {**JOIN, "member_id": " "}, errors.INVALID_REQUEST),
    ("no member id in a later heartbeat", 0, {**BEAT, "member_id": ""}, errors.INVALID_REQUEST),
    ("no member id when leaving", 0, {**BEAT, "member_id": "", "member_epoch": -1}, errors.INVALID_REQUEST),
    ("no group id", 1, {**JOIN, "group_id": ""}, errors.INVALID_REQUEST),
    ("empty instance id", 1, {**BEAT, "instance_id": ""}, errors.INVALID_REQUEST),
    ("empty rack id", 1, {**BEAT, "rack_id": ""}, errors.INVALID_REQUEST),
    ("no rebalance timeout", 1, {**JOIN, "rebalance_timeout_ms": -1}, errors.INVALID_REQUEST),
    ("no list of partitions", 1, {**JOIN, "topic_partitions": None}, errors.INVALID_REQUEST),
    (
        "owning partitions before joining",
        1,
        {**JOIN, "topic_partitions": [ConsumerGroupHeartbeatRequestTopicPartitions(b"t" * 16, [0])]},
        errors.INVALID_REQUEST,
    ),
    ("subscribing to nothing", 1, {**JOIN, "subscribed_topic_names": None}, errors.INVALID_REQUEST),
    ("leaving for a while without a name", 1, {**BEAT, "member_epoch": -2}, errors.INVALID_REQUEST),
    ("a member id that no key can hold", 1, {**JOIN, "member_id": "m" * 32_768}, errors.INVALID_REQUEST),
    ("a group id that no key can hold", 1, {**JOIN, "group_id": "é" * 16_384}, errors.INVALID_REQUEST),
    (
        "a pattern that no key can hold",
        1,
        {**JOIN, "subscribed_topic_regex": "a" * 32_768},
        errors.INVALID_REGULAR_EXPRESSION,
    ),
    ("an epoch below all", 1, {**BEAT, "member_epoch": -3}, errors.INVALID_REQUEST),
    ("an assignor nobody has", 1, {**JOIN, "server_assignor": "best"}, errors.UNSUPPORTED_ASSIGNOR),
]
ACCEPTED: list[tuple[str, int, dict[str, Any]]] = [
    ("no member id in version 0", 0, {**JOIN, "member_id": ""}),
    ("a pattern without names", 1, {**JOIN, "subscribed_topic_names": None, "subscribed_topic_regex": "a"}),
    ("an assignor by name", 1, {**JOIN, "server_assignor": "range"}),
    ("the longest ids", 1, {**JOIN, "member_id": "m" * 32_767, "subscribed_topic_regex": "a" * 32_767}),
    ("leaving for a while", 1, {**BEAT, "member_epoch": -2, "instance_id": "i"}),
    ("a heartbeat of nothing new", 1, BEAT),
]


@pytest.mark.parametrize(
    ("version", "fields", "code"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_refused_before_a_group_is_asked(version: int, fields: dict[str, Any], code: int) -> None:
    with pytest.raises(KafkaError) as refused:
        check_heartbeat(ConsumerGroupHeartbeatRequest(**fields), version, ASSIGNORS)
    assert refused.value.code == code
    runtime = FakeRuntime({"orders": 1})
    runtime.shard = shard = GroupCoordinator(runtime)
    (answer,) = runtime.ask(shard.handle, 68, version, ConsumerGroupHeartbeatRequest(**fields))
    assert (answer.error_code, answer.error_message) == (code, refused.value.message)
    assert (shard.groups, runtime.log) == ({}, [])


@pytest.mark.parametrize(
    ("version", "fields"), [case[1:] for case in ACCEPTED], ids=[case[0] for case in ACCEPTED]
)
def test_accepted(version: int, fields: dict[str, Any]) -> None:
    check_heartbeat(ConsumerGroupHeartbeatRequest(**fields), version, ASSIGNORS)


# -- static members


def test_a_static_member_is_not_replaced_while_it_is_there() -> None:
    bench = GroupBench()
    bench.member("one", instance_id="i").beat()
    assert bench.member("two", instance_id="i").beat().error_code == errors.UNRELEASED_INSTANCE_ID


def test_who_comes_back_under_its_name_finds_its_partitions_and_moves_nobody() -> None:
    bench = GroupBench()
    one, other = bench.member("one", instance_id="i"), bench.member("other")
    settle(one, other)
    epoch, owned, kept = one.epoch, set(one.owned), set(other.owned)
    left = one.leave(for_a_while=True)
    assert (left.error_code, left.member_epoch) == (NONE, -2)
    other.beat()
    assert other.owned == kept
    back = bench.member("two", instance_id="i")
    back.beat()
    assert (back.epoch, back.owned) == (epoch, owned)
    other.beat()
    assert (other.owned, bench.group.state) == (kept, "Stable")
    assert bench.beat("one", epoch, instance_id="i").error_code == errors.FENCED_INSTANCE_ID


def test_a_static_member_that_stays_away_loses_its_place() -> None:
    bench = GroupBench()
    one, other = bench.member("one", instance_id="i"), bench.member("other")
    settle(one, other)
    one.leave(for_a_while=True)
    for _ in range(5):
        bench.runtime.advance(10_000)
        other.beat()
    settle(other)
    assert len(other.owned) == 6


def test_a_static_member_that_left_for_a_while_is_away_also_after_a_restart() -> None:
    bench = GroupBench()
    one, other = bench.member("one", instance_id="i"), bench.member("other")
    settle(one, other)
    owned = set(one.owned)
    one.leave(for_a_while=True)
    bench.restart()
    back = bench.member("two", instance_id="i")
    back.beat()
    assert back.owned == owned


def test_a_static_member_may_come_back_with_another_subscription() -> None:
    bench = GroupBench({"orders": 2, "others": 2})
    one = bench.member("one", instance_id="i")
    one.beat()
    one.leave(for_a_while=True)
    back = bench.member("two", instance_id="i", topics=["others"])
    back.beat()
    settle(back)
    assert back.owned == {("others", 0), ("others", 1)}
    assert [member.member_id for member in bench.group.describe().members] == ["two"]


def test_static_members_that_are_unknown_or_fenced_are_told() -> None:
    bench = GroupBench()
    one = bench.member("one", instance_id="i")
    one.beat()
    assert bench.beat("one", 2, instance_id="j").error_code == errors.UNKNOWN_MEMBER_ID
    assert bench.beat("two", 2, instance_id="i").error_code == errors.FENCED_INSTANCE_ID
    assert bench.beat("one", -1, instance_id="j").error_code == errors.UNKNOWN_MEMBER_ID
    assert bench.beat("two", -2, instance_id="i").error_code == errors.FENCED_INSTANCE_ID
    assert bench.beat("two", -1).error_code == errors.UNKNOWN_MEMBER_ID
    assert bench.beat("one", -1, instance_id="i").error_code == NONE
    assert bench.group.state == "Empty"


def test_an_instance_id_is_free_once_its_member_goes_by_another() -> None:
    bench = GroupBench()
    bench.member("one", instance_id="i").beat()
    one = bench.member("one", instance_id="j")
    one.beat()
    one.leave()
    assert bench.member("two", instance_id="i").beat().error_code == NONE


# -- offsets


def test_members_commit_in_their_epoch() -> None:
    bench = GroupBench()
    one = bench.member("one")
    one.beat()
    group = bench.group
    assert group.commit_error("one", None, one.epoch) == NONE
    assert group.commit_error("one", None, one.epoch + 1) == errors.STALE_MEMBER_EPOCH
    assert group.commit_error("two", None, one.epoch) == errors.UNKNOWN_MEMBER_ID
    assert group.commit_error("", None, -1) == errors.UNKNOWN_MEMBER_ID
    assert group.commit_error("one", None, one.epoch, version=8) == errors.UNSUPPORTED_VERSION
    one.leave()
    assert group.commit_error("", None, -1) == NONE  # to an empty group from outside


def test_of_an_older_epoch_only_what_is_owned_since_before_is_committed() -> None:
    bench = GroupBench()
    one, two = bench.member("one"), bench.member("two")
    one.beat()
    old = one.epoch
    settle(one, two)
    group, topic_id = bench.group, bench.runtime.image.topics_by_name["orders"].topic_id
    assert group.commit_error("one", None, old) == NONE
    codes = {
        partition: group.commit_partition_error("one", old, topic_id, partition) for partition in range(6)
    }
    mine = {partition for _, partition in one.owned}
    assert codes == {p: NONE if p in mine else errors.STALE_MEMBER_EPOCH for p in range(6)}
    assert group.commit_partition_error("one", one.epoch, topic_id, 0) == NONE
    partition = min(partition for _, partition in two.owned)
    assert (
        group.commit_partition_error("two", two.epoch - 1, topic_id, partition) == errors.STALE_MEMBER_EPOCH
    )


def test_members_fetch_offsets_in_their_epoch_and_outsiders_at_any_time() -> None:
    bench = GroupBench()
    one = bench.member("one")
    one.beat()
    group = bench.group
    assert group.fetch_error(None, -1) == NONE
    assert group.fetch_error("one", one.epoch) == NONE
    assert group.fetch_error("one", one.epoch - 1) == errors.STALE_MEMBER_EPOCH
    assert group.fetch_error("two", one.epoch) == errors.UNKNOWN_MEMBER_ID


def test_members_of_the_classic_protocol_are_told_in_its_words() -> None:
    bench = GroupBench()
    one = bench.member("one")
    one.beat()
    value = ConsumerGroupMemberMetadataValue(
        subscribed_topic_names=["orders"],
        rebalance_timeout_ms=1_000,
        classic_member_metadata=ClassicMemberMetadata(session_timeout_ms=9_000),
    )
    bench.group.replay(ConsumerGroupMemberMetadataKey(GROUP, "one"), value)
    assert bench.group.commit_error("one", None, one.epoch + 1) == errors.ILLEGAL_GENERATION
    assert bench.group.commit_error("one", None, one.epoch, version=7) == NONE
    assert bench.group.fetch_error("one", one.epoch + 1) == errors.ILLEGAL_GENERATION
    assert [member.member_type for member in bench.group.describe().members] == [0]
