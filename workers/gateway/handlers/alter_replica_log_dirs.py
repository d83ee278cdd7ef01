"""AlterReplicaLogDirs: this broker's replicas move between its log directories; the moves go on after the
answer.

As in Kafka a replica that is where it shall be moves nowhere any more, and one that is still to be made is
made there, though that is refused (REPLICA_NOT_AVAILABLE).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace.core.errors import (
    INVALID_TOPIC_EXCEPTION,
    KAFKA_STORAGE_ERROR,
    LOG_DIR_NOT_FOUND,
    NONE,
    REQUEST_TIMED_OUT,
)
from tailrace.core.protocol.messages.alter_replica_log_dirs import (
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
    AlterReplicaLogDirsResponsePartition,
    AlterReplicaLogDirsResponseTopic,
)
from tailrace.workers.control import PartitionResults
from tailrace.workers.control_moves import MoveReplicas
from tailrace.workers.future_files import NAME_MAX, future_name
from tailrace.workers.log_dirs import LogDirs

if TYPE_CHECKING:
    from tailrace.workers.gateway.controller_requests import Answer
    from tailrace.workers.gateway.gateway import Gateway
    from tailrace.workers.gateway.request import Request

TIMEOUT_MS = 30_000  # the request names none

Place = tuple[str, int]
"""Topic and partition."""


def handle(gateway: Gateway, request: Request) -> None:
    """Refuse what this broker knows to be wrong, and ask the controller for the rest."""
    asked: AlterReplicaLogDirsRequest = request.decode()
    wanted = {
        (topic.name, partition): each.path
        for each in asked.dirs
        for topic in each.topics
        for partition in topic.partitions
    }  # as in Kafka the last one counts of those for one partition
    log_dirs = gateway.context.log_dirs
    codes = {place: _refusal(log_dirs, place, path) for place, path in wanted.items()}
    moves = [(*place, path) for place, path in wanted.items() if not codes[place]]

    def on_answer(answer: Answer) -> None:
        for topic, partition, _ in moves:
            codes[topic, partition] = REQUEST_TIMED_OUT
        if isinstance(answer, PartitionResults):
            for result in answer.results:
                codes[result.topic, result.partition] = result.error_code
        request.respond(_response(codes))

    if not moves:
        request.respond(_response(codes))
        return
    gateway.controller.ask(
        lambda request_id: MoveReplicas(request_id=request_id, moves=moves), on_answer, TIMEOUT_MS
    )


def _refusal(log_dirs: LogDirs, place: Place, path: str) -> int:
    if len(future_name(f"{place[0]}-{place[1]}")) > NAME_MAX:
        return INVALID_TOPIC_EXCEPTION
    if path not in [each.path for each in log_dirs.dirs if each.holds_partitions]:
        return LOG_DIR_NOT_FOUND
    return NONE if log_dirs.is_online(path) else KAFKA_STORAGE_ERROR


def _response(codes: dict[Place, int]) -> AlterReplicaLogDirsResponse:
    topics: dict[str, list[AlterReplicaLogDirsResponsePartition]] = {}
    for (topic, partition), code in codes.items():
        topics.setdefault(topic, []).append(AlterReplicaLogDirsResponsePartition(partition, code))
    return AlterReplicaLogDirsResponse(
        results=[AlterReplicaLogDirsResponseTopic(*pair) for pair in topics.items()]
    )
