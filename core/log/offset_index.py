"""Sparse index of a segment: offset -> position, in Kafka's `.index` format.

    entry   field             type
      0     relative offset   i32   last offset of a batch, minus the segment's base offset
      4     position          i32   where that batch starts in the .log file
Entries ascend in both fields. The first batch of a segment never has one, so no entry has position 0: the
zero tail of a preallocated file ends the entries. The file is full length while it is written to and cut to
its entries at roll and close.
"""

from collections.abc import Callable
from struct import Struct

from tailrace.core.log.directory import Directory, DiskFullError, MappedFile

ENTRY = Struct(">ii")
ENTRY_SIZE = 8
FIRST_RESERVE = 4096
BLOCK_ENTRIES = 256  # read at once

Read = Callable[[int, int], bytes]


def count_entries(read: Read, size: int, entry_size: int, key_at: int) -> int:
    """Entries before the zero tail; `key_at` is where in an entry a number stands that is never 0.

    Few files are full, and each read is a system call: the end is looked for at places ever further away,
    then by bisection, then in one block.
    """
    low, high = 0, size // entry_size

    def is_entry(number: int) -> bool:
        entry = read(number * entry_size, entry_size)
        return len(entry) == entry_size and any(entry[key_at:])

    probe = BLOCK_ENTRIES
    while probe < high and is_entry(probe):
        low, probe = probe + 1, 2 * probe
    high = min(high, probe)
    while high - low > BLOCK_ENTRIES:
        middle = (low + high) // 2
        if is_entry(middle):
            low = middle + 1
        else:
            high = middle
    block = read(low * entry_size, (high - low) * entry_size)
    for at in range(0, len(block) - entry_size + 1, entry_size):
        if not any(block[at + key_at : at + entry_size]):
            break
        low += 1
    return low


def look_up(read: Read, size: int, relative_offset: int) -> tuple[int, int]:
    """The last entry (relative offset, position) at or below an offset; (0, 0) if none is. Reads single
    entries.
    """
    low, high = 0, size // ENTRY_SIZE
    found = (0, 0)
    while low < high:
        middle = (low + high) // 2
        entry = read(middle * ENTRY_SIZE, ENTRY_SIZE)
        if len(entry) < ENTRY_SIZE:
            high = middle
            continue
        offset, position = ENTRY.unpack(entry)
        if position <= 0 or offset > relative_offset:  # position 0: the zero tail
            high = middle
        else:
            low, found = middle + 1, (offset, position)
    return found


class IndexWriter:
    """The mapped index file of an active segment, whatever its entries are."""

    __slots__ = ("_count", "_entry_size", "_file", "capacity")

    def __init__(self, directory: Directory, name: str, size: int, entry_size: int, count: int) -> None:
        self.capacity = max(
            size // entry_size, count + 2
        )  # a smaller segment.index.bytes must not cut entries
        self._file: MappedFile = directory.open_mapped(name, self.capacity * entry_size)
        self._entry_size, self._count = entry_size, count

    @property
    def is_full(self) -> bool:
        """One entry is kept for the roll itself."""
        return self._count >= self.capacity - 1

    def reserve_next(self) -> None:
        """Has the disk hold two more entries: the next, and one for the roll or the close, which it must not
        hinder.
        """
        end = min(self._count + 2, self.capacity) * self._entry_size
        if end > self._file.reserved:
            try:
                self._file.reserve(max(FIRST_RESERVE, end, self._file.reserved * 2))
            except DiskFullError:
                self._file.reserve(end)

    def append(self, entry: bytes) -> None:
        """One more entry; the caller rolls before there is no room."""
        end = (self._count + 1) * self._entry_size
        assert self._count < self.capacity, "the segment rolls before its index is full"
        if end > self._file.reserved:
            self.reserve_next()
        start = end - self._entry_size
        if len(entry) > ENTRY_SIZE:
            # (R) the offset of a time entry first: half a store must not name an older batch with a new time
            self._file.store(start + ENTRY_SIZE, entry[ENTRY_SIZE:])
        self._file.store(start, entry[:ENTRY_SIZE])
        self._count += 1

    def entry(self, number: int) -> bytes:
        """The bytes of an entry."""
        start = number * self._entry_size
        return bytes(self._file.view[start : start + self._entry_size])

    def sync(self) -> None:
        """See MappedFile."""
        self._file.sync()

    def close(self, *, cut: bool) -> None:
        """Cut to the entries, or left as it is."""
        if cut:
            self._file.cut(self._count * self._entry_size)
        else:
            self._file.close()
