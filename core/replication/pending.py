"""Appends that are acknowledged once the high watermark covers them, in the order of their offsets.

A duplicate waits for its original (R): the answer says that it is in the log of every in-sync replica, which
may not be true yet. It may wait for more than that, so that the queue stays in order.
"""

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class PendingAcks(Generic[T]):
    """Of one partition. As many as gateways have requests under way."""

    def __init__(self) -> None:
        self._held: deque[tuple[int, T]] = deque()

    def __len__(self) -> int:
        return len(self._held)

    def add(self, end_offset: int, item: T) -> None:
        """`item` is due when all below `end_offset` is committed."""
        held = self._held
        if held and end_offset < held[-1][0]:
            end_offset = held[-1][0]
        held.append((end_offset, item))

    def take(self, high_watermark: int) -> list[T]:
        """Those that are due, oldest first."""
        held, due = self._held, list[T]()
        while held and held[0][0] <= high_watermark:
            due.append(held.popleft()[1])
        return due

    def fail(self) -> list[T]:
        """All of them: to be answered with an error. NOT_LEADER_OR_FOLLOWER when another leads from now on,
        NOT_ENOUGH_REPLICAS_AFTER_APPEND when too few are in sync, see InSync.has_enough.
        """
        held, self._held = self._held, deque()
        return [item for _, item in held]
