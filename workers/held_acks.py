"""Acknowledgements that wait until what they speak of is committed: synced, or in every in-sync replica.

Rule (R), with a test: one is sent after the high watermark that covers it is shown, and never after an error.
"""

from tailrace.core.errors import NONE
from tailrace.core.replication.pending import PendingAcks
from tailrace.workers.completions import Completions
from tailrace.workers.descriptors import PRODUCE, pack
from tailrace.workers.replica import Replica

Origin = tuple[int, int, int]
"""Slot and incarnation of a gateway, and the token of its entry."""


class HeldAcks:
    """Of all replicas of a worker."""

    def __init__(self, completions: Completions) -> None:
        self._completions = completions
        self.waiting: dict[Replica, PendingAcks[tuple[Origin, bytes]]] = {}

    def answer(self, end_offset: int, replica: Replica, origin: Origin, completion: bytes) -> bytes | None:
        """The completion, if what ends there is committed; None: it is held until then."""
        if replica.is_committed(end_offset):
            return completion
        held = self.waiting.get(replica)
        if held is None:
            held = self.waiting[replica] = PendingAcks()
        held.add(end_offset, (origin, completion))
        return None

    def release(self, replica: Replica) -> None:
        """Acknowledge what is committed by now, as its row shows (R)."""
        held = self.waiting.get(replica)
        if held:
            for (slot, incarnation, _), completion in held.take(replica.committed):
                self._completions.later(slot, incarnation, completion)

    def fail(self, replica: Replica, error: int) -> None:
        """No acknowledgement is sent any more, but this error at once."""
        assert error != NONE
        held = self.waiting.pop(replica, None)
        for (slot, incarnation, token), _ in held.fail() if held else ():
            self._completions.later(slot, incarnation, pack(PRODUCE, token, error, -1, -1, -1, -1, 0))
