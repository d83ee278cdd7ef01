"""Committed offsets: what each version of OffsetCommit, OffsetFetch and OffsetDelete is told, and when."""

from typing import Any

import pytest

from tailrace.core.errors import (
    COORDINATOR_NOT_AVAILABLE,
    GROUP_ID_NOT_FOUND,
    GROUP_SUBSCRIBED_TO_TOPIC,
    ILLEGAL_GENERATION,
    INVALID_GROUP_ID,
    INVALID_REQUEST,
    MESSAGE_TOO_LARGE,
    NON_EMPTY_GROUP,
    NONE,
    NOT_COORDINATOR,
    NOT_LEADER_OR_FOLLOWER,
    OFFSET_METADATA_TOO_LARGE,
    UNKNOWN_MEMBER_ID,
    UNKNOWN_SERVER_ERROR,
    UNKNOWN_TOPIC_ID,
    UNKNOWN_TOPIC_OR_PARTITION,
)
from tailrace.core.groups.records import OffsetCommitKey, OffsetCommitValue, decode_record, encode_key
from tailrace.core.groups.runtime import GroupConfig
from tailrace.core.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from tailrace.core.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
)
from tests.support.group_offsets import OffsetClient
from tests.support.group_runtime import START_MS, FakeRuntime

READS_ORDERS = b"\x00\x00" + b"\x00\x00\x00\x01" + b"\x00\x06orders" + b"\xff\xff\xff\xff"


@pytest.fixture
def client() -> OffsetClient:
    """Of a shard that is loaded."""
    client = OffsetClient(FakeRuntime(topics={"orders": 3, "bills": 1}))
    client.restart()
    return client


def values(client: OffsetClient) -> list[Any]:
    """The offset records of the log."""
    decoded = [decode_record(key, value) for key, value in client.runtime.log]
    return [each[1] for each in decoded if each is not None and isinstance(each[0], OffsetCommitKey)]


# -- OffsetCommit


@pytest.mark.parametrize("version", range(2, 11))
def test_a_commit_is_fetched_in_every_version(client: OffsetClient, version: int) -> None:
    assert client.commit_errors("g", {("orders", 0): 7, ("orders", 2): 9}, version) == [NONE, NONE]
    for fetch_version in range(1, 11):
        told = client.fetch("g", {"orders": [0, 1, 2]}, fetch_version)
        assert list(told.values()) == [7, -1, 9]


def test_a_commit_keeps_its_epoch_metadata_time_and_topic(client: OffsetClient) -> None:
    client.commit("g", {("orders", 1): 5}, leader_epoch=3, metadata="hello")
    assert values(client) == [
        OffsetCommitValue(
            offset=5,
            leader_epoch=3,
            metadata="hello",
            commit_timestamp=START_MS,
            topic_id=client.topic_id("orders"),
        )
    ]
    (topic,) = client.fetch_group("g", {"orders": [1]}).topics
    (partition,) = topic.partitions
    assert (partition.committed_leader_epoch, partition.metadata) == (3, "hello")


def test_null_metadata_is_empty(client: OffsetClient) -> None:
    client.commit("g", {("orders", 1): 5}, metadata=None)
    assert client.fetch_group("g").topics[0].partitions[0].metadata == ""


def test_the_retention_time_of_old_versions_is_an_expiry(client: OffsetClient) -> None:
    client.commit("g", {("orders", 1): 5}, version=4, retention_time_ms=1000)
    assert values(client)[0].expire_timestamp == START_MS + 1000


