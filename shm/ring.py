"""Rings: one producer, one consumer, one pair of incarnations, one file.

    word   field      stored by   meaning
       0   kind       creator     DESCRIPTOR or BYTES
       1   capacity   creator     cells for frames
       2   tag        creator     producer incarnation << 16 | consumer incarnation
       8   consumed   consumer    cells ever consumed (its own cache line)
      16   frames

The count of published cells is no word of the ring: it is the low half of the producer's word in the
consumer's row of the heads table (links.py), side by side with those of all other producers, under the ring's
tag:

    bit 63  0 | 62..48 producer incarnation | 47..32 consumer incarnation | 31..0 cells published, mod 2^32

A descriptor ring's cell is a whole entry, 8 words. A byte ring's cell is 8 bytes; its frames are a length
word, the payload and padding; length -1: go on at the start. A frame is at most half the capacity, or an
empty ring could refuse it.

A producer stores frames, then the head: one killed half-way has published nothing. A consumer knows what it
has taken by a private word, tag | consumed: unread is the difference of head and private word, and a head
with another tag is not its ring.
"""

import struct
from typing import Final, Literal

from tailrace.shm.region import PAGE, Region, ShmError
from tailrace.shm.words import map_words

KIND: Final = "ring"
VERSION: Final = 1

DESCRIPTOR: Final[Literal[1]] = 1
BYTES: Final[Literal[2]] = 2
ENTRY_BYTES: Final = 64
CELLS_MAX: Final = 1 << 24
LOW: Final = 0xFFFF_FFFF

_RING_KIND: Final = 0
_CAPACITY: Final = 1
_TAG: Final = 2
_CONSUMED: Final = 8
_FRAMES: Final = 16  # words
_FRAMES_AT: Final = PAGE + 8 * _FRAMES  # byte place in the whole mapping
_WRAP: Final = -1
_FRAMES_CELL: Final = _FRAMES_AT >> 6
_CELL_BYTES: Final = {DESCRIPTOR: ENTRY_BYTES, BYTES: 8}

_entries = struct.Struct("<8q").iter_unpack
_entry = struct.Struct("<8q").unpack_from
pack_entry = struct.Struct("<8q").pack  # eight words -> what try_push takes

Entry = tuple[int, int, int, int, int, int, int, int]


def ring_tag(producer_incarnation: int, consumer_incarnation: int) -> int:
    """The high half of the ring's head."""
    return (producer_incarnation & 0x7FFF) << 16 | (consumer_incarnation & 0xFFFF)


def create_ring(path: str, kind: Literal[1, 2], capacity: int, tag: int) -> Region:
    """A new ring file of `capacity` cells, a power of two."""
    assert 2 <= capacity <= CELLS_MAX
    assert capacity & (capacity - 1) == 0, "positions must go on through the wrap of the 32-bit count"
    size = 8 * _FRAMES + capacity * _CELL_BYTES[kind]
    region = Region.create(path, size, kind=KIND, version=VERSION, populate=True)
    region.words[_RING_KIND] = kind
    region.words[_CAPACITY] = capacity
    region.words[_TAG] = tag
    return region


def attach_ring(path: str, tag: int) -> "DescriptorConsumer | ByteConsumer":
    """The consumer's side of a ring file whose head has been stored."""
    region = Region.attach(path, KIND, VERSION, populate=True)
    kind, capacity, found = region.words[:3].tolist()
    if kind not in _CELL_BYTES or not 2 <= capacity <= CELLS_MAX or capacity & (capacity - 1):
        raise ShmError(f"{path} has no ring that this program knows")
    if region.size != 8 * _FRAMES + capacity * _CELL_BYTES[kind] or found != tag:
        raise ShmError(f"{path} is not the ring that its name says")
    return DescriptorConsumer(region) if kind == DESCRIPTOR else ByteConsumer(region)


