"""Entries under way at the workers: who waits for which completion, and what a death means for them."""

from collections.abc import Callable

from tailrace.core.errors import NOT_LEADER_OR_FOLLOWER
from tailrace.shm.links import DESCRIPTOR, Links
from tailrace.shm.region import ShmError
from tailrace.shm.ring import DescriptorProducer
from tailrace.workers.control import Assigned
from tailrace.workers.descriptors import REQUESTS_MAX, pack

Completion = tuple[int, int, int, int, int, int, int, int]
OnCompletion = Callable[[Completion], None]


class Outstanding:
    """Tokens to callbacks, by worker incarnation."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._waiting: dict[int, OnCompletion] = {}
        self._counts: dict[tuple[int, int], set[int]] = {}
        self._next = 0
        self._touched: dict[int, DescriptorProducer] = {}

    def send(
        self,
        assigned: Assigned,
        kind: int,
        source: int,
        position: int,
        length: int,
        on_completion: OnCompletion,
    ) -> bool:
        """Push one entry to the worker of `assigned`; False when its ring is full. `publish` shows it."""
        slot = assigned.worker_slot
        try:
            ring = self._links.outgoing(slot, DESCRIPTOR, REQUESTS_MAX)
        except ShmError:  # no room for a new ring now
            return False
        if ring is None:
            return False
        key = (slot, assigned.worker_incarnation)
        tokens = self._counts.get(key)
        if tokens is None:
            tokens = self._counts[key] = set()
        elif len(tokens) >= REQUESTS_MAX:
            return False
        self._next = token = self._next + 1
        entry = pack(
            kind,
            token,
            assigned.row,
            assigned.row_generation,
            source,
            position,
            length,
            assigned.leader_epoch,
        )
        if not ring.try_push(entry):
            return False
        tokens.add(token)
        self._waiting[token] = on_completion
        self._touched[slot] = ring
        return True

    def publish(self) -> "list[int]":
        """Show the workers what was pushed; returns the slots to ring."""
        if not self._touched:
            return []
        for ring in self._touched.values():
            ring.publish()
        slots = list(self._touched)
        self._touched.clear()
        return slots

    def complete(self, slot: int, incarnation: int, entry: Completion) -> None:
        """A worker has done one."""
        on_completion = self._waiting.pop(entry[1], None)
        if on_completion is not None:
            tokens = self._counts.get((slot, incarnation))
            if tokens is not None:
                tokens.discard(entry[1])
            on_completion(entry)

    def fail_dead(self, slot: int, incarnation: int) -> None:
        """The worker is proven dead: it copies nothing any more, and answers nothing (R)."""
        self._touched.pop(slot, None)
        for token in sorted(self._counts.pop((slot, incarnation), ())):
            on_completion = self._waiting.pop(token, None)
            if on_completion is None:
                continue
            on_completion((0, token, NOT_LEADER_OR_FOLLOWER, -1, -1, -1, -1, 0))

    @property
    def count(self) -> int:
        """How many are under way."""
        return len(self._waiting)
