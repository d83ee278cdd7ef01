"""The state table: a row a replica, readable at any moment, even after its writer was killed half-way.

    word   field        stored by   meaning
       0   row_count    creator
       8   rows, 40 words each:
       0   sequence     writer      its low bit names the good copy (its own cache line)
       8   copy 0       writer      16 words, see the constants below
      24   copy 1       writer      16 words

One writer a row. It fills the copy not in use, then stores the sequence word: there is a whole row at every
instant, and nothing to repair. A reader takes the good copy and tries again only if the sequence word moved
meanwhile. Rows outlive their process.
"""

import struct
from array import array
from typing import Final

from tailrace.shm.region import Region, ShmError

KIND: Final = "state"
VERSION: Final = 1
ROWS: Final = 8192

TOPIC_ID_HI: Final = 0
TOPIC_ID_LO: Final = 1
PARTITION: Final = 2
ROW_GENERATION: Final = 3
ROLE: Final = 4
LEADER_EPOCH: Final = 5
LOG_START_OFFSET: Final = 6
LOG_END_OFFSET: Final = 7
HIGH_WATERMARK: Final = 8
HIGH_WATERMARK_POSITION: Final = 9  # byte place in the segment that word 11 names
LAST_STABLE_OFFSET: Final = 10
HW_SEGMENT_BASE_OFFSET: Final = 11
ACTIVE_SEGMENT_BASE_OFFSET: Final = 12
SEGMENT_GENERATION: Final = 13
OWNER: Final = 14  # slot << 32 | incarnation
RECOVERY_POINT: Final = 15  # below it all is on the disk, or SYNC_FAILED
WORDS: Final = 16

ROLE_NONE: Final = 0
ROLE_LEADER: Final = 1
ROLE_FOLLOWER: Final = 2
ROLE_OFFLINE: Final = 3

SYNC_FAILED: Final = -1  # no page of this log is believed to get to the disk in this run

_HEADER_WORDS: Final = 8
_ROW_WORDS: Final = 40
_COPY_0: Final = 8
_COPY_WORDS: Final = 16
_unpack = struct.Struct("<16q").unpack_from

Row = tuple[int, int, int, int, int, int, int, int, int, int, int, int, int, int, int, int]


def topic_id_words(topic_id: bytes) -> tuple[int, int]:
    """The 16 bytes of a topic id as the two words of a row."""
    return int.from_bytes(topic_id[:8], "big", signed=True), int.from_bytes(topic_id[8:], "big", signed=True)


def topic_id_bytes(high: int, low: int) -> bytes:
    """The topic id that a row's two words hold."""
    return high.to_bytes(8, "big", signed=True) + low.to_bytes(8, "big", signed=True)


class StateTable:
    """All rows. Anyone reads; a row is written through one RowWriter, or `write`, by its one owner."""

    __slots__ = ("_base", "_map", "region", "rows", "words")

    def __init__(self, region: Region) -> None:
        self.region = region
        self.words = region.words
        self.rows = region.words[0]
        self._map = region.map
        self._base = len(region.map) - region.size
        if not 0 < self.rows <= (region.size // 8 - _HEADER_WORDS) // _ROW_WORDS:
            raise ShmError(f"{region.path} is shorter than its row count says")

    @classmethod
    def create(cls, path: str, rows: int = ROWS) -> "StateTable":
        """A table of zero rows."""
        region = Region.create(path, (_HEADER_WORDS + rows * _ROW_WORDS) * 8, kind=KIND, version=VERSION)
        region.words[0] = rows
        return cls(region)

    @classmethod
    def attach(cls, path: str) -> "StateTable":
        """The table that another process made."""
        return cls(Region.attach(path, KIND, VERSION))

    def sequence(self, row: int) -> int:
        """Moves with each publish of the row: an unmoved sequence means an unchanged row."""
        return self.words[_HEADER_WORDS + row * _ROW_WORDS]

    def sequences(self) -> list[int]:
        """The sequence of every row, each as of its own instant; 0: never published."""
        last = _HEADER_WORDS + self.rows * _ROW_WORDS
        return self.words[_HEADER_WORDS:last:_ROW_WORDS].tolist()

    def read(self, row: int) -> Row:
        """The row's 16 words as they were at one instant."""
        words, mapping = self.words, self._map
        at = _HEADER_WORDS + row * _ROW_WORDS
        sequence = words[at]  # pairs with the writer's last store
        while True:
            start = self._base + 8 * (at + _COPY_0 + (sequence & 1) * _COPY_WORDS)
            copy = mapping[start : start + 128]
            after = words[at]
            if after == sequence:
                return _unpack(copy)
            sequence = after

    def read_word(self, row: int, index: int) -> int:
        """One word of the row, as published."""
        words = self.words
        at = _HEADER_WORDS + row * _ROW_WORDS
        sequence = words[at]  # pairs with the writer's last store
        while True:
            value = words[at + _COPY_0 + (sequence & 1) * _COPY_WORDS + index]
            after = words[at]
            if after == sequence:
                return value
            sequence = after

    def write(self, row: int, values: "array[int]") -> None:
        """Publish all 16 words at once."""
        words = self.words
        at = _HEADER_WORDS + row * _ROW_WORDS
        sequence = words[at] + 1
        start = at + _COPY_0 + (sequence & 1) * _COPY_WORDS
        words[start : start + _COPY_WORDS] = memoryview(values)
        words[at] = sequence  # (R) last: it publishes the copy; pairs with read


class RowWriter:
    """The one writer of a row: mutate `values` (an array of 16 words), then `publish`."""

    __slots__ = ("_copies", "_sequence", "_sequence_at", "_source", "_words", "row", "values")

    def __init__(self, table: StateTable, row: int) -> None:
        assert 0 <= row < table.rows
        self.row = row
        self.values = array("q", table.read(row))  # goes on from what its predecessor published
        self._source = memoryview(self.values)
        self._words = table.words
        self._sequence_at = at = _HEADER_WORDS + row * _ROW_WORDS
        self._sequence = table.words[at]
        first = at + _COPY_0
        self._copies = (
            slice(first, first + _COPY_WORDS),
            slice(first + _COPY_WORDS, first + 2 * _COPY_WORDS),
        )

    def publish(self) -> None:
        """Show `values` to every reader."""
        self._sequence = sequence = self._sequence + 1
        words = self._words
        words[self._copies[sequence & 1]] = self._source
        words[self._sequence_at] = sequence  # (R) last: it publishes the copy; pairs with read
