"""The log of one partition: ordered segments, of which the last is mapped and appended to.

One owner: only the process that opened a Log appends, rolls, truncates or deletes; others read its files by
descriptor.

Rules (R), each kept where it is marked and held by a test:
- a batch is copied first, the copy is checked, and what publishes it, its first 12 bytes, is stored last;
- the bytes of a refused copy are zeroed before anything else is appended;
- what a truncation leaves beyond the end is zero;
- bytes below the high watermark never change in their inode: a truncation below it writes a new one;
- a file shrinks only at roll and close, to its end.
"""

from collections.abc import Callable

from msgspec import Struct

from tailrace.core.errors import (
    CORRUPT_MESSAGE,
    INVALID_RECORD,
    INVALID_TIMESTAMP,
    INVALID_TXN_STATE,
    MESSAGE_TOO_LARGE,
    NOT_LEADER_OR_FOLLOWER,
    RECORD_LIST_TOO_LARGE,
    KafkaError,
)
from tailrace.core.log import checkpoints, recovery, time_search
from tailrace.core.log.directory import Directory, storage_error
from tailrace.core.log.leader_epochs import LeaderEpochs
from tailrace.core.log.log_config import LogConfig
from tailrace.core.log.producer_state import KeptBatch, ProducerState
from tailrace.core.log.segment import (
    RELATIVE_OFFSET_MAX,
    SNAPSHOT_SUFFIX,
    ActiveSegment,
    Segment,
    file_name,
    offset_of,
)
from tailrace.core.records.batch import (
    AFTER_PREFIX,
    ATTRIBUTES,
    ATTRIBUTES_AT,
    CONTROL,
    CRC,
    CRC_AT,
    HEADER_SIZE,
    INT32,
    LENGTH_PREFIX,
    LOG_APPEND_TIME,
    MAX_TIMESTAMP_AT,
    PREFIX,
    TIMESTAMP,
    TRANSACTIONAL,
    Buffer,
    check_batch,
    header_fault,
    next_sequence,
)
from tailrace.core.records.crc32c import crc32c

RECORD_SIZE_MIN = 7  # one byte for each field of a record
FOREVER = 1 << 62


class Appended(Struct, kw_only=True):
    """Where a batch went; of a duplicate: where its original is."""

    base_offset: int
    last_offset: int
    log_append_time_ms: int
    end_position: int
    duplicate: bool = False


class Flush(Struct, kw_only=True):
    """A sync under way: `run` may be called in any thread, then `Log.flushed` in the owner's."""

    directory: Directory
    names: list[str]
    end_offset: int

    def run(self) -> None:
        """Returns when the log below end_offset is on the disk."""
        for name in self.names:
            try:
                self.directory.sync_file(name)
            except FileNotFoundError:  # deleted by retention meanwhile: nothing of it has to last
                continue
        self.directory.sync()


