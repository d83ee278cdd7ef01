"""What the processes of a simulated host share: the real tables, in one process, and rings that are lists.

A ring is for a pair of incarnations, as a real one: what a dead process said, or what was said to it, is
never read. Frames of one ring come in order, once; rings are read in any order, and not always to their end.
"""

import mmap
from collections import deque
from collections.abc import Callable, Iterable
from random import Random
from struct import Struct

from tailrace.shm.link_slots import LinkSlots
from tailrace.shm.region import PAGE, Region
from tailrace.shm.ring import BYTES, ByteConsumer, DescriptorConsumer
from tailrace.shm.slots import CURRENT_ROW, HEADER_WORDS, ROW_WORDS, Layout, SlotTable, row_start
from tailrace.shm.state_table import StateTable
from tailrace.shm.waiters import WaiterTable

ROWS = 48
LINK_WORDS = 256
CONTROL_RING_BYTES = 9000  # takes the largest fragment of a message, and not many
Peer = tuple[int, int]
"""A slot and the incarnation in it."""
Entry = tuple[int, int, int, int, int, int, int, int]
_unpack = Struct("<8q").unpack


def region(words: int, count: int) -> Region:
    """Anonymous memory, laid out as a file that begins with a count."""
    made = Region("", mmap.mmap(-1, PAGE + 8 * words), 8 * words, 0)
    made.words[0] = count
    return made


class Ring:
    """One way between two incarnations."""

    def __init__(self, kind: int, capacity: int) -> None:
        self.kind, self.capacity = kind, capacity  # bytes, or entries
        self.frames: deque[bytes] = deque()
        self.shown = 0  # entries that may be read; of a byte ring all
        self.size = 0

    def push(self, frame: bytes) -> bool:
        """False when full."""
        size = 1 if self.kind != BYTES else len(frame) + 8
        if self.size + size > self.capacity:
            return False
        self.frames.append(frame)
        self.size += size
        return True

    def pop(self) -> bytes:
        """The oldest."""
        frame = self.frames.popleft()
        self.size -= 1 if self.kind != BYTES else len(frame) + 8
        return frame


class Producer:
    """Either kind, as its process has it."""

    def __init__(self, ring: Ring, step: Callable[[], object]) -> None:
        self._ring, self._step = ring, step
        self.kind = ring.kind
        self.frame_max = ring.capacity // 2 - 8

    def try_push(self, frame: bytes) -> bool:
        """See ByteProducer and DescriptorProducer."""
        self._step()
        return self._ring.push(bytes(frame))

    def publish(self) -> None:
        """See DescriptorProducer."""
        self._step()
        self._ring.shown = len(self._ring.frames)

    def room(self) -> int:
        """See DescriptorProducer."""
        return self._ring.capacity - self._ring.size


class Frames(ByteConsumer):
    """See ByteConsumer; gives so many at most."""

    __slots__ = ("_left", "_ring")

    def __init__(self, ring: Ring, limit: int) -> None:
        self._ring, self._left = ring, limit

    def pop(self) -> bytes | None:
        """See ByteConsumer."""
        if not self._ring.frames or not self._left:
            return None
        self._left -= 1
        return self._ring.pop()


class Entries(DescriptorConsumer):
    """See DescriptorConsumer."""

    __slots__ = ("_ring",)

    def __init__(self, ring: Ring) -> None:
        self._ring = ring

    def pop_all(self, limit: int = 1 << 30) -> list[Entry]:
        """See DescriptorConsumer."""
        ring = self._ring
        count, ring.shown = min(ring.shown, limit), 0
        return [_unpack(ring.pop()) for _ in range(count)]


