"""CreatePartitions: the controller decides; the answer waits until the new partitions are led."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace.core.errors import NONE, REQUEST_TIMED_OUT
from tailrace.core.metadata.requests import MorePartitions, TopicResult
from tailrace.core.protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsRequestTopic,
    CreatePartitionsResponse,
    CreatePartitionsResponseResult,
)
from tailrace.workers.control import CreatePartitions, TopicResults
from tailrace.workers.gateway.controller_requests import TIMED_OUT
from tailrace.workers.gateway.leaders import await_leaders

if TYPE_CHECKING:
    from tailrace.workers.gateway.controller_requests import Answer
    from tailrace.workers.gateway.gateway import Gateway
    from tailrace.workers.gateway.request import Request


def handle(gateway: Gateway, request: Request) -> None:
    """Ask the controller; then wait, within the client's time, for leaders of what was added."""
    asked: CreatePartitionsRequest = request.decode()
    deadline_ms = gateway.now_ms() + asked.timeout_ms

    def on_answer(answer: Answer) -> None:
        if isinstance(answer, TopicResults):
            results = answer.results
        else:
            results = [
                TopicResult(name=topic.name, error_code=REQUEST_TIMED_OUT, error_message=TIMED_OUT)
                for topic in asked.topics
            ]
        grown = [result.name or "" for result in results if result.error_code == NONE]
        left_ms = deadline_ms - gateway.now_ms()
        if asked.validate_only:
            grown = []
        await_leaders(gateway, grown, left_ms, lambda: _respond(request, results))

    gateway.controller.ask(
        lambda request_id: CreatePartitions(
            request_id=request_id,
            topics=[_more(topic) for topic in asked.topics],
            validate_only=asked.validate_only,
        ),
        on_answer,
        asked.timeout_ms,
    )


def _more(topic: CreatePartitionsRequestTopic) -> MorePartitions:
    placed = topic.assignments
    return MorePartitions(
        name=topic.name,
        count=topic.count,
        assignments=None if placed is None else [partition.broker_ids for partition in placed],
    )


def _respond(request: Request, results: list[TopicResult]) -> None:
    by_name = {  # a name that was asked for twice is answered once
        result.name: CreatePartitionsResponseResult(
            result.name or "", result.error_code, result.error_message
        )
        for result in results
    }
    request.respond(CreatePartitionsResponse(results=list(by_name.values())))
