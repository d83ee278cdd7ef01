"""Where the last offsets of a log lie, so that a high watermark finds its byte position without a look."""

from collections import deque

from tailrace.core.replication.replicated_log import ReplicatedLog

PLACES_MAX = 4096

Place = tuple[int, int]
"""Segment, and the position in it."""


class Places:
    """Ends of runs of appends, ascending. One that is missing, as PLACES_MAX wait already, is looked up."""

    def __init__(self, log: ReplicatedLog) -> None:
        self._log = log
        self._ends: deque[tuple[int, int, int]] = deque()

    def note(self) -> None:
        """The log ends here now."""
        log, ends = self._log, self._ends
        end = log.log_end_offset
        if len(ends) < PLACES_MAX and (not ends or ends[-1][0] < end):
            ends.append((end, log.active_base_offset, log.active_position))

    def take(self, offset: int) -> Place:
        """Where it lies; those below are not asked for again. KafkaError: see ReplicatedLog.place_of."""
        log, ends = self._log, self._ends
        while ends and ends[0][0] < offset:
            ends.popleft()
        if ends and ends[0][0] == offset:
            return ends[0][1], ends[0][2]
        if offset == log.log_end_offset:
            return log.active_base_offset, log.active_position
        return log.place_of(offset)

    def forget(self) -> None:
        """The log was cut."""
        self._ends.clear()
