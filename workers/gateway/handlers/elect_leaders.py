"""ElectLeaders: the controller decides, has leaders resign that are to be replaced, and commits."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from tailrace.core.errors import REQUEST_TIMED_OUT
from tailrace.core.metadata.requests import PartitionResult
from tailrace.core.protocol.messages.elect_leaders import (
    ElectLeadersRequest,
    ElectLeadersRequestTopic,
    ElectLeadersResponse,
    ElectLeadersResponsePartition,
    ElectLeadersResponseTopic,
)
from tailrace.workers.control import ElectLeaders, PartitionResults
from tailrace.workers.gateway.controller_requests import TIMED_OUT

if TYPE_CHECKING:
    from tailrace.workers.gateway.controller_requests import Answer
    from tailrace.workers.gateway.gateway import Gateway
    from tailrace.workers.gateway.request import Request


def handle(gateway: Gateway, request: Request) -> None:
    """Ask the controller and wait until this gateway's own image has the leaders."""
    asked: ElectLeadersRequest = request.decode()
    topics = asked.topic_partitions
    gateway.controller.ask(
        lambda request_id: ElectLeaders(
            request_id=request_id,
            election_type=asked.election_type,
            partitions=None if topics is None else _places(topics),
        ),
        lambda answer: request.respond(_response(topics, answer)),
        asked.timeout_ms,
    )


def _places(topics: list[ElectLeadersRequestTopic]) -> list[tuple[str, int]]:
    return [(topic.topic, partition) for topic in topics for partition in topic.partitions]


def _response(topics: list[ElectLeadersRequestTopic] | None, answer: Answer) -> ElectLeadersResponse:
    """As Kafka's, an error of the whole request is also said of each partition that was named."""
    if not isinstance(answer, PartitionResults):
        answer = PartitionResults(
            request_id=0, metadata_offset=-1, error_code=REQUEST_TIMED_OUT, error_message=TIMED_OUT
        )
    results = answer.results
    if answer.error_code:
        results = [
            PartitionResult(
                topic=topic,
                partition=partition,
                error_code=answer.error_code,
                error_message=answer.error_message,
            )
            for topic, partition in _places(topics or [])
        ]
    return ElectLeadersResponse(
        error_code=answer.error_code,
        replica_election_results=[
            ElectLeadersResponseTopic(topic, [_told(result) for result in of_topic])
            for topic, of_topic in groupby(results, lambda result: result.topic)
        ],
    )


def _told(result: PartitionResult) -> ElectLeadersResponsePartition:
    return ElectLeadersResponsePartition(result.partition, result.error_code, result.error_message)
