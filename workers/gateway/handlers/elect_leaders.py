"""ElectLeaders: the controller decides, has leaders resign that are to be replaced, and commits."""

from __future__ import annotations

from collections.abc import Iterable
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

REQUEST_ERROR_SINCE = 1

if TYPE_CHECKING:
    from tailrace.workers.gateway.controller_requests import Answer
    from tailrace.workers.gateway.gateway import Gateway
    from tailrace.workers.gateway.request import Request


def handle(gateway: Gateway, request: Request) -> None:
    """Ask the controller and wait until this gateway's own image has the leaders."""
    asked: ElectLeadersRequest = request.decode()
    topics = asked.topic_partitions

    def on_answer(answer: Answer) -> None:
        if not isinstance(answer, PartitionResults):
            request.respond(_refusal(request.version, topics, REQUEST_TIMED_OUT, TIMED_OUT))
        elif answer.error_code:
            request.respond(_refusal(request.version, topics, answer.error_code, answer.error_message))
        else:
            names = gateway.image.topics_by_name if topics is None else [topic.topic for topic in topics]
            request.respond(_response(names, answer.results))

    gateway.controller.ask(
        lambda request_id: ElectLeaders(
            request_id=request_id,
            election_type=asked.election_type,
            partitions=None if topics is None else _places(topics),
        ),
        on_answer,
        asked.timeout_ms,
    )


def _places(topics: list[ElectLeadersRequestTopic]) -> list[tuple[str, int]]:
    return [(topic.topic, partition) for topic in topics for partition in topic.partitions]


def _response(names: Iterable[str], results: Iterable[PartitionResult]) -> ElectLeadersResponse:
    """As Kafka's, also with the topics of which there is nothing to say."""
    by_topic: dict[str, list[ElectLeadersResponsePartition]] = {name: [] for name in names}
    for result in results:
        told = ElectLeadersResponsePartition(result.partition, result.error_code, result.error_message)
        by_topic.setdefault(result.topic, []).append(told)
    return ElectLeadersResponse(
        replica_election_results=[ElectLeadersResponseTopic(*pair) for pair in by_topic.items()]
    )


def _refusal(
    version: int, topics: list[ElectLeadersRequestTopic] | None, code: int, message: str | None
) -> ElectLeadersResponse:
    """Of the whole request, and said, as by Kafka, of each partition that was named: version 0 has no other
    place for it.
    """
    named = topics or []
    results = [
        PartitionResult(topic=topic, partition=partition, error_code=code, error_message=message)
        for topic, partition in _places(named)
    ]
    response = _response([topic.topic for topic in named], results)
    if version >= REQUEST_ERROR_SINCE:
        response.error_code = code
    return response
