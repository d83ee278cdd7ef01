"""Requests about leaders and replicas, from what they ask by topic and partition; None: about all."""

from tailrace.core.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsRequestPartition,
    AlterPartitionReassignmentsRequestTopic,
)
from tailrace.core.protocol.messages.elect_leaders import (
    PREFERRED,
    ElectLeadersRequest,
    ElectLeadersRequestTopic,
)
from tailrace.core.protocol.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsRequestTopic,
)

TIMEOUT_MS = 10_000
Partitions = dict[str, list[int]]
Moves = dict[str, dict[int, list[int] | None]]  # to which brokers; None: the move is taken back


def election(asked: Partitions | None, kind: int = PREFERRED) -> ElectLeadersRequest:
    """ElectLeaders."""
    topics = None if asked is None else [ElectLeadersRequestTopic(*pair) for pair in asked.items()]
    return ElectLeadersRequest(kind, topics, TIMEOUT_MS)


def reassignment(asked: Moves, *, may_change: bool = True) -> AlterPartitionReassignmentsRequest:
    """AlterPartitionReassignments; `may_change`: how many replicas there are."""
    topics = [
        AlterPartitionReassignmentsRequestTopic(
            name, [AlterPartitionReassignmentsRequestPartition(*pair) for pair in partitions.items()]
        )
        for name, partitions in asked.items()
    ]
    return AlterPartitionReassignmentsRequest(TIMEOUT_MS, may_change, topics)


def listing(asked: Partitions | None) -> ListPartitionReassignmentsRequest:
    """ListPartitionReassignments."""
    topics = (
        None if asked is None else [ListPartitionReassignmentsRequestTopic(*pair) for pair in asked.items()]
    )
    return ListPartitionReassignmentsRequest(TIMEOUT_MS, topics)
