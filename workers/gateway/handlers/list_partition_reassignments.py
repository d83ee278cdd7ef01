"""ListPartitionReassignments, from this gateway's image."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from tailrace.core.metadata.reassignments import ongoing
from tailrace.core.protocol.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
    ListPartitionReassignmentsResponsePartition,
    ListPartitionReassignmentsResponseTopic,
)

if TYPE_CHECKING:
    from tailrace.core.metadata.requests import OngoingReassignment
    from tailrace.workers.gateway.gateway import Gateway
    from tailrace.workers.gateway.request import Request


def handle(gateway: Gateway, request: Request) -> None:
    """What is not moved is left out, and so is what does not exist."""
    asked: ListPartitionReassignmentsRequest = request.decode()
    topics = asked.topics
    wanted = None if topics is None else [(topic.name, topic.partition_indexes) for topic in topics]
    moves = ongoing(gateway.image, wanted)
    request.respond(
        ListPartitionReassignmentsResponse(
            topics=[
                ListPartitionReassignmentsResponseTopic(topic, [_told(move) for move in of_topic])
                for topic, of_topic in groupby(moves, lambda move: move.topic)
            ]
        )
    )


def _told(move: OngoingReassignment) -> ListPartitionReassignmentsResponsePartition:
    return ListPartitionReassignmentsResponsePartition(
        move.partition, list(move.replicas), list(move.adding), list(move.removing)
    )
