"""A question to the leader of each partition that a request names: answered when all of them are. One without
a leader is waited for.

Some at a time: a worker does all that a ring holds in one run, and appends would wait for thousands.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from tailrace.core.errors import NOT_LEADER_OR_FOLLOWER, UNKNOWN_TOPIC_OR_PARTITION
from tailrace.workers.gateway.partitions import HOLD_MS, Partition

if TYPE_CHECKING:
    from tailrace.workers.gateway.asks import OnAnswer
    from tailrace.workers.gateway.gateway import Gateway

UNDER_WAY_MAX = 8


class PartitionQuestions:
    """The questions of one request."""

    def __init__(self, gateway: Gateway, what: int, on_end: Callable[[], None]) -> None:
        self._gateway = gateway
        self._what = what
        self._on_end = on_end
        self._deadline_ms = gateway.now_ms() + HOLD_MS
        self._waiting: deque[tuple[Partition, bytes, OnAnswer]] = deque()
        self._under_way = 0
        self._is_sending = False

    def ask(self, topic: str, index: int, question: bytes, on_answer: OnAnswer) -> None:
        """Ask about one, by `send`; `on_answer` hears the error code or the answer."""
        image = self._gateway.image.topics_by_name.get(topic)
        if image is None or not 0 <= index < len(image.partitions):
            on_answer(UNKNOWN_TOPIC_OR_PARTITION, b"")
            return
        partition = self._gateway.partitions.get(image.name, image.topic_id, index)
        self._waiting.append((partition, question, on_answer))

    def send(self) -> None:
        """All have been named. The request ends with the last answer, perhaps at once."""
        if self._is_sending:  # an answer came at once, and the loop below goes on
            return
        self._is_sending = True
        while self._waiting and self._under_way < UNDER_WAY_MAX:
            self._under_way += 1
            self._send_one(*self._waiting.popleft())
        self._is_sending = False
        if not self._under_way:
            self._on_end()

    def _send_one(self, partition: Partition, question: bytes, on_answer: OnAnswer) -> None:
        def on_leader_answer(error: int, body: bytes) -> None:
            on_answer(error, body)
            self._under_way -= 1
            self.send()

        def attempt() -> bool:
            return self._attempt(partition, question, on_leader_answer)

        if not partition.held and attempt():
            return
        if not self._gateway.partitions.hold(partition, attempt):
            on_leader_answer(NOT_LEADER_OR_FOLLOWER, b"")

    def _attempt(self, partition: Partition, question: bytes, on_answer: OnAnswer) -> bool:
        gateway = self._gateway
        if gateway.partitions.is_led(partition):
            gateway.asks.ask(partition, self._what, question, on_answer)
            return True
        if not gateway.partitions.refusal(partition) and gateway.now_ms() < self._deadline_ms:
            return False
        on_answer(partition.error or NOT_LEADER_OR_FOLLOWER, b"")
        return True
