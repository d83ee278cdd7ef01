"""Which processes stand still: alive, and yet without progress for too long.

Every process counts each run of work, and each time it goes to sleep or wakes, at least once a second
(`shm.doorbell`): one that is stopped, or caught in an endless loop, no longer does. What may take long is
declared (`long_operation`). Time comes in as seconds of a clock that never goes back. While the one who looks
was not scheduled itself (the machine was suspended, or is short of processors), nobody's time counts.
"""

from collections.abc import Mapping
from typing import NamedTuple

LOOKS = 4  # within the limit


class Sample(NamedTuple):
    """What a slot says of its process."""

    incarnation: int
    progress: int
    long_operation: int


class StallWatch:
    """When each process was last seen to have got on."""

    def __init__(self, limit_s: float) -> None:
        """A limit of 0: nobody is ever said to stand still."""
        self._limit_s = limit_s
        self._pause_s = limit_s / LOOKS
        self._looked_s = 0.0
        self._seen: dict[int, tuple[Sample, float]] = {}

    def wait_s(self, now_s: float) -> float:
        """Seconds until the next look."""
        if not self._limit_s:
            return 3600.0
        return max(0.0, self._looked_s + self._pause_s - now_s)

    def look(self, now_s: float, samples: Mapping[int, Sample]) -> list[int]:
        """The slots, of those that are to be watched now, whose process stands still; each is told once a
        limit.
        """
        was_away = now_s - self._looked_s > 2 * self._pause_s
        self._looked_s = now_s
        stalled: list[int] = []
        seen: dict[int, tuple[Sample, float]] = {}
        for slot, sample in samples.items():
            before, since_s = self._seen.get(slot, (None, now_s))
            if was_away or sample != before or sample.long_operation:
                since_s = now_s
            elif now_s - since_s >= self._limit_s:
                stalled.append(slot)
                since_s = now_s
            seen[slot] = (sample, since_s)
        self._seen = seen
        return stalled
