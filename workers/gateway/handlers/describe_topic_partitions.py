"""DescribeTopicPartitions: topics by name, a bounded number of partitions an answer, and where to go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace.core.errors import INVALID_REQUEST, NONE
from tailrace.core.protocol.messages.describe_topic_partitions import (
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponseCursor,
    DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
)
from tailrace.workers.gateway.cluster_view import (
    TOPIC_OPERATIONS,
    absence_code,
    is_internal,
    view_partition,
)

if TYPE_CHECKING:
    from tailrace.core.metadata.image import TopicImage
    from tailrace.workers.gateway.gateway import Gateway
    from tailrace.workers.gateway.request import Request


def handle(gateway: Gateway, request: Request) -> None:
    """One page."""
    asked: DescribeTopicPartitionsRequest = request.decode()
    if not _is_valid(asked):
        request.respond(
            DescribeTopicPartitionsResponse(
                topics=[
                    DescribeTopicPartitionsResponseTopic(INVALID_REQUEST, topic.name)
                    for topic in asked.topics
                ]
            )
        )
        return
    most = gateway.context.config.max_request_partition_size_limit
    request.respond(_page(gateway, asked, max(1, min(most, asked.response_partition_limit))))


def _is_valid(asked: DescribeTopicPartitionsRequest) -> bool:
    """A cursor names a partition, and a topic out of those asked for."""
    cursor = asked.cursor
    if cursor is None:
        return True
    if cursor.partition_index < 0:
        return False
    named = {topic.name for topic in asked.topics}
    return not named or cursor.topic_name in named


def _page(
    gateway: Gateway, asked: DescribeTopicPartitionsRequest, remaining: int
) -> DescribeTopicPartitionsResponse:
    cursor_topic, cursor_partition = "", 0
    if asked.cursor is not None:
        cursor_topic, cursor_partition = asked.cursor.topic_name, asked.cursor.partition_index
    by_name = gateway.image.topics_by_name
    names = {topic.name for topic in asked.topics} if asked.topics else by_name.keys()
    response = DescribeTopicPartitionsResponse(topics=[])
    for name in sorted(name for name in names if name >= cursor_topic):
        if remaining == 0:
            response.next_cursor = DescribeTopicPartitionsResponseCursor(name, 0)
            break
        topic = by_name.get(name)
        if topic is None:
            response.topics.append(_absent(name))
            continue
        first = cursor_partition if name == cursor_topic else 0
        end = min(first + remaining, len(topic.partitions))
        response.topics.append(_described(gateway, topic, first, end))
        if end < len(topic.partitions):
            response.next_cursor = DescribeTopicPartitionsResponseCursor(name, end)
            break
        remaining -= max(0, end - first)
    return response


def _absent(name: str) -> DescribeTopicPartitionsResponseTopic:
    return DescribeTopicPartitionsResponseTopic(
        absence_code(name),
        name,
        is_internal=is_internal(name),
        topic_authorized_operations=TOPIC_OPERATIONS,
    )


def _described(
    gateway: Gateway, topic: TopicImage, first: int, end: int
) -> DescribeTopicPartitionsResponseTopic:
    partitions: list[DescribeTopicPartitionsResponsePartition] = []
    for partition in topic.partitions[first:end]:
        error_code, leader, isr, offline = view_partition(gateway, topic.topic_id, partition)
        partitions.append(
            DescribeTopicPartitionsResponsePartition(
                error_code,
                partition.partition,
                leader,
                partition.leader_epoch,
                list(partition.replicas),
                isr,
                [],
                [],
                offline,
            )
        )
    return DescribeTopicPartitionsResponseTopic(
        NONE, topic.name, topic.topic_id, is_internal(topic.name), partitions, TOPIC_OPERATIONS
    )