class Memory:
    """All of it; a full stop takes it."""

    def __init__(self, layout: Layout, random: Random, ring_bytes: int) -> None:
        """ring_bytes: of the rings between workers."""
        slots = HEADER_WORDS + layout.slot_count * ROW_WORDS
        self.layout, self.random, self.ring_bytes = layout, random, ring_bytes
        self.slots = SlotTable(region(slots, layout.slot_count))
        for slot in range(layout.slot_count):
            self.slots.words[row_start(slot) + CURRENT_ROW] = -1
        self.state_table = StateTable(region(8 + ROWS * 40, ROWS))
        self.waiters = WaiterTable(region(8 + ROWS * 8, ROWS))
        self.rings: dict[Peer, dict[Peer, Ring]] = {}  # by who reads, then by who writes
        self.words: dict[Peer, LinkSlots] = {}  # of leaders

    def ring(self, source: Peer, target: Peer, kind: int, capacity: int) -> Ring:
        """That of this pair, made if it is new."""
        rings = self.rings.setdefault(target, {})
        found = rings.get(source)
        if found is None:
            if kind == BYTES:
                workers = self.layout.all_workers()
                between_workers = source[0] in workers and target[0] in workers
                capacity = self.ring_bytes if between_workers else CONTROL_RING_BYTES
            found = rings[source] = Ring(kind, capacity)
        assert found.kind == kind, "from a slot to another there is one ring, of one kind"
        return found

    def forget(self, peer: Peer) -> None:
        """It is dead."""
        self.rings.pop(peer, None)
        for rings in self.rings.values():
            rings.pop(peer, None)

    def make_words(self, _run_dir: str, slot: int, incarnation: int) -> LinkSlots:
        """See LinkSlots.create."""
        made = LinkSlots(region(8 + LINK_WORDS, LINK_WORDS))
        self.words[slot, incarnation] = made
        return made


class Links:
    """See shm.links.Links."""

    def __init__(self, memory: Memory, slot: int, incarnation: int, step: Callable[[], object]) -> None:
        self._memory, self._own, self._step = memory, (slot, incarnation), step
        self._known: dict[Peer, None] = {}
        self._dead: list[Peer] = []
        self._deaths = memory.slots.death_count()
        self._producers: dict[Peer, Producer] = {}

    def outgoing(self, peer_slot: int, kind: int, capacity: int = 0) -> Producer | None:
        """See Links."""
        incarnation = self._memory.slots.live_incarnation(peer_slot)
        if not incarnation:
            return None
        peer = (peer_slot, incarnation)
        found = self._producers.get(peer)
        if found is None:
            found = Producer(self._memory.ring(self._own, peer, kind, capacity), self._step)
            self._producers[peer] = found
            self._known[peer] = None
        assert found.kind == kind
        return found

    def _unread(self) -> list[tuple[Peer, Ring]]:
        rings = self._memory.rings.get(self._own, {})
        slots = self._memory.slots
        return [
            (peer, ring)
            for peer, ring in rings.items()
            if (ring.shown or (ring.kind == BYTES and ring.frames)) and slots.is_live(*peer)
        ]

    def has_work(self) -> bool:
        """See Links."""
        return self._memory.slots.death_count() != self._deaths or bool(self._unread())

    def poll(self) -> list[tuple[int, int, Frames | Entries]]:
        """See Links."""
        self._bury()
        found: list[tuple[int, int, Frames | Entries]] = []
        random = self._memory.random
        unread = self._unread()
        random.shuffle(unread)
        for peer, ring in unread:
            self._known[peer] = None
            limit = random.randint(1, 6) if random.random() < 0.2 else 1 << 30
            found.append((*peer, Frames(ring, limit) if ring.kind == BYTES else Entries(ring)))
        return found

    def drop_dead(self) -> list[Peer]:
        """See Links."""
        self._bury()
        dead, self._dead = self._dead, []
        return dead

    def _bury(self) -> None:
        slots = self._memory.slots
        if slots.death_count() == self._deaths:
            return
        self._deaths = slots.death_count()
        for peer in list(self._known):
            if not slots.is_live(*peer):
                del self._known[peer]
                self._producers.pop(peer, None)
                self._dead.append(peer)

    def close(self) -> None:
        """See Links."""


class AckWords:
    """See shm.link_slots.AckWords."""

    def __init__(self, leader: LinkSlots, step: Callable[[], object]) -> None:
        self._words, self._step = leader.region.words, step

    def store(self, number: int, offset: int) -> None:
        """See AckWords."""
        self._step()
        self._words[8 + number] = offset

    def close(self) -> None:
        """See AckWords."""


class Bells:
    """See shm.doorbell.Bells: whose bell rings is to have a turn."""

    def __init__(self, wake: Callable[[int], object], count: int) -> None:
        self._wake, self._count = wake, count

    def ring(self, slot: int) -> None:
        """See Bells."""
        self._wake(slot)

    def ring_many(self, slots: Iterable[int]) -> None:
        """See Bells."""
        for slot in sorted(slots):
            self._wake(slot)

    def ring_all(self) -> None:
        """See Bells."""
        self.ring_many(range(self._count))
