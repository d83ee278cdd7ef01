"""What the gateway has asked of the controller and not yet heard about.

    gateway.controller.ask(make, on_answer, timeout_ms)

Every ask ends with exactly one call of `on_answer`: with the controller's answer, or with None when the time
is over or too much is under way. The death of a controller loses no ask: its successor is asked again. It may
be asked for what its predecessor committed without living to say so; then it answers, as Kafka's next
controller would, that the topic exists already, or is unknown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tailrace.workers import control
from tailrace.workers.control import (
    ConfigResults,
    PartitionResults,
    ProducerIds,
    TopicResults,
)
from tailrace.workers.control_quorum import QuorumDescribed, VotersChanged
from tailrace.workers.gateway.auto_creation import AutoCreation
from tailrace.workers.gateway.producer_ids import ProducerIdPool

if TYPE_CHECKING:
    from tailrace.workers.gateway.gateway import Gateway

UNANSWERED_MAX = 1000  # asks under way at a time
TIMED_OUT = "The request timed out."  # Kafka's sentence

Committed = TopicResults | ConfigResults | PartitionResults
"""What a client is told of once this gateway's own image has it."""
Answer = Committed | ProducerIds | QuorumDescribed | VotersChanged | None
OnAnswer = Callable[[Answer], None]


class _Asked:
    """One ask that has not ended."""

    __slots__ = ("epoch", "held", "message", "on_answer", "timer")

    def __init__(self, message: control.Message, on_answer: OnAnswer) -> None:
        self.message = message
        self.on_answer = on_answer
        self.timer = 0
        self.epoch = 0  # of the controller that was asked; 0: there was none
        self.held: Committed | None = None  # an answer that the image has yet to reach


class ControllerRequests:
    """The table of what was asked; and, built on it, the topics being made and the producer ids in stock."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._asked: dict[int, _Asked] = {}
        self._held: set[int] = set()
        self._last_request_id = 0
        self.auto_creation = AutoCreation(gateway)
        self.producer_ids = ProducerIdPool(self)

    def ask(self, make: Callable[[int], control.Message], on_answer: OnAnswer, timeout_ms: int) -> None:
        """Send `make(request_id)` to the controller; `on_answer` may be called before this returns."""
        if len(self._asked) >= UNANSWERED_MAX:
            on_answer(None)
            return
        self._last_request_id += 1
        request_id = self._last_request_id
        asked = self._asked[request_id] = _Asked(make(request_id), on_answer)
        asked.timer = self._gateway.timers.schedule(
            self._gateway.now_ms() + max(0, timeout_ms), lambda: self._end(request_id, None)
        )
        self._send(request_id, asked)

    def on_message(self, message: control.Message) -> None:
        """An answer of the controller; one to what has ended already is dropped."""
        assert isinstance(message, Committed | ProducerIds | QuorumDescribed | VotersChanged), message
        asked = self._asked.get(message.request_id)
        if asked is None or asked.held is not None:
            return
        # A client must not be told of what this gateway would still deny (R).
        if isinstance(message, Committed) and message.metadata_offset > self._gateway.image.metadata_offset:
            asked.held = message
            self._held.add(message.request_id)
            return
        self._end(message.request_id, message)

    def on_image_moved(self) -> None:
        """Deliver the answers that waited for the image."""
        offset = self._gateway.image.metadata_offset
        for request_id in sorted(self._held):
            asked = self._asked.get(request_id)
            if asked is not None and asked.held is not None and asked.held.metadata_offset <= offset:
                self._end(request_id, asked.held)

    def on_controller_changed(self) -> None:
        """Ask the controller that lives now whatever its predecessors left unanswered."""
        for request_id, asked in list(self._asked.items()):
            if asked.held is None and request_id in self._asked:
                self._send(request_id, asked)

    def _send(self, request_id: int, asked: _Asked) -> None:
        context = self._gateway.context
        slot, epoch = context.active_controller()
        if epoch in (0, asked.epoch):
            return
        if context.outbox.send(slot, asked.message):
            asked.epoch = epoch
        elif context.active_controller() == (slot, epoch):
            self._end(request_id, None)  # it lives but takes no more: the client shall ask again later

    def _end(self, request_id: int, answer: Answer) -> None:
        asked = self._asked.pop(request_id, None)
        if asked is None:
            return
        self._held.discard(request_id)
        self._gateway.timers.cancel(asked.timer)
        asked.on_answer(answer)
