"""Waiting fetches: who wants to hear when a row's high watermark passes an offset.

    word   field       stored by       meaning
       0   row_count   creator
       8   rows, 8 words (one cache line) each:
       w   wanted      waiter w        wanted offset + 1, 0: not waiting

A waiter waits for a record at `offset`: it is served once the high watermark is above it. Each word has one
writer, its waiter; the leader only compares and rings.

    waiter                                  leader
    want(row, waiter, offset)               publish the row's high watermark
    fence()                                 fence()
    read the high watermark; high enough:   satisfied(row, high_watermark): ring each
    clear and answer

Both fences are the callers', one for a run of rows (R). A satisfied waiter stays in the answer until it
clears its word: the leader may ring it again, which costs one eventfd write and harms nothing.

A waiter keeps one word for all its fetches on a row: the lowest wanted offset. Slots: gateway of broker b is
waiter b. When they run out (more than 8) `waiter_of_broker` refuses, and who has no slot asks again on a
timer of its own.
"""

from typing import Final

from tailrace.shm.region import Region, ShmError

KIND: Final = "waiters"
VERSION: Final = 1
WAITERS: Final = 8

_HEADER_WORDS: Final = 8
_NOBODY: Final = bytes(8 * WAITERS)


def waiter_of_broker(broker: int) -> int:
    """The waiter slot of a broker's gateway."""
    if not 0 <= broker < WAITERS:
        raise ShmError(f"at most {WAITERS} brokers can wait for records, broker index {broker} is too high")
    return broker


class WaiterTable:
    """Wanted offsets by row and waiter."""

    __slots__ = ("_base", "_map", "region", "rows", "words")

    def __init__(self, region: Region) -> None:
        self.region = region
        self.words = region.words
        self.rows = region.words[0]
        self._map = region.map
        self._base = len(region.map) - region.size + 8 * _HEADER_WORDS
        if not 0 < self.rows <= (region.size // 8 - _HEADER_WORDS) // WAITERS:
            raise ShmError(f"{region.path} is shorter than its row count says")

    @classmethod
    def create(cls, path: str, rows: int) -> "WaiterTable":
        """A table in which nobody waits."""
        region = Region.create(path, 8 * (_HEADER_WORDS + rows * WAITERS), kind=KIND, version=VERSION)
        region.words[0] = rows
        return cls(region)

    @classmethod
    def attach(cls, path: str) -> "WaiterTable":
        """The table that another process made."""
        return cls(Region.attach(path, KIND, VERSION))

    def want(self, row: int, waiter: int, offset: int) -> None:
        """Ask to be rung once the high watermark passes `offset`. Then fence, and look again (R)."""
        self.words[_HEADER_WORDS + row * WAITERS + waiter] = offset + 1

    def clear(self, row: int, waiter: int) -> None:
        """No longer wait on the row."""
        self.words[_HEADER_WORDS + row * WAITERS + waiter] = 0

    def wanted(self, row: int, waiter: int) -> int:
        """The offset waited for, -1: none."""
        return self.words[_HEADER_WORDS + row * WAITERS + waiter] - 1

    def satisfied(self, row: int, high_watermark: int) -> list[int]:
        """The waiters that the high watermark serves now. The caller published it and fenced before (R)."""
        start = self._base + 64 * row
        line = self._map[start : start + 64]
        if line == _NOBODY:
            return []
        first = _HEADER_WORDS + row * WAITERS
        wanted = self.words[first : first + WAITERS].tolist()
        return [waiter for waiter, word in enumerate(wanted) if 0 < word <= high_watermark]

    def clear_waiter(self, waiter: int) -> None:
        """Forget every word of a waiter: its successor starts with none."""
        for row in range(self.rows):
            self.words[_HEADER_WORDS + row * WAITERS + waiter] = 0