def test_metadata_is_measured_as_kafka_does(client: OffsetClient) -> None:
    most = client.runtime.config.offset_metadata_max_bytes
    assert client.commit_errors("g", {("orders", 0): 1}, metadata="é" * most) == [NONE]
    assert client.commit_errors("g", {("orders", 0): 2}, metadata="x" * (most + 1)) == [
        OFFSET_METADATA_TOO_LARGE
    ]
    assert client.commit_errors("g", {("orders", 0): 3}, metadata="😀" * (most // 2 + 1)) == [
        OFFSET_METADATA_TOO_LARGE
    ]
    assert client.fetch("g") == {("orders", 0): 1}


def test_what_can_be_kept_is_kept(client: OffsetClient) -> None:
    """Of one request, some partitions do not exist and some metadata is too large."""
    partitions = [
        OffsetCommitRequestPartition(0, 1),
        OffsetCommitRequestPartition(3, 2),
        OffsetCommitRequestPartition(1, 3, committed_metadata="x" * 5000),
        OffsetCommitRequestPartition(-1, 4),
    ]
    message = OffsetCommitRequest(
        group_id="g",
        topics=[
            OffsetCommitRequestTopic(name="orders", partitions=partitions),
            OffsetCommitRequestTopic(name="nothing", partitions=[OffsetCommitRequestPartition(0, 5)]),
        ],
    )
    (answer,) = client.runtime.ask(client.shard.handle, 8, 9, message)
    told = {
        (topic.name, partition.partition_index): partition.error_code
        for topic in answer.topics
        for partition in topic.partitions
    }
    assert told == {
        ("orders", 0): NONE,
        ("orders", 1): OFFSET_METADATA_TOO_LARGE,
        ("orders", 3): UNKNOWN_TOPIC_OR_PARTITION,
        ("orders", -1): UNKNOWN_TOPIC_OR_PARTITION,
        ("nothing", 0): UNKNOWN_TOPIC_OR_PARTITION,
    }
    assert len(answer.topics) == 2
    assert client.fetch("g") == {("orders", 0): 1}


def test_an_unknown_topic_id_is_told(client: OffsetClient) -> None:
    topic = OffsetCommitRequestTopic(topic_id=b"?" * 16, partitions=[OffsetCommitRequestPartition(0, 5)])
    message = OffsetCommitRequest(group_id="g", topics=[topic])
    (answer,) = client.runtime.ask(client.shard.handle, 8, 10, message)
    (told,) = answer.topics
    assert (told.topic_id, told.partitions[0].error_code) == (b"?" * 16, UNKNOWN_TOPIC_ID)


@pytest.mark.parametrize(("version", "code"), [(8, ILLEGAL_GENERATION), (9, GROUP_ID_NOT_FOUND)])
def test_a_generation_needs_a_group(client: OffsetClient, version: int, code: int) -> None:
    fields: dict[str, Any] = {"generation_id_or_member_epoch": 0, "member_id": "m"}
    assert client.commit_errors("g", {("orders", 0): 1}, version, **fields) == [code]
    assert client.shard.groups == {}


def test_members_are_checked(client: OffsetClient) -> None:
    member_id = client.join("g")
    wanted = {("orders", 0): 1}
    fields: dict[str, Any] = {"generation_id_or_member_epoch": 1, "member_id": member_id}
    assert client.commit_errors("g", wanted, **fields) == [NONE]
    assert client.commit_errors("g", wanted, **dict(fields, member_id="?")) == [UNKNOWN_MEMBER_ID]
    assert client.commit_errors("g", wanted, **dict(fields, generation_id_or_member_epoch=2)) == [
        ILLEGAL_GENERATION
    ]
    assert client.commit_errors("g", wanted) == [UNKNOWN_MEMBER_ID]


def test_a_commit_is_seen_once_it_is_written(client: OffsetClient) -> None:
    client.runtime.holds = True
    answers = client.commit("g", {("orders", 0): 1})
    assert (answers, client.fetch("g"), client.shard.groups) == ([], {}, {})
    client.runtime.release()
    assert len(answers) == 1
    assert client.fetch("g") == {("orders", 0): 1}
    assert client.shard.groups["g"].state == "Empty"


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (NOT_LEADER_OR_FOLLOWER, NOT_COORDINATOR),
        (MESSAGE_TOO_LARGE, UNKNOWN_SERVER_ERROR),
        (COORDINATOR_NOT_AVAILABLE, COORDINATOR_NOT_AVAILABLE),
    ],
)
def test_a_commit_that_was_not_written_is_not_kept(client: OffsetClient, failure: int, code: int) -> None:
    client.runtime.error = failure
    assert client.commit_errors("g", {("orders", 0): 1, ("bills", 0): 1}) == [code, code]
    assert client.fetch("g") == {}


def test_a_group_id_that_no_record_can_keep_is_refused(client: OffsetClient) -> None:
    assert client.commit_errors("g" * 32_768, {("orders", 0): 1}) == [INVALID_REQUEST]
    assert client.commit_errors("g" * 32_767, {("orders", 0): 1}) == [NONE]


# -- OffsetFetch


def test_offsets_of_an_unknown_group_are_none(client: OffsetClient) -> None:
    assert client.fetch("g") == {}
    assert client.fetch("g", {"orders": [0], "nothing": [4]}) == {("orders", 0): -1, ("nothing", 4): -1}


def test_groups_are_fetched_together(client: OffsetClient) -> None:
    client.commit("a", {("orders", 0): 1})
    client.commit("b", {("orders", 0): 2})
    groups = [OffsetFetchRequestGroup(group_id=name) for name in ("b", "a", "c")]
    (answer,) = client.runtime.ask(client.shard.handle, 9, 8, OffsetFetchRequest(groups=groups))
    told = {
        group.group_id: [each.committed_offset for topic in group.topics for each in topic.partitions]
        for group in answer.groups
    }
    assert told == {"b": [2], "a": [1], "c": []}


