"""Waiting, within bounds, until the partitions of new topics are led.

In Kafka a topic has leaders as soon as it exists; here their workers are only being started, which takes some
tens of milliseconds. A client told of a partition without leader would wait 100 ms before it asks again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tailrace.workers.gateway.gateway import Gateway

LEADERS_TIMEOUT_MS = 1_000
LEADERS_MAX = 256  # partitions at a time; more take longer than a client's pause: it is answered at once
LEADERS_POLL_MS = 5


def await_leaders(
    gateway: Gateway, names: Iterable[str], timeout_ms: int, on_end: Callable[[], None]
) -> None:
    """Call `on_end` when every partition of these topics has been led, or is known to have failed, or after
    `timeout_ms`; LEADERS_TIMEOUT_MS at most, and at once if there are more than LEADERS_MAX.
    """
    waiting: list[tuple[bytes, int]] = []
    for name in names:
        topic = gateway.image.topics_by_name.get(name)
        if topic is not None:
            waiting += ((topic.topic_id, index) for index in range(len(topic.partitions)))
    if len(waiting) > LEADERS_MAX:
        waiting.clear()
    waiting.reverse()
    deadline_ms = gateway.now_ms() + min(timeout_ms, LEADERS_TIMEOUT_MS)
    _look(gateway, waiting, deadline_ms, on_end)


def _look(
    gateway: Gateway, waiting: list[tuple[bytes, int]], deadline_ms: int, on_end: Callable[[], None]
) -> None:
    while waiting and not gateway.partitions.is_awaited(*waiting[-1]):
        waiting.pop()
    now_ms = gateway.now_ms()
    if not waiting or now_ms >= deadline_ms:
        on_end()
    else:
        gateway.timers.schedule(
            now_ms + LEADERS_POLL_MS, lambda: _look(gateway, waiting, deadline_ms, on_end)
        )
