"""Entries under way at the workers: who waits for which completion, and what a death means for them."""

from collections.abc import Callable

from tailrace.core.errors import NOT_LEADER_OR_FOLLOWER
from tailrace.shm.links import DESCRIPTOR, Links
from tailrace.shm.region import ShmError
from tailrace.shm.ring import DescriptorProducer
from tailrace.shm.slots import SlotTable
from tailrace.workers.control import Assigned
from tailrace.workers.descriptors import ASK, ASKS_MAX, LOOK_UP, PRODUCE, REQUESTS_MAX, Entry, pack

Completion = Entry
OnCompletion = Callable[[Completion], None]


class _Worker:
    """One incarnation of a worker: the ring to it and what it has not answered, by token."""

    __slots__ = ("asks", "incarnation", "pushed", "ring", "shown", "slot", "waiting")

    def __init__(self, slot: int, incarnation: int, ring: DescriptorProducer) -> None:
        self.slot = slot
        self.incarnation = incarnation
        self.ring = ring
        self.asks = 0  # of those waited for, questions: they may wait for minutes
        self.pushed = self.shown = False
        self.waiting: dict[int, OnCompletion] = {}


class Outstanding:
    """All workers that entries were sent to."""

    def __init__(self, links: Links, slots: SlotTable) -> None:
        self._links = links
        self._slots = slots
        self._workers: dict[int, _Worker] = {}  # by slot
        self._next = 0
        self._pushed: list[_Worker] = []  # with entries not shown yet
        self._shown: list[_Worker] = []  # in this run

    def send(
        self,
        assigned: Assigned,
        kind: int,
        source: int,
        position: int,
        length: int,
        on_completion: OnCompletion,
        extra: int = 0,
    ) -> bool:
        """Push one entry to the worker of `assigned`; `publish` shows it. False: it is dead, or its ring is
        full.
        """
        worker = self._workers.get(assigned.worker_slot)
        if worker is None or worker.incarnation != assigned.worker_incarnation:
            worker = self._meet(assigned.worker_slot, assigned.worker_incarnation)
            if worker is None:
                return False
        waiting = worker.waiting
        is_question = kind != PRODUCE and kind != LOOK_UP
        if worker.asks >= ASKS_MAX if is_question else len(waiting) - worker.asks >= REQUESTS_MAX:
            return False
        token = self._next + 1
        row, generation = assigned.row, assigned.row_generation
        if not worker.ring.try_push(pack(kind, token, row, generation, source, position, length, extra)):
            return False
        if is_question:
            worker.asks += 1
        self._next = token
        waiting[token] = on_completion
        if not worker.pushed:
            worker.pushed = True
            self._pushed.append(worker)
        return True

    def _meet(self, slot: int, incarnation: int) -> _Worker | None:
        """A worker not sent to before; None when it is dead, or when there is no room for a new ring."""
        if slot in self._workers or not self._slots.is_live(slot, incarnation):
            return None  # the entries of its predecessor are failed first
        try:
            ring = self._links.outgoing(slot, DESCRIPTOR, REQUESTS_MAX)
        except ShmError:
            return None
        if ring is None or not self._slots.is_live(slot, incarnation):
            return None  # it died just now: the ring may be to its successor
        worker = self._workers[slot] = _Worker(slot, incarnation, ring)
        return worker

    def show(self) -> list[int]:
        """Show the workers what was pushed so far in this run of work; returns those to ring: each the first
        time.
        """
        pushed = self._pushed
        if not pushed:
            return []
        self._pushed = []
        first: list[int] = []
        for worker in pushed:
            worker.ring.publish()
            worker.pushed = False
            if not worker.shown:
                worker.shown = True
                self._shown.append(worker)
                first.append(worker.slot)
        return first

    def publish(self) -> list[int]:
        """The same at the end of a run; returns all that were shown any: one rung early may sleep again."""
        self.show()
        if not self._shown:
            return []
        shown, self._shown = self._shown, []
        for worker in shown:
            worker.shown = False
        return [worker.slot for worker in shown]

    def complete(self, slot: int, incarnation: int, entry: Completion) -> None:
        """A worker has done one."""
        worker = self._workers.get(slot)
        if worker is not None and worker.incarnation == incarnation:
            on_completion = worker.waiting.pop(entry[1], None)
            if on_completion is not None:
                if entry[0] == ASK:
                    worker.asks -= 1
                on_completion(entry)

    def fail_dead(self, slot: int, incarnation: int) -> None:
        """The worker is proven dead: it copies nothing any more, and answers nothing (R)."""
        worker = self._workers.get(slot)
        if worker is None or worker.incarnation != incarnation:
            return
        del self._workers[slot]
        self._pushed = [other for other in self._pushed if other is not worker]
        self._shown = [other for other in self._shown if other is not worker]
        for token, on_completion in worker.waiting.items():  # in the order of sending
            on_completion((0, token, NOT_LEADER_OR_FOLLOWER, -1, -1, -1, -1, 0))

    @property
    def is_waiting(self) -> bool:
        """Whether any is under way."""
        return any(worker.waiting for worker in self._workers.values())

    @property
    def count(self) -> int:
        """How many are under way."""
        return sum(len(worker.waiting) for worker in self._workers.values())
