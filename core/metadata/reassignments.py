"""AlterPartitionReassignments and ListPartitionReassignments: replicas move from brokers to brokers.

A move first adds the new replicas to the partition; it ends, by `change_partition`, with the proposal of the
leader that brings them into the ISR, and then those to be removed go. Checks, order, codes and sentences are
those of Kafka's controller. A difference, on purpose, where one move replaces another that has not ended:
Kafka forgets which replicas the first was adding, or goes on to remove one that the second wants; here both
lists are those of the move as it now is.
"""

from collections.abc import Sequence

import msgspec

from tailrace.core import errors
from tailrace.core.errors import KafkaError
from tailrace.core.metadata.image import MetadataImage, PartitionImage, TopicImage
from tailrace.core.metadata.leadership import (
    ONLINE,
    Key,
    LeaderRules,
    Target,
    candidates,
    change_partition,
    election_of,
    unclean_allowed,
)
from tailrace.core.metadata.records import PartitionChange, Record
from tailrace.core.metadata.requests import OngoingReassignment, PartitionResult, Reassignment
from tailrace.core.metadata.topics import check_replicas


class Reassigned(msgspec.Struct, kw_only=True, frozen=True):
    """Records to commit as one batch and the answers to give then, one a partition, in the order asked."""

    records: list[Record]
    results: list[PartitionResult]


def reassign(
    image: MetadataImage,
    asked: Sequence[Reassignment],
    rules: LeaderRules,
    *,
    replication_factor_may_change: bool = True,
    replicas_free: int = 1 << 31,
) -> Reassigned:
    """Decide about every partition by itself. `replicas_free` is what the host has room for."""
    records: list[Record] = []
    results: list[PartitionResult] = []
    seen: set[Key] = set()
    for move in asked:
        try:
            topic, partition = _find(image, move)
            key = (topic.topic_id, partition.partition)
            if key in seen:
                raise KafkaError(errors.INVALID_REQUEST, "Each partition must appear at most once.")
            seen.add(key)
            if move.replicas is None:
                record = _cancel(image, topic, partition, rules)
            else:
                if not replication_factor_may_change:
                    check_replicas(image, move.replicas)
                    _check_replication_factor(partition, move.replicas)
                record = _move(image, topic, partition, move.replicas, rules)
            more = _replicas_added(partition, record)
            if more > replicas_free:
                raise KafkaError(
                    errors.POLICY_VIOLATION,
                    f"{more} more replica(s) asked for, this host has room for {replicas_free} more.",
                )
            replicas_free -= more
        except KafkaError as error:
            results.append(
                PartitionResult(
                    topic=move.topic,
                    partition=move.partition,
                    error_code=error.code,
                    error_message=error.message or None,
                )
            )
            continue
        if record is not None:
            records.append(record)
        results.append(PartitionResult(topic=move.topic, partition=move.partition))
    return Reassigned(records=records, results=results)


def ongoing(
    image: MetadataImage, asked: Sequence[tuple[str, Sequence[int]]] | None
) -> list[OngoingReassignment]:
    """The moves that have not ended, of these partitions by topic; None: all there are. What does not exist
    or is not moved is left out.
    """
    if asked is None:
        return [_ongoing(topic, partition) for topic, partition in image.walk() if partition.is_reassigned]
    found: list[OngoingReassignment] = []
    for name, indexes in asked:
        topic = image.topics_by_name.get(name)
        for index in indexes if topic is not None else ():
            partition = image.partition(topic.topic_id, index) if topic is not None else None
            if topic is not None and partition is not None and partition.is_reassigned:
                found.append(_ongoing(topic, partition))
    return found


def _ongoing(topic: TopicImage, partition: PartitionImage) -> OngoingReassignment:
    return OngoingReassignment(
        topic=topic.name,
        partition=partition.partition,
        replicas=partition.replicas,
        adding=partition.adding,
        removing=partition.removing,
    )


def _find(image: MetadataImage, move: Reassignment) -> tuple[TopicImage, PartitionImage]:
    topic = image.topics_by_name.get(move.topic)
    if topic is None:
        raise KafkaError(errors.UNKNOWN_TOPIC_OR_PARTITION, f"Unable to find a topic named {move.topic}.")
    partition = image.partition(topic.topic_id, move.partition)
    if partition is None:
        raise KafkaError(
            errors.UNKNOWN_TOPIC_OR_PARTITION, f"Unable to find partition {move.topic}:{move.partition}."
        )
    return topic, partition


def _check_replication_factor(partition: PartitionImage, replicas: Sequence[int]) -> None:
    """One that is being moved counts as if it had arrived."""
    now = len(set(partition.replicas) - set(partition.removing))
    if now != len(replicas):
        raise KafkaError(
            errors.INVALID_REPLICATION_FACTOR,
            f"The replication factor is changed from {now} to {len(replicas)}",
        )


def _replicas_added(partition: PartitionImage, record: PartitionChange | None) -> int:
    if record is None or record.replicas is None:
        return 0
    return len(set(record.replicas) - set(partition.replicas))


def _move(
    image: MetadataImage,
    topic: TopicImage,
    old: PartitionImage,
    replicas: Sequence[int],
    rules: LeaderRules,
) -> PartitionChange | None:
    check_replicas(image, replicas)
    removing = sorted(set(old.replicas) - set(replicas))
    adding = sorted((set(replicas) - set(old.replicas)) | (set(old.adding) & set(replicas)))
    may_lead = candidates(image, topic.topic_id, old, rules)
    target = Target(replicas=[*replicas, *removing], adding=adding, removing=removing)
    return change_partition(topic.topic_id, old, may_lead, ONLINE, target)


def _cancel(
    image: MetadataImage, topic: TopicImage, old: PartitionImage, rules: LeaderRules
) -> PartitionChange | None:
    """Back to the replicas from before. Where all in sync are new ones, one of the old has to be taken for
    in sync: an unclean election.
    """
    if not old.is_reassigned:
        raise KafkaError(errors.NO_REASSIGNMENT_IN_PROGRESS)
    replicas = [broker_id for broker_id in old.replicas if broker_id not in old.adding]
    isr = [broker_id for broker_id in old.isr if broker_id not in old.adding]
    if not replicas:
        raise KafkaError(
            errors.INVALID_REPLICA_ASSIGNMENT,
            "Invalid replica assignment: addingReplicas contains all replicas.",
        )
    unclean = not isr
    if unclean and not unclean_allowed(image, topic.name, rules):
        raise KafkaError(
            errors.INVALID_REPLICA_ASSIGNMENT,
            f"Unable to revert partition assignment for {topic.name}:{old.partition} because it would "
            "require an unclean leader election.",
        )
    may_lead = candidates(image, topic.topic_id, old, rules)
    target = Target(replicas=replicas, isr=isr or replicas[:1], adding=(), removing=(), unclean=unclean)
    return change_partition(topic.topic_id, old, may_lead, election_of(image, topic.name, rules), target)