class Log:
    """See the module. Attributes are read by the owner and published in its row; it alone moves
    `high_watermark` up.
    """

    def __init__(self, directory: Directory, name: str, config: LogConfig) -> None:
        self.directory, self.name = directory, name
        self.log_start_offset = self.log_end_offset = self.high_watermark = self.recovery_point = 0
        self.segment_generation = 0
        self.cut_bytes = 0
        self._segments: list[Segment] = []  # the inactive ones
        self._unsynced: list[str] = []
        self._closed = False
        self.on_prefault: Callable[[str, int, int], object] | None = (
            None  # file, position, length stored to next
        )
        self._active: ActiveSegment
        self._producers = ProducerState()
        self._epochs = LeaderEpochs(directory)
        self._epoch = -1
        self._snapshot_due = 0
        self._boot_id = directory.boot_id()
        self.config = config

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
        topic_id: bytes | None = None,
    ) -> "Log":
        """Opens or makes the log, repaired if it was not closed.

        clean_shutdown None: by the log's own mark; True: somebody who knows says so (a Kafka that was
        stopped). same_boot only allows the page cache to be trusted: whether it can be, the log finds out
        itself.
        """
        log = cls(directory, name, config)
        recovery.remove_leftovers(directory)
        if topic_id is not None and checkpoints.read_partition_metadata(directory) != topic_id:
            checkpoints.write_partition_metadata(directory, topic_id)
        try:
            if recovery.segment_bases(directory):
                log._recover(
                    clean_shutdown, recovery_point, same_boot, high_watermark, log_start_offset, now_ms
                )
            else:
                log.log_start_offset = log.log_end_offset = log.recovery_point = log_start_offset
                log._activate(Segment(base_offset=log_start_offset), now_ms)
                directory.sync()
        except OSError as error:
            raise storage_error(error, f"cannot open {name}") from error
        log.high_watermark = max(min(high_watermark, log.log_end_offset), log.log_start_offset)
        return log

    def _recover(
        self,
        clean: bool | None,
        recovery_point: int,
        same_boot: bool,
        high_watermark: int,
        log_start_offset: int,
        now_ms: int,
    ) -> None:
        directory = self.directory
        if clean is None:
            base = recovery.segment_bases(directory)[-1]
            mark = checkpoints.read_clean_mark(directory)
            clean = mark is not None and mark == (base, recovery.describe_segment(directory, base).size)
        directory.remove(checkpoints.CLEAN_MARK)
        found = recovery.recover_segments(
            directory,
            self._config,
            clean=clean,
            recovery_point=recovery_point,
            high_watermark=high_watermark,
            same_boot=same_boot,
        )
        self.cut_bytes = found.cut_bytes
        self.log_end_offset = found.end_offset
        self.log_start_offset = min(max(log_start_offset, found.segments[0].base_offset), found.end_offset)
        self._epochs.truncate_from_end(found.end_offset)
        self._producers, _ = recovery.restore_producers(
            directory, found.segments, found.end_offset, self._epochs
        )
        self._snapshot_due = self._config.snapshot_interval_bytes
        self._epoch = self._epochs.latest
        self.recovery_point = found.end_offset if clean else min(max(recovery_point, 0), found.end_offset)
        *self._segments, last = found.segments
        if not clean:
            self._unsynced = [s.log_name for s in self._segments if s.base_offset >= self.recovery_point]
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
        self._active = active
        device, inode = active.file.identity()
        mark = checkpoints.TrustMark(
            boot_id=self._boot_id, device=device, inode=inode, base_offset=segment.base_offset
        )
        checkpoints.write_trust_mark(self.directory, mark)
        self.segment_generation += 1
        self._set_limits()

    def _set_limits(self) -> None:
        active, config = self._active, self._config
        self._last_offset_max = active.base_offset + RELATIVE_OFFSET_MAX
        self._roll_at = (
            active.first_timestamp + config.segment_ms
            if active.end and active.first_timestamp >= 0
            else FOREVER
        )

    @property
    def config(self) -> LogConfig:
        """May be replaced while the log is open; segment.bytes counts from the next roll."""
        return self._config

    @config.setter
    def config(self, config: LogConfig) -> None:
        self._config = config
        self._max_message_bytes = config.max_message_bytes
        self._interval = config.index_interval_bytes
        self._after_max_ms = min(config.message_timestamp_after_max_ms, FOREVER)
        self._rare = (
            config.message_timestamp_type == "LogAppendTime"
            or config.message_timestamp_before_max_ms < FOREVER
        )
        if hasattr(self, "_active"):
            self._set_limits()

    @property
    def active_base_offset(self) -> int:
        """Base offset of the active segment."""
        return self._active.base_offset

    @property
    def active_position(self) -> int:
        """Bytes in the active segment."""
        return self._active.end

    @property
    def active_name(self) -> str:
        """File name of the active segment."""
        return self._active.file.name

    @property
    def active_reserved(self) -> int:
        """Bytes of the active file that the disk holds: what the housekeeper may prefault ends here."""
        return self._active.file.reserved

    @property
    def last_stable_offset(self) -> int:
        """Where read_committed ends: the high watermark, or the first open transaction below it."""
        first = self._producers.first_unstable_offset()
        return self.high_watermark if first is None else min(first, self.high_watermark)

    @property
    def leader_epochs(self) -> LeaderEpochs:
        """Epochs and where they began."""
        return self._epochs

    @property
    def producers(self) -> ProducerState:
        """Idempotent producers."""
        return self._producers

    @property
    def segments(self) -> list[Segment]:
        """All segments, the active one last."""
        return [*self._segments, self._active.as_segment()]

    def append_as_leader(
        self, source: Buffer, leader_epoch: int, now_ms: int, *, from_client: bool = True
    ) -> Appended:
        """Appends one batch; KafkaError with Kafka's code if it is refused. `source` may change while it is
        read.
        """
        active = self._active
        size, start = len(source), active.end
        end = start + size
        if end > active.limit or size < HEADER_SIZE or size > self._max_message_bytes:
            return self._append_after_room(source, leader_epoch, now_ms, from_client)
        data = source if type(source) is memoryview else memoryview(source)
        file, view = active.file, active.view
        # (R) copy first and check the copy: the source may be a client's memory, and change after a check
        length = PREFIX.unpack(data[:LENGTH_PREFIX])[1]  # any base offset is replaced, as in Kafka
        file.store(start + LENGTH_PREFIX, data[LENGTH_PREFIX:])
        _, magic, crc, attributes, delta, _, timestamp, producer_id, producer_epoch, sequence, count = (
            AFTER_PREFIX.unpack_from(view, start + LENGTH_PREFIX)
        )
        base_offset = self.log_end_offset
        last_offset = base_offset + delta
        try:
            if length != size - LENGTH_PREFIX:
                raise KafkaError(INVALID_RECORD, "exactly one whole record batch per partition is allowed")
            if crc32c(view[start + ATTRIBUTES_AT : end]) != crc:
                raise KafkaError(CORRUPT_MESSAGE, "record batch CRC does not match")
            if magic != 2 or delta < 0 or count != delta + 1 or not 0 <= attributes <= 4:
                self._check_rare(magic, attributes, delta, count, from_client)
            if attributes & 7 == 0 and count * RECORD_SIZE_MIN > size - HEADER_SIZE:
                raise KafkaError(
                    INVALID_RECORD, f"{count} records cannot fit into {size - HEADER_SIZE} bytes"
                )
            if leader_epoch != self._epoch:
                self._begin_epoch(leader_epoch)
            if timestamp > now_ms + self._after_max_ms and from_client and not self._rare:
                raise KafkaError(INVALID_TIMESTAMP, f"timestamp {timestamp} is too far after {now_ms}")
            if producer_id >= 0:
                original = self._check_producer(producer_id, producer_epoch, sequence, delta, attributes)
                if original is not None:
                    file.zero(start, size)
                    return self._answer_duplicate(original)
            if self._rare or attributes & LOG_APPEND_TIME:
                timestamp = self._stamp_time(start, end, attributes, timestamp, now_ms, from_client)
            if start and (
                timestamp > self._roll_at or last_offset > self._last_offset_max or active.is_index_full
            ):
                file.zero(start, size)
                self.roll(now_ms)
                return self.append_as_leader(source, leader_epoch, now_ms, from_client=from_client)
            if active.since_index > self._interval:
                active.reserve_index()
        except KafkaError:
            file.zero(
                start, size
            )  # (R) or recovery would take in what was refused, should its first 12 bytes come true
            raise
        file.store(start + LENGTH_PREFIX, INT32.pack(leader_epoch))
        file.store(start, PREFIX.pack(base_offset, length))  # (R) last: now the batch is there
        active.end = end
        self.log_end_offset = last_offset + 1
        if timestamp > active.max_timestamp:
            active.max_timestamp, active.max_timestamp_offset = timestamp, last_offset
        if active.since_index > self._interval:
            active.index(last_offset, start)
        active.since_index += size
        if not start:
            active.first_timestamp = timestamp
            self._set_limits()
        if producer_id >= 0:
            self._producers.update(
                producer_id, producer_epoch, sequence, base_offset, last_offset, timestamp, attributes
            )
        self._snapshot_due -= size
        return Appended(
            base_offset=base_offset,
            last_offset=last_offset,
            log_append_time_ms=timestamp if self._stamps_time else -1,
            end_position=end,
        )

    @property
    def _stamps_time(self) -> bool:
        return self._rare and self._config.message_timestamp_type == "LogAppendTime"

    def _append_after_room(
        self, source: Buffer, leader_epoch: int, now_ms: int, from_client: bool
    ) -> Appended:
        """The batch does not fit below the limit of the active segment: reserve more, roll, or refuse it."""
        size, active = len(source), self._active
        if size < HEADER_SIZE:
            raise KafkaError(CORRUPT_MESSAGE, f"a record batch of {size} bytes has no whole header")
        if size > self._max_message_bytes:
            raise KafkaError(
                MESSAGE_TOO_LARGE,
                f"a record batch of {size} bytes exceeds max.message.bytes {self._max_message_bytes}",
            )
        if size > self._config.segment_bytes:
            raise KafkaError(
                RECORD_LIST_TOO_LARGE,
                f"a record batch of {size} bytes exceeds segment.bytes {self._config.segment_bytes}",
            )
        if active.end and active.end + size > min(
            active.size_max, max(self._config.segment_bytes, active.end)
        ):
            source = bytes(source)
            check_batch(source)  # only a sound batch may cost a roll
            self.roll(now_ms)
        elif (
            not active.end and size > active.size_max
        ):  # segment.bytes was raised since this empty segment was made
            self._active.close(cut=True)
            self._activate(Segment(base_offset=self.log_end_offset), now_ms)
        if self._snapshot_due <= 0:
            self._take_snapshot()
        self._reserve(self._active.end + size)
        return self.append_as_leader(source, leader_epoch, now_ms, from_client=from_client)

    def _reserve(self, end: int) -> None:
        """More of the active file on disk; the housekeeper hears what will be stored to next."""
        file = self._active.file
        before = file.reserved
        self._active.reserve(end)
        if self.on_prefault is not None and file.reserved > before:
            self.on_prefault(file.name, before, file.reserved - before)

    def tick(self, now_ms: int) -> None:
        """Now and then: forgets silent producers, bounds what a recovery replays."""
        self._producers.expire(now_ms, self._config.producer_id_expiration_ms)
        if self._snapshot_due <= 0:
            self._take_snapshot()

    def offset_for_timestamp(self, timestamp: int) -> time_search.Found | None:
        """(offset, timestamp, leader epoch) of the first record that is not older; None if all are."""
        return time_search.first_at_or_after(self.directory, self.segments, timestamp)

    def max_timestamp(self) -> time_search.Found | None:
        """(offset, timestamp, leader epoch) of the first record with the largest timestamp; None in an empty
        log.
        """
        return time_search.largest(self.directory, self.segments)

    def epoch_end_offset(self, epoch: int) -> tuple[int, int]:
        """(epoch, end offset), as OffsetForLeaderEpoch answers."""
        return self._epochs.end_offset_for(epoch, self.log_end_offset)

    def _check_rare(self, magic: int, attributes: int, delta: int, count: int, from_client: bool) -> None:
        fault = header_fault(magic, attributes, delta, count)
        if fault:
            raise KafkaError(INVALID_RECORD, fault)
        if from_client and attributes & CONTROL:
            raise KafkaError(INVALID_RECORD, "clients are not allowed to write control records")
        if from_client and attributes & TRANSACTIONAL:
            raise KafkaError(INVALID_TXN_STATE, "the record batch is not part of an ongoing transaction")

    def _begin_epoch(self, leader_epoch: int) -> None:
        if leader_epoch < self._epoch:
            raise KafkaError(
                NOT_LEADER_OR_FOLLOWER, f"leader epoch {leader_epoch} is older than {self._epoch}"
            )
        self._epochs.assign(leader_epoch, self.log_end_offset)
        self._epoch = leader_epoch

    def _check_producer(
        self, producer_id: int, epoch: int, sequence: int, delta: int, attributes: int
    ) -> KeptBatch | None:
        if attributes & CONTROL:
            return None
        if sequence < 0 or epoch < 0:
            raise KafkaError(
                INVALID_RECORD, f"producer {producer_id} with epoch {epoch} and sequence {sequence}"
            )
        return self._producers.check(producer_id, epoch, sequence, next_sequence(sequence, delta))

    def _answer_duplicate(self, original: KeptBatch) -> Appended:
        return Appended(
            base_offset=original.base_offset,
            last_offset=original.last_offset,
            end_position=self._active.end,
            duplicate=True,
            log_append_time_ms=original.timestamp if self._stamps_time else -1,
        )

    def _stamp_time(
        self, start: int, end: int, attributes: int, timestamp: int, now_ms: int, from_client: bool
    ) -> int:
        """LogAppendTime: the batch takes the broker's time; CreateTime: it must not claim to have it. Both
        are in the CRC.
        """
        file, config = self._active.file, self._config
        if config.message_timestamp_type == "LogAppendTime":
            wanted, timestamp = attributes | LOG_APPEND_TIME, now_ms
            file.store(start + MAX_TIMESTAMP_AT, TIMESTAMP.pack(timestamp))
        else:
            if (
                from_client
                and not now_ms - config.message_timestamp_before_max_ms
                <= timestamp
                <= now_ms + self._after_max_ms
            ):
                raise KafkaError(
                    INVALID_TIMESTAMP, f"timestamp {timestamp} is out of the range allowed around {now_ms}"
                )
            wanted = attributes & ~LOG_APPEND_TIME
            if wanted == attributes:
                return timestamp
        file.store(start + ATTRIBUTES_AT, ATTRIBUTES.pack(wanted))
        file.store(start + CRC_AT, CRC.pack(crc32c(self._active.view[start + ATTRIBUTES_AT : end])))
        return timestamp

    def roll(self, now_ms: int) -> None:
        """Closes the active segment, cut to its end, and goes on in a new one; an empty one stays."""
        if not self._active.end:
            return
        self._take_snapshot()
        try:
            closed = self._active.close(cut=True)
            self._segments.append(closed)
            self._unsynced.append(closed.log_name)
            self._activate(Segment(base_offset=self.log_end_offset), now_ms)
        except OSError as error:
            raise storage_error(error, f"cannot roll {self.name}") from error

    def _take_snapshot(self) -> None:
        """Producer state as of the end, so that a replay is bounded; replaces the last one taken inside this
        segment.
        """
        bases = {segment.base_offset for segment in self._segments} | {self._active.base_offset}
        self.directory.replace(
            file_name(self.log_end_offset, SNAPSHOT_SUFFIX), self._producers.encode(), durable=False
        )
        for name in self.directory.names():
            offset = offset_of(name, SNAPSHOT_SUFFIX)
            if offset is not None and offset < self.log_end_offset and offset not in bases:
                self.directory.remove(name)
        self._snapshot_due = self._config.snapshot_interval_bytes

    def begin_flush(self) -> Flush:
        """What must be synced for all that is in the log now to last; `run` it in any thread, then call
        `flushed`.
        """
        names = [*self._unsynced, self._active.file.name]
        return Flush(directory=self.directory, names=names, end_offset=self.log_end_offset)

    def flushed(self, flush: Flush) -> None:
        """The flush has run: the recovery point moves up."""
        self._unsynced = [name for name in self._unsynced if name not in flush.names[:-1]]
        self.recovery_point = max(self.recovery_point, min(flush.end_offset, self.log_end_offset))

    def flush(self, up_to: int | None = None) -> None:
        """Returns when the log (at least below `up_to`) is on the disk."""
        if up_to is not None and up_to <= self.recovery_point:
            return
        flush = self.begin_flush()
        try:
            self._epochs.write(
                durable=True
            )  # before the recovery point passes where an epoch began: it would not be replayed
            flush.run()
        except OSError as error:
            raise storage_error(error, f"cannot sync {self.name}") from error
        self.flushed(flush)

    def close(self, clean: bool = True) -> None:
        """Unmaps everything. Clean: all is on disk and cut to size, and the next open trusts it; otherwise as
        a crash leaves it.
        """
        if self._closed:
            return
        self._closed = True
        if not clean:
            self._active.close(cut=False)
            return
        self._take_snapshot()
        self.flush()
        active = self._active
        active.sync_indexes()
        active.close(cut=True)
        self.directory.sync_file(active.file.name)
        checkpoints.write_clean_mark(self.directory, active.base_offset, active.end)
        self.directory.remove(checkpoints.TRUST_MARK)

    def delete(self) -> None:
        """Closes the log and removes its directory."""
        self.close(clean=False)
        self.directory.destroy()
