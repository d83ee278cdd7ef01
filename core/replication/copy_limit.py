"""How fast a follower that is out of sync copies, where that is throttled (KIP-73)."""

WINDOW_MS = 1000  # what was not used is kept for so long


class CopyLimit:
    """Bytes a second of one replica. Time comes in as now_ms."""

    def __init__(self, rate: int, now_ms: int) -> None:
        """rate: of at least one byte a second."""
        assert rate > 0
        self.rate = rate
        self._left = 0.0  # below zero: more was copied, as a batch is copied whole
        self._at_ms = now_ms

    def allowance(self, now_ms: int) -> int:
        """Bytes that may be copied now; not above zero: none."""
        gained = self.rate * (now_ms - self._at_ms) / 1000
        self._left = min(self._left + gained, self.rate * WINDOW_MS / 1000)
        self._at_ms = now_ms
        return int(self._left)

    def spend(self, size: int) -> None:
        """So many were copied."""
        self._left -= size

    def due_ms(self) -> int:
        """When there is an allowance again."""
        return self._at_ms + max(1, int((1 - self._left) * 1000 / self.rate) + 1)
