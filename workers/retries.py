"""When replicas that are offline are tried again: the controller's list, by row."""

from typing import NamedTuple

PAUSE_S, PAUSE_S_MAX = 5.0, 60.0  # it doubles
FULL_PAUSE_S, FULL_PAUSE_S_MAX = 1.0, 5.0  # of a disk without room, which may have some at any moment


class _Retry(NamedTuple):
    due_s: float
    pause_s: float


class Retries:
    """Time comes in as seconds of a clock that never goes back."""

    def __init__(self) -> None:
        self._retries: dict[int, _Retry] = {}

    def note(self, row: int, now_s: float, *, is_full: bool) -> None:
        """It has failed: try again after a pause."""
        first_s, longest_s = (FULL_PAUSE_S, FULL_PAUSE_S_MAX) if is_full else (PAUSE_S, PAUSE_S_MAX)
        before = self._retries.get(row)
        pause_s = first_s if before is None else min(max(before.pause_s * 2, first_s), longest_s)
        self._retries[row] = _Retry(now_s + pause_s, pause_s)

    def take_due(self, now_s: float) -> list[int]:
        """Those whose pause is over; each is not due again before it has failed again."""
        due = [row for row, retry in self._retries.items() if retry.due_s <= now_s]
        for row in due:
            self._retries[row] = self._retries[row]._replace(due_s=float("inf"))
        return due

    def forget(self, row: int) -> None:
        """Nobody is to try it any more."""
        self._retries.pop(row, None)

    def wait_s(self, now_s: float, longest_s: float) -> float:
        """Seconds until one is due."""
        next_s = min((retry.due_s for retry in self._retries.values()), default=float("inf"))
        return min(max(0.0, next_s - now_s), longest_s)
