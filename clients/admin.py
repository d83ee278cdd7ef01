"""Topics: create, delete, list, describe, grow, trim, configure; and the offsets of partitions."""

from collections.abc import Mapping

import msgspec

from tailrace.clients.cluster import Cluster
from tailrace.core import errors
from tailrace.core.errors import KafkaError, raise_for
from tailrace.core.protocol.apis import (
    CREATE_PARTITIONS,
    CREATE_TOPICS,
    DELETE_RECORDS,
    DELETE_TOPICS,
    DESCRIBE_CONFIGS,
    INCREMENTAL_ALTER_CONFIGS,
    LIST_OFFSETS,
)
from tailrace.core.protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsRequestTopic,
    CreatePartitionsResponse,
)
from tailrace.core.protocol.messages.create_topics import (
    CreateTopicsRequest,
    CreateTopicsRequestConfig,
    CreateTopicsRequestTopic,
    CreateTopicsResponse,
    CreateTopicsResponseTopic,
)
from tailrace.core.protocol.messages.delete_records import (
    DeleteRecordsRequest,
    DeleteRecordsRequestPartition,
    DeleteRecordsRequestTopic,
    DeleteRecordsResponse,
)
from tailrace.core.protocol.messages.delete_topics import (
    DeleteTopicsRequest,
    DeleteTopicsRequestTopic,
    DeleteTopicsResponse,
)
from tailrace.core.protocol.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsRequestResource,
    DescribeConfigsResponse,
    DescribeConfigsResponseConfig,
)
from tailrace.core.protocol.messages.incremental_alter_configs import (
    DELETE,
    SET,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsRequestConfig,
    IncrementalAlterConfigsRequestResource,
    IncrementalAlterConfigsResponse,
)
from tailrace.core.protocol.messages.list_offsets import (
    ListOffsetsRequest,
    ListOffsetsRequestPartition,
    ListOffsetsRequestTopic,
    ListOffsetsResponse,
)
from tailrace.core.protocol.messages.metadata import MetadataResponseTopic

CONSUMER = -1  # the replica id of whoever is no replica
BROKER_DEFAULT = -1
TOPIC = 2  # as the type of a resource that has configs
HIGH_WATERMARK = -1  # as the offset to trim before: all that can be read


class FoundOffset(msgspec.Struct, kw_only=True, frozen=True):
    """The answer to a timestamp: offset -1 when no record is that late."""

    offset: int
    timestamp: int
    leader_epoch: int


