"""When a dead process is started again: at once the first time, then after a pause that doubles.

Time arrives as an argument, so that this is tested without waiting.
"""

BACKOFF_S_MAX = 5.0
HEALTHY_S = 2.0  # a process that lived so long was not failing: its next death is a first one


class Backoff:
    """The restarts of one slot."""

    def __init__(self, first_pause_s: float) -> None:
        self._first_pause_s = first_pause_s
        self._failures = 0
        self._started_s = 0.0

    @property
    def failures(self) -> int:
        """Deaths in a row without a healthy life between them."""
        return self._failures

    def on_start(self, now_s: float) -> None:
        """The slot's process was forked."""
        self._started_s = now_s

    def on_death(self, now_s: float) -> float:
        """The time at which to start it again."""
        if now_s - self._started_s >= HEALTHY_S:
            self._failures = 0
        self._failures += 1
        if self._failures == 1:
            return now_s
        return now_s + min(BACKOFF_S_MAX, self._first_pause_s * 2.0 ** min(self._failures - 2, 30))
