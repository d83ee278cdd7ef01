"""What several answers say alike about the cluster, its topics and partitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tailrace.core.errors import (
    INVALID_TOPIC_EXCEPTION,
    KAFKA_STORAGE_ERROR,
    LEADER_NOT_AVAILABLE,
    NONE,
    UNKNOWN_TOPIC_OR_PARTITION,
    KafkaError,
)
from tailrace.core.metadata.records import NO_LEADER
from tailrace.core.metadata.topics import INTERNAL_TOPICS, check_topic_name

if TYPE_CHECKING:
    from tailrace.core.metadata.image import PartitionImage
    from tailrace.workers.gateway.gateway import Gateway

# Every operation that Kafka knows on the resource, one bit each: without an authorizer all are allowed.
TOPIC_OPERATIONS = sum(1 << operation for operation in (3, 4, 5, 6, 7, 8, 10, 11))
GROUP_OPERATIONS = sum(1 << operation for operation in (3, 6, 8, 10, 11))
CLUSTER_OPERATIONS = sum(1 << operation for operation in (5, 7, 8, 9, 10, 11, 12))


class PartitionView(NamedTuple):
    """A partition as clients are told: whether it can be used now, and through whom."""

    error_code: int
    leader: int
    isr: list[int]
    offline_replicas: list[int]


def view_partition(gateway: Gateway, topic_id: bytes, partition: PartitionImage) -> PartitionView:
    """As committed, but that a leader which is not there now is none."""
    code = gateway.partitions.error_of(topic_id, partition.partition)
    offline = [replica for replica in partition.replicas if _is_offline(gateway, partition, replica)]
    isr = list(partition.isr)
    if code == NONE and partition.leader != NO_LEADER and partition.leader not in offline:
        return PartitionView(NONE, partition.leader, isr, offline)
    if code == KAFKA_STORAGE_ERROR and len(partition.replicas) == 1:
        return PartitionView(LEADER_NOT_AVAILABLE, NO_LEADER, [], list(partition.replicas))
    return PartitionView(LEADER_NOT_AVAILABLE, NO_LEADER, isr, offline)


def _is_offline(gateway: Gateway, partition: PartitionImage, broker_id: int) -> bool:
    """As Kafka: its broker is gone or fenced, or the log directory of the replica failed."""
    directory = partition.directory_of(broker_id)
    return not (gateway.brokers.is_there(broker_id) and gateway.image.serves_from(broker_id, directory))


def is_internal(name: str) -> bool:
    """Whether Kafka keeps its own state in a topic of this name."""
    return name in INTERNAL_TOPICS


def absence_code(name: str) -> int:
    """What is said of a topic that does not exist."""
    try:
        check_topic_name(name)
    except KafkaError:
        return INVALID_TOPIC_EXCEPTION
    return UNKNOWN_TOPIC_OR_PARTITION
