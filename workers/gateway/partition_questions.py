"""A question to the leader of each partition that a request names: answered when all of them are. One without
a leader is waited for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tailrace.core.errors import NONE, NOT_LEADER_OR_FOLLOWER, UNKNOWN_TOPIC_OR_PARTITION
from tailrace.workers.gateway.partitions import HOLD_MS, Partition

if TYPE_CHECKING:
    from tailrace.workers.gateway.asks import OnAnswer
    from tailrace.workers.gateway.gateway import Gateway


class PartitionQuestions:
    """The questions of one request."""

    def __init__(self, gateway: Gateway, what: int, on_end: Callable[[], None]) -> None:
        self._gateway = gateway
        self._what = what
        self._on_end = on_end
        self._deadline_ms = gateway.now_ms() + HOLD_MS
        self._remaining = 1

    def ask(self, topic: str, index: int, question: bytes, on_answer: OnAnswer) -> None:
        """Ask about one; `on_answer` hears the error code or the answer, perhaps at once."""
        image = self._gateway.image.topics_by_name.get(topic)
        if image is None or not 0 <= index < len(image.partitions):
            on_answer(UNKNOWN_TOPIC_OR_PARTITION, b"")
            return
        self._remaining += 1
        partition = self._gateway.partitions.get(image.name, image.topic_id, index)

        def on_leader_answer(error: int, body: bytes) -> None:
            on_answer(error, body)
            self.end()

        def attempt() -> bool:
            return self._attempt(partition, question, on_leader_answer)

        if not partition.held and attempt():
            return
        if not self._gateway.partitions.hold(partition, attempt):
            on_leader_answer(NOT_LEADER_OR_FOLLOWER, b"")

    def end(self) -> None:
        """One is answered; called once more when all have been asked."""
        self._remaining -= 1
        if not self._remaining:
            self._on_end()

    def _attempt(self, partition: Partition, question: bytes, on_answer: OnAnswer) -> bool:
        gateway = self._gateway
        if gateway.partitions.is_led(partition):
            gateway.asks.ask(partition, self._what, question, on_answer)
            return True
        if partition.error in (NONE, NOT_LEADER_OR_FOLLOWER) and gateway.now_ms() < self._deadline_ms:
            return False
        on_answer(partition.error or NOT_LEADER_OR_FOLLOWER, b"")
        return True
