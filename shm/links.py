"""Who can say something to whom: the heads table and one process's rings.

The heads table has a row a consumer slot and in it a word a producer slot (ring.py draws the word). A
consumer keeps a private copy of its row in which each word says what it has taken: the row differs from the
copy if and only if something is unread, so that looking for work among all producers is one comparison of
bytes.

    word                      field         stored by
       0                      slot_count    creator
       8                      rows of `columns` words, columns = slot_count rounded up to 8
       8 + columns*c + p      head          process in slot p: its ring to slot c

Rule: a ring belongs to one pair of incarnations. A head that names any other than the two live ones is
ignored, so that the ring of a dead process, or to a dead process, is never read again (R).
"""

import os
from typing import Final, Literal, overload

from tailrace.shm.names import parse_ring_name, ring_name
from tailrace.shm.region import Region, ShmError, unlink_if_there
from tailrace.shm.ring import (
    BYTES,
    DESCRIPTOR,
    ByteConsumer,
    ByteProducer,
    DescriptorConsumer,
    DescriptorProducer,
    attach_ring,
    create_ring,
    ring_tag,
)
from tailrace.shm.slots import DEAD_INCARNATION, DEATH_COUNT, INCARNATION, PROGRESS, SlotTable, row_start
from tailrace.shm.words import differing, map_words

KIND: Final = "heads"
VERSION: Final = 1
_HEADER_WORDS: Final = 8

DESCRIPTOR_CAPACITY: Final = 1024  # entries
BYTE_CAPACITY: Final = 65536  # bytes

_FEW: Final = 6  # more known rings than these are looked at only after the row differs from its copy
_POLLS_BETWEEN_SCANS: Final = 32  # while the known rings are never empty, a new one waits this long at most

Producer = DescriptorProducer | ByteProducer
Consumer = DescriptorConsumer | ByteConsumer
Incoming = tuple[int, int, Consumer]

__all__ = [
    "BYTES",
    "DESCRIPTOR",
    "Consumer",
    "HeadTable",
    "Incoming",
    "Links",
    "Producer",
    "unlink_dead_rings",
]


class HeadTable:
    """The heads of all rings of a run."""

    __slots__ = ("columns", "count", "region", "words")

    def __init__(self, region: Region) -> None:
        self.region = region
        self.words = region.words
        self.count = region.words[0]
        self.columns = self.count + 7 & ~7
        if self.count <= 0 or region.size < 8 * (_HEADER_WORDS + self.count * self.columns):
            raise ShmError(f"{region.path} is shorter than its slot count says")

    @classmethod
    def create(cls, path: str, count: int) -> "HeadTable":
        """A table for `count` slots in which nobody has said anything."""
        size = 8 * (_HEADER_WORDS + count * (count + 7 & ~7))
        region = Region.create(path, size, kind=KIND, version=VERSION)
        region.words[0] = count
        return cls(region)

    @classmethod
    def attach(cls, path: str) -> "HeadTable":
        """The table that another process made."""
        return cls(Region.attach(path, KIND, VERSION))

    def row(self, consumer_slot: int) -> int:
        """Index of the first word of a consumer's row."""
        return _HEADER_WORDS + consumer_slot * self.columns


