"""Sparse index of a segment: timestamp -> offset, in Kafka's `.timeindex` format.

    entry   field             type
      0     timestamp         i64   the largest in the segment so far
      8     relative offset   i32   last offset of the batch that holds it, minus the segment's base offset
Timestamps strictly ascend, so offsets do too. Zero entries follow the last one while the file is
preallocated. Of an entry the offset is stored first: half of one is not taken for another.
"""

from struct import Struct

from tailrace.core.log.offset_index import Read

ENTRY = Struct(">qi")
ENTRY_SIZE = 12


def look_up(read: Read, count: int, timestamp: int) -> tuple[int, int]:
    """The last entry (timestamp, relative offset) before a timestamp; (-1, 0) if there is none."""
    low, high = 0, count
    found = (-1, 0)
    while low < high:
        middle = (low + high) // 2
        entry = ENTRY.unpack(read(middle * ENTRY_SIZE, ENTRY_SIZE))
        if entry[0] >= timestamp:
            high = middle
        else:
            low, found = middle + 1, entry
    return found
