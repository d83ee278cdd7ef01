"""Metadata: the brokers, and topics by name or id; may make the topics it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace.core.errors import (
    INVALID_REQUEST,
    INVALID_TOPIC_EXCEPTION,
    NONE,
    UNKNOWN_TOPIC_ID,
    UNKNOWN_TOPIC_OR_PARTITION,
)
from tailrace.core.protocol.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from tailrace.core.protocol.schema import NO_ID
from tailrace.workers.gateway.cluster_view import (
    CLUSTER_OPERATIONS,
    TOPIC_OPERATIONS,
    absence_code,
    is_internal,
    view_partition,
)

if TYPE_CHECKING:
    from tailrace.core.metadata.image import TopicImage
    from tailrace.workers.gateway.gateway import Gateway
    from tailrace.workers.gateway.request import Request

_IDS_SINCE = 12  # version 10 has ids in its layout, but no broker takes them


def handle(gateway: Gateway, request: Request) -> None:
    """All topics, some topics or none; the answer waits only for topics that are being made."""
    asked: MetadataRequest = request.decode()
    answer = _answer_without_topics(gateway, request, asked)
    if asked.topics is None or (request.version == 0 and not asked.topics):
        topics = [_topic(gateway, topic) for topic in gateway.image.topics_by_name.values()]
        _respond(request, asked, answer, topics)
    elif not _is_valid(asked.topics, request.version):
        request.respond(_refusal(asked.topics))
    elif any(topic.topic_id != NO_ID for topic in asked.topics):
        _handle_ids(gateway, request, asked, answer)
    else:
        _handle_names(gateway, request, asked, answer)


def _is_valid(topics: list[MetadataRequestTopic], version: int) -> bool:
    if version >= _IDS_SINCE:
        return all(topic.name is not None or topic.topic_id != NO_ID for topic in topics)
    return all(topic.name is not None and topic.topic_id == NO_ID for topic in topics)


def _refusal(topics: list[MetadataRequestTopic]) -> MetadataResponse:
    return MetadataResponse(
        topics=[
            MetadataResponseTopic(error_code=INVALID_REQUEST, name=topic.name or "", topic_id=topic.topic_id)
            for topic in topics
        ],
        error_code=INVALID_REQUEST,
    )


def _handle_ids(gateway: Gateway, request: Request, asked: MetadataRequest, answer: MetadataResponse) -> None:
    """As Kafka: with one id in the request, names without id are not looked at."""
    unknown: list[MetadataResponseTopic] = []
    known: list[MetadataResponseTopic] = []
    for topic_id in dict.fromkeys(topic.topic_id for topic in asked.topics or ()):
        topic = gateway.image.topics_by_id.get(topic_id)
        if topic is not None:
            known.append(_topic(gateway, topic))
        elif topic_id != NO_ID:
            unknown.append(MetadataResponseTopic(error_code=UNKNOWN_TOPIC_ID, name=None, topic_id=topic_id))
    answer.topics = unknown
    _respond(request, asked, answer, known)


def _handle_names(
    gateway: Gateway, request: Request, asked: MetadataRequest, answer: MetadataResponse
) -> None:
    names = list(dict.fromkeys(topic.name or "" for topic in asked.topics or ()))
    missing: list[str] = []
    if asked.allow_auto_topic_creation and gateway.context.config.auto_create_topics_enable:
        missing = [name for name in names if _may_be_made(gateway, name)]

    def respond(codes: dict[str, int]) -> None:
        _respond(request, asked, answer, [_named(gateway, name, codes) for name in names])

    if missing:
        gateway.controller.auto_creation.make(missing, respond)
    else:
        respond({})


def _may_be_made(gateway: Gateway, name: str) -> bool:
    """Kafka's own internal topics have a shape of their own, which whoever keeps state in them will ask
    for.
    """
    if name in gateway.image.topics_by_name or is_internal(name):
        return False
    return absence_code(name) == UNKNOWN_TOPIC_OR_PARTITION


def _named(gateway: Gateway, name: str, codes: dict[str, int]) -> MetadataResponseTopic:
    topic = gateway.image.topics_by_name.get(name)
    if topic is not None:
        return _topic(gateway, topic)
    code = absence_code(name)
    # A name that collides with another one's is invalid for good. Any other failure is what Kafka makes of
    # it: a topic that is not there yet.
    if codes.get(name, NONE) == INVALID_TOPIC_EXCEPTION:
        code = INVALID_TOPIC_EXCEPTION
    return MetadataResponseTopic(error_code=code, name=name, is_internal=is_internal(name))


def _answer_without_topics(gateway: Gateway, request: Request, asked: MetadataRequest) -> MetadataResponse:
    """Made when the request comes: later its connection may be closed and have no address any more (R)."""
    answer = MetadataResponse(
        brokers=[MetadataResponseBroker(*broker) for broker in gateway.brokers.listed(request.connection)],
        cluster_id=gateway.context.cluster_id,
        controller_id=gateway.brokers.controller_id(),
        topics=[],
    )
    if asked.include_cluster_authorized_operations:
        answer.cluster_authorized_operations = CLUSTER_OPERATIONS
    return answer


def _respond(
    request: Request, asked: MetadataRequest, answer: MetadataResponse, topics: list[MetadataResponseTopic]
) -> None:
    if asked.include_topic_authorized_operations:
        for topic in topics:
            topic.topic_authorized_operations = TOPIC_OPERATIONS
    answer.topics += topics
    request.respond(answer)


def _topic(gateway: Gateway, topic: TopicImage) -> MetadataResponseTopic:
    partitions: list[MetadataResponsePartition] = []
    for partition in topic.partitions:
        error_code, leader, isr, offline = view_partition(gateway, topic.topic_id, partition)
        partitions.append(
            MetadataResponsePartition(
                error_code,
                partition.partition,
                leader,
                partition.leader_epoch,
                list(partition.replicas),
                isr,
                offline,
            )
        )
    return MetadataResponseTopic(NONE, topic.name, topic.topic_id, is_internal(topic.name), partitions)
