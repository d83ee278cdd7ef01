"""Segments: one .log file with its offset and time index. The active one is mapped, the others are plain
files.

The active .log file is as long as segment.bytes and reserved on disk in growing chunks ahead of the write
position; at roll and close it and its indexes are cut to what they hold.

Rules (R): bytes beyond the end are zero before the next append, or recovery would take an old batch with a
sound CRC for a new one; the first 21 bytes of a batch (up to its CRC) are stored last, so that a batch is
there only when it is whole and accepted.
"""

from contextlib import suppress

from msgspec import Struct

from tailrace.core.errors import KafkaError
from tailrace.core.log import offset_index, time_index
from tailrace.core.log.directory import Directory, DiskFullError, MappedFile
from tailrace.core.log.log_config import LogConfig
from tailrace.core.log.offset_index import IndexWriter
from tailrace.core.records.batch import ATTRIBUTES_AT, LENGTH_PREFIX, NO_TIMESTAMP

LOG_SUFFIX = ".log"
INDEX_SUFFIX = ".index"
TIME_INDEX_SUFFIX = ".timeindex"
SNAPSHOT_SUFFIX = ".snapshot"
SEGMENT_SUFFIXES = (LOG_SUFFIX, INDEX_SUFFIX, TIME_INDEX_SUFFIX, ".txnindex")
SECTOR = 512  # what a disk writes whole
RELATIVE_OFFSET_MAX = 0x7FFFFFFF

CHUNK_FIRST = 64 * 1024
CHUNK_MAX = 16 * 1024 * 1024
CHUNK_MS = 250  # a chunk that lasts no longer is too small
NEW_LOG_BYTES = CHUNK_FIRST + 2 * offset_index.FIRST_RESERVE


def file_name(offset: int, suffix: str) -> str:
    """Kafka's: 20 digits."""
    return f"{offset:020d}{suffix}"


def offset_of(name: str, suffix: str) -> int | None:
    """The offset in a file name, None if it is no such name."""
    stem = name.removesuffix(suffix)
    return int(stem) if name.endswith(suffix) and len(stem) == 20 and stem.isdigit() else None


class Segment(Struct, kw_only=True):
    """What is known of a segment without opening it."""

    base_offset: int
    size: int = 0
    first_timestamp: int = NO_TIMESTAMP
    max_timestamp: int = NO_TIMESTAMP
    max_timestamp_offset: int = -1  # last offset of the batch that has it
    last_modified_ms: int = 0

    @property
    def log_name(self) -> str:
        """Its .log file."""
        return file_name(self.base_offset, LOG_SUFFIX)


