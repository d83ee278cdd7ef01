"""The log of one partition: ordered segments, of which the last is mapped and appended to.

One owner: only the process that opened a Log appends, rolls, truncates or deletes; others read its files by
descriptor.

Rules (R), each kept where it is marked and held by a test:
- a batch is copied first, the copy is checked, and what publishes it, its first 21 bytes (up to the CRC, what
  the CRC does not cover), is stored last and at once, but see ActiveSegment.publish;
- the bytes of a refused copy are zeroed before anything else is appended;
- what a truncation leaves beyond the end is zero;
- bytes below the high watermark never change in their inode: a truncation below it writes a new one;
- where the log starts is written down, on disk, before what lies below is removed;
- a file shrinks only at roll and close, to its end, and at a truncation, to an end not below the high
  watermark.
"""

from contextlib import suppress

from msgspec import Struct

from tailrace.core.errors import (
    KAFKA_STORAGE_ERROR,
    OFFSET_OUT_OF_RANGE,
    KafkaError,
)
from tailrace.core.log import checkpoints, recovery, truncation
from tailrace.core.log.admission import RECORD_SIZE_MIN, check_header, check_sizes, stamp_time, unsound
from tailrace.core.log.directory import Directory, DiskFullError, is_full, storage_error
from tailrace.core.log.followed import FollowedLog
from tailrace.core.log.log_config import PRODUCER, LogConfig
from tailrace.core.log.producer_recovery import restore_producers
from tailrace.core.log.producer_state import KeptBatch, ProducerState
from tailrace.core.log.recompression import recompressed
from tailrace.core.log.segment import NEW_LOG_BYTES, ActiveSegment, Segment
from tailrace.core.log.snapshots import remove_snapshots
from tailrace.core.records.batch import (
    ATTRIBUTES_AT,
    CHECKED,
    HEADER_SIZE,
    LENGTH_PREFIX,
    LOG_APPEND_TIME,
    UNCHECKED,
    Buffer,
    check_batch,
)
from tailrace.core.records.crc32c import crc32c


class Appended(Struct, kw_only=True):
    """Where a batch went; of a duplicate: where its original is."""

    base_offset: int
    last_offset: int
    log_append_time_ms: int
    end_position: int
    duplicate: bool = False


