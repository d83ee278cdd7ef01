"""Produce requests with acks=all whose time is over before enough replicas have their batches.

Only those can wait for long, so only they are looked after. There is one deadline for all of them, the
earliest: most requests of most clients have the same time-out, and are answered long before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tailrace.workers.gateway.gateway import Gateway


class Waiting(Protocol):
    """A request that may be answered late."""

    deadline_ms: int

    def time_out(self) -> None:
        """Its time is over: answer."""
        ...


class ProduceTimeouts:
    """Those under way at one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._waiting: dict[Waiting, None] = {}
        self._timer = 0
        self._timer_ms = 0  # when that timer runs; 0: there is none

    def add(self, request: Waiting) -> None:
        """Have it time out at its deadline, unless `remove` comes first."""
        self._waiting[request] = None
        if not self._timer_ms or request.deadline_ms < self._timer_ms:
            self._schedule(request.deadline_ms)

    def remove(self, request: Waiting) -> None:
        """It is answered, or was never added."""
        self._waiting.pop(request, None)

    def _schedule(self, deadline_ms: int) -> None:
        timers = self._gateway.timers
        if self._timer_ms:
            timers.cancel(self._timer)
        self._timer_ms = deadline_ms
        self._timer = timers.schedule(deadline_ms, self._look)

    def _look(self) -> None:
        self._timer_ms = 0
        now_ms = self._gateway.now_ms()
        for request in [request for request in self._waiting if request.deadline_ms <= now_ms]:
            del self._waiting[request]
            request.time_out()
        if self._waiting:
            self._schedule(min(request.deadline_ms for request in self._waiting))
