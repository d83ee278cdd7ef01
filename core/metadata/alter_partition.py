"""AlterPartition: the leader of a partition proposes who is in sync.

Checks, order and codes are those of Kafka's controller. Without the state of recovery after an unclean
election: its leader is the only one in sync, and others join it as they always do.
"""

from collections.abc import Sequence

import msgspec

from tailrace.core import errors
from tailrace.core.metadata.brokers import check_broker_epoch
from tailrace.core.metadata.image import MetadataImage, PartitionImage, changed
from tailrace.core.metadata.leadership import (
    Key,
    LeaderRules,
    Target,
    candidates,
    change_partition,
    election_of,
)
from tailrace.core.metadata.records import PartitionChange, Record
from tailrace.core.metadata.requests import IsrProposal, IsrResult


class AlteredPartitions(msgspec.Struct, kw_only=True, frozen=True):
    """Records to commit as one batch and the answers to give once they are committed, one a proposal."""

    records: list[Record]
    results: list[IsrResult]


def alter_partitions(
    image: MetadataImage,
    broker_id: int,
    broker_epoch: int,
    proposals: Sequence[IsrProposal],
    rules: LeaderRules,
) -> AlteredPartitions:
    """Decide about every partition by itself; STALE_BROKER_EPOCH raised for a broker that is not this one.

    NEW_LEADER_ELECTED comes with a record: the proposal completed a reassignment that the leader is no part
    of.
    """
    check_broker_epoch(image, broker_id, broker_epoch)
    records: list[Record] = []
    results: list[IsrResult] = []
    seen: set[Key] = set()
    for proposal in proposals:
        key = (proposal.topic_id, proposal.partition)
        code, record, after = _decide(image, broker_id, proposal, rules, again=key in seen)
        seen.add(key)
        if record is not None:
            records.append(record)
        if code or after is None:
            result = IsrResult(topic_id=proposal.topic_id, partition=proposal.partition, error_code=code)
        else:
            result = IsrResult(
                topic_id=proposal.topic_id,
                partition=proposal.partition,
                leader=after.leader,
                leader_epoch=after.leader_epoch,
                partition_epoch=after.partition_epoch,
                isr=after.isr,
            )
        results.append(result)
    return AlteredPartitions(records=records, results=results)


def _decide(
    image: MetadataImage, broker_id: int, proposal: IsrProposal, rules: LeaderRules, *, again: bool
) -> tuple[int, PartitionChange | None, PartitionImage | None]:
    topic = image.topics_by_id.get(proposal.topic_id)
    if topic is None:
        return errors.UNKNOWN_TOPIC_ID, None, None
    old = image.partition(proposal.topic_id, proposal.partition)
    if old is None:
        return errors.UNKNOWN_TOPIC_OR_PARTITION, None, None
    code = errors.INVALID_UPDATE_VERSION if again else _refusal(image, broker_id, old, proposal)
    if code:
        return code, None, None
    may_lead = candidates(image, topic.topic_id, old, rules)
    isr = [member for member, _ in proposal.isr]
    election = election_of(image, topic.name, rules)
    record = change_partition(topic.topic_id, old, may_lead, election, Target(isr=isr))
    after = old if record is None else changed(old, record)
    return (errors.NONE if after.leader == broker_id else errors.NEW_LEADER_ELECTED), record, after


def _refusal(image: MetadataImage, broker_id: int, old: PartitionImage, proposal: IsrProposal) -> int:
    if proposal.leader_epoch > old.leader_epoch or proposal.partition_epoch > old.partition_epoch:
        return errors.NOT_CONTROLLER  # the leader has heard of more than this controller
    if proposal.leader_epoch < old.leader_epoch:
        return errors.FENCED_LEADER_EPOCH
    if broker_id != old.leader:
        return errors.INVALID_REQUEST
    if proposal.partition_epoch < old.partition_epoch:
        return errors.INVALID_UPDATE_VERSION
    isr = [member for member, _ in proposal.isr]
    if len(set(isr)) != len(isr) or not set(isr) <= set(old.replicas) or old.leader not in isr:
        return errors.INVALID_REQUEST
    if not all(_is_eligible(image, member, epoch) for member, epoch in proposal.isr):
        return errors.INELIGIBLE_REPLICA
    return errors.NONE


def _is_eligible(image: MetadataImage, broker_id: int, broker_epoch: int) -> bool:
    """(R) A broker that started anew since the leader last heard of it may lack what it then had."""
    if not image.is_active(broker_id):
        return False
    return broker_epoch in (-1, image.brokers[broker_id].broker_epoch)
