"""What to trust of a log's files when it is opened, and the repair of the rest.

After a clean stop everything is trusted that agrees with itself. Otherwise batches are read from the recovery
point on, checked, and the log is cut at the first bad one, indexes are rebuilt, and producers are replayed
from the last snapshot. While the machine has not gone down since (boot id) and the active file is the one its
dead writer had (device, inode), the page cache holds all that was stored, in order: then only the batches
past the last index entry are read.

Rules (R), each with a test:
- what is cut leaves zeros behind, or the next crash would bring the cut batches back;
- a log cut below its high watermark gets a new inode: a gateway may still be sending from the old one;
- a snapshot above the end of the log is removed: it tells of batches that no longer are;
- a log never ends below where it is known to start: what was deleted stays so, also when the rest is lost.
"""

from itertools import pairwise

from msgspec import Struct

from tailrace.core.log import offset_index, time_index
from tailrace.core.log.checkpoints import TRUST_MARK, read_trust_mark
from tailrace.core.log.directory import Directory, is_full
from tailrace.core.log.log_config import LogConfig
from tailrace.core.log.scan import scan
from tailrace.core.log.segment import (
    INDEX_SUFFIX,
    LOG_SUFFIX,
    SEGMENT_SUFFIXES,
    SNAPSHOT_SUFFIX,
    TIME_INDEX_SUFFIX,
    Segment,
    file_name,
    offset_of,
)
from tailrace.core.records.batch import HEADER_SIZE, MAGIC, NO_TIMESTAMP, BatchHeader, parse_header

LEFTOVER_SUFFIXES = (".tmp", ".deleted", ".cleaned")


class Recovered(Struct, kw_only=True):
    """The segments that are left, the last of them to become active."""

    segments: list[Segment]
    end_offset: int
    offset_entries: int = 0
    time_entries: int = 0
    since_index: int = 0
    cut_bytes: int = 0  # how many bytes that were not zero-length tail could not be kept
    scanned_bytes: int = 0
    unsynced_from: int = 0  # base offset of the first segment of which something may not be on the disk
    is_trusted: bool = (
        False  # its owner ended as it should, or died with all that it had done in the page cache
    )


class Rebuilt:
    """Index entries and timestamps of a segment, collected batch by batch by the rule of an append."""

    def __init__(self, segment: Segment, config: LogConfig, offsets: bytes = b"", times: bytes = b"") -> None:
        self.segment, self._interval = segment, config.index_interval_bytes
        self.offsets, self.times = bytearray(offsets), bytearray(times)
        self.since_index = 0

    def add(self, position: int, header: BatchHeader) -> None:
        """A sound batch at `position`."""
        segment = self.segment
        if position == 0:
            segment.first_timestamp = header.max_timestamp
        if header.max_timestamp > segment.max_timestamp:
            segment.max_timestamp, segment.max_timestamp_offset = header.max_timestamp, header.last_offset
        if self.since_index > self._interval:
            self.offsets += offset_index.ENTRY.pack(header.last_offset - segment.base_offset, position)
            self.index_time()
            self.since_index = 0
        self.since_index += header.size
        segment.size = position + header.size

    def index_time(self) -> None:
        """The largest timestamp so far, if it is new."""
        last = (
            time_index.ENTRY.unpack(self.times[-time_index.ENTRY_SIZE :])[0] if self.times else NO_TIMESTAMP
        )
        if self.segment.max_timestamp > last:
            relative = self.segment.max_timestamp_offset - self.segment.base_offset
            self.times += time_index.ENTRY.pack(self.segment.max_timestamp, relative)


def segment_bases(directory: Directory) -> list[int]:
    """Base offsets of the .log files, ascending."""
    return sorted(base for name in directory.names() if (base := offset_of(name, LOG_SUFFIX)) is not None)


def remove_leftovers(directory: Directory) -> None:
    """What an earlier owner had not finished, and (R) indexes without their .log, whose name may come back
    with other batches.
    """
    names = directory.names()
    there = set(names)
    for name in names:
        stem, _, suffix = name.partition(".")
        is_alone = f".{suffix}" in SEGMENT_SUFFIXES and f"{stem}{LOG_SUFFIX}" not in there
        if is_alone or name.endswith(LEFTOVER_SUFFIXES):
            directory.remove(name)


def remove_segment(directory: Directory, base: int) -> None:
    """All files of a segment; its .log last, so that an index never stands alone with a later namesake."""
    for suffix in (*SEGMENT_SUFFIXES[1:], SEGMENT_SUFFIXES[0]):
        directory.remove(file_name(base, suffix))


