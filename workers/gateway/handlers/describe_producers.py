"""DescribeProducers (key 61): the producers that each leader's log remembers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace.core.errors import INVALID_TOPIC_EXCEPTION, NONE, UNKNOWN_TOPIC_OR_PARTITION, KafkaError
from tailrace.core.metadata.topics import check_topic_name
from tailrace.core.protocol.messages.describe_producers import (
    DescribeProducersRequest,
    DescribeProducersResponse,
    DescribeProducersResponsePartition,
    DescribeProducersResponseProducer,
    DescribeProducersResponseTopic,
)
from tailrace.workers.descriptors import DESCRIBE_PRODUCERS
from tailrace.workers.gateway.partition_questions import PartitionQuestions
from tailrace.workers.partition_answers import decode_producers

if TYPE_CHECKING:
    from tailrace.workers.gateway.gateway import Gateway
    from tailrace.workers.gateway.request import Request

NOT_HERE = "This server does not host this topic-partition."


def handle(gateway: Gateway, request: Request) -> None:
    """Ask each leader."""
    asked: DescribeProducersRequest = request.decode()
    response = DescribeProducersResponse(topics=[])
    questions = PartitionQuestions(gateway, DESCRIBE_PRODUCERS, lambda: request.respond(response))
    for topic in asked.topics:
        told = DescribeProducersResponseTopic(topic.name, [])
        response.topics.append(told)
        error, message = _refusal(gateway, topic.name)
        for index in topic.partition_indexes:
            answer = DescribeProducersResponsePartition(index, error, message, [])
            told.partitions.append(answer)
            if error == NONE:
                _ask(questions, topic.name, answer)
    questions.send()


def _refusal(gateway: Gateway, name: str) -> tuple[int, str | None]:
    try:
        check_topic_name(name)
    except KafkaError as error:
        return INVALID_TOPIC_EXCEPTION, error.message
    if name not in gateway.image.topics_by_name:
        return UNKNOWN_TOPIC_OR_PARTITION, NOT_HERE
    return NONE, None


def _ask(questions: PartitionQuestions, name: str, answer: DescribeProducersResponsePartition) -> None:
    def on_answer(error: int, body: bytes) -> None:
        answer.error_code = error
        if error == NONE:
            answer.active_producers = [
                DescribeProducersResponseProducer(
                    producer_id=producer.producer_id,
                    producer_epoch=producer.epoch,
                    last_sequence=producer.last_sequence,
                    last_timestamp=producer.last_timestamp,
                    coordinator_epoch=producer.coordinator_epoch,
                    current_txn_start_offset=producer.transaction_start,
                )
                for producer in decode_producers(body)
            ]

    questions.ask(name, answer.partition_index, b"", on_answer)
