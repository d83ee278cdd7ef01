"""Questions to the worker that leads a partition (workers/leader_asks.py): sent in a block of the gateway's
arena, answered in the same one, or in a larger one if the answer does not fit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tailrace.core.errors import NOT_LEADER_OR_FOLLOWER
from tailrace.workers.descriptors import ASK, ASK_AGAIN, Entry

if TYPE_CHECKING:
    from tailrace.workers.gateway.buffers import Block
    from tailrace.workers.gateway.gateway import Gateway
    from tailrace.workers.gateway.partitions import Partition

ANSWER_BYTES = 4096  # room for an answer, at least
HELD_SHARE = 0.5  # of the arena at most: questions wait for minutes, and others need memory (R)

OnAnswer = Callable[[int, bytes], None]
"""Error code and answer; NOT_LEADER_OR_FOLLOWER: nobody can be asked now, or who was asked has died."""


class Asks:
    """All questions of a gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._held = 0  # bytes of the arena

    def ask(self, partition: Partition, what: int, question: bytes, on_answer: OnAnswer) -> None:
        """Ask the leader; `on_answer` is called once, perhaps before this returns."""
        size = max(len(question), ANSWER_BYTES)
        block = None if partition.error or self._is_full() else self._allocate(size)
        if block is None:
            on_answer(NOT_LEADER_OR_FOLLOWER, b"")
            return
        block.view[block.start : block.start + len(question)] = question
        self._send(partition, ASK, what, len(question), block, on_answer)

    def _send(
        self, partition: Partition, kind: int, what: int, length: int, block: Block, on_answer: OnAnswer
    ) -> None:
        gateway, assigned = self._gateway, partition.assigned
        capacity = block.limit - block.start

        def on_completion(entry: Entry) -> None:
            _, token, error, size, *_ = entry
            if not error and size > capacity:
                self._free(block)
                larger = self._allocate(size)
                if larger is not None:
                    self._send(partition, ASK_AGAIN, what, token, larger, on_answer)
                    return
                on_answer(NOT_LEADER_OR_FOLLOWER, b"")  # no memory for the answer: the client asks again
                return
            answer = bytes(block.view[block.start : block.start + max(0, size)])
            self._free(block)
            on_answer(error, answer)

        extra = what << 32 | capacity
        if assigned is None or not gateway.outstanding.send(
            assigned, kind, block.serial, block.start, length, on_completion, extra
        ):
            self._free(block)
            on_answer(NOT_LEADER_OR_FOLLOWER, b"")

    def _is_full(self) -> bool:
        return self._held >= HELD_SHARE * self._gateway.buffers.arena_bytes

    def _allocate(self, size: int) -> Block | None:
        block = self._gateway.buffers.allocate(size)
        if block is not None and not block.serial:
            self._held += block.limit - block.start
        return block

    def _free(self, block: Block) -> None:
        if not block.serial:
            self._held -= block.limit - block.start
        self._gateway.buffers.unpin(block)