class _Producer:
    """What both kinds of producer keep: the ring, and the word of the heads table that publishes."""

    __slots__ = ("_capacity", "_head", "_heads", "_map", "_region", "_tag", "_words")

    def __init__(self, region: Region, heads: "memoryview[int]", head: int) -> None:
        self._region = region
        self._map = region.map
        self._words = region.words
        self._capacity = region.words[_CAPACITY]
        self._tag = region.words[_TAG] << 32
        self._heads = heads
        self._head = head
        heads[head] = self._tag

    def close(self) -> None:
        """Drop the mapping; later pushes are refused and nothing is published any more (R)."""
        self._heads, self._head = _private_words(), 0  # the head belongs to the next ring of the pair now
        self._words = _private_words()
        self._region.close()


class DescriptorProducer(_Producer):
    """Pushes 64-byte entries; `publish` shows all pushed so far, then the caller rings once."""

    kind: Literal[1] = DESCRIPTOR
    __slots__ = ("_at", "_base", "_end", "_lap", "_limit")

    def __init__(self, region: Region, heads: "memoryview[int]", head: int) -> None:
        super().__init__(region, heads, head)
        self._lap = 0  # cells ever pushed when _at was last at the start
        self._base = self._tag - _FRAMES_CELL  # the head's word is _base plus _at in cells
        self._at = _FRAMES_AT
        self._end = _FRAMES_AT + self._capacity * ENTRY_BYTES
        self._limit = self._end  # bytes up to here are free for sure

    def try_push(self, entry: bytes) -> bool:
        """Add one entry, not yet visible. False when full: back-pressure."""
        at = self._at
        if at == self._limit:
            if not self._make_room():
                return False
            at = self._at
        self._at = after = at + 64
        self._map[at:after] = entry
        return True

    def publish(self) -> None:
        """Show the consumer all that was pushed. The caller then rings its bell once."""
        if self._at == self._end:
            self._start_lap()
        self._heads[self._head] = self._base + (self._at >> 6)  # pairs with the load in pop_all

    def room(self) -> int:
        """How many entries fit now."""
        return self._capacity - (self._lap + (self._at - _FRAMES_AT >> 6) - self._words[_CONSUMED])

    def _start_lap(self) -> None:
        self._lap += self._capacity
        self._base = self._tag + (self._lap & LOW) - _FRAMES_CELL
        self._limit = self._at = _FRAMES_AT

    def _make_room(self) -> bool:
        if self._at == self._end:
            self._start_lap()
        free = self.room()  # pairs with the consumer's store after it copied the entries out
        self._limit = min(self._end, self._at + free * ENTRY_BYTES)
        return free > 0

    def close(self) -> None:
        """See _Producer: no entry fits any more."""
        super().close()
        self._lap, self._at, self._capacity = 0, _FRAMES_AT, 0
        self._limit = self._end = _FRAMES_AT


class _Consumer:
    """What both kinds of consumer keep: how much is taken, publicly (in the ring) and privately (`seen`)."""

    __slots__ = (
        "_at",
        "_capacity",
        "_consumed",
        "_end",
        "_head",
        "_heads",
        "_map",
        "_mine",
        "_region",
        "_seen",
        "_seen_at",
        "_words",
        "tag",
    )

    def __init__(self, region: Region) -> None:
        self._region = region
        self._map = region.map
        self._words = region.words
        self._capacity = region.words[_CAPACITY]
        self.tag = region.words[_TAG]
        self._consumed = 0
        self._mine = self.tag << 32  # tag | consumed: equal to the head when all is taken
        self._at = _FRAMES_AT
        self._end = _FRAMES_AT + self._capacity * ENTRY_BYTES
        self._heads = self._seen = _private_words()
        self._head = self._seen_at = 0

    def connect(self, heads: "memoryview[int]", head: int, seen: "memoryview[int]", seen_at: int) -> None:
        """`heads[head]` is the ring's head, `seen[seen_at]` this process's private word for it."""
        self._heads, self._head = heads, head
        self._seen, self._seen_at = seen, seen_at
        seen[seen_at] = self._mine

    def unread(self) -> int:
        """Cells published and not yet taken; 0 when the head is another ring's."""
        head = self._heads[self._head]  # pairs with the producer's publishing store
        unread = head - self._mine
        if 0 <= unread <= self._capacity:
            return unread
        if head >> 32 != self.tag:
            return 0
        unread &= LOW  # the count has wrapped
        if unread > self._capacity:
            raise ShmError(f"{self._region.path} holds {self._capacity} cells and claims {unread} unread")
        return unread

    def close(self) -> None:
        """Drop the mapping; later pops find nothing, whatever the head says by then (R)."""
        self._heads = self._seen = _private_words()
        self._head = self._seen_at = 0
        self._heads[0] = self._mine
        self._region.close()


