"""A replica that moves to another log directory of its broker: its log as it grows there.

The log that serves (the source) goes on; what it holds is copied, batch by batch, into the one that is to
take its place. Both belong to one process, so no epochs have to be agreed on. Where the source was cut, as
a follower's may be, the copy begins anew (R): what was cut may be in it already.

Of compacted logs offsets are missing: batches are taken with gaps.
"""

from collections.abc import Callable

from tailrace.core.errors import CORRUPT_MESSAGE, KafkaError
from tailrace.core.log.log import Log
from tailrace.core.records.batch import HEADER_SIZE, stated_size, whole_batches

READ_BYTES = 256 * 1024  # of the source at once

Read = Callable[[int, int, int], bytes]
"""(segment, position, length) -> bytes of the source's file, fewer if it has no more, none if it is gone."""


class FutureReplica:
    """See the module. KafkaError from any method: the copy's disk refuses, or what is read is unsound. If it
    only has no room (DiskFullError), the same may be tried again, unless the log is closed then.
    """

    def __init__(self, source: Log, log: Log) -> None:
        """`log`: new and empty, it starts with the first segment of the source."""
        self.source, self.log = source, log
        self.copied_bytes = 0
        self._cuts = source.cut_count
        self._segment, self._position = log.log_end_offset, 0

    @property
    def lag(self) -> int:
        """Offsets that it lacks."""
        return max(0, self.source.log_end_offset - self.log.log_end_offset) if self._is_sound else FAR

    @property
    def _is_sound(self) -> bool:
        return self._cuts == self.source.cut_count

    def copy(self, read: Read, budget: int, now_ms: int) -> int:
        """Takes about `budget` bytes, at most what there is. Returns how many; 0: it has all."""
        copied = 0
        while copied < budget and (left := self._find(now_ms)):
            data = read(self._segment, self._position, min(READ_BYTES, left))
            done = self._append(memoryview(data), now_ms)
            if not done and len(data) >= HEADER_SIZE and self.lag:
                size = stated_size(data)
                if not READ_BYTES < size <= left:
                    place = f"at {self._position} of segment {self._segment}"
                    raise KafkaError(CORRUPT_MESSAGE, f"there is no batch {place} of what is to be copied")
                done = self._append(memoryview(read(self._segment, self._position, size)), now_ms)
            if not done:  # its segment was deleted meanwhile
                break
            copied += done
        return copied

    def _find(self, now_ms: int) -> int:
        """How many bytes there are to be copied of one segment; the place is at them."""
        segments = self.source.segments
        if not self._is_sound or self._segment < segments[0].base_offset:
            self._begin_again(segments[0].base_offset, now_ms)
        for segment in segments:
            if segment.base_offset > self._segment:
                self._segment, self._position = segment.base_offset, 0
            if segment.base_offset == self._segment and self._position < segment.size:
                return segment.size - self._position
        return 0

    def _begin_again(self, offset: int, now_ms: int) -> None:
        """The source was cut, or its oldest segments were deleted before they were copied."""
        self.log.truncate_fully_and_start_at(offset, now_ms)
        self._cuts, self.copied_bytes = self.source.cut_count, 0
        self._segment, self._position = offset, 0

    def _append(self, data: memoryview, now_ms: int) -> int:
        """The whole batches in it that lie below the end of the source; returns how many bytes they are."""
        done = 0
        for batch in whole_batches(data):
            if self.log.log_end_offset >= self.source.log_end_offset:
                break
            self.log.append_as_follower(batch, now_ms, allow_gap=True)
            self._position += len(batch)  # (R) with each: the next one may be refused, and is tried again
            self.copied_bytes += len(batch)
            done += len(batch)
        return done

    def complete(self, read: Read, now_ms: int) -> bool:
        """The rest, and what is no batch, of a source that changes no more; all is on the disk then, and the
        log is closed. False: it cannot become the same.
        """
        while self.copy(read, READ_BYTES, now_ms):
            pass
        source, log = self.source, self.log
        if log.log_end_offset != source.log_end_offset:
            return False
        log.high_watermark = source.high_watermark
        if source.log_start_offset > log.log_start_offset:
            log.delete_records_before(source.log_start_offset, now_ms)
        log.take_producers(source)
        log.flush(log.log_end_offset)
        log.close()
        return True


FAR = 1 << 62  # the lag of one that begins anew
