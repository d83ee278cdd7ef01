"""Topics: create, delete, list, describe; and the offsets of a partition."""

from collections.abc import Mapping

import msgspec

from tailrace.clients.cluster import Cluster
from tailrace.core import errors
from tailrace.core.errors import KafkaError
from tailrace.core.protocol.apis import CREATE_TOPICS, DELETE_TOPICS, LIST_OFFSETS
from tailrace.core.protocol.messages.create_topics import (
    CreateTopicsRequest,
    CreateTopicsRequestConfig,
    CreateTopicsRequestTopic,
    CreateTopicsResponse,
    CreateTopicsResponseTopic,
)
from tailrace.core.protocol.messages.delete_topics import (
    DeleteTopicsRequest,
    DeleteTopicsRequestTopic,
    DeleteTopicsResponse,
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
                _raise_for(result.error_code, result.error_message or f"topic {name}")
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
            _raise_for(result.error_code, result.error_message or f"topic {name}")
        self.cluster.forget(name)

    def list_topics(self) -> list[MetadataResponseTopic]:
        """Every topic, by name."""
        return sorted(self.cluster.metadata(None).topics, key=lambda topic: topic.name or "")

    def describe_topic(self, name: str) -> MetadataResponseTopic:
        """One topic, partitions in order."""
        response = self.cluster.metadata([name])
        topic = response.topics[0]
        _raise_for(topic.error_code, f"topic {name}")
        topic.partitions.sort(key=lambda partition: partition.partition_index)
        return topic

    def find_offset(self, topic: str, partition: int, timestamp: int) -> FoundOffset:
        """The first offset at or after a timestamp; -1 and -2 stand for the end and the start."""
        wanted = ListOffsetsRequestPartition(partition, -1, timestamp)
        request = ListOffsetsRequest(CONSUMER, 0, [ListOffsetsRequestTopic(topic, [wanted])])
        response = self.cluster.leader(topic, partition).request(LIST_OFFSETS, request, ListOffsetsResponse)
        found = response.topics[0].partitions[0]
        _raise_for(found.error_code, f"{topic}-{partition}")
        return FoundOffset(offset=found.offset, timestamp=found.timestamp, leader_epoch=found.leader_epoch)


def _raise_for(code: int, message: str) -> None:
    if code:
        raise KafkaError(code, message)