def remove_deleted(directory: Directory, log_start_offset: int) -> list[int]:
    """Removes the segments that end at or below where the log starts, oldest first, never the last one.

    Returns the base offsets of those that are left.
    """
    bases = segment_bases(directory)
    while len(bases) > 1 and bases[1] <= log_start_offset:
        directory.remove(file_name(bases[0], SNAPSHOT_SUFFIX))
        remove_segment(directory, bases.pop(0))
    return bases


def _start_behind(directory: Directory, found: Recovered, log_start_offset: int) -> Recovered:
    """All that is left of a log was deleted: it goes on, empty, where it was said to start."""
    start = Segment(base_offset=log_start_offset)
    directory.replace(start.log_name, b"")  # (R) there before the rest goes, or nobody knows how far it was
    remove_deleted(directory, log_start_offset)
    return Recovered(
        segments=[start],
        end_offset=log_start_offset,
        cut_bytes=found.cut_bytes,
        scanned_bytes=found.scanned_bytes,
        unsynced_from=log_start_offset,
    )


def _last_entry(directory: Directory, name: str) -> bytes:
    """Of the time index of a segment that is closed; empty if there is none, or it is of no such size."""
    try:
        file = directory.open_read(name)
    except FileNotFoundError:
        return b""
    try:
        size = file.size()
        if size < time_index.ENTRY_SIZE or size % time_index.ENTRY_SIZE:
            return b""
        return file.read(size - time_index.ENTRY_SIZE, time_index.ENTRY_SIZE)
    finally:
        file.release()


def describe_segment(directory: Directory, base: int) -> Segment:
    """A segment that is trusted as it lies there: size of the file, timestamps by its time index and first
    batch.
    """
    segment = Segment(base_offset=base)
    file = directory.open_read(segment.log_name)
    try:
        segment.size = file.size()
        data = file.read(0, HEADER_SIZE)  # no more: there may be thousands of them
        if len(data) == HEADER_SIZE and (header := parse_header(data)).magic == MAGIC:
            segment.first_timestamp = header.max_timestamp
    finally:
        file.release()
    times = _last_entry(directory, file_name(base, TIME_INDEX_SUFFIX))
    if times:
        segment.max_timestamp, relative = time_index.ENTRY.unpack(times)
        segment.max_timestamp_offset = base + relative
    return segment


def _entries(directory: Directory, name: str, entry_size: int) -> bytes:
    """An index without its zero tail, of which next to nothing is read: a thousand logs have 20 GB of it."""
    try:
        file = directory.open_read(name)
    except FileNotFoundError:
        return b""
    try:
        return file.read(0, offset_index.count_entries(file.read, file.size(), entry_size, 0) * entry_size)
    finally:
        file.release()


def trusted_entries(directory: Directory, base: int, size: int) -> tuple[bytes, bytes]:
    """The entries of both indexes as far as they may be followed; empty if they contradict themselves."""
    offsets = _entries(directory, file_name(base, INDEX_SUFFIX), offset_index.ENTRY_SIZE)
    times = _entries(directory, file_name(base, TIME_INDEX_SUFFIX), time_index.ENTRY_SIZE)
    entries = list(offset_index.ENTRY.iter_unpack(offsets))
    if any(b[0] <= a[0] or b[1] <= a[1] for a, b in pairwise(entries)):
        return b"", b""
    if entries and (entries[0][1] <= 0 or entries[-1][1] >= size):
        return b"", b""
    stamps = list(time_index.ENTRY.iter_unpack(times))
    if any(b[0] <= a[0] or b[1] <= a[1] for a, b in pairwise(stamps)):
        return b"", b""
    if stamps and stamps[0][0] <= 0:  # (R) may be half an entry
        return b"", b""
    return offsets, times


def _are_indexes_cut(directory: Directory, base: int) -> bool:
    """Whether both hold entries up to their last byte, so that no part of them can be missing."""
    for suffix, entry_size in (
        (INDEX_SUFFIX, offset_index.ENTRY_SIZE),
        (TIME_INDEX_SUFFIX, time_index.ENTRY_SIZE),
    ):
        name = file_name(base, suffix)
        if len(_entries(directory, name, entry_size)) != len(directory.read(name) or b"-"):
            return False
    return True


def _are_times_whole(directory: Directory, base: int) -> bool:
    """Whether the last entry of the time index names a batch, and no later batch is younger: a file of
    the length that it had earlier ends with sound entries too.
    """
    file = directory.open_read(file_name(base, LOG_SUFFIX))
    try:
        size = file.size()
        offsets, times = trusted_entries(directory, base, size)
        if not offsets or not times:
            return False
        newest, relative = time_index.ENTRY.unpack(times[-time_index.ENTRY_SIZE :])
        before = (at for last, at in offset_index.ENTRY.iter_unpack(offsets) if last <= relative)
        found = False
        for _, header in scan(file, max(before, default=0), size, check=False):
            if header.last_offset == base + relative:
                found = header.max_timestamp == newest
            elif header.last_offset > base + relative and header.max_timestamp > newest:
                return False
        return found
    finally:
        file.release()


