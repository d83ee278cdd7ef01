"""Whether the files of one partition are sound and agree, read and never changed.

Of each segment: every batch whole, its CRC right, offsets ascending; each index entry at a batch, with that
batch's last offset or largest timestamp; the epochs of batches as leader-epoch-checkpoint has them. Of each
index and .log the first fault is told: what follows it cannot be told from its consequences.

An active segment may end in zeros, which the broker had reserved; any other may not.
"""

from collections.abc import Iterator
from itertools import pairwise

from msgspec import Struct

from tailrace.core.errors import KafkaError
from tailrace.core.log import offset_index, time_index
from tailrace.core.log.checkpoints import LEADER_EPOCHS, read_leader_epochs
from tailrace.core.log.directory import Directory, ReadFile
from tailrace.core.log.producer_state import decode_snapshot
from tailrace.core.log.recovery import segment_bases
from tailrace.core.log.scan import CHUNK, scan
from tailrace.core.log.segment import (
    INDEX_SUFFIX,
    LOG_SUFFIX,
    SNAPSHOT_SUFFIX,
    TIME_INDEX_SUFFIX,
    file_name,
    offset_of,
)
from tailrace.core.records.batch import HEADER_SIZE, NO_TIMESTAMP, BatchHeader, check_stored, parse_header
from tailrace.core.records.columns import Columns, RecordReader

RELATIVE_MAX = 0x7FFFFFFF


class Fault(Struct, kw_only=True, frozen=True):
    """What is wrong, and where: a file, and the byte in it (-1: the file as a whole)."""

    file: str
    position: int
    what: str


class Verified(Struct, kw_only=True):
    """What was read of a partition, and every fault that was found."""

    segments: int = 0
    batches: int = 0
    records: int = 0
    size: int = 0  # bytes of batches
    end_offset: int = 0
    faults: list[Fault]


def verify(directory: Directory, *, records: bool = False) -> Verified:
    """Read a partition's directory; with `records` each batch is opened too. OSError if it cannot be read."""
    result, reader = Verified(faults=[]), RecordReader()
    bases = segment_bases(directory)
    epochs = _Epochs(directory, result.faults)
    next_offset = 0
    for base in bases:
        if base < next_offset:
            what = f"it begins at offset {base}, and the segment before ends at {next_offset - 1}"
            result.faults.append(Fault(file=file_name(base, LOG_SUFFIX), position=-1, what=what))
        segment = _Segment(directory, base, result, epochs, reader if records else None)
        next_offset = max(next_offset, segment.verify(is_last=base == bases[-1]))
        result.segments += 1
    result.end_offset = next_offset
    result.faults += _beside_segments(directory, set(bases))
    return result


def first_fault(file: ReadFile, position: int, end: int) -> str:
    """Why no sound batch stands at `position`; "" when nothing but zeros follows."""
    data = file.read(position, min(HEADER_SIZE, end - position))
    if _is_zero(data):
        while position < end and _is_zero(data):
            position += len(data)
            data = file.read(position, min(CHUNK, end - position)) if position < end else b""
        return "" if _is_zero(data) else f"bytes that are not zero follow zeros, at byte {position}"
    if len(data) < HEADER_SIZE:
        return f"{len(data)} bytes are left, and a batch's header has {HEADER_SIZE}"
    header = parse_header(data)
    if not HEADER_SIZE <= header.size <= end - position:
        return f"a batch of {header.size} bytes, and the file ends after {end - position}"
    return check_stored(memoryview(file.read(position, header.size)), header) or "its offset is negative"


def _is_zero(data: bytes) -> bool:
    """Compared as a whole: a reserved GiB took `any` four seconds."""
    return data == bytes(len(data))


