"""OffsetForLeaderEpoch (key 23): where a leader epoch ends, by which clients notice that a log was cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace.core.errors import NONE
from tailrace.core.protocol.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochRequestPartition,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderEpochResponsePartition,
    OffsetForLeaderEpochResponseTopic,
)
from tailrace.workers.descriptors import EPOCH_END
from tailrace.workers.gateway.partition_questions import PartitionQuestions
from tailrace.workers.partition_answers import EpochQuestion, decode_epoch_end, encode

if TYPE_CHECKING:
    from tailrace.workers.gateway.gateway import Gateway
    from tailrace.workers.gateway.request import Request


def handle(gateway: Gateway, request: Request) -> None:
    """Ask each leader."""
    asked: OffsetForLeaderEpochRequest = request.decode()
    response = OffsetForLeaderEpochResponse(topics=[])
    questions = PartitionQuestions(gateway, EPOCH_END, lambda: request.respond(response))
    for topic in asked.topics:
        told = OffsetForLeaderEpochResponseTopic(topic.topic, [])
        response.topics.append(told)
        for partition in topic.partitions:
            answer = OffsetForLeaderEpochResponsePartition(partition=partition.partition)
            told.partitions.append(answer)
            _ask(questions, topic.topic, partition, answer)
    questions.send()


def _ask(
    questions: PartitionQuestions,
    name: str,
    asked: OffsetForLeaderEpochRequestPartition,
    answer: OffsetForLeaderEpochResponsePartition,
) -> None:
    def on_answer(error: int, body: bytes) -> None:
        answer.error_code = error
        if error == NONE:
            answer.leader_epoch, answer.end_offset = decode_epoch_end(body)

    question = EpochQuestion(asked.current_leader_epoch, asked.leader_epoch)
    questions.ask(name, asked.partition, encode(question), on_answer)