def test_unknown_topic_ids_come_last(client: OffsetClient) -> None:
    client.commit("g", {("orders", 0): 1})
    topics = [
        OffsetFetchRequestTopic(topic_id=topic_id, partition_indexes=[0])
        for topic_id in (b"?" * 16, client.topic_id("orders"))
    ]
    groups = [OffsetFetchRequestGroup(group_id="g", topics=topics)]
    (answer,) = client.runtime.ask(client.shard.handle, 9, 10, OffsetFetchRequest(groups=groups))
    told = [(topic.topic_id, topic.partitions[0].error_code) for topic in answer.groups[0].topics]
    assert told == [(client.topic_id("orders"), NONE), (b"?" * 16, UNKNOWN_TOPIC_ID)]


def test_a_topic_of_the_same_name_has_no_offsets_by_id(client: OffsetClient) -> None:
    client.commit("g", {("orders", 0): 1})
    client.runtime.delete_topic("orders")
    assert client.fetch_group("g", version=10).topics == []
    client.runtime.create_topic("orders", 1)
    assert client.fetch("g", {"orders": [0]}, version=10) == {("orders", 0): -1}


# -- OffsetDelete


def test_deleted_offsets_are_gone_for_good(client: OffsetClient) -> None:
    client.commit("g", {("orders", 0): 1, ("orders", 1): 2})
    (answer,) = client.delete_offsets("g", [("orders", 0), ("orders", 2), ("orders", 9), ("nothing", 0)])
    told = [
        (topic.name, each.partition_index, each.error_code)
        for topic in answer.topics
        for each in topic.partitions
    ]
    assert told == [
        ("orders", 0, NONE),
        ("orders", 2, NONE),
        ("orders", 9, UNKNOWN_TOPIC_OR_PARTITION),
        ("nothing", 0, UNKNOWN_TOPIC_OR_PARTITION),
    ]
    assert client.runtime.batches[-1] == [(encode_key(OffsetCommitKey("g", "orders", 0)), None)]
    client.restart()
    assert client.fetch("g") == {("orders", 1): 2}


def test_a_delete_needs_a_group(client: OffsetClient) -> None:
    for group_id, code in (("", INVALID_GROUP_ID), ("g", GROUP_ID_NOT_FOUND)):
        (answer,) = client.delete_offsets(group_id, [("orders", 0)])
        assert (answer.error_code, answer.topics) == (code, [])


def test_what_a_group_reads_is_not_deleted(client: OffsetClient) -> None:
    client.commit("g", {("orders", 0): 1, ("bills", 0): 2})
    client.join("g", READS_ORDERS)
    (answer,) = client.delete_offsets("g", [("orders", 0), ("bills", 0)])
    assert [topic.partitions[0].error_code for topic in answer.topics] == [GROUP_SUBSCRIBED_TO_TOPIC, NONE]
    assert client.fetch("g") == {("orders", 0): 1}


def test_of_another_protocol_nobody_knows_what_it_reads(client: OffsetClient) -> None:
    client.join("g", protocol_type="connect")
    (answer,) = client.delete_offsets("g", [("orders", 0)])
    assert answer.error_code == NON_EMPTY_GROUP


def test_a_delete_that_was_not_written_is_told(client: OffsetClient) -> None:
    client.commit("g", {("orders", 0): 1})
    client.runtime.error = COORDINATOR_NOT_AVAILABLE
    (answer,) = client.delete_offsets("g", [("orders", 0)])
    assert answer.error_code == COORDINATOR_NOT_AVAILABLE
    assert client.fetch("g") == {("orders", 0): 1}


def test_a_delete_takes_along_what_is_being_committed(client: OffsetClient) -> None:
    """Otherwise the offset would outlive the answer that it is gone."""
    client.commit("g", {("orders", 0): 1})
    client.runtime.holds = True
    client.commit("g", {("orders", 1): 2})
    client.delete_groups("g")
    client.runtime.release()
    assert client.fetch("g") == {}
    assert client.shard.groups == {}


# -- ageing


def aged(client: OffsetClient, ms: int) -> OffsetClient:
    """Time passes, in steps of the check's interval."""
    client.runtime.advance(ms)
    return client


