"""What a follower appends: batches that its leader has accepted, at the offsets and epochs which that gave.

Nothing is refused here that a leader would refuse of a client: sizes, times and sequences are not looked at
again. What is checked is that the batch is whole and sound, and that it goes where it belongs.

Rules (R), each with a test:
- a batch is taken at the end of the log and nowhere else: one in between is missing otherwise, and whoever
  counts this log's end counts what it has not;
- epochs never go back;
- and those of every append, see log.py: the copy is checked, its first 21 bytes are stored last, what is
  refused is zeroed.

Gaps. A log that was compacted lacks offsets inside of its segments, and so does a copy of it. They are let
through with `allow_gap` alone, which is said of what is read from the files of a leader that compacts. A gap
never falls between two segments: each begins at the end of the one before. So one of 2^31 offsets or more,
which no segment can hold, is refused.
"""

from tailrace.core.errors import (
    CORRUPT_MESSAGE,
    FENCED_LEADER_EPOCH,
    KAFKA_STORAGE_ERROR,
    OFFSET_OUT_OF_RANGE,
    KafkaError,
)
from tailrace.core.log.rolling import RollingLog
from tailrace.core.log.segment import RELATIVE_OFFSET_MAX
from tailrace.core.records.batch import (
    ATTRIBUTES_AT,
    CHECKED,
    CODEC_COUNT,
    CODEC_MASK,
    HEADER_SIZE,
    LENGTH_PREFIX,
    MAGIC,
    UNCHECKED,
    Buffer,
    check_stored,
    parse_header,
)
from tailrace.core.records.crc32c import crc32c


class FollowedLog(RollingLog):
    """The part of a log that takes what the leader has."""

    def append_as_follower(self, source: Buffer, now_ms: int, *, allow_gap: bool = False) -> None:
        """Appends one whole batch of the leader's, as it is. `source` may change meanwhile.

        KafkaError, and nothing has changed: OFFSET_OUT_OF_RANGE if it is not the next one,
        FENCED_LEADER_EPOCH if its epoch is older than the last one, CORRUPT_MESSAGE if it is not sound.
        """
        active = self._active
        size, start = len(source), active.end
        end = start + size
        if end > active.limit or size < HEADER_SIZE:
            return self._follow_after_room(source, now_ms, allow_gap)
        file, view, data = active.file, active.view, memoryview(source)
        base_offset, length, leader_epoch, magic, crc = first = UNCHECKED.unpack(data[:ATTRIBUTES_AT])
        if base_offset != self.log_end_offset or leader_epoch < self._epoch:
            self._check_place(base_offset, leader_epoch, allow_gap)
        # (R) copy first and check the copy: the source may be memory that another process writes to
        file.store(start + ATTRIBUTES_AT, data[ATTRIBUTES_AT:])
        header = CHECKED.unpack_from(view, start + ATTRIBUTES_AT)
        attributes, delta, _, timestamp, producer_id, epoch, sequence, count = header
        last_offset = base_offset + delta
        try:
            if length != size - LENGTH_PREFIX or crc32c(view[start + ATTRIBUTES_AT : end]) != crc:
                raise _unsound("its length or its CRC does not match")
            is_sound = magic == MAGIC and delta >= 0 and 0 <= count <= delta + 1
            if not is_sound or attributes & CODEC_MASK >= CODEC_COUNT:
                raise _unsound(f"magic {magic}, attributes {attributes}, {count} records in {delta + 1}")
            due = timestamp > self._roll_at or last_offset > self._last_offset_max or active.is_index_full
            if due and last_offset - self.log_end_offset > RELATIVE_OFFSET_MAX:  # no segment could hold it
                raise _unsound(f"it ends {last_offset - self.log_end_offset} offsets behind the log")
            if leader_epoch != self._epoch:
                self._begin_epoch(leader_epoch, base_offset)
            producers = self.producers if producer_id >= 0 else None  # reads them, if nobody has yet
            if active.since_index > self._interval and not due:
                active.reserve_index()
        except KafkaError:
            file.zero(start, size)  # (R) or recovery would take it in, should its first 21 bytes come true
            raise
        if due and start:
            file.zero(start, size)
            self.roll(now_ms)
            return self.append_as_follower(source, now_ms, allow_gap=allow_gap)
        # (R) last, and all of it as it was read above
        active.publish(start, UNCHECKED.pack(*first))
        active.end, self.log_end_offset = end, last_offset + 1
        if timestamp > active.max_timestamp:
            active.max_timestamp, active.max_timestamp_offset = timestamp, last_offset
        if active.since_index > self._interval:
            active.index(last_offset, start)
        active.since_index += size
        if not start:
            self._begin_segment(timestamp)
        if producers is not None:
            producers.update(producer_id, epoch, sequence, base_offset, last_offset, timestamp, attributes)
        self._snapshot_due -= size
        return None

    def _check_place(self, base_offset: int, leader_epoch: int, allow_gap: bool) -> None:
        """(R) The next batch is the one at the end of the log, of the last epoch or a later one."""
        end = self.log_end_offset
        if base_offset != end and not (allow_gap and base_offset > end):
            raise KafkaError(OFFSET_OUT_OF_RANGE, f"{self.name} ends at {end}, the batch is at {base_offset}")
        if leader_epoch < self._epoch:
            raise KafkaError(FENCED_LEADER_EPOCH, f"a batch of epoch {leader_epoch} after {self._epoch}")

    def _follow_after_room(self, source: Buffer, now_ms: int, allow_gap: bool) -> None:
        """The batch does not fit below the limit of the active segment: reserve more, or roll."""
        config, active, size = self._config, self._active, len(source)
        if self._closed:
            raise KafkaError(KAFKA_STORAGE_ERROR, f"{self.name} is closed")
        source = bytes(source)
        header = parse_header(source) if size >= HEADER_SIZE else None
        fault = check_stored(memoryview(source), header) if header else f"{size} bytes are no batch"
        if fault or header is None:
            raise _unsound(fault)
        self._check_place(header.base_offset, header.leader_epoch, allow_gap)  # only a sound one costs a roll
        if active.end and active.end + size > min(active.size_max, max(config.segment_bytes, active.end)):
            self.roll(now_ms)
        if not self._active.end and size > self._active.size_max:
            # segment.bytes was raised since this empty one was made, or the leader's is larger
            self._replace_active(now_ms, size)
        self._take_due_snapshot()
        end = self._active.end + size
        self._reserve(end, now_ms)
        self._active.limit = max(self._active.limit, end)
        try:
            self.append_as_follower(source, now_ms, allow_gap=allow_gap)
        finally:
            if self._goes_the_long_way:
                self._active.limit = 0
        self.flush_by_count()


def _unsound(fault: str) -> KafkaError:
    return KafkaError(CORRUPT_MESSAGE, f"a batch of the leader's is not sound: {fault}")
