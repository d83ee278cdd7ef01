"""Deadlines: what is due is asked for, time comes in as now_ms."""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final

_SLACK: Final = 64  # cancelled deadlines in the heap that are not worth a clean-up


class Timers:
    """A heap of deadlines with callbacks; those cancelled it keeps only as many as there are others."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int]] = []
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._next = 0

    def schedule(self, deadline_ms: int, callback: Callable[[], None]) -> int:
        """Have `callback` run once now_ms reaches `deadline_ms`; returns what `cancel` takes."""
        self._next = token = self._next + 1
        self._callbacks[token] = callback
        heappush(self._heap, (deadline_ms, token))
        return token

    def cancel(self, token: int) -> None:
        """Forget a deadline; one that has passed is no matter."""
        self._callbacks.pop(token, None)
        if len(self._heap) > 2 * len(self._callbacks) + _SLACK:
            self._heap = [entry for entry in self._heap if entry[1] in self._callbacks]
            heapify(self._heap)

    def next_deadline_ms(self) -> int | None:
        """The earliest deadline that still stands."""
        heap = self._heap
        while heap and heap[0][1] not in self._callbacks:
            heappop(heap)
        return heap[0][0] if heap else None

    def run_due(self, now_ms: int) -> None:
        """Run every callback that is due, earliest first."""
        while (deadline := self.next_deadline_ms()) is not None and deadline <= now_ms:
            _, token = heappop(self._heap)
            self._callbacks.pop(token)()