def test_old_offsets_go_and_then_their_group(client: OffsetClient) -> None:
    config = client.runtime.config
    client.commit("g", {("orders", 0): 1})
    aged(client, config.offsets_retention_ms // 2)
    client.commit("g", {("orders", 1): 2})
    aged(client, config.offsets_retention_ms // 2 + config.offsets_retention_check_interval_ms)
    assert client.fetch("g") == {("orders", 1): 2}
    aged(client, config.offsets_retention_ms // 2 + config.offsets_retention_check_interval_ms)
    assert (client.fetch("g"), client.shard.groups) == ({}, {})
    client.restart()
    assert client.shard.groups == {}


def test_an_expiry_of_its_own_counts_alone() -> None:
    config = GroupConfig(offsets_retention_ms=1000, offsets_retention_check_interval_ms=100)
    client = OffsetClient(FakeRuntime(topics={"orders": 3}, config=config))
    client.restart()
    client.commit("g", {("orders", 0): 1}, version=3, retention_time_ms=500)
    client.commit("g", {("orders", 1): 1}, version=3, retention_time_ms=5000)
    aged(client, 600)
    assert client.fetch("g") == {("orders", 1): 1}
    aged(client, 2000)
    assert client.fetch("g") == {("orders", 1): 1}


def test_what_a_stable_group_reads_does_not_age(client: OffsetClient) -> None:
    member_id = client.join("g", READS_ORDERS)
    fields: dict[str, Any] = {"generation_id_or_member_epoch": 1, "member_id": member_id}
    client.runtime.config = GroupConfig(offsets_retention_ms=1000)
    client.commit("g", {("orders", 0): 1, ("bills", 0): 2}, **fields)
    client.runtime.time_ms += 1000
    client.shard.expire()
    assert client.fetch("g") == {("orders", 0): 1}


def test_the_offsets_of_an_empty_group_age_since_it_is_empty(client: OffsetClient) -> None:
    member_id = client.join("g", READS_ORDERS)
    fields: dict[str, Any] = {"generation_id_or_member_epoch": 1, "member_id": member_id}
    client.commit("g", {("orders", 0): 1}, **fields)
    aged(client, 20_000)  # the member's session ends
    assert client.shard.groups["g"].state == "Empty"
    client.runtime.config = GroupConfig(offsets_retention_ms=15_000)
    client.shard.expire()
    assert client.fetch("g") == {("orders", 0): 1}
    aged(client, 15_000)
    client.shard.expire()
    assert (client.fetch("g"), client.shard.groups) == ({}, {})


def test_expiry_spares_what_is_being_committed(client: OffsetClient) -> None:
    """Its tombstone would come behind the commit."""
    client.commit("g", {("orders", 0): 1})
    client.runtime.time_ms += client.runtime.config.offsets_retention_ms
    client.runtime.holds = True
    answers = client.commit("g", {("orders", 0): 2})
    client.shard.expire()
    client.runtime.release()
    assert answers[0].topics[0].partitions[0].error_code == NONE
    assert client.fetch("g") == {("orders", 0): 2}
    assert "g" in client.shard.groups


# -- deleted topics


def test_offsets_go_with_their_topic(client: OffsetClient) -> None:
    client.commit("a", {("orders", 0): 1, ("bills", 0): 2})
    client.commit("b", {("orders", 1): 3})
    client.runtime.delete_topic("orders")
    client.shard.on_metadata()
    assert (client.fetch("a"), client.fetch("b")) == ({("bills", 0): 2}, {})
    client.restart()
    assert (client.fetch("a"), client.fetch("b")) == ({("bills", 0): 2}, {})


def test_offsets_go_though_a_topic_of_that_name_is_back(client: OffsetClient) -> None:
    client.commit("a", {("orders", 0): 1})
    client.runtime.delete_topic("orders")
    client.runtime.create_topic("orders", 3)
    client.commit("b", {("orders", 0): 2})
    client.shard.on_metadata()
    assert (client.fetch("a"), client.fetch("b")) == ({}, {("orders", 0): 2})


def test_a_deleted_topic_spares_what_is_being_committed_of_its_successor(client: OffsetClient) -> None:
    client.commit("g", {("orders", 0): 1, ("orders", 1): 1})
    client.runtime.delete_topic("orders")
    client.runtime.create_topic("orders", 3)
    client.runtime.holds = True
    client.commit("g", {("orders", 0): 2})
    client.shard.on_metadata()
    client.runtime.release()
    assert client.fetch("g") == {("orders", 0): 2}


def test_a_successor_forgets_topics_that_went_meanwhile(client: OffsetClient) -> None:
    client.commit("a", {("orders", 0): 1, ("bills", 0): 2})
    client.runtime.delete_topic("orders")
    client.restart()
    assert client.fetch("a") == {("bills", 0): 2}


def test_an_expiry_beyond_all_time_is_never() -> None:
    config = GroupConfig(offsets_retention_ms=1000, offsets_retention_check_interval_ms=100)
    client = OffsetClient(FakeRuntime(topics={"orders": 3}, config=config))
    client.restart()
    client.commit("g", {("orders", 0): 1}, version=3, retention_time_ms=2**63 - 1)
    aged(client, 2000)
    assert client.fetch("g") == {("orders", 0): 1}