class _Segment:
    """One segment while it is read."""

    def __init__(
        self,
        directory: Directory,
        base: int,
        result: Verified,
        epochs: "_Epochs",
        reader: RecordReader | None,
    ) -> None:
        self._directory, self._base, self._result = directory, base, result
        self._epochs, self._reader = epochs, reader
        self._name = file_name(base, LOG_SUFFIX)
        self._offsets = _OffsetEntries(directory, base, result.faults)
        self._times = _TimeEntries(directory, base, result.faults)

    def verify(self, *, is_last: bool) -> int:
        """The offset after its last sound batch."""
        file = self._directory.open_read(self._name)
        try:
            return self._read(file, is_last)
        finally:
            file.release()

    def _read(self, file: ReadFile, is_last: bool) -> int:
        size, end, next_offset = file.size(), 0, self._base
        for position, header in scan(file, 0, size, check=True):
            fault = self._batch_fault(file, position, header, next_offset)
            if fault:
                self._say(position, fault)
                return next_offset
            end, next_offset = position + header.size, header.last_offset + 1
            self._result.batches += 1
            self._result.records += header.record_count
            self._result.size += header.size
        fault = first_fault(file, end, size)
        if fault:
            self._say(end, fault)
        elif not is_last and end != size:
            self._say(end, f"{size - end} zeros at the end of a segment that is not the last")
        if not fault:
            self._offsets.finish(end)
            self._times.finish(next_offset)
        return next_offset

    def _batch_fault(self, file: ReadFile, position: int, header: BatchHeader, next_offset: int) -> str:
        if header.base_offset < next_offset:
            return f"offset {header.base_offset} comes after {next_offset - 1}"
        if header.last_offset - self._base > RELATIVE_MAX:
            return f"offset {header.last_offset} is too far from the segment's base offset"
        self._offsets.on_batch(position, header)
        self._times.on_batch(position, header)
        self._epochs.on_batch(self._name, position, header)
        if self._reader is None:
            return ""
        return _record_fault(self._reader, file.read(position, header.size), header)

    def _say(self, position: int, what: str) -> None:
        self._result.faults.append(Fault(file=self._name, position=position, what=what))


def _record_fault(reader: RecordReader, batch: bytes, header: BatchHeader) -> str:
    last = header.base_offset - 1
    try:
        found = reader.read(batch)
        if isinstance(found, Columns):
            if found.offsets_ascend_to(header.last_offset_delta):
                return ""
            found = found.records(header)
        for record in found:
            if not last < record.offset <= header.last_offset:
                return f"a record has offset {record.offset}, out of order or outside of its batch"
            last = record.offset
    except KafkaError as error:
        return f"its records cannot be read: {error.message}"
    return ""


class _Entries:
    """The entries of an index, walked beside the batches; ends at its first fault."""

    def __init__(self, directory: Directory, name: str, entry_size: int, faults: list[Fault]) -> None:
        self._name, self._size, self._faults = name, entry_size, faults
        self._data = directory.read(name) or b""
        self._at = 0
        self._end = entry_size * offset_index.count_entries(self._read, len(self._data), entry_size, 0)
        if not _is_zero(self._data[self._end :]):
            self.say("entries after the zeros that end it")

    def _read(self, position: int, length: int) -> bytes:
        return self._data[position : position + length]

    def say(self, what: str) -> None:
        """The fault of this index; nothing more is looked at."""
        self._faults.append(Fault(file=self._name, position=self._at, what=what))
        self._at = self._end

    def next(self) -> None:
        """On to the entry behind."""
        self._at += self._size

    @property
    def entry(self) -> bytes | None:
        """The bytes of the next entry, None at the end."""
        return self._data[self._at : self._at + self._size] if self._at < self._end else None


class _OffsetEntries:
    """.index beside the batches."""

    def __init__(self, directory: Directory, base: int, faults: list[Fault]) -> None:
        name = file_name(base, INDEX_SUFFIX)
        self._base, self._entries = base, _Entries(directory, name, offset_index.ENTRY_SIZE, faults)

    def on_batch(self, position: int, header: BatchHeader) -> None:
        """A batch; the entries up to its position are due."""
        while (entry := self._entries.entry) is not None:
            relative, at = offset_index.ENTRY.unpack(entry)
            if at > position:
                return
            if at < position:
                self._entries.say(f"an entry names byte {at} of the log, where no batch begins")
            elif self._base + relative != header.last_offset:
                said = self._base + relative
                self._entries.say(
                    f"an entry says offset {said} of byte {at}, where a batch ends with {header.last_offset}"
                )
            else:
                self._entries.next()

    def finish(self, end: int) -> None:
        """The log ends at byte `end`."""
        if (entry := self._entries.entry) is not None:
            at = offset_index.ENTRY.unpack(entry)[1]
            self._entries.say(f"an entry names byte {at} of the log, which ends at {end}")


