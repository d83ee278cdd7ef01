"""Elections that nobody asks for: preferred leaders get their partitions back, and partitions that allow an
unclean election get a leader.
"""

from tailrace.core.errors import KafkaError
from tailrace.core.metadata.elections import ELECTIONS_MAX, rebalance
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.leadership import elect_leaderless
from tailrace.core.metadata.records import Record
from tailrace.workers.changes import Changes
from tailrace.workers.process import ProcessContext


class Balance:
    """Time comes in as seconds of a clock that never goes back."""

    def __init__(self, context: ProcessContext, changes: Changes, now_s: float) -> None:
        config = context.config
        self._changes = changes
        self._interval_s: float = config.leader_imbalance_check_interval_seconds
        self._is_on = config.auto_leader_rebalance_enable
        self._rebalance_s = now_s + self._interval_s if self._is_on else float("inf")
        self._elect_interval_s = config.unclean_leader_election_interval_ms / 1000
        self._elect_s = now_s + self._elect_interval_s
        self._is_moving = False

    def look(self, now_s: float) -> None:
        """What is due now."""
        if self._changes.may_elect or now_s >= self._elect_s:
            self._changes.may_elect = False
            self._elect_s = now_s + self._elect_interval_s
            self._changes.replace(self._elect, _ignore)
        if now_s >= self._rebalance_s and not self._is_moving:
            self._rebalance_s = now_s + self._interval_s
            self._is_moving = True
            self._changes.replace(self._rebalance, self._moved)

    def wait_s(self, now_s: float) -> float:
        """Seconds until something is due."""
        return max(0.0, min(self._rebalance_s, self._elect_s) - now_s)

    def _elect(self, image: MetadataImage) -> tuple[list[Record], None]:
        return elect_leaderless(image, self._changes.rules(), limit=ELECTIONS_MAX), None

    def _rebalance(self, image: MetadataImage) -> tuple[list[Record], int]:
        records = rebalance(image, self._changes.rules())
        return records, len(records)

    def _moved(self, count: int | None, error: KafkaError | None) -> None:
        self._is_moving = False
        if error is None and count == ELECTIONS_MAX:
            self._rebalance_s = 0.0  # there are more


def _ignore(_result: None, _error: KafkaError | None) -> None:
    """Those that were not elected are looked at again."""
