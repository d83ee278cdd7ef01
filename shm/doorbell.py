"""Waking a process that sleeps: one eventfd a slot, written only when the slot's `parked` word is set.

    sleeper (park)                        ringer (ring)
    parked = 1                            publish the work (a word in shared memory)
    fence                                 fence
    look for work; none: poll             parked? write the eventfd

Each side stores its own word, fences, then loads the other's (R): at least one of the two sees the other's
store. Without the fences both loads may run ahead of both stores and the sleeper sleeps on work (2 or 3 of
10,000 times, measured).

The net: a parked wait also ends after NET_S. That alone is not a missed wake-up, for the ringer may be
between its publish and its ring. It is one if the sleeper, still parked, finds work, and its eventfd stays
silent for one more such wait.

Lingering: to wake a processor that has gone idle costs 20 to 50 us on a virtual machine, more than most work
does. A sleeper whose last wait was short may look a moment longer before it parks, yielding its processor
between looks; one look in vain, and it parks at once until a wait is short again. `Patience` says what is
short, and how long a moment: longer for who waits for several processes in a row.
"""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from tailrace.shm.slots import MISSED_WAKEUPS, PARKED, PROGRESS, SlotTable, row_start
from tailrace.shm.words import fence

NEVER_NS: Final = 1 << 62
NET_S: Final = 1.0  # limit of one parked wait


class Patience(NamedTuple):
    """Of one who lingers, in nanoseconds."""

    linger_ns: int
    short_ns: int  # a parked wait of less makes the next one linger


USUAL: Final = Patience(60_000, 150_000)
LONG: Final = Patience(250_000, 300_000)  # replication: the leader, its followers, and the leader again

T = TypeVar("T")


def make_eventfd() -> int:
    """A doorbell's descriptor; made before the forks, so that every process inherits it."""
    return os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)


def _nothing(_timeout_s: float) -> Any:
    """What an owner without descriptors finds in them."""
    return ()


class Doorbell:
    """The owner's side of its slot's bell.

    With `edge_triggered` the owner registered the eventfd with EPOLLET, and it is never read: each write is
    a new edge.
    """

    __slots__ = ("_drains", "_eventfd", "_missed", "_net_s", "_parked", "_progress", "_waited_ns", "_words")

    def __init__(
        self, slots: SlotTable, slot: int, eventfd: int, *, edge_triggered: bool = False, net_s: float = NET_S
    ) -> None:
        self._words = slots.words
        self._parked = row_start(slot) + PARKED
        self._missed = row_start(slot) + MISSED_WAKEUPS
        self._progress = row_start(slot) + PROGRESS
        self._eventfd = eventfd
        self._drains = not edge_triggered
        self._waited_ns = NEVER_NS  # parked, the last time; as if for ever after a look in vain
        self._net_s = net_s
        self._words[self._parked] = 0

    def linger(
        self,
        has_work: Callable[[], object],
        poll: Callable[[float], T] = _nothing,
        patience: Patience = USUAL,
    ) -> T | None:
        """Look for work a moment longer before `park`, if waits are short now: nobody need ring then.

        Returns what `poll` found, perhaps something empty if a ring has work; None: nothing came, park now.
        """
        if self._waited_ns >= patience.short_ns:
            return None
        end = time.perf_counter_ns() + patience.linger_ns
        while not has_work():
            found = poll(0)
            if found:
                return found
            if time.perf_counter_ns() > end:
                self._waited_ns = NEVER_NS
                return None
            os.sched_yield()
        return poll(0)

    def park(self, poll: Callable[[float], T], has_work: Callable[[], object], timeout_s: float | None) -> T:
        """Sleep until the bell rings, `poll` finds something else, or the time, at most NET_S, is over.

        `poll(seconds)` watches the eventfd among others and returns something false when nothing was ready.
        Returns what `poll` returned last; the caller then looks for work, whatever it was.
        """
        words, parked = self._words, self._parked
        words[self._progress] += 1  # once a second at least, also of one that has nothing to do
        words[parked] = 1
        fence()  # pairs with the fence in Bells.ring
        if has_work():
            words[parked] = 0
            return poll(0.0)
        began = time.perf_counter_ns()
        if timeout_s is None or timeout_s > self._net_s:
            ready = poll(self._net_s)
            if not ready and has_work():
                ready = self._wait_once_more(poll, None if timeout_s is None else timeout_s - self._net_s)
        else:
            ready = poll(timeout_s)
        words[parked] = 0
        self._waited_ns = time.perf_counter_ns() - began
        if self._drains:
            self.drain()
        return ready

    def _wait_once_more(self, poll: Callable[[float], T], timeout_s: float | None) -> T:
        """There is work and no bell yet: silent for one more whole wait, it was missed."""
        if timeout_s is not None and timeout_s < self._net_s:
            return poll(timeout_s)
        ready = poll(self._net_s)
        if not ready:
            self._words[self._missed] += 1
        return ready

    def drain(self) -> None:
        """Forget the rings so far."""
        try:
            os.eventfd_read(self._eventfd)
        except BlockingIOError:
            return

    def wake(self) -> None:
        """Ring the own bell: for the owner's other threads and its signal handlers."""
        os.eventfd_write(self._eventfd, 1)


class Bells:
    """The ringers' side: every slot's bell."""

    __slots__ = ("_eventfds", "_parked", "_words")

    def __init__(self, slots: SlotTable, eventfds: Sequence[int]) -> None:
        self._words = slots.words
        self._eventfds = tuple(eventfds)
        self._parked = tuple(row_start(slot) + PARKED for slot in range(len(self._eventfds)))

    def ring(self, slot: int) -> None:
        """Wake the slot's process if it sleeps. Called once after a run of work was published to it."""
        fence()  # pairs with the fence in Doorbell.park
        if self._words[self._parked[slot]]:
            os.eventfd_write(self._eventfds[slot], 1)

    def ring_many(self, slots: Iterable[int]) -> None:
        """The same for several slots, with one fence."""
        fence()  # pairs with the fence in Doorbell.park
        words, parked = self._words, self._parked
        for slot in slots:
            if words[parked[slot]]:
                os.eventfd_write(self._eventfds[slot], 1)

    def ring_all(self) -> None:
        """Wake everybody that sleeps: after a death was stored."""
        self.ring_many(range(len(self._eventfds)))
