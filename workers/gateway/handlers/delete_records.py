"""DeleteRecords (key 21): the leader moves the start of its log, on disk before it answers; then the other
replicas are waited for, `timeout_ms` at most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace.core.config import effective_topic_config
from tailrace.core.errors import INVALID_TOPIC_EXCEPTION, NONE, POLICY_VIOLATION, UNKNOWN_TOPIC_OR_PARTITION
from tailrace.core.metadata.topics import INTERNAL_TOPICS
from tailrace.core.protocol.messages.delete_records import (
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsResponsePartition,
    DeleteRecordsResponseTopic,
)
from tailrace.workers.descriptors import DELETE_RECORDS
from tailrace.workers.gateway.low_watermarks import UNKNOWN, await_low_watermark
from tailrace.workers.gateway.partition_questions import PartitionQuestions
from tailrace.workers.partition_answers import UP_TO_HIGH_WATERMARK, decode_offset, encode

if TYPE_CHECKING:
    from tailrace.core.metadata.image import TopicImage
    from tailrace.workers.gateway.gateway import Gateway
    from tailrace.workers.gateway.request import Request


class _Pending:
    """A request some of whose partitions are not answered yet."""

    def __init__(self, request: Request, deadline_ms: int) -> None:
        self.request = request
        self.response = DeleteRecordsResponse(topics=[])
        self.deadline_ms = deadline_ms
        self.remaining = 1

    def done(self) -> None:
        """One part is answered; with the last the request is."""
        self.remaining -= 1
        if not self.remaining:
            self.request.respond(self.response)


def handle(gateway: Gateway, request: Request) -> None:
    """Ask each leader."""
    asked: DeleteRecordsRequest = request.decode()
    pending = _Pending(request, gateway.now_ms() + max(0, asked.timeout_ms))
    questions = PartitionQuestions(gateway, DELETE_RECORDS, pending.done)
    offsets: dict[str, dict[int, int]] = {}  # of what is named twice the last counts, as in Kafka
    for topic in asked.topics:
        for partition in topic.partitions:
            offsets.setdefault(topic.name, {})[partition.partition_index] = partition.offset
    for name, partitions in offsets.items():
        image = gateway.image.topics_by_name.get(name)
        refusal = _refusal(gateway, image)
        told = DeleteRecordsResponseTopic(name, [])
        pending.response.topics.append(told)
        for index, offset in partitions.items():
            answer = DeleteRecordsResponsePartition(index, UNKNOWN, refusal)
            told.partitions.append(answer)
            if image is not None and refusal == NONE:
                _ask(gateway, pending, questions, image, offset, answer)
    questions.send()


def _refusal(gateway: Gateway, topic: TopicImage | None) -> int:
    """Why no records of this topic are deleted, NONE if they may be."""
    if topic is None:
        return UNKNOWN_TOPIC_OR_PARTITION
    name = topic.name
    if name in INTERNAL_TOPICS:
        return INVALID_TOPIC_EXCEPTION
    policy = effective_topic_config(gateway.image.topic_configs(name), gateway.config)["cleanup.policy"]
    return POLICY_VIOLATION if policy == ("compact",) else NONE


def _ask(
    gateway: Gateway,
    pending: _Pending,
    questions: PartitionQuestions,
    topic: TopicImage,
    offset: int,
    answer: DeleteRecordsResponsePartition,
) -> None:
    def on_end(error: int, low_watermark: int) -> None:
        answer.error_code, answer.low_watermark = error, low_watermark
        pending.done()

    def on_answer(error: int, body: bytes) -> None:
        answer.error_code = error
        if error != NONE:
            return
        index = answer.partition_index
        gateway.partitions.let_go_of_files(topic.topic_id, index)
        wanted = decode_offset(body) if offset == UP_TO_HIGH_WATERMARK else offset
        partition = gateway.partitions.get(topic.name, topic.topic_id, index)
        pending.remaining += 1
        await_low_watermark(gateway, partition, wanted, pending.deadline_ms, on_end)

    questions.ask(topic.name, answer.partition_index, encode(offset), on_answer)
