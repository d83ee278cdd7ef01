"""ElectLeaders, and the elections that nobody asked for: the return of preferred leaders.

Checks, codes and sentences are those of Kafka's controller.
"""

from collections.abc import Sequence

import msgspec

from tailrace.core import errors
from tailrace.core.errors import KafkaError
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.leadership import (
    PREFERRED,
    UNCLEAN,
    LeaderRules,
    candidates,
    change_partition,
)
from tailrace.core.metadata.records import NO_LEADER, PartitionChange, Record
from tailrace.core.metadata.requests import PartitionResult

# Kafka's ElectionType on the wire.
ELECT_PREFERRED = 0
ELECT_UNCLEAN = 1

ELECTIONS_MAX = 1000  # of one automatic round, as Kafka's
# Kafka's own words for these codes, which it gives with them.
SENTENCES = {
    errors.ELECTION_NOT_NEEDED: "Leader election not needed for topic partition.",
    errors.PREFERRED_LEADER_NOT_AVAILABLE: "The preferred leader was not available.",
    errors.ELIGIBLE_LEADERS_NOT_AVAILABLE: "Eligible topic partition leaders are not available.",
}


class Elections(msgspec.Struct, kw_only=True, frozen=True):
    """Records to commit as one batch and the answers to give then, in the order asked."""

    records: list[Record]
    results: list[PartitionResult]


def elect_leaders(
    image: MetadataImage,
    election_type: int,
    asked: Sequence[tuple[str, int]] | None,
    rules: LeaderRules,
) -> Elections:
    """Elect for the partitions asked for by topic and index; None: for all, and those that need no election
    are left out of the answer. INVALID_REQUEST raised for an unknown type of election.
    """
    if election_type not in (ELECT_PREFERRED, ELECT_UNCLEAN):
        raise KafkaError(errors.INVALID_REQUEST, f"Unknown election type {election_type}")
    is_all = asked is None
    if asked is None:
        asked = [(topic.name, partition.partition) for topic, partition in image.walk()]
    records: list[Record] = []
    results: list[PartitionResult] = []
    decided: dict[tuple[str, int], PartitionResult] = {}
    for topic, partition in asked:
        result = decided.get((topic, partition))
        if result is None:
            try:
                records.append(_elect(image, election_type, topic, partition, rules))
                result = PartitionResult(topic=topic, partition=partition)
            except KafkaError as error:
                result = PartitionResult(
                    topic=topic, partition=partition, error_code=error.code, error_message=error.message
                )
            decided[topic, partition] = result
        if not is_all or result.error_code != errors.ELECTION_NOT_NEEDED:
            results.append(result)
    return Elections(records=records, results=results)


def _elect(
    image: MetadataImage, election_type: int, name: str, index: int, rules: LeaderRules
) -> PartitionChange:
    topic = image.topics_by_name.get(name)
    if topic is None:
        raise KafkaError(errors.UNKNOWN_TOPIC_OR_PARTITION, f"No such topic as {name}")
    partition = image.partition(topic.topic_id, index)
    if partition is None:
        raise KafkaError(errors.UNKNOWN_TOPIC_OR_PARTITION, f"No such partition as {name}-{index}")
    if election_type == ELECT_PREFERRED:
        has_leader = partition.leader == partition.replicas[0]
        election, refusal = PREFERRED, errors.PREFERRED_LEADER_NOT_AVAILABLE
    else:
        has_leader = partition.leader != NO_LEADER
        election, refusal = UNCLEAN, errors.ELIGIBLE_LEADERS_NOT_AVAILABLE
    if has_leader:
        raise _refused(errors.ELECTION_NOT_NEEDED)
    may_lead = candidates(image, topic.topic_id, partition, rules)
    record = change_partition(topic.topic_id, partition, may_lead, election)
    if record is None:
        raise _refused(refusal)
    return record


def _refused(code: int) -> KafkaError:
    return KafkaError(code, SENTENCES[code])


def is_imbalanced(image: MetadataImage) -> bool:
    """Whether some partition is led by another than its preferred leader."""
    return any(partition.leader not in (NO_LEADER, partition.replicas[0]) for _, partition in image.walk())


def rebalance(image: MetadataImage, rules: LeaderRules, limit: int = ELECTIONS_MAX) -> list[Record]:
    """Give leadership back to preferred leaders that may have it, at most so many: what
    auto.leader.rebalance.enable does every leader.imbalance.check.interval.seconds. If as many come, there
    are more. leader.imbalance.per.broker.percentage has no effect under KRaft, so none here.
    """
    records: list[Record] = []
    for topic, partition in image.walk():
        if partition.leader == partition.replicas[0]:
            continue
        may_lead = candidates(image, topic.topic_id, partition, rules)
        record = change_partition(topic.topic_id, partition, may_lead, PREFERRED)
        if record is not None:
            records.append(record)
            if len(records) == limit:
                break
    return records
