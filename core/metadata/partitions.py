"""CreatePartitions: request + image in, records + results out.

The checks, their order, codes and sentences are those of Kafka's controller; the sum of partitions is bounded
as in CreateTopics.
"""

from collections import Counter
from collections.abc import Sequence

from tailrace.core import errors
from tailrace.core.errors import KafkaError
from tailrace.core.metadata.image import MetadataImage, TopicImage
from tailrace.core.metadata.records import Record
from tailrace.core.metadata.requests import MorePartitions, TopicResult
from tailrace.core.metadata.topics import (
    OFFSETS_TOPIC,
    Decision,
    all_inactive,
    bad_assignment,
    check_placed,
    check_replicas,
    in_sync_of,
    partition_records,
    place,
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
        free -= sum(map(len, placed))
        records += partition_records(image, topic.topic_id, placed, len(topic.partitions))
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
    replication_factor = len(topic.partitions[0].replicas)
    if more.assignments is None:
        placed = place(image, missing, replication_factor, free)
        if not all(in_sync_of(image, replicas) for replicas in placed):
            raise all_inactive(replication_factor)
        return placed
    for partition, replicas in enumerate(more.assignments, there):
        check_replicas(image, replicas)
        check_placed(image, partition, replicas, replication_factor)
    return [tuple(replicas) for replicas in more.assignments]
