"""How far a group is behind: in records, and in seconds since its first unread record was written."""

import time
from collections.abc import Iterable, Mapping

import msgspec

from tailrace.clients.admin import Admin
from tailrace.clients.cluster import Cluster
from tailrace.clients.consumer import Consumer
from tailrace.clients.groups import Groups, Offsets
from tailrace.core import errors
from tailrace.core.errors import KafkaError
from tailrace.core.protocol.messages.list_offsets import LATEST

LOOK_WAIT_MS = 100  # there is something to read: nobody waits that long


class PartitionLag(msgspec.Struct, kw_only=True, frozen=True):
    """One partition of a group. None: the group has committed nothing there, or the topic is gone."""

    topic: str
    partition: int
    committed: int | None
    end: int | None
    records: int | None
    seconds: float | None


def lag_of(
    cluster: Cluster, group: str, assigned: Mapping[str, Iterable[int]] | None = None
) -> list[PartitionLag]:
    """The lag of every partition that the group has committed, or that is assigned to its members."""
    committed = Groups(cluster).offsets(group)
    return lag_behind(cluster, committed, assigned or {})


def lag_behind(
    cluster: Cluster, committed: Offsets, assigned: Mapping[str, Iterable[int]]
) -> list[PartitionLag]:
    """The lag of committed offsets; partitions that are only assigned have none."""
    shown: list[PartitionLag] = []
    for topic in sorted({*committed, *assigned}):
        positions = committed.get(topic, {})
        indexes = sorted({*positions, *assigned.get(topic, ())})
        try:
            ends = Admin(cluster).find_offsets(topic, dict.fromkeys(indexes, LATEST))
        except KafkaError as error:
            if error.code != errors.UNKNOWN_TOPIC_OR_PARTITION:
                raise
            ends = {}
        behind = {index: at for index, at in positions.items() if index in ends and at < ends[index].offset}
        written_ms = first_timestamps(cluster, topic, behind)
        for index in indexes:
            end = ends[index].offset if index in ends else None
            shown.append(_partition(topic, index, positions.get(index), end, written_ms.get(index)))
    return shown


def _partition(
    topic: str, index: int, committed: int | None, end: int | None, written_ms: int | None
) -> PartitionLag:
    records = None if committed is None or end is None else max(end - committed, 0)
    seconds: float | None = None
    if records == 0:
        seconds = 0.0
    elif written_ms is not None and written_ms >= 0:
        seconds = max(round(time.time() - written_ms / 1000, 3), 0.0)
    return PartitionLag(
        topic=topic, partition=index, committed=committed, end=end, records=records, seconds=seconds
    )


def first_timestamps(cluster: Cluster, topic: str, positions: Mapping[int, int]) -> dict[int, int]:
    """The timestamp in ms of the first record at or after each position; none where there is no such record.

    One batch a partition is read for it: no request tells the time of an offset. What a broker does not give
    within the timeout is left out.
    """
    deadline_s = time.monotonic() + cluster.timeout_s
    consumer = Consumer(cluster, topic, partition_max_bytes=1, max_wait_ms=LOOK_WAIT_MS)
    consumer.positions = dict(positions)
    found: dict[int, int] = {}
    while consumer.positions and time.monotonic() < deadline_s:
        for record in consumer.poll():
            if record.partition in consumer.positions:
                found[record.partition] = record.timestamp
                consumer.pause(record.partition)
        for partition in list(consumer.positions):
            if consumer.at_end(partition):  # only markers were left
                consumer.pause(partition)
    return found
