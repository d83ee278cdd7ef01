"""CreatePartitions: request + image in, records + results out.

The checks, their order, codes and sentences are those of Kafka's controller; the sum of partitions is bounded
as in CreateTopics.
"""

from collections import Counter
from collections.abc import Sequence

from tailrace.core import errors
from tailrace.core.errors import KafkaError
from tailrace.core.metadata.image import MetadataImage, TopicImage
from tailrace.core.metadata.placement import place_replicas
from tailrace.core.metadata.records import PartitionRecord, Record
from tailrace.core.metadata.requests import MorePartitions, TopicResult
from tailrace.core.metadata.topics import (
    OFFSETS_TOPIC,
    Decision,
    bad_assignment,
    check_replicas,
    check_room,
)


def create_partitions(
    image: MetadataImage, topics: Sequence[MorePartitions], partitions_free: int
) -> Decision:
    """Decide about every topic by itself. A result has the topic's id, and its new count of partitions."""
    asked = Counter(topic.name for topic in topics)
    free = partitions_free
    records: list[Record] = []
    results: list[TopicResult] = []
    for more in topics:
        try:
            if asked[more.name] > 1:
                raise KafkaError(errors.INVALID_REQUEST, "Duplicate topic name.")
            topic = image.topics_by_name.get(more.name)
            if topic is None:
                raise KafkaError(errors.UNKNOWN_TOPIC_OR_PARTITION)
            if more.name == OFFSETS_TOPIC:  # (R) Kafka adds them, and loses what groups committed
                raise KafkaError(
                    errors.INVALID_REQUEST,
                    f"Groups are found by the number of partitions of {OFFSETS_TOPIC}: it stays as it is.",
                )
            placed = _placement(image, topic, more, free)
        except KafkaError as error:
            results.append(
                TopicResult(name=more.name, error_code=error.code, error_message=error.message or None)
            )
            continue
        free -= len(placed)
        records += _partition_records(topic, placed)
        results.append(TopicResult(name=more.name, topic_id=topic.topic_id, num_partitions=more.count))
    return Decision(records=records, results=results)


def _placement(
    image: MetadataImage, topic: TopicImage, more: MorePartitions, free: int
) -> list[tuple[int, ...]]:
    there = len(topic.partitions)
    if more.count == there:
        raise KafkaError(errors.INVALID_PARTITIONS, f"Topic already has {there} partition(s).")
    if more.count < there:
        raise KafkaError(
            errors.INVALID_PARTITIONS,
            f"The topic {topic.name} currently has {there} partition(s); {more.count} would not be an "
            "increase.",
        )
    missing = more.count - there
    if more.assignments is not None and len(more.assignments) != missing:
        raise bad_assignment(
            f"Attempted to add {missing} additional partition(s), but only {len(more.assignments)} "
            "assignment(s) were specified."
        )
    check_room(missing, free)  # before a list of 2^31 entries is made
    replication_factor = len(topic.partitions[0].replicas)
    if more.assignments is None:
        return place_replicas(sorted(image.brokers), missing, replication_factor, image.partition_count)
    for replicas in more.assignments:
        check_replicas(image, replicas)
        if len(replicas) != replication_factor:
            raise bad_assignment(
                f"The manual partition assignment includes a partition with {len(replicas)} replica(s), but "
                f"this is not consistent with previous partitions, which have {replication_factor} "
                "replica(s)."
            )
    return [tuple(replicas) for replicas in more.assignments]


def _partition_records(topic: TopicImage, placed: Sequence[tuple[int, ...]]) -> list[Record]:
    return [
        PartitionRecord(
            topic_id=topic.topic_id,
            partition=partition,
            replicas=replicas,
            isr=replicas,
            leader=replicas[0],
            leader_epoch=0,
            partition_epoch=0,
        )
        for partition, replicas in enumerate(placed, len(topic.partitions))
    ]
