"""Deadlines: what is due is asked for, time comes in as now_ms."""

from collections.abc import Callable
from heapq import heappop, heappush


class Timers:
    """A heap of deadlines with callbacks; a cancelled one stays in the heap until it is due."""

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
