"""AlterReplicaLogDirs: this broker's replicas move between its log directories; the moves go on after the
answer, which comes when DescribeLogDirs shows what has begun, or was called off.

As in Kafka a replica that is where it shall be moves nowhere any more, and one that is still to be made is
made there, though that is refused (REPLICA_NOT_AVAILABLE).
"""

from __future__ import annotations

import os
from collections.abc import Callable
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
from tailrace.workers.future_files import NAME_MAX, copies_in, future_name, read_progress
from tailrace.workers.log_dirs import LogDirs

if TYPE_CHECKING:
    from tailrace.workers.gateway.controller_requests import Answer
    from tailrace.workers.gateway.gateway import Gateway
    from tailrace.workers.gateway.request import Request

TIMEOUT_MS = 30_000  # the request names none
SHOWN_MS = 5_000  # that an answer waits for a worker at most
LOOK_MS, LOOK_MS_MAX = 1, 100  # between two looks

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
        begun = [move for move in moves if codes[move[0], move[1]] == NONE]
        _once_shown(gateway, begun, lambda: request.respond(_response(codes)))

    if not moves:
        request.respond(_response(codes))
        return
    gateway.controller.ask(
        lambda request_id: MoveReplicas(request_id=request_id, moves=moves), on_answer, TIMEOUT_MS
    )


def _once_shown(gateway: Gateway, moves: list[tuple[str, int, str]], done: Callable[[], None]) -> None:
    """Call it when the files say what was asked for; or after a while, for a worker may stand still."""
    deadline_ms, pause_ms = gateway.now_ms() + SHOWN_MS, LOOK_MS

    def look() -> None:
        nonlocal moves, pause_ms
        moves = _not_shown(gateway.context.log_dirs, moves)
        if not moves or gateway.now_ms() >= deadline_ms:
            done()
            return
        gateway.timers.schedule(gateway.now_ms() + pause_ms, look)
        pause_ms = min(2 * pause_ms, LOOK_MS_MAX)

    look()


def _not_shown(log_dirs: LogDirs, moves: list[tuple[str, int, str]]) -> list[tuple[str, int, str]]:
    if not moves:
        return []
    copies: dict[str, dict[str, str]] = {}  # by log and directory
    for log_name, path in copies_in(log_dirs):
        copies.setdefault(log_name, {})[os.path.dirname(path)] = path
    waiting: list[tuple[str, int, str]] = []
    for topic, partition, log_dir in moves:
        name = f"{topic}-{partition}"
        found = copies.get(name, {})
        if log_dir in found:
            is_shown = read_progress(found[log_dir]) is not None
        else:
            is_shown = not found and os.path.isdir(f"{log_dir}/{name}")
        if not is_shown and log_dirs.is_online(log_dir):
            waiting.append((topic, partition, log_dir))
    return waiting


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