class ActiveSegment:
    """The mapped last segment. `end` is the write position; below `limit` a batch may be stored without a
    further look.
    """

    __slots__ = (
        "_chunk",
        "_directory",
        "_interval",
        "_offsets",
        "_reserved_ms",
        "_size",
        "_times",
        "_times_last",
        "base_offset",
        "created_ms",
        "end",
        "file",
        "first_timestamp",
        "limit",
        "max_timestamp",
        "max_timestamp_offset",
        "since_index",
        "view",
    )

    def __init__(
        self,
        directory: Directory,
        config: LogConfig,
        segment: Segment,
        *,
        offset_entries: int = 0,
        time_entries: int = 0,
        now_ms: int,
    ) -> None:
        self._directory = directory
        self.base_offset = segment.base_offset
        self.end = segment.size
        self._chunk, self._reserved_ms = CHUNK_FIRST, 0
        self.first_timestamp = segment.first_timestamp
        self.max_timestamp, self.max_timestamp_offset = segment.max_timestamp, segment.max_timestamp_offset
        self.created_ms = now_ms
        self._interval = config.index_interval_bytes
        self.since_index = 0
        self._size = max(config.segment_bytes, segment.size)  # (R) never below the end: others send from it
        self.file: MappedFile = directory.open_mapped(segment.log_name, self._size)
        self.view = self.file.view
        self.limit = self.end
        indexes: list[IndexWriter] = []
        try:
            for suffix, entry_size, count in (
                (INDEX_SUFFIX, offset_index.ENTRY_SIZE, offset_entries),
                (TIME_INDEX_SUFFIX, time_index.ENTRY_SIZE, time_entries),
            ):
                name = file_name(self.base_offset, suffix)
                indexes.append(IndexWriter(directory, name, config.segment_index_bytes, entry_size, count))
            self._offsets, self._times = indexes
            with suppress(DiskFullError):  # it is read all the same, and the first append hears of it
                self.reserve_index()
                self.reserve(self._size if config.preallocate else self.end, now_ms)
        except (OSError, KafkaError):
            for index in indexes:  # opens are tried again: none may leave descriptors behind
                index.close(cut=False)
            self.file.close()
            raise
        self._times_last = NO_TIMESTAMP
        if time_entries:
            self._times_last = time_index.ENTRY.unpack(self._times.entry(time_entries - 1))[0]

    def publish(self, start: int, first: bytes) -> None:
        """The batch at `start` is there with its first 21 bytes. (R) Where a sector ends in them, what is
        behind the length comes before it: of the epoch, in no CRC, a loss of power might take a half.
        """
        if start % SECTOR > SECTOR - ATTRIBUTES_AT:
            self.file.store(start + LENGTH_PREFIX, first[LENGTH_PREFIX:])
        self.file.store(start, first)

    @property
    def size_max(self) -> int:
        """Bytes the file may hold."""
        return self._size

    @property
    def is_index_full(self) -> bool:
        """Time to roll."""
        return self._offsets.is_full or self._times.is_full

    def reserve(self, end: int, now_ms: int) -> None:
        """Has the disk hold the bytes below `end` and a chunk more, of 64 KiB to 16 MiB: twice the last one
        if that was used up at once, else half of it. What is reserved is soon touched, and a thousand slow
        partitions must not hold as much memory as a fast one.

        `limit` ends before the reserved bytes do, so that the next chunk is reserved (and warmed) before it
        is needed. DiskFullError if there is no room below `end`.
        """
        reserved = self.file.reserved
        if reserved < self._size:
            is_fast = now_ms - self._reserved_ms < CHUNK_MS
            self._chunk = min(2 * self._chunk, CHUNK_MAX) if is_fast else max(self._chunk // 2, CHUNK_FIRST)
            self._reserved_ms = now_ms
            try:
                self.file.reserve(min(max(end, reserved) + self._chunk, self._size))
            except KafkaError:
                if end > reserved:
                    self.file.reserve(end)
        reserved = self.file.reserved
        ahead = 0 if reserved == self._size else self._chunk // 2
        self.limit = max(end, reserved - ahead)

    def reserve_index(self) -> None:
        """Room for the next entries, before the batch is published: a full disk must not fail after that."""
        self._offsets.reserve_next()
        self._times.reserve_next()

    def index(self, last_offset: int, position: int) -> None:
        """Enters a batch that is stored and counted in `max_timestamp` already."""
        relative = last_offset - self.base_offset
        self._offsets.append(offset_index.ENTRY.pack(relative, position))
        self.index_last_timestamp()
        self.since_index = 0

    def index_last_timestamp(self) -> None:
        """The largest timestamp so far, if it is new."""
        if self.max_timestamp > self._times_last:
            self._times.append(
                time_index.ENTRY.pack(self.max_timestamp, self.max_timestamp_offset - self.base_offset)
            )
            self._times_last = self.max_timestamp

    def sync_indexes(self) -> None:
        """Indexes to disk."""
        self._offsets.sync()
        self._times.sync()

    def as_segment(self) -> Segment:
        """What stays known of it."""
        return Segment(
            base_offset=self.base_offset,
            size=self.end,
            first_timestamp=self.first_timestamp,
            max_timestamp=self.max_timestamp,
            max_timestamp_offset=self.max_timestamp_offset,
            last_modified_ms=self.created_ms,
        )

    def close(self, *, cut: bool) -> Segment:
        """Unmaps it; with `cut` the files are as Kafka leaves an inactive segment: the last timestamp
        indexed, no tails.
        """
        if cut:
            self.index_last_timestamp()
        self.limit = 0  # an append looks again, and hears that the log is closed
        self._offsets.close(cut=cut)
        self._times.close(cut=cut)
        if cut:
            self.file.cut(self.end)
        else:
            self.file.close()
        return self.as_segment()