class Log(FollowedLog):
    """See the module. Attributes are read by the owner and published in its row; it alone moves
    `high_watermark` up.
    """

    @classmethod
    def open(
        cls,
        directory: Directory,
        name: str,
        config: LogConfig,
        *,
        now_ms: int,
        clean_shutdown: bool | None = None,
        recovery_point: int = 0,
        same_boot: bool = True,
        high_watermark: int = 0,
        log_start_offset: int = 0,
        has_readers: bool = True,
        topic_id: bytes | None = None,
    ) -> "Log":
        """Opens or makes the log, repaired if it was not closed.

        clean_shutdown None: by the log's own mark; True: somebody who knows says so (a Kafka that was
        stopped). same_boot only allows the page cache to be trusted: whether it can be, the log finds out
        itself. has_readers: somebody may still send what is below high_watermark from these files.
        """
        log = cls(directory, name, config)
        recovery.remove_leftovers(directory)
        if topic_id is not None and checkpoints.read_partition_metadata(directory) != topic_id:
            checkpoints.write_partition_metadata(directory, topic_id)
        try:
            bases = recovery.segment_bases(directory)
            if bases:
                sent_below = high_watermark if has_readers else 0
                clean = log._is_clean(bases[-1]) if clean_shutdown is None else clean_shutdown
                log._recover(clean, recovery_point, same_boot, sent_below, log_start_offset, now_ms)
            else:
                directory.check_room(NEW_LOG_BYTES)
                remove_snapshots(directory)  # (R) of segments that a crash took
                if log._epochs.latest >= 0:
                    log._epochs.clear()
                log.log_start_offset = log.log_end_offset = log.recovery_point = log_start_offset
                log._activate(Segment(base_offset=log_start_offset), now_ms)
                directory.sync()
        except OSError as error:
            raise storage_error(error, f"cannot open {name}") from error
        log._flushed_ms = now_ms
        # (R) what a dead predecessor had published, but not more than is there
        log.high_watermark = max(min(high_watermark, log.log_end_offset), log.log_start_offset)
        return log

    def _is_clean(self, base: int) -> bool:
        """Whether it was closed, and the last segment has not changed since."""
        mark = checkpoints.read_clean_mark(self.directory)
        return mark is not None and mark == (base, recovery.describe_segment(self.directory, base).size)

    def _recover(
        self,
        clean: bool,
        recovery_point: int,
        same_boot: bool,
        sent_below: int,
        log_start_offset: int,
        now_ms: int,
    ) -> None:
        directory = self.directory
        checkpoints.void_clean_mark(directory)
        found = recovery.recover_segments(
            directory,
            self._config,
            clean=clean,
            recovery_point=recovery_point,
            log_start_offset=log_start_offset,
            high_watermark=sent_below,
            same_boot=same_boot,
        )
        self.cut_bytes = found.cut_bytes
        self.log_end_offset = found.end_offset
        self.log_start_offset = max(log_start_offset, found.segments[0].base_offset)
        self._epochs.truncate_from_end(found.end_offset)
        recovery.remove_snapshots_above(directory, found.end_offset)
        self._producers = None
        if not found.is_trusted:  # (R) for its epochs too; else their file has each of them
            self._producers = restore_producers(directory, found, self._epochs)
        self._epochs.truncate_from_start(self.log_start_offset)  # the replay may have met deleted batches
        self._epochs.truncate_from_end(found.end_offset)
        self._snapshot_due = self._config.snapshot_interval_bytes
        self._epoch = self._epochs.latest
        self.recovery_point = found.end_offset if clean else min(max(recovery_point, 0), found.end_offset)
        *self._segments, last = found.segments
        if not clean:  # (R) all that was scanned, the segment that ends at the recovery point as well
            self._unsynced = [s.log_name for s in self._segments if s.base_offset >= found.unsynced_from]
        self._activate(last, now_ms, found)

    def _activate(self, segment: Segment, now_ms: int, found: recovery.Recovered | None = None) -> None:
        """Maps a segment as the active one; its files are cut to what they hold, so growth reads as zeros."""
        offset_entries, time_entries = (found.offset_entries, found.time_entries) if found else (0, 0)
        active = ActiveSegment(
            self.directory,
            self._config,
            segment,
            offset_entries=offset_entries,
            time_entries=time_entries,
            now_ms=now_ms,
        )
        active.since_index = found.since_index if found else 0
        self._use(active)

    def append_as_leader(
        self, source: Buffer, leader_epoch: int, now_ms: int, *, from_client: bool = True
    ) -> Appended:
        """Appends one batch; KafkaError with Kafka's code if refused. `source` may change meanwhile."""
        active = self._active
        size, start = len(source), active.end
        end = start + size
        if end > active.limit or size < HEADER_SIZE or size > self._max_message_bytes:
            return self._append_after_room(source, leader_epoch, now_ms, from_client)
        file, view, data = active.file, active.view, memoryview(source)
        # (R) copy first and check the copy: the source may be a client's memory, and change after a check
        claimed, length, _, magic, crc = UNCHECKED.unpack(data[:ATTRIBUTES_AT])
        file.store(start + ATTRIBUTES_AT, data[ATTRIBUTES_AT:])
        header = CHECKED.unpack_from(view, start + ATTRIBUTES_AT)
        attributes, delta, _, timestamp, producer_id, epoch, sequence, count = header
        base_offset, last_offset = self.log_end_offset, self.log_end_offset + delta
        try:
            if length != size - LENGTH_PREFIX or crc32c(view[start + ATTRIBUTES_AT : end]) != crc:
                raise unsound(length, size)
            rare = claimed or magic != 2 or delta < 0 or count != delta + 1 or not 0 <= attributes <= 4
            if rare or count * RECORD_SIZE_MIN > size - HEADER_SIZE:
                check_header((claimed, magic, attributes, delta, count), size, self._config, from_client)
            if leader_epoch != self._epoch:
                self._begin_epoch(leader_epoch, base_offset)
            if producer_id >= 0:
                original = self.producers.check_batch(producer_id, epoch, sequence, delta, attributes)
                if original is not None:
                    return self._answer_duplicate(original, size)
            if self._rare or attributes & LOG_APPEND_TIME or timestamp > now_ms + self._after_max_ms:
                timestamp = stamp_time(active, attributes, timestamp, now_ms, self._config, from_client)
                crc = crc32c(view[start + ATTRIBUTES_AT : end])
            due = timestamp > self._roll_at or last_offset > self._last_offset_max or active.is_index_full
            if active.since_index > self._interval and not due:
                active.reserve_index()
        except KafkaError:
            # (R) or recovery would take in what was refused, should its first 21 bytes come true
            file.zero(start, size)
            raise
        if due and start:
            file.zero(start, size)
            self.roll(now_ms)
            return self.append_as_leader(source, leader_epoch, now_ms, from_client=from_client)
        # (R) last, with its CRC: now the batch is there, and of none but an accepted one all ever was
        active.publish(start, UNCHECKED.pack(base_offset, length, leader_epoch, magic, crc))
        active.end, self.log_end_offset = end, last_offset + 1
        if timestamp > active.max_timestamp:
            active.max_timestamp, active.max_timestamp_offset = timestamp, last_offset
        if active.since_index > self._interval:
            active.index(last_offset, start)
        active.since_index += size
        if not start:
            self._begin_segment(timestamp)
        if producer_id >= 0:
            stored = (base_offset, last_offset, timestamp, attributes)
            self.producers.update(producer_id, epoch, sequence, *stored)
        self._snapshot_due -= size
        return Appended(
            base_offset=base_offset, last_offset=last_offset, end_position=end,
            log_append_time_ms=timestamp if self._stamps_time else -1,
        )  # fmt: skip

    @property
    def _stamps_time(self) -> bool:
        return self._rare and self._config.message_timestamp_type == "LogAppendTime"

    def _append_after_room(
        self, source: Buffer, leader_epoch: int, now_ms: int, from_client: bool
    ) -> Appended:
        """The batch does not fit below the limit of the active segment: reserve more, roll, or refuse it."""
        config, active = self._config, self._active
        check_sizes(len(source), config)
        if self._closed:
            raise KafkaError(KAFKA_STORAGE_ERROR, f"{self.name} is closed")
        if config.compression_type != PRODUCER:
            source = recompressed(source, config, now_ms, from_client=from_client)
            check_sizes(len(source), config)
        size = len(source)
        if active.end and active.end + size > min(active.size_max, max(config.segment_bytes, active.end)):
            source = bytes(source)
            check_batch(source)  # only a sound batch may cost a roll
            self.roll(now_ms)
        elif (
            not active.end and size > active.size_max
        ):  # segment.bytes was raised since this empty segment was made
            self._replace_active(now_ms)
        self._take_due_snapshot()
        self._reserve(self._active.end + size, now_ms)
        try:
            done = self.append_as_leader(source, leader_epoch, now_ms, from_client=from_client)
        finally:
            if self._goes_the_long_way:
                self._active.limit = 0
        self.flush_by_count()
        return done

    def _answer_duplicate(self, original: KeptBatch, size: int) -> Appended:
        self._active.file.zero(self._active.end, size)
        return Appended(
            base_offset=original.base_offset,
            last_offset=original.last_offset,
            end_position=self._active.end,
            duplicate=True,
            log_append_time_ms=original.timestamp,  # as Kafka, whose time it ever is
        )

    def delete_records_before(self, offset: int, now_ms: int) -> None:
        """The log starts at `offset`, on disk when this returns, unless it starts above; segments that lie
        below are removed. KafkaError: OFFSET_OUT_OF_RANGE if that is not committed, or the disk refuses.
        """
        if not 0 <= offset <= self.high_watermark:
            raise KafkaError(OFFSET_OUT_OF_RANGE, f"{self.name} cannot start at {offset}")
        try:
            if offset > self.log_start_offset:
                self._start_at(offset)
                self._epochs.truncate_from_start(offset)
            if self.log_start_offset == self.log_end_offset and self._active.end:
                self._remove_deleted()  # first, or a full disk has no room for the new one
                self.roll(now_ms, for_deletion=True)
                self.directory.sync()  # (R) or a crash may leave no segment, and nobody knows how far it was
            self._remove_deleted()
        except OSError as error:
            raise storage_error(error, f"cannot delete records of {self.name}") from error

    def truncate_to(self, offset: int, now_ms: int) -> None:
        """Takes back the batches at and above `offset`, and one that only begins below it, on disk when it
        returns.
        """
        if offset >= self.log_end_offset:
            return
        segments = self.segments
        try:
            self._lower_recovery_point(offset)
            self._active.close(cut=False)
            if offset < segments[0].base_offset:
                self._start_over(offset, now_ms)
                return
            found = truncation.cut_segments(
                self.directory, self._config, segments, offset, high_watermark=self.high_watermark
            )
            self._end_at(found.end_offset)
            self._epochs.truncate_from_end(found.end_offset)
            self._producers = restore_producers(self.directory, found, self._epochs)
            self._epoch = self._epochs.latest
            *self._segments, last = found.segments
            self._activate(last, now_ms, found)
        except (OSError, KafkaError) as error:
            self._fail()
            raise self._refused(error, "cannot truncate") from error

    def truncate_fully_and_start_at(self, offset: int, now_ms: int) -> None:
        """An empty log that goes on at `offset`."""
        try:
            self._lower_recovery_point(0)
            self._active.close(cut=False)
            self._start_over(offset, now_ms)
        except (OSError, KafkaError) as error:
            self._fail()
            raise self._refused(error, "cannot empty") from error

    def _start_over(self, offset: int, now_ms: int) -> None:
        if offset >= self.log_start_offset:
            self._start_at(offset)  # (R) first, or a crash leaves nobody who knows how far it was
        remove_snapshots(self.directory)
        truncation.remove_segments(self.directory, self.segments)
        self._segments, self._producers, self._epoch = [], ProducerState(), -1
        self._epochs.clear()
        self._end_at(offset)  # (R) or a start above would outlive it, and take away what is appended now
        self.high_watermark = self.recovery_point = offset
        self._activate(Segment(base_offset=offset), now_ms)
        self.directory.sync()

    def _end_at(self, end_offset: int) -> None:
        self.log_end_offset = end_offset
        if end_offset < self.log_start_offset:
            self._start_at(end_offset)
        self.high_watermark = min(self.high_watermark, end_offset)
        self.recovery_point = min(self.recovery_point, end_offset)
        there = set(self.directory.names())
        self._unsynced = [name for name in self._unsynced if name in there]

    def _fail(self) -> None:
        """Its files are not what it thinks: nothing is appended any more, the next open repairs it."""
        self._closed = True
        self._active.limit = 0

    def _refused(self, error: OSError | KafkaError, doing: str) -> KafkaError:
        return error if isinstance(error, KafkaError) else storage_error(error, f"{doing} {self.name}")

    def close(self, clean: bool = True) -> None:
        """Unmaps everything. Clean, and if there is room for it: all is on disk and cut to size, and the next
        open trusts it; otherwise as a crash leaves it.
        """
        if self._closed:
            return
        self._closed = True
        if clean:
            with suppress(DiskFullError):
                self._close_cleanly()
                return
        self._active.close(cut=False)

    def _close_cleanly(self) -> None:
        """DiskFullError: nothing is unmapped yet."""
        with suppress(DiskFullError):  # the next open replays more
            self._take_snapshot()
        self.flush()
        active = self._active
        active.sync_indexes()
        active.close(cut=True)
        self.directory.sync_file(active.file.name)
        try:
            checkpoints.write_clean_mark(self.directory, active.base_offset, active.end)
        except OSError as error:
            if is_full(error):
                return
            raise
        self.directory.remove(checkpoints.TRUST_MARK)

    def delete(self) -> None:
        """Closes the log and removes its directory."""
        self.close(clean=False)
        self.directory.destroy()