def _without_last(offsets: bytes, times: bytes) -> tuple[bytes, bytes]:
    """(R) The entries but the last of offsets, and those of times that belong to it or come later: their
    writer may have died between the two stores, or in one.
    """
    offsets = offsets[: -offset_index.ENTRY_SIZE]
    end = offset_index.ENTRY.unpack(offsets[-offset_index.ENTRY_SIZE :])[0] if offsets else -1
    while times and time_index.ENTRY.unpack(times[-time_index.ENTRY_SIZE :])[1] > end:
        times = times[: -time_index.ENTRY_SIZE]
    return offsets, times


def scan_segment(
    directory: Directory, base: int, config: LogConfig, *, tail_only: bool, check: bool
) -> tuple[Rebuilt, int, int]:
    """Reads a segment until its first unsound batch: (what it holds, its next offset, bytes read)."""
    segment = Segment(base_offset=base)
    file = directory.open_read(segment.log_name)
    try:
        size, start, next_offset = file.size(), 0, base
        rebuilt = Rebuilt(segment, config)
        if tail_only:
            offsets, times = _without_last(*trusted_entries(directory, base, size))
            if offsets and times:
                first = next(scan(file, 0, size, check=False, chunk_size=HEADER_SIZE), None)
                start = offset_index.ENTRY.unpack(offsets[-8:])[1]
                entry_offset = offset_index.ENTRY.unpack(offsets[-8:])[0] + base
                anchor = next(scan(file, start, size, check=False, chunk_size=HEADER_SIZE), None)
                if first is None or anchor is None or anchor[1].last_offset != entry_offset:
                    return scan_segment(directory, base, config, tail_only=False, check=True)
                rebuilt = Rebuilt(segment, config, offsets, times)
                segment.first_timestamp, segment.size = first[1].max_timestamp, start
                segment.max_timestamp, relative = time_index.ENTRY.unpack(times[-time_index.ENTRY_SIZE :])
                segment.max_timestamp_offset = base + relative
                next_offset = anchor[1].base_offset
        for position, header in scan(file, start, size, check=check):
            # Kafka's logs may have gaps where they were compacted, never steps back
            if header.base_offset < next_offset or header.last_offset - base > 0x7FFFFFFF:
                break
            rebuilt.add(position, header)
            next_offset = header.last_offset + 1
        return rebuilt, next_offset, size - start
    finally:
        file.release()


def store_indexes(
    directory: Directory, rebuilt: Rebuilt, *, inactive: bool, durable: bool = False, in_place: bool = False
) -> None:
    """Replaces the index files that are not as they should; an inactive segment ends with its largest
    timestamp.

    in_place: one that lacks none of its entries stays: to make and to free inodes for a thousand logs takes
    seconds. Not after a clean stop (R): should a crash bring back the clean mark, what is appended from now
    on must not be in the index that it speaks of.
    """
    if inactive:
        rebuilt.index_time()
    base = rebuilt.segment.base_offset
    for suffix, entry_size, data in (
        (INDEX_SUFFIX, offset_index.ENTRY_SIZE, rebuilt.offsets),
        (TIME_INDEX_SUFFIX, time_index.ENTRY_SIZE, rebuilt.times),
    ):
        name = file_name(base, suffix)
        if in_place and data and _entries(directory, name, entry_size) == bytes(data):
            directory.cut(name, len(data))
            continue
        if inactive and directory.read(name) == bytes(data):
            continue
        try:
            directory.replace(name, data, durable=durable)
        except OSError as error:
            if not is_full(error):
                raise
            directory.remove(name)  # its room is enough, and it can be made again from the log at any time
            directory.replace(name, data, durable=durable)


def cut_log_file(directory: Directory, name: str, size: int, *, new_inode: bool) -> None:
    """Ends a .log file that nobody maps at `size`; what is beyond reads as zeros when the file grows again
    (R).
    """
    if not new_inode:
        directory.cut(name, size)
        return
    # (R) bytes below a published high watermark are being sent from this inode: it stays as it is, under no
    # name
    file = directory.open_read(name)
    try:
        directory.replace(name, file.read(0, size))
    finally:
        file.release()