class DescriptorConsumer(_Consumer):
    """Takes entries in runs."""

    kind: Literal[1] = DESCRIPTOR
    __slots__ = ()

    def pop_all(self, limit: int = CELLS_MAX) -> "list[Entry]":
        """All entries there are, at most `limit`, oldest first."""
        count = self._heads[self._head] - self._mine  # pairs with the producer's store in publish
        if not 0 < count <= self._capacity:
            if not count:
                return []
            count = self.unread()
        if count > limit:
            count = limit
        start = self._at
        stop = start + (count << 6)
        if stop < self._end:
            taken = [_entry(self._map, start)] if count == 1 else list(_entries(self._map[start:stop]))
            self._at = stop
        else:
            taken = self._take_to_end(start, stop)
        self._consumed = consumed = self._consumed + count
        self._words[_CONSUMED] = consumed  # after the copy: the producer may overwrite now
        self._mine = self._seen[self._seen_at] = self.tag << 32 | consumed & LOW
        return taken

    def _take_to_end(self, start: int, stop: int) -> "list[Entry]":
        """The run reaches the end of the frames, and may go on at the start."""
        self._at = stop - self._end + _FRAMES_AT
        return list(_entries(self._map[start : self._end] + self._map[_FRAMES_AT : self._at]))


class ByteProducer(_Producer):
    """Pushes frames of any length up to half the capacity; each is published at once."""

    kind: Literal[2] = BYTES
    __slots__ = ("_published", "frame_max")

    def __init__(self, region: Region, heads: "memoryview[int]", head: int) -> None:
        super().__init__(region, heads, head)
        self._published = 0
        self.frame_max = (self._capacity // 2 - 1) * 8  # payload bytes

    def try_push(self, payload: "bytes | bytearray | memoryview[int]") -> bool:
        """Add a frame and publish it. False when full: the caller decides what that means."""
        length = len(payload)
        cells = 1 + (length + 7 >> 3)
        capacity = self._capacity
        assert length <= self.frame_max, "the caller sends what is larger by reference"
        at = self._published & capacity - 1
        skip = 0 if at + cells <= capacity else capacity - at
        published = self._published + skip + cells
        if published - self._words[_CONSUMED] > capacity:  # pairs with pop's last store
            return False
        words = self._words
        if skip:
            words[_FRAMES + at] = _WRAP
            at = 0
        words[_FRAMES + at] = length
        start = _FRAMES_AT + 8 * at + 8
        self._map[start : start + length] = payload
        self._published = published
        self._heads[self._head] = self._tag | published & LOW  # publishes; the caller then rings
        return True

    def close(self) -> None:
        """See _Producer: the ring is always full."""
        super().close()
        self._words[_CONSUMED] = -(1 << 62)


class ByteConsumer(_Consumer):
    """Takes frames one by one."""

    kind: Literal[2] = BYTES
    __slots__ = ()

    def pop(self) -> bytes | None:
        """The oldest frame, or None."""
        unread = self.unread()
        if not unread:
            return None
        words, capacity = self._words, self._capacity
        consumed = self._consumed
        at = consumed & capacity - 1
        length = words[_FRAMES + at]
        if length == _WRAP:
            unread -= capacity - at
            consumed += capacity - at
            at = 0
            length = words[_FRAMES]
        cells = 1 + (length + 7 >> 3)
        if length < 0 or cells > unread or at + cells > capacity:
            raise ShmError(f"{self._region.path} holds a frame of {length} bytes that was never published")
        start = _FRAMES_AT + 8 * at + 8
        payload = self._map[start : start + length]
        self._consumed = consumed = consumed + cells
        words[_CONSUMED] = consumed  # after the copy: the producer may overwrite now
        self._mine = self._seen[self._seen_at] = self.tag << 32 | consumed & LOW
        return payload


def _private_words() -> "memoryview[int]":
    """Words that nobody else sees, in place of those that a closed ring had."""
    return map_words(bytearray(8 * _FRAMES))
