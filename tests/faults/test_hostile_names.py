"""One small request that names the same thing again and again is not worth seconds of the gateway's time."""

from typing import Any

from perf import wire
from perf.peers.tailrace import Tailrace
from tailrace.core.errors import INVALID_REQUEST
from tailrace.core.protocol.apis import DESCRIBE_CONFIGS, LIST_OFFSETS
from tailrace.core.protocol.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsRequestResource,
)
from tailrace.core.protocol.messages.list_offsets import (
    ListOffsetsRequest,
    ListOffsetsRequestPartition,
    ListOffsetsRequestTopic,
)
from tests.support.raw_client import RawClient

TOPIC = "repeated"


def test_a_resource_is_described_once(broker: Tailrace) -> None:
    """(R) 250 kB were answered by 167 MB, after 16 s in which nobody else was served."""
    named = [DescribeConfigsRequestResource(2, TOPIC), DescribeConfigsRequestResource(2, "absent")]
    with wire.Connection(wire.address(broker.bootstrap)) as connection, RawClient(broker.bootstrap) as client:
        wire.create_topic(connection, TOPIC)
        answer: Any = client.ask(DESCRIBE_CONFIGS, 4, DescribeConfigsRequest(named * 20_000))
    assert [result["resource_name"] for result in answer["results"]] == [TOPIC, "absent"]
    assert answer["results"][0]["configs"]


def test_many_resources_are_all_described_in_their_order(broker: Tailrace) -> None:
    names = [f"absent-{number}" for number in range(1000)]
    asked = DescribeConfigsRequest([DescribeConfigsRequestResource(2, name) for name in names])
    with RawClient(broker.bootstrap) as client:
        answer: Any = client.ask(DESCRIBE_CONFIGS, 4, asked)
    assert [result["resource_name"] for result in answer["results"]] == names


def test_a_partition_named_in_several_places_is_looked_up_nowhere(broker: Tailrace) -> None:
    """As Kafka: each is INVALID_REQUEST."""
    named = ListOffsetsRequestTopic(TOPIC, [ListOffsetsRequestPartition(0, timestamp=5)])
    other = ListOffsetsRequestTopic("absent", [ListOffsetsRequestPartition(0, timestamp=5)])
    with RawClient(broker.bootstrap) as client:
        answer: Any = client.ask(LIST_OFFSETS, 7, ListOffsetsRequest(topics=[named, other, named]))
    codes = {topic["name"]: topic["partitions"][0]["error_code"] for topic in answer["topics"]}
    assert codes[TOPIC] == INVALID_REQUEST
    assert codes["absent"] != INVALID_REQUEST