def recover_segments(
    directory: Directory,
    config: LogConfig,
    *,
    clean: bool,
    recovery_point: int,
    high_watermark: int,
    same_boot: bool,
    log_start_offset: int = 0,
) -> Recovered:
    """Repairs the segments of a directory that holds at least one."""
    bases = remove_deleted(directory, log_start_offset)  # what a crash left of them
    trust_cache = same_boot and not clean and _is_same_file(directory, bases[-1])
    # (R) below, not at: a segment that was rolled right at the recovery point may not be cut on disk
    unsynced = max((i for i, base in enumerate(bases) if base < recovery_point), default=0)
    first = len(bases) - 1 if clean or trust_cache else unsynced
    segments = [describe_segment(directory, base) for base in bases[:first]]
    # (R) a file may also come back shorter, ending with a whole batch. In a log of Kafka's, or below the
    # recovery point, offsets that are missing there were compacted away
    is_ours = not clean and directory.read(TRUST_MARK) is not None  # there since the log was made
    result = Recovered(
        segments=segments,
        end_offset=bases[first],
        unsynced_from=bases[unsynced],
        is_trusted=clean or trust_cache,
    )
    for number in range(first, len(bases)):
        base, last = bases[number], number == len(bases) - 1
        # all of it is on the disk: only whether it is cut has to be seen. (R) But its indexes are not, if it
        # was rolled after its last sync: such may still be longer, zero at their end, or as short as once
        ends_there = not last and bases[number + 1] == recovery_point
        ends_there = ends_there and _are_indexes_cut(directory, base) and _are_times_whole(directory, base)
        tail_only = clean or trust_cache or ends_there
        rebuilt, end_offset, whole = _read(directory, base, config, result, tail_only=tail_only, clean=clean)
        result.end_offset = end_offset
        # at the end of a segment that is not the last, the next one must follow: a hole means that bytes were
        # lost
        broken = not last and (whole != rebuilt.segment.size or (is_ours and end_offset >= recovery_point))
        if whole != rebuilt.segment.size:
            name = file_name(base, LOG_SUFFIX)
            cut_log_file(directory, name, rebuilt.segment.size, new_inode=end_offset < high_watermark)
            if not trust_cache:  # (R) or the next crash brings it back, behind what came in its place
                directory.sync_file(name)
            result.cut_bytes += whole - rebuilt.segment.size
        drop_rest = broken and not _is_zero_tail_only(end_offset, bases[number + 1])
        # (R) below the recovery point nobody looks again
        inactive = not (last or drop_rest)
        store_indexes(directory, rebuilt, inactive=inactive, durable=ends_there, in_place=trust_cache)
        segments.append(rebuilt.segment)
        result.offset_entries = len(rebuilt.offsets) // offset_index.ENTRY_SIZE
        result.time_entries = len(rebuilt.times) // time_index.ENTRY_SIZE
        result.since_index = rebuilt.since_index
        if drop_rest:
            for later in bases[number + 1 :]:
                remove_segment(directory, later)
            break
    # (R) as Kafka: what was deleted does not come back, and no offset is given twice
    lost_all = result.end_offset < log_start_offset
    return _start_behind(directory, result, log_start_offset) if lost_all else result


def _read(
    directory: Directory, base: int, config: LogConfig, result: Recovered, *, tail_only: bool, clean: bool
) -> tuple[Rebuilt, int, int]:
    """What a segment holds, its next offset, and how long its file is."""
    rebuilt, end_offset, read = scan_segment(directory, base, config, tail_only=tail_only, check=not clean)
    result.scanned_bytes += read
    file = directory.open_read(file_name(base, LOG_SUFFIX))
    whole = file.size()
    file.release()
    if clean and whole != rebuilt.segment.size:
        # it does not agree with itself after all: believe nothing unread
        result.is_trusted = False
        rebuilt, end_offset, read = scan_segment(directory, base, config, tail_only=False, check=True)
        result.scanned_bytes += read
    return rebuilt, end_offset, whole


def _is_zero_tail_only(end_offset: int, next_base: int) -> bool:
    """A segment whose owner died in the middle of a roll ends where the next begins, only its tail was not
    yet cut.
    """
    return end_offset == next_base


def _is_same_file(directory: Directory, base: int) -> bool:
    mark = read_trust_mark(directory)
    if mark is None or mark.base_offset != base or mark.boot_id != directory.boot_id():
        return False
    return (mark.device, mark.inode) == directory.identity(file_name(base, LOG_SUFFIX))


def remove_snapshots_above(directory: Directory, end_offset: int) -> list[int]:
    """(R) They know sequences of batches that are cut: a retry of them would be taken as done. Returns the
    offsets of those that are left, ascending.
    """
    snapshots = sorted(o for name in directory.names() if (o := offset_of(name, SNAPSHOT_SUFFIX)) is not None)
    while snapshots and snapshots[-1] > end_offset:
        directory.remove(file_name(snapshots.pop(), SNAPSHOT_SUFFIX))
    return snapshots
