"""DeleteRecords (key 21): the leader moves the start of its log, on disk before it answers.

What it waits for in Kafka, `timeout_ms` at most, is the other replicas: there are none.
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
from tailrace.workers.gateway.partition_questions import PartitionQuestions
from tailrace.workers.partition_answers import decode_offset, encode

if TYPE_CHECKING:
    from tailrace.core.metadata.image import TopicImage
    from tailrace.workers.gateway.gateway import Gateway
    from tailrace.workers.gateway.request import Request

NO_LOW_WATERMARK = -1


def handle(gateway: Gateway, request: Request) -> None:
    """Ask each leader."""
    asked: DeleteRecordsRequest = request.decode()
    response = DeleteRecordsResponse(topics=[])
    questions = PartitionQuestions(gateway, DELETE_RECORDS, lambda: request.respond(response))
    offsets: dict[str, dict[int, int]] = {}  # of what is named twice the last counts, as in Kafka
    for topic in asked.topics:
        for partition in topic.partitions:
            offsets.setdefault(topic.name, {})[partition.partition_index] = partition.offset
    for name, partitions in offsets.items():
        image = gateway.image.topics_by_name.get(name)
        refusal = _refusal(gateway, image)
        told = DeleteRecordsResponseTopic(name, [])
        response.topics.append(told)
        for index, offset in partitions.items():
            answer = DeleteRecordsResponsePartition(index, NO_LOW_WATERMARK, refusal)
            told.partitions.append(answer)
            if image is not None and refusal == NONE:
                _ask(gateway, questions, image, offset, answer)
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
    questions: PartitionQuestions,
    topic: TopicImage,
    offset: int,
    answer: DeleteRecordsResponsePartition,
) -> None:
    def on_answer(error: int, body: bytes) -> None:
        answer.error_code = error
        if error == NONE:
            answer.low_watermark = decode_offset(body)
            gateway.partitions.let_go_of_files(topic.topic_id, answer.partition_index)

    questions.ask(topic.name, answer.partition_index, encode(offset), on_answer)
