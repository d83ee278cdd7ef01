"""AlterPartitionReassignments: the controller decides and commits where replicas are to be; the moves go on
after the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace.core.errors import REQUEST_TIMED_OUT
from tailrace.core.metadata.requests import Reassignment
from tailrace.core.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    AlterPartitionReassignmentsResponsePartition,
    AlterPartitionReassignmentsResponseTopic,
)
from tailrace.workers.control import PartitionResults, Reassign
from tailrace.workers.gateway.controller_requests import TIMED_OUT

if TYPE_CHECKING:
    from tailrace.workers.gateway.controller_requests import Answer
    from tailrace.workers.gateway.gateway import Gateway
    from tailrace.workers.gateway.request import Request


def handle(gateway: Gateway, request: Request) -> None:
    """Ask the controller and wait until this gateway's own image has the moves."""
    asked: AlterPartitionReassignmentsRequest = request.decode()
    if not asked.topics:
        request.respond(AlterPartitionReassignmentsResponse(error_message=""))  # Kafka's, without a null
        return
    gateway.controller.ask(
        lambda request_id: Reassign(
            request_id=request_id,
            moves=_moves(asked),
            replication_factor_may_change=asked.allow_replication_factor_change,
        ),
        lambda answer: request.respond(_response(asked, answer)),
        asked.timeout_ms,
    )


def _moves(asked: AlterPartitionReassignmentsRequest) -> list[Reassignment]:
    return [
        Reassignment(
            topic=topic.name,
            partition=partition.partition_index,
            replicas=None if partition.replicas is None else tuple(partition.replicas),
        )
        for topic in asked.topics
        for partition in topic.partitions
    ]


def _response(
    asked: AlterPartitionReassignmentsRequest, answer: Answer
) -> AlterPartitionReassignmentsResponse:
    response = AlterPartitionReassignmentsResponse(
        allow_replication_factor_change=asked.allow_replication_factor_change
    )
    if not isinstance(answer, PartitionResults):
        response.error_code, response.error_message = REQUEST_TIMED_OUT, TIMED_OUT
    elif answer.error_code:
        response.error_code, response.error_message = answer.error_code, answer.error_message
    else:
        results = iter(answer.results)
        response.responses = [
            AlterPartitionReassignmentsResponseTopic(
                topic.name,
                [
                    AlterPartitionReassignmentsResponsePartition(
                        result.partition, result.error_code, result.error_message
                    )
                    for _, result in zip(topic.partitions, results, strict=False)
                ],
            )
            for topic in asked.topics
        ]
    return response
