"""Waiting until every replica of a partition has deleted the records before an offset, as its row tells.

Kafka's low watermark: the smallest start of a log among the replicas whose brokers are there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tailrace.core.errors import NONE, NOT_LEADER_OR_FOLLOWER, REQUEST_TIMED_OUT
from tailrace.shm.state_table import LOG_START_OFFSET

if TYPE_CHECKING:
    from tailrace.workers.gateway.gateway import Gateway
    from tailrace.workers.gateway.partitions import Partition

UNKNOWN = -1
POLL_MS = 10

OnEnd = Callable[[int, int], None]
"""Error code and low watermark."""


def low_watermark(gateway: Gateway, partition: Partition) -> int:
    """As this gateway, whose broker leads, sees it; UNKNOWN while a replica has not begun."""
    assigned = partition.assigned
    committed = gateway.image.partition(partition.topic_id, partition.partition)
    if assigned is None or committed is None:
        return UNKNOWN
    own = gateway.partitions.read_row(partition)
    lowest = UNKNOWN if own is None else own[LOG_START_OFFSET]
    places = {place.broker: place for place in assigned.replicas}
    for broker_id in committed.replicas:
        if broker_id != assigned.broker and gateway.brokers.is_there(broker_id):
            place = places.get(broker_id)
            row = None if place is None else gateway.partitions.read_place(place)
            lowest = min(lowest, UNKNOWN if row is None else row[LOG_START_OFFSET])
    return lowest


def await_low_watermark(
    gateway: Gateway, partition: Partition, offset: int, deadline_ms: int, on_end: OnEnd
) -> None:
    """Call `on_end` when the low watermark has reached the offset, the partition is led elsewhere, or the
    time is over; perhaps at once.
    """

    def look() -> None:
        now_ms = gateway.now_ms()
        found = low_watermark(gateway, partition)
        if found >= offset:
            on_end(NONE, found)
        elif partition.assigned is None:
            on_end(NOT_LEADER_OR_FOLLOWER, UNKNOWN)
        elif now_ms >= deadline_ms:
            on_end(REQUEST_TIMED_OUT, found)
        else:
            gateway.timers.schedule(min(now_ms + POLL_MS, deadline_ms), look)

    look()