class Links:
    """All rings of one process: those it pushes to and those it takes from."""

    def __init__(self, run_dir: str, slots: SlotTable, heads: HeadTable, slot: int, incarnation: int) -> None:
        self._run_dir = run_dir
        self._slots = slots
        self._slot = slot
        self._incarnation = incarnation
        self._heads = heads
        self._head_words = heads.words
        self._row = heads.row(slot)
        base = len(heads.region.map) - heads.region.size
        self._start = base + 8 * self._row
        self._end = self._start + 8 * heads.columns
        self._map = heads.region.map
        seen = bytearray(8 * heads.columns)
        self._seen: bytes | bytearray = seen
        self._seen_words = map_words(seen)
        self._incoming: list[Incoming | None] = [None] * heads.columns
        self._known: list[tuple[int, int, Incoming]] = []  # (head's index, column, what is in _incoming)
        self._many = False
        self._polls = 0  # that may yet look at the known rings only
        self._outgoing: list[Producer | None] = [None] * heads.columns
        self._peer_incarnation = [0] * heads.columns  # of the ring in _outgoing
        self._slot_words = slots.words
        self._progress = row_start(slot) + PROGRESS
        self._deaths = slots.words[DEATH_COUNT]
        self._dead: list[tuple[int, int]] = []
        unlink_dead_rings(run_dir, slots, slot)

    @overload
    def outgoing(
        self, peer_slot: int, kind: Literal[1], capacity: int = ...
    ) -> DescriptorProducer | None: ...
    @overload
    def outgoing(self, peer_slot: int, kind: Literal[2], capacity: int = ...) -> ByteProducer | None: ...
    def outgoing(self, peer_slot: int, kind: Literal[1, 2], capacity: int = 0) -> Producer | None:
        """The ring to whoever lives in the peer's slot now, made if it is new; None while nobody does.

        `capacity` counts entries or bytes, a power of two; from a slot to another there is one ring, of one
        kind. A new incarnation of the peer gets a fresh ring: what the old one had not taken is gone.
        ShmError when there is no room for one.
        """
        row = row_start(peer_slot)
        incarnation = self._slot_words[row + INCARNATION]
        if incarnation == self._slot_words[row + DEAD_INCARNATION]:
            return None
        producer = self._outgoing[peer_slot]
        if producer is not None and self._peer_incarnation[peer_slot] == incarnation:
            assert producer.kind == kind
            return producer
        return self._open_outgoing(peer_slot, incarnation, kind, capacity)

    def _open_outgoing(
        self, peer_slot: int, incarnation: int, kind: Literal[1, 2], capacity: int
    ) -> Producer:
        if self._outgoing[peer_slot] is not None:
            self._bury()  # (R) what the dead one had is failed, though its successor is met before its death
            self._deaths -= 1  # has_work goes on saying so until drop_dead has told of it
        cells = (capacity or DESCRIPTOR_CAPACITY) if kind == DESCRIPTOR else (capacity or BYTE_CAPACITY) // 8
        path = self._path(self._slot, self._incarnation, peer_slot, incarnation)
        region = create_ring(path, kind, cells, ring_tag(self._incarnation, incarnation))
        head = self._heads.row(peer_slot) + self._slot
        side = DescriptorProducer if kind == DESCRIPTOR else ByteProducer
        producer = side(region, self._head_words, head)
        self._outgoing[peer_slot] = producer
        self._peer_incarnation[peer_slot] = incarnation
        return producer

    def has_work(self) -> bool:
        """Whether a ring holds something unread, or a death is not yet noticed. Cheap: for Doorbell.park."""
        return (
            self._map[self._start : self._end] != self._seen or self._slot_words[DEATH_COUNT] != self._deaths
        )

    def poll(self) -> list[Incoming]:
        """(peer slot, its incarnation, consumer) of each ring with unread frames, until it is empty."""
        if self._slot_words[DEATH_COUNT] != self._deaths:
            self._bury()
        if self._polls:  # no comprehension: a call a poll, in CPython 3.11
            if self._many and self._map[self._start : self._end] == self._seen:
                return []
            heads, seen = self._head_words, self._seen_words
            found: list[Incoming] = []
            for head, column, link in self._known:
                if heads[head] != seen[column]:
                    found.append(link)
            if found:
                self._polls -= 1
                self._slot_words[self._progress] += 1
                return found
        self._polls = _POLLS_BETWEEN_SCANS
        row = self._map[self._start : self._end]
        return [] if row == self._seen else self._scan(row)

    def _scan(self, row: bytes) -> list[Incoming]:
        """All columns in which the row differs from what was taken, new rings among them."""
        found: list[Incoming] = []
        heads, first, incoming = self._head_words, self._row, self._incoming
        for column in differing(row, self._seen):
            link = incoming[column]
            if link is None or link[2].tag != heads[first + column] >> 32:
                link = self._accept(column)
            if link is not None and link[2].unread():
                found.append(link)
        return found

    def _accept(self, column: int) -> Incoming | None:
        """A head under a new tag: attach its ring if both incarnations are live, else forget it (R)."""
        self._close_incoming(column)
        word = self._head_words[self._row + column]
        tag = word >> 32
        peer = self._slots.live_incarnation(column) if column < self._slots.count else 0
        consumer = None
        if peer and tag == ring_tag(peer, self._incarnation):
            consumer = self._attach(column, peer, tag)
        if consumer is None:
            self._seen_words[column] = word
            return None
        consumer.connect(self._head_words, self._row + column, self._seen_words, column)
        link = self._incoming[column] = (column, peer, consumer)
        self._known.append((self._row + column, column, link))
        self._many = len(self._known) > _FEW
        return link

    def _attach(self, column: int, peer: int, tag: int) -> Consumer | None:
        try:
            return attach_ring(self._path(column, peer, self._slot, self._incarnation), tag)
        except FileNotFoundError:  # the producer died and another has unlinked its rings
            return None

    def drop_dead(self) -> list[tuple[int, int]]:
        """(slot, incarnation) of linked peers that died since the last call; their rings are gone."""
        if self._slot_words[DEATH_COUNT] != self._deaths:
            self._bury()
        if not self._dead:
            return []
        dead, self._dead = self._dead, []
        return dead

    def _bury(self) -> None:
        self._deaths = self._slot_words[
            DEATH_COUNT
        ]  # before the look at the slots: a later death is seen later
        for column in range(self._slots.count):
            link = self._incoming[column]
            known = {link[1]} if link is not None else set[int]()
            if self._outgoing[column] is not None:
                known.add(self._peer_incarnation[column])
            for incarnation in known:
                if not self._slots.is_live(column, incarnation):
                    self._bury_peer(column, incarnation)
                    self._dead.append((column, incarnation))

    def _bury_peer(self, column: int, incarnation: int) -> None:
        link = self._incoming[column]
        if link is not None and link[1] == incarnation:
            self._close_incoming(column)
            self._seen_words[column] = self._head_words[self._row + column]
            if self._seen_words[column] >> 32 != link[2].tag:  # the successor has spoken already
                self._seen_words[column] = 0
            unlink_if_there(self._path(column, incarnation, self._slot, self._incarnation))
        if self._outgoing[column] is not None and self._peer_incarnation[column] == incarnation:
            self._close_outgoing(column)

    def _close_incoming(self, column: int) -> None:
        link = self._incoming[column]
        if link is not None:
            self._incoming[column] = None
            self._known = [known for known in self._known if known[1] != column]
            self._many = len(self._known) > _FEW
            link[2].close()

    def _close_outgoing(self, peer_slot: int) -> None:
        producer = self._outgoing[peer_slot]
        if producer is not None:
            self._outgoing[peer_slot] = None
            producer.close()
            peer_incarnation = self._peer_incarnation[peer_slot]
            unlink_if_there(self._path(self._slot, self._incarnation, peer_slot, peer_incarnation))

    def _path(self, producer: int, producer_inc: int, consumer: int, consumer_inc: int) -> str:
        return os.path.join(self._run_dir, ring_name(producer, producer_inc, consumer, consumer_inc))

    def close(self) -> None:
        """Close every ring and unlink those this process made."""
        for column in range(len(self._incoming)):
            self._close_incoming(column)
            self._close_outgoing(column)


def unlink_dead_rings(run_dir: str, slots: SlotTable, slot: int | None = None) -> None:
    """Remove ring files of which either end is dead, all or those of one slot: what a dead pair left."""
    for name in os.listdir(run_dir):
        ends = parse_ring_name(name)
        if ends is None or (slot is not None and slot not in (ends[0], ends[2])):
            continue
        if not (slots.is_live(ends[0], ends[1]) and slots.is_live(ends[2], ends[3])):
            unlink_if_there(os.path.join(run_dir, name))
