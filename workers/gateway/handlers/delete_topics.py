"""DeleteTopics, by name or (version 6) by id. The controller decides; the files go after the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace.core.errors import INVALID_REQUEST, REQUEST_TIMED_OUT, TOPIC_DELETION_DISABLED
from tailrace.core.metadata.requests import TopicResult, TopicToDelete
from tailrace.core.protocol.messages.delete_topics import (
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DeleteTopicsResponseTopic,
)
from tailrace.workers.control import DeleteTopics, TopicResults
from tailrace.workers.gateway.controller_requests import TIMED_OUT

if TYPE_CHECKING:
    from tailrace.workers.gateway.controller_requests import Answer
    from tailrace.workers.gateway.gateway import Gateway
    from tailrace.workers.gateway.request import Request

_ENTRIES_SINCE = 6  # before: only names
_DISABLED_SINCE = 3  # the first version whose clients know TOPIC_DELETION_DISABLED


def handle(gateway: Gateway, request: Request) -> None:
    """Ask the controller and wait until this gateway's own image lacks the topics."""
    asked: DeleteTopicsRequest = request.decode()
    if request.version >= _ENTRIES_SINCE:
        topics = [TopicToDelete(name=topic.name, topic_id=topic.topic_id) for topic in asked.topics]
    else:
        topics = [TopicToDelete(name=name) for name in asked.topic_names]
    gateway.controller.ask(
        lambda request_id: DeleteTopics(request_id=request_id, topics=topics, timeout_ms=asked.timeout_ms),
        lambda answer: _respond(request, topics, answer),
        asked.timeout_ms,
    )


def _respond(request: Request, topics: list[TopicToDelete], answer: Answer) -> None:
    if isinstance(answer, TopicResults):
        results = answer.results
    else:
        results = [
            TopicResult(
                name=topic.name,
                topic_id=topic.topic_id,
                error_code=REQUEST_TIMED_OUT,
                error_message=TIMED_OUT,
            )
            for topic in topics
        ]
    # What was asked for twice is refused by one entry, as in Kafka.
    responses: dict[tuple[str | None, bytes, int], DeleteTopicsResponseTopic] = {}
    for result in results:
        code = result.error_code
        if code == TOPIC_DELETION_DISABLED and request.version < _DISABLED_SINCE:
            code = INVALID_REQUEST
        responses[result.name, result.topic_id, code] = DeleteTopicsResponseTopic(
            result.name, result.topic_id, code, result.error_message
        )
    request.respond(DeleteTopicsResponse(responses=list(responses.values())))