class _TimeEntries:
    """.timeindex beside the batches."""

    def __init__(self, directory: Directory, base: int, faults: list[Fault]) -> None:
        name = file_name(base, TIME_INDEX_SUFFIX)
        self._base, self._entries = base, _Entries(directory, name, time_index.ENTRY_SIZE, faults)
        self._largest = self._last = NO_TIMESTAMP

    def on_batch(self, position: int, header: BatchHeader) -> None:
        """A batch; the entries up to its last offset are due."""
        del position
        self._largest = max(self._largest, header.max_timestamp)
        while (entry := self._entries.entry) is not None:
            timestamp, relative = time_index.ENTRY.unpack(entry)
            offset = self._base + relative
            if offset > header.last_offset:
                return
            if timestamp <= self._last:
                self._entries.say(f"timestamp {timestamp} comes after {self._last}")
            elif offset < header.base_offset or timestamp != header.max_timestamp:
                self._entries.say(f"an entry says timestamp {timestamp} of offset {offset}: not so")
            elif timestamp < self._largest:
                self._entries.say(f"timestamp {timestamp} of offset {offset} is not the largest up to there")
            else:
                self._last = timestamp
                self._entries.next()

    def finish(self, end_offset: int) -> None:
        """The segment ends before `end_offset`."""
        if (entry := self._entries.entry) is not None:
            offset = self._base + time_index.ENTRY.unpack(entry)[1]
            if offset == self._base and end_offset == self._base:  # of Kafka, for a segment without a record
                return
            self._entries.say(f"an entry names offset {offset}, and the segment ends at {end_offset - 1}")


class _Epochs:
    """leader-epoch-checkpoint beside the batches of all segments."""

    def __init__(self, directory: Directory, faults: list[Fault]) -> None:
        self._entries, self._faults = read_leader_epochs(directory), faults
        self._next, self._epoch, self._done = 0, -1, False
        if any(b[0] <= a[0] or b[1] < a[1] for a, b in pairwise(self._entries)):
            self._say(LEADER_EPOCHS, -1, "epochs or their start offsets do not ascend")
        elif not self._entries and directory.read(LEADER_EPOCHS) not in (None, b"", b"0\n0\n"):
            self._say(LEADER_EPOCHS, -1, "it cannot be read")

    def on_batch(self, file: str, position: int, header: BatchHeader) -> None:
        """A batch, in the order of offsets."""
        if self._done or header.leader_epoch < 0:
            return
        if header.leader_epoch < self._epoch:
            self._say(file, position, f"leader epoch {header.leader_epoch} comes after {self._epoch}")
            return
        self._epoch = header.leader_epoch
        known = -1
        while self._next < len(self._entries) and self._entries[self._next][1] <= header.base_offset:
            self._next += 1
        if self._next:
            known = self._entries[self._next - 1][0]
        if known >= 0 and known != header.leader_epoch:
            said = f"{LEADER_EPOCHS} says epoch {known} of offset {header.base_offset}"
            self._say(file, position, f"leader epoch {header.leader_epoch}, and {said}")

    def _say(self, file: str, position: int, what: str) -> None:
        self._done = True
        self._faults.append(Fault(file=file, position=position, what=what))


def _beside_segments(directory: Directory, bases: set[int]) -> Iterator[Fault]:
    """Indexes that belong to no segment, snapshots that cannot be read."""
    for name in directory.names():
        for suffix in (INDEX_SUFFIX, TIME_INDEX_SUFFIX):
            base = offset_of(name, suffix)
            if base is not None and base not in bases:
                yield Fault(file=name, position=-1, what=f"there is no {file_name(base, LOG_SUFFIX)}")
        if offset_of(name, SNAPSHOT_SUFFIX) is None:
            continue
        if decode_snapshot(directory.read(name) or b"") is None:
            yield Fault(file=name, position=-1, what="its length or CRC is wrong")