class Admin:
    """What changes and shows topics. Every refusal is a KafkaError."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def create_topic(
        self,
        name: str,
        *,
        partitions: int = BROKER_DEFAULT,
        replication_factor: int = BROKER_DEFAULT,
        configs: Mapping[str, str] | None = None,
        validate_only: bool = False,
    ) -> CreateTopicsResponseTopic:
        """Create a topic, or only check whether it could be; its id and shape."""
        settings = [CreateTopicsRequestConfig(key, value) for key, value in (configs or {}).items()]
        topic = CreateTopicsRequestTopic(name, partitions, replication_factor, [], settings)
        request = CreateTopicsRequest([topic], int(self.cluster.timeout_s * 1000), validate_only)
        connection = self.cluster.any_connection()
        for result in connection.request(CREATE_TOPICS, request, CreateTopicsResponse).topics:
            if result.name == name:
                raise_for(result.error_code, result.error_message or f"topic {name}")
                self.cluster.forget(name)
                return result
        raise KafkaError(errors.UNKNOWN_SERVER_ERROR, f"no answer about topic {name}")

    def delete_topic(self, name: str) -> None:
        """Delete a topic by name."""
        request = DeleteTopicsRequest(
            [DeleteTopicsRequestTopic(name)], [name], int(self.cluster.timeout_s * 1000)
        )
        connection = self.cluster.any_connection()
        response = connection.request(DELETE_TOPICS, request, DeleteTopicsResponse)
        for result in response.responses:
            raise_for(result.error_code, result.error_message or f"topic {name}")
        self.cluster.forget(name)

    def list_topics(self) -> list[MetadataResponseTopic]:
        """Every topic, by name."""
        return sorted(self.cluster.metadata(None).topics, key=lambda topic: topic.name or "")

    def describe_topic(self, name: str) -> MetadataResponseTopic:
        """One topic, partitions in order."""
        response = self.cluster.metadata([name])
        topic = response.topics[0]
        raise_for(topic.error_code, f"topic {name}")
        topic.partitions.sort(key=lambda partition: partition.partition_index)
        return topic

    def create_partitions(self, topic: str, count: int, *, validate_only: bool = False) -> None:
        """Have a topic hold `count` partitions in all, or only check whether it could."""
        wanted = CreatePartitionsRequestTopic(topic, count)
        request = CreatePartitionsRequest([wanted], int(self.cluster.timeout_s * 1000), validate_only)
        connection = self.cluster.any_connection()
        for result in connection.request(CREATE_PARTITIONS, request, CreatePartitionsResponse).results:
            raise_for(result.error_code, result.error_message or f"topic {topic}")
        self.cluster.forget(topic)

    def delete_records(self, topic: str, before: Mapping[int, int]) -> dict[int, int]:
        """Delete what comes before an offset of each partition; the first offset that is left of each."""
        left: dict[int, int] = {}
        for leader, indexes in self.cluster.by_leader(topic, before).items():
            parts = [DeleteRecordsRequestPartition(index, before[index]) for index in indexes]
            wanted = [DeleteRecordsRequestTopic(topic, parts)]
            request = DeleteRecordsRequest(wanted, int(self.cluster.timeout_s * 1000))
            response = leader.request(DELETE_RECORDS, request, DeleteRecordsResponse)
            for part in response.topics[0].partitions:
                index = part.partition_index
                raise_for(part.error_code, f"{topic}-{index}: records before offset {before[index]}")
                left[index] = part.low_watermark
        return left

    def alter_topic_configs(
        self, topic: str, settings: Mapping[str, str | None], *, validate_only: bool = False
    ) -> None:
        """Set configs of a topic; None takes one back to the broker's default."""
        changes = [
            IncrementalAlterConfigsRequestConfig(key, DELETE if value is None else SET, value)
            for key, value in settings.items()
        ]
        resource = IncrementalAlterConfigsRequestResource(TOPIC, topic, changes)
        request = IncrementalAlterConfigsRequest([resource], validate_only)
        connection = self.cluster.any_connection()
        response = connection.request(INCREMENTAL_ALTER_CONFIGS, request, IncrementalAlterConfigsResponse)
        for result in response.responses:
            raise_for(result.error_code, result.error_message or f"topic {topic}")

    def topic_configs(self, topic: str) -> list[DescribeConfigsResponseConfig]:
        """Every config of a topic, by name."""
        request = DescribeConfigsRequest([DescribeConfigsRequestResource(TOPIC, topic)])
        connection = self.cluster.any_connection()
        result = connection.request(DESCRIBE_CONFIGS, request, DescribeConfigsResponse).results[0]
        raise_for(result.error_code, result.error_message or f"topic {topic}")
        return sorted(result.configs, key=lambda config: config.name)

    def find_offset(self, topic: str, partition: int, timestamp: int) -> FoundOffset:
        """The first offset at or after a timestamp; -1 and -2 stand for the end and the start."""
        return self.find_offsets(topic, {partition: timestamp})[partition]

    def find_offsets(self, topic: str, timestamps: Mapping[int, int]) -> dict[int, FoundOffset]:
        """The same of several partitions, each with its timestamp."""
        offsets: dict[int, FoundOffset] = {}
        for leader, indexes in self.cluster.by_leader(topic, timestamps).items():
            wanted = [ListOffsetsRequestPartition(index, -1, timestamps[index]) for index in indexes]
            request = ListOffsetsRequest(CONSUMER, 0, [ListOffsetsRequestTopic(topic, wanted)])
            response = leader.request(LIST_OFFSETS, request, ListOffsetsResponse)
            for found in response.topics[0].partitions:
                raise_for(found.error_code, f"{topic}-{found.partition_index}")
                offsets[found.partition_index] = FoundOffset(
                    offset=found.offset, timestamp=found.timestamp, leader_epoch=found.leader_epoch
                )
        return offsets
