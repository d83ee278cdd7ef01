"""ApiVersions, DescribeCluster and the pages of DescribeTopicPartitions."""

from typing import Any

import pytest

from tailrace.core.errors import (
    INVALID_REQUEST,
    INVALID_TOPIC_EXCEPTION,
    LEADER_NOT_AVAILABLE,
    MISMATCHED_ENDPOINT_TYPE,
    NONE,
    UNKNOWN_TOPIC_OR_PARTITION,
    UNSUPPORTED_ENDPOINT_TYPE,
    UNSUPPORTED_VERSION,
)
from tailrace.core.protocol.apis import API_VERSIONS, APIS, DESCRIBE_CLUSTER, DESCRIBE_TOPIC_PARTITIONS
from tailrace.core.protocol.messages.api_versions import ApiVersionsRequest
from tailrace.core.protocol.messages.describe_cluster import DescribeClusterRequest
from tailrace.core.protocol.messages.describe_topic_partitions import (
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsRequestCursor,
    DescribeTopicPartitionsRequestTopic,
)
from tailrace.workers.gateway.handlers import api_versions, describe_cluster, describe_topic_partitions
from tests.unit.workers.gateway.fakes import NODE_ID, FakeGateway


def _versions(version: int, name: str = "client", software: str = "1.0") -> Any:
    message = ApiVersionsRequest(name, software)
    return FakeGateway().ask(api_versions.handle, API_VERSIONS, version, message).answer


@pytest.mark.parametrize("version", range(5))
def test_every_api_is_told(version: int) -> None:
    answer = _versions(version)
    assert answer.error_code == NONE
    assert {api.api_key: (api.min_version, api.max_version) for api in answer.api_keys} == {
        key: (api.min_version, api.max_version) for key, api in APIS.items()
    }


@pytest.mark.parametrize("version", [5, 9, 32767, -1])
def test_an_unknown_version_is_told_the_known_ones(version: int) -> None:
    answer = _versions(version)
    assert answer.error_code == UNSUPPORTED_VERSION
    assert [(api.api_key, api.max_version) for api in answer.api_keys] == [(API_VERSIONS, 4)]


def test_a_client_that_does_not_say_who_it_is() -> None:
    assert _versions(3, "a b").error_code == INVALID_REQUEST
    assert _versions(4, "", "").error_code == INVALID_REQUEST


def _cluster(version: int, **fields: Any) -> Any:
    message = DescribeClusterRequest(**fields)
    return FakeGateway().ask(describe_cluster.handle, DESCRIBE_CLUSTER, version, message).answer


@pytest.mark.parametrize("version", range(3))
def test_the_cluster(version: int) -> None:
    answer = _cluster(version, include_cluster_authorized_operations=version == 2)
    assert (answer.cluster_id, answer.controller_id) == ("a-cluster", NODE_ID)
    assert [(broker.broker_id, broker.host) for broker in answer.brokers] == [(NODE_ID, "127.0.0.1")]
    assert answer.cluster_authorized_operations == (8096 if version == 2 else -(2**31))


@pytest.mark.parametrize(
    ("kind", "code"),
    [(0, UNSUPPORTED_ENDPOINT_TYPE), (2, MISMATCHED_ENDPOINT_TYPE), (3, UNSUPPORTED_ENDPOINT_TYPE)],
)
def test_endpoints_that_this_is_not(kind: int, code: int) -> None:
    answer = _cluster(1, endpoint_type=kind)
    assert (answer.error_code, answer.brokers) == (code, [])


Page = tuple[list[tuple[str | None, int, list[int]]], tuple[str, int] | None]


def _page(
    gateway: FakeGateway, names: str = "", limit: int = 2000, cursor: tuple[str, int] | None = None
) -> Page:
    message = DescribeTopicPartitionsRequest(
        [DescribeTopicPartitionsRequestTopic(name) for name in names.split()],
        limit,
        None if cursor is None else DescribeTopicPartitionsRequestCursor(*cursor),
    )
    handle = describe_topic_partitions.handle
    answer = gateway.ask(handle, DESCRIBE_TOPIC_PARTITIONS, 0, message).answer
    after = answer.next_cursor
    return [
        (topic.name, topic.error_code, [partition.partition_index for partition in topic.partitions])
        for topic in answer.topics
    ], None if after is None else (after.topic_name, after.partition_index)


@pytest.fixture
def gateway() -> FakeGateway:
    made = FakeGateway()
    for name, partitions in (("c", 3), ("a", 2), ("b", 1)):
        made.create(name, partitions)
    return made


def test_all_topics_by_name(gateway: FakeGateway) -> None:
    assert _page(gateway) == ([("a", NONE, [0, 1]), ("b", NONE, [0]), ("c", NONE, [0, 1, 2])], None)


@pytest.mark.parametrize("limit", range(-1, 8))
def test_pages_tell_each_partition_once(gateway: FakeGateway, limit: int) -> None:
    told: list[tuple[str | None, int]] = []
    cursor: tuple[str, int] | None = None
    while True:
        topics, cursor = _page(gateway, limit=limit, cursor=cursor)
        page = [(name, partition) for name, _, partitions in topics for partition in partitions]
        told += page
        if cursor is None:
            break
        assert len(page) == max(1, limit)
    assert told == [("a", 0), ("a", 1), ("b", 0), ("c", 0), ("c", 1), ("c", 2)]


def test_the_broker_bounds_a_page() -> None:
    gateway = FakeGateway(max_request_partition_size_limit="2")
    gateway.create("a", 3)
    assert _page(gateway) == ([("a", NONE, [0, 1])], ("a", 2))


def test_absent_topics_take_no_room(gateway: FakeGateway) -> None:
    assert _page(gateway, "c b~ absent a a", 2) == ([("a", NONE, [0, 1])], ("absent", 0))
    assert _page(gateway, "c b~ absent a", 3, ("absent", 0)) == (
        [
            ("absent", UNKNOWN_TOPIC_OR_PARTITION, []),
            ("b~", INVALID_TOPIC_EXCEPTION, []),
            ("c", NONE, [0, 1, 2]),
        ],
        None,
    )


@pytest.mark.parametrize("cursor", [("a", 0), ("", 0), ("b", -1)])
def test_cursors_that_point_nowhere(gateway: FakeGateway, cursor: tuple[str, int]) -> None:
    assert _page(gateway, "b", cursor=cursor) == ([("b", INVALID_REQUEST, [])], None)


def test_a_leaderless_partition_is_shown_as_such(gateway: FakeGateway) -> None:
    gateway.leaderless = {0: LEADER_NOT_AVAILABLE}
    message = DescribeTopicPartitionsRequest([DescribeTopicPartitionsRequestTopic("b")])
    handle = describe_topic_partitions.handle
    (topic,) = gateway.ask(handle, DESCRIBE_TOPIC_PARTITIONS, 0, message).answer.topics
    (partition,) = topic.partitions
    assert (partition.error_code, partition.leader_id) == (LEADER_NOT_AVAILABLE, -1)
    assert topic.topic_authorized_operations == 3576
