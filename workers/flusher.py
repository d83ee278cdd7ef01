"""Syncs the logs of one worker in the background: segments that were rolled, and everything by flush.ms.

A log has one sync under way at a time. The owner hears of it at its next tick, and publishes the recovery
point then (R): never before the sync has returned.
"""

from typing import Generic, Protocol, TypeVar

from tailrace.core.log.flush import Flush
from tailrace.core.log.log import Log
from tailrace.workers.background import Background


class Holder(Protocol):
    """Who holds a log."""

    log: Log


Held = TypeVar("Held", bound=Holder)


class Flusher(Generic[Held]):
    """All flushes of a worker. Holders are told apart by identity."""

    def __init__(self) -> None:
        self._background: Background[tuple[Held, Flush]] = Background()
        self._busy: set[int] = set()

    def start_due(self, holder: Held, now_ms: int) -> None:
        """Begin the flush that it is time for, if any."""
        if id(holder) in self._busy:
            return
        flush = holder.log.begin_due_flush(now_ms)
        if flush is not None:
            self._busy.add(id(holder))
            self._background.submit((holder, flush), flush.run)

    def take_done(self, *, wait: bool = False) -> list[tuple[Held, OSError | None]]:
        """Whose flush has ended: its recovery point is up, or its disk failed. With `wait`: all of them."""
        ended: list[tuple[Held, OSError | None]] = []
        for (holder, flush), error in self._background.take_done(wait=wait):
            self._busy.discard(id(holder))
            if error is None:
                holder.log.flushed(flush)
            ended.append((holder, error))
        return ended
