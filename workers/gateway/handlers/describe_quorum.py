"""DescribeQuorum: what the leader of the controllers knows of them all, forwarded to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace.core.errors import NOT_LEADER_OR_FOLLOWER, REQUEST_TIMED_OUT, UNKNOWN_TOPIC_OR_PARTITION
from tailrace.core.metadata.topics import METADATA_TOPIC
from tailrace.core.protocol.messages.describe_quorum import (
    DescribeQuorumRequest,
    DescribeQuorumResponse,
    DescribeQuorumResponseListener,
    DescribeQuorumResponseNode,
    DescribeQuorumResponsePartition,
    DescribeQuorumResponseReplica,
    DescribeQuorumResponseTopic,
)
from tailrace.core.protocol.schema import NO_ID
from tailrace.workers.control_quorum import DescribeQuorum, QuorumDescribed

if TYPE_CHECKING:
    from tailrace.core.raft.quorum import QuorumStatus, ReplicaStatus
    from tailrace.workers.gateway.controller_requests import Answer
    from tailrace.workers.gateway.gateway import Gateway
    from tailrace.workers.gateway.request import Request

PATIENCE_MS = 10_000  # the request names no time-out; Kafka's tools wait for a minute
FIRST_WITH_IDS = 2  # version: of directories, and where voters listen
NOT_HOSTED = "This server does not host this topic-partition."
NOT_LED = "The leader of the controllers has just changed."


def handle(gateway: Gateway, request: Request) -> None:
    """The one quorum there is; any other is unknown."""
    asked: DescribeQuorumRequest = request.decode()
    named = [
        (topic.topic_name, [part.partition_index for part in topic.partitions]) for topic in asked.topics
    ]
    if named != [(METADATA_TOPIC, [0])]:
        request.respond(_unknown(asked))
        return

    def on_answer(answer: Answer) -> None:
        if not isinstance(answer, QuorumDescribed):
            request.respond(DescribeQuorumResponse(REQUEST_TIMED_OUT, "The request timed out."))
        elif answer.status is None:
            request.respond(DescribeQuorumResponse(NOT_LEADER_OR_FOLLOWER, NOT_LED))
        else:
            request.respond(_described(gateway, request, answer.status))

    gateway.controller.ask(lambda number: DescribeQuorum(request_id=number), on_answer, PATIENCE_MS)


def _unknown(asked: DescribeQuorumRequest) -> DescribeQuorumResponse:
    return DescribeQuorumResponse(
        topics=[
            DescribeQuorumResponseTopic(
                topic.topic_name,
                [
                    DescribeQuorumResponsePartition(
                        part.partition_index, UNKNOWN_TOPIC_OR_PARTITION, NOT_HOSTED
                    )
                    for part in topic.partitions
                ],
            )
            for topic in asked.topics
        ]
    )


def _described(gateway: Gateway, request: Request, status: QuorumStatus) -> DescribeQuorumResponse:
    has_ids = request.version >= FIRST_WITH_IDS
    partition = DescribeQuorumResponsePartition(
        leader_id=status.leader_id,
        leader_epoch=status.leader_epoch,
        high_watermark=status.high_watermark,
        current_voters=[_replica(voter, has_ids) for voter in status.voters],
        observers=[_replica(observer, has_ids) for observer in status.observers],
    )
    return DescribeQuorumResponse(
        topics=[DescribeQuorumResponseTopic(METADATA_TOPIC, [partition])],
        nodes=_nodes(gateway, request, status) if has_ids else [],
    )


def _replica(status: ReplicaStatus, has_ids: bool) -> DescribeQuorumResponseReplica:
    return DescribeQuorumResponseReplica(
        status.key.node_id,
        status.key.directory_id if has_ids else NO_ID,
        status.log_end_offset,
        status.last_fetch_ms,
        status.last_caught_up_ms,
    )


def _nodes(gateway: Gateway, request: Request, status: QuorumStatus) -> list[DescribeQuorumResponseNode]:
    """Controllers listen nowhere but through the gateway of their broker; without one: nowhere."""
    connection = request.connection
    listed = [] if connection.closed else gateway.brokers.listed(connection)
    places = {found.node_id: found for found in listed}
    nodes: list[DescribeQuorumResponseNode] = []
    for voter in status.voters:
        node_id = voter.key.node_id
        found = places.get(node_id)
        listeners: list[DescribeQuorumResponseListener] = []
        if found is not None:
            listeners.append(DescribeQuorumResponseListener("CONTROLLER", found.host, found.port))
        nodes.append(DescribeQuorumResponseNode(node_id, listeners))
    return nodes
