"""DescribeLogDirs (key 35): bytes of each log of this broker, led here or not, by its files and its row; no
worker is asked.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

from tailrace.core.errors import KAFKA_STORAGE_ERROR
from tailrace.core.log.segment import LOG_SUFFIX, offset_of
from tailrace.core.protocol.messages.describe_log_dirs import (
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
    DescribeLogDirsResponsePartition,
    DescribeLogDirsResponseResult,
    DescribeLogDirsResponseTopic,
)
from tailrace.shm.state_table import (
    HIGH_WATERMARK_POSITION,
    HW_SEGMENT_BASE_OFFSET,
    LOG_END_OFFSET,
    ROLE,
    ROLE_FOLLOWER,
    ROLE_LEADER,
)
from tailrace.workers.future_files import copies_in, read_progress
from tailrace.workers.gateway.partitions import path_of
from tailrace.workers.log_dirs import LogDirs

if TYPE_CHECKING:
    from tailrace.workers.gateway.gateway import Gateway
    from tailrace.workers.gateway.request import Request

Sizes = dict[str, list[DescribeLogDirsResponsePartition]]
"""By topic."""

LOGS_A_STEP = 64  # looked at, then others have their turn
STEP_MS = 1


def handle(gateway: Gateway, request: Request) -> None:
    """Look at the logs, some at a time."""
    asked: DescribeLogDirsRequest = request.decode()
    wanted = None if asked.topics is None else {topic.topic: set(topic.partitions) for topic in asked.topics}
    logs = _logs(gateway, wanted)
    found: dict[str, Sizes] = {}

    def step() -> None:
        chunk = list(islice(logs, LOGS_A_STEP))
        for log_dir, topic, index, size in chunk:
            sizes = found.setdefault(log_dir, {}).setdefault(topic, [])
            sizes.append(DescribeLogDirsResponsePartition(index, size, 0))
        if len(chunk) == LOGS_A_STEP:
            gateway.timers.schedule(gateway.now_ms() + STEP_MS, step)
            return
        log_dirs = gateway.context.log_dirs
        for log_dir, topic, told in _futures(gateway, wanted):
            found.setdefault(log_dir, {}).setdefault(topic, []).append(told)
        results = [
            _result(log_dirs, log_dir.path, found.get(log_dir.path, {}))
            for log_dir in log_dirs.dirs
            if log_dir.holds_partitions
        ]
        request.respond(DescribeLogDirsResponse(results=results))

    step()


def _result(log_dirs: LogDirs, path: str, sizes: Sizes) -> DescribeLogDirsResponseResult:
    out_of_service = DescribeLogDirsResponseResult(KAFKA_STORAGE_ERROR, path, [])
    if not log_dirs.is_online(path):
        return out_of_service
    try:
        volume = os.statvfs(path)
    except OSError:
        return out_of_service
    return DescribeLogDirsResponseResult(
        log_dir=path,
        topics=[DescribeLogDirsResponseTopic(topic, partitions) for topic, partitions in sizes.items()],
        total_bytes=volume.f_blocks * volume.f_frsize,
        usable_bytes=volume.f_bavail * volume.f_frsize,
    )


def _logs(gateway: Gateway, wanted: dict[str, set[int]] | None) -> Iterator[tuple[str, str, int, int]]:
    """Directory, topic, partition and bytes of each log that is wanted (None: all) and in service."""
    for topic in list(gateway.image.topics_by_name.values()):
        indexes = range(len(topic.partitions))
        for index in (
            indexes if wanted is None else sorted(wanted.get(topic.name, set()).intersection(indexes))
        ):
            partition = gateway.partitions.get(topic.name, topic.topic_id, index)
            row = gateway.partitions.read_row(partition)
            if partition.place is None or row is None or row[ROLE] not in (ROLE_LEADER, ROLE_FOLLOWER):
                continue
            with suppress(OSError):  # deleted just now
                rolled = _bytes_below(path_of(partition), row[HW_SEGMENT_BASE_OFFSET])
                yield partition.place.log_dir, topic.name, index, rolled + row[HIGH_WATERMARK_POSITION]


def _futures(
    gateway: Gateway, wanted: dict[str, set[int]] | None
) -> Iterator[tuple[str, str, DescribeLogDirsResponsePartition]]:
    """Directory, topic and what is told of each copy that is to take the place of a log."""
    for log_name, path in copies_in(gateway.context.log_dirs):
        told = _future(gateway, wanted, log_name, path)
        if told is not None:
            yield os.path.dirname(path), log_name.rpartition("-")[0], told


def _future(
    gateway: Gateway, wanted: dict[str, set[int]] | None, log_name: str, path: str
) -> DescribeLogDirsResponsePartition | None:
    """As Kafka: how far it is behind the end of the log that serves."""
    topic_name, _, text = log_name.rpartition("-")
    topic, index, progress = gateway.image.topics_by_name.get(topic_name), int(text), read_progress(path)
    if topic is None or progress is None or index >= len(topic.partitions):
        return None
    row = gateway.partitions.read_row(gateway.partitions.get(topic.name, topic.topic_id, index))
    if row is None or (wanted is not None and index not in wanted.get(topic_name, ())):
        return None
    size, end_offset = progress
    lag = max(0, row[LOG_END_OFFSET] - end_offset)
    return DescribeLogDirsResponsePartition(index, size, lag, is_future_key=True)


def _bytes_below(path: str, limit: int) -> int:
    """Bytes of the segments before one that may be active, whose file is longer than what it holds."""
    size = 0
    with os.scandir(path) as entries:
        for entry in entries:
            base = offset_of(entry.name, LOG_SUFFIX)
            if base is not None and base < limit:
                with suppress(FileNotFoundError):
                    size += entry.stat().st_size
    return size
