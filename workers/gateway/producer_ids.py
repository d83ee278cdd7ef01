"""The gateway's block of producer ids: most InitProducerId requests need no controller."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from tailrace.core.errors import COORDINATOR_LOAD_IN_PROGRESS, NONE, is_retriable
from tailrace.workers.control import AllocateProducerIds, ProducerIds

if TYPE_CHECKING:
    from tailrace.workers.gateway.controller_requests import Answer, ControllerRequests

TIMEOUT_MS = 10_000  # for a controller that is being restarted
WAITING_MAX = 10_000  # requests waiting for the next block

OnProducerId = Callable[[int, int], None]  # error code, producer id or -1


class ProducerIdPool:
    """Ids nobody has yet, and those who wait for more of them."""

    def __init__(self, controller: ControllerRequests) -> None:
        self._controller = controller
        self._next = 0
        self._end = 0
        self._waiting: deque[OnProducerId] = deque()
        self._is_asking = False

    def take(self, on_id: OnProducerId) -> None:
        """Call `on_id` with an id that nobody else ever gets: at once, or when the next block is here."""
        if self._next < self._end and not self._waiting:
            self._next += 1
            on_id(NONE, self._next - 1)
        elif len(self._waiting) >= WAITING_MAX:
            on_id(COORDINATOR_LOAD_IN_PROGRESS, -1)
        else:
            self._waiting.append(on_id)
            self._ask()

    def _ask(self) -> None:
        if not self._is_asking:
            self._is_asking = True
            self._controller.ask(_allocate, self._on_answer, TIMEOUT_MS)

    def _on_answer(self, answer: Answer) -> None:
        self._is_asking = False
        if isinstance(answer, ProducerIds) and answer.count > 0:
            self._next = answer.first_producer_id
            self._end = answer.first_producer_id + answer.count
            while self._waiting and self._next < self._end:
                self._next += 1
                self._waiting.popleft()(NONE, self._next - 1)
            if self._waiting:
                self._ask()
            return
        code = answer.error_code if isinstance(answer, ProducerIds) else COORDINATOR_LOAD_IN_PROGRESS
        if is_retriable(code):
            code = COORDINATOR_LOAD_IN_PROGRESS  # the one that producers await here, as Kafka answers
        waiting, self._waiting = self._waiting, deque()
        for on_id in waiting:
            on_id(code, -1)


def _allocate(request_id: int) -> AllocateProducerIds:
    return AllocateProducerIds(request_id=request_id)
