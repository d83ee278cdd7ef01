"""One member of a KIP-848 group, as its records tell it."""

from collections.abc import Mapping
from typing import Final, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from tailrace.core.groups.records import (
    ClassicMemberMetadata,
    ConsumerGroupCurrentMemberAssignmentValue,
    ConsumerGroupMemberMetadataValue,
    CurrentAssignmentTopicPartitions,
)

# Epochs that a member sends to leave, and the second also what a static member keeps while it is away.
LEFT: Final = -1
LEFT_FOR_A_WHILE: Final = -2

STABLE: Final = 0
UNREVOKED_PARTITIONS: Final = 1
UNRELEASED_PARTITIONS: Final = 2

Assigned: TypeAlias = Mapping[bytes, Mapping[int, int]]
"""By topic id: partition -> the epoch in which the member got it."""


class ConsumerMember(Struct, kw_only=True, frozen=True):
    """A member. `assigned` it may read, `revoking` it must give back before it goes on to the next epoch."""

    member_id: str
    member_epoch: int = 0
    previous_member_epoch: int = -1
    state: int = STABLE
    instance_id: str | None = None
    rack_id: str | None = None
    rebalance_timeout_ms: int = -1
    client_id: str = ""
    client_host: str = ""
    topic_names: frozenset[str] = frozenset()
    topic_regex: str = ""
    server_assignor: str | None = None
    classic: ClassicMemberMetadata | None = None  # of a member that speaks the classic protocol
    assigned: Assigned = {}
    revoking: Assigned = {}

    def is_reconciled_to(self, assignment_epoch: int) -> bool:
        """Whether it owns its whole target of this epoch, and nothing else."""
        return self.state == STABLE and self.member_epoch == assignment_epoch

    def assignment_epoch(self, topic_id: bytes, partition: int) -> int | None:
        """The epoch in which it got a partition that it owns or has yet to give back."""
        epoch = self.assigned.get(topic_id, {}).get(partition)
        return self.revoking.get(topic_id, {}).get(partition) if epoch is None else epoch


def with_metadata(member: ConsumerMember, value: ConsumerGroupMemberMetadataValue) -> ConsumerMember:
    """The member as this record has it."""
    return replace(
        member,
        instance_id=value.instance_id,
        rack_id=value.rack_id,
        client_id=value.client_id,
        client_host=value.client_host,
        topic_names=frozenset(value.subscribed_topic_names),
        topic_regex=value.subscribed_topic_regex or "",
        rebalance_timeout_ms=value.rebalance_timeout_ms,
        server_assignor=value.server_assignor,
        classic=value.classic_member_metadata,
    )


def metadata_of(member: ConsumerMember) -> ConsumerGroupMemberMetadataValue:
    """The record for `with_metadata`."""
    return ConsumerGroupMemberMetadataValue(
        instance_id=member.instance_id,
        rack_id=member.rack_id,
        client_id=member.client_id,
        client_host=member.client_host,
        subscribed_topic_names=sorted(member.topic_names),
        subscribed_topic_regex=member.topic_regex,
        rebalance_timeout_ms=member.rebalance_timeout_ms,
        server_assignor=member.server_assignor,
        classic_member_metadata=member.classic,
    )


def with_assignment(
    member: ConsumerMember, value: ConsumerGroupCurrentMemberAssignmentValue
) -> ConsumerMember:
    """The member with what this record says it owns."""
    return replace(
        member,
        member_epoch=value.member_epoch,
        previous_member_epoch=value.previous_member_epoch,
        state=value.state,
        assigned=_epochs(value.assigned_partitions, value.member_epoch),
        revoking=_epochs(value.partitions_pending_revocation, value.member_epoch),
    )


def assignment_of(member: ConsumerMember) -> ConsumerGroupCurrentMemberAssignmentValue:
    """The record for `with_assignment`."""
    return ConsumerGroupCurrentMemberAssignmentValue(
        member_epoch=member.member_epoch,
        previous_member_epoch=member.previous_member_epoch,
        state=member.state,
        assigned_partitions=_topics(member.assigned),
        partitions_pending_revocation=_topics(member.revoking),
    )


def _epochs(topics: list[CurrentAssignmentTopicPartitions], member_epoch: int) -> Assigned:
    """Records of Kafka before 4.3 have no epochs: those got theirs in the member's."""
    assigned: dict[bytes, dict[int, int]] = {}
    for topic in topics:
        epochs = topic.assignment_epochs
        if epochs is None or len(epochs) != len(topic.partitions):
            epochs = [max(member_epoch, 0)] * len(topic.partitions)
        assigned[topic.topic_id] = dict(zip(topic.partitions, epochs, strict=True))
    return assigned


def _topics(assigned: Assigned) -> list[CurrentAssignmentTopicPartitions]:
    return [
        CurrentAssignmentTopicPartitions(
            topic_id=topic_id, partitions=list(parts), assignment_epochs=list(parts.values())
        )
        for topic_id, parts in assigned.items()
    ]
