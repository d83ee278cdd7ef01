"""Control messages over byte rings: an Outbox in front of the rings of one process, an Inbox behind them.

Nobody ever blocks on a full ring: what does not fit waits in the Outbox, up to OUTBOX_BYTES_MAX a peer. A
message longer than a ring takes in one frame travels in several; each frame starts with one byte, MORE or
LAST.

What is sent to an incarnation reaches that incarnation or nobody: the queue of a dead peer is dropped with
it.
"""

from collections import deque

from tailrace.shm.doorbell import Bells
from tailrace.shm.links import BYTES, Links
from tailrace.shm.region import ShmError
from tailrace.shm.ring import ByteConsumer, ByteProducer
from tailrace.shm.slots import SlotTable
from tailrace.workers import control

RING_BYTES = 16 * 1024  # a worker has four of them, and there are many workers
FRAGMENT_BYTES = 4 * 1024
OUTBOX_BYTES_MAX = 32 * 1024 * 1024  # one answer to Hello with every row of the state table takes about 1 MiB
FULL_RING_S = 0.001  # until a full ring is tried again
NO_RING_S = 0.1  # while there is no room for one
MESSAGE_BYTES_MAX = 16 * 1024 * 1024

LAST = b"\x00"
MORE = b"\x01"


class _Queue:
    """Frames that one incarnation of one peer has still to be given."""

    __slots__ = ("frames", "incarnation", "size")

    def __init__(self, incarnation: int) -> None:
        self.incarnation = incarnation
        self.frames: deque[bytes] = deque()
        self.size = 0


class Outbox:
    """Messages from this process to any other; call `flush` once at the end of each run of work."""

    def __init__(self, links: Links, bells: Bells, slots: SlotTable) -> None:
        self._links = links
        self._bells = bells
        self._slots = slots
        self._queues: dict[int, _Queue] = {}
        self._waiting: set[int] = set()
        self._is_short = False  # of room for a new ring, at the last flush

    def send(self, peer_slot: int, message: control.Message, *, only: int = 0) -> bool:
        """Queue a message, `only`: for that incarnation of the peer. False: the peer is dead or has let too
        much pile up, and the message is dropped.
        """
        incarnation = self._slots.incarnation(peer_slot)
        if not self._slots.is_live(peer_slot, incarnation) or only not in (0, incarnation):
            return False
        queue = self._queues.get(peer_slot)
        if queue is None or queue.incarnation != incarnation:
            queue = self._queues[peer_slot] = _Queue(incarnation)
        payload = control.encode(message)
        if queue.size + len(payload) > OUTBOX_BYTES_MAX or len(payload) > MESSAGE_BYTES_MAX:
            return False
        queue.size += len(payload)
        for start in range(0, len(payload), FRAGMENT_BYTES):
            end = start + FRAGMENT_BYTES
            queue.frames.append((MORE if end < len(payload) else LAST) + payload[start:end])
        self._waiting.add(peer_slot)
        return True

    def is_empty(self, peer_slot: int) -> bool:
        """Whether nothing waits for this peer."""
        return peer_slot not in self._waiting

    def wait_s(self, timeout_s: float | None) -> float | None:
        """How long this process may sleep: not long while a ring is full, for nobody tells of room in it.
        Half a second for each 64 KiB made three thousand topics take two seconds.
        """
        if not self._waiting:
            return timeout_s
        longest_s = NO_RING_S if self._is_short else FULL_RING_S
        return longest_s if timeout_s is None else min(longest_s, timeout_s)

    def flush(self) -> bool:
        """Push what fits and ring those who got something. True when nothing is left waiting."""
        self._is_short = False
        if not self._waiting:
            return True
        pushed = [slot for slot in self._waiting if self._push(slot, self._queues[slot])]
        if pushed:
            self._bells.ring_many(pushed)
        self._waiting = {slot for slot in self._waiting if slot in self._queues and self._queues[slot].frames}
        return not self._waiting

    def _push(self, peer_slot: int, queue: _Queue) -> bool:
        ring: ByteProducer | None = None
        if self._slots.is_live(peer_slot, queue.incarnation):
            try:
                ring = self._links.outgoing(peer_slot, BYTES, RING_BYTES)
            except ShmError:  # (R) the run directory has no room for a ring now: as if it were full
                self._is_short = True
                return False
        if ring is None:
            del self._queues[peer_slot]  # dead: its successor is told anew by whoever cares
            return False
        any_pushed = False
        while queue.frames and ring.try_push(queue.frames[0]):
            queue.size -= len(queue.frames.popleft()) - 1
            any_pushed = True
        return any_pushed


class Inbox:
    """Whole messages out of the frames of every peer's byte ring."""

    def __init__(self) -> None:
        self._parts: dict[int, tuple[int, bytearray]] = {}

    def read(self, peer_slot: int, peer_incarnation: int, consumer: ByteConsumer) -> list[control.Message]:
        """Everything that this peer has completed; the beginning of an unfinished message is kept for the
        next call.
        """
        messages: list[control.Message] = []
        while (frame := consumer.pop()) is not None:
            incarnation, parts = self._parts.pop(peer_slot, (peer_incarnation, bytearray()))
            if incarnation != peer_incarnation:
                parts = bytearray()  # its sender died in the middle
            if frame[:1] == MORE:
                assert len(parts) < MESSAGE_BYTES_MAX, "a peer never ends its message"
                self._parts[peer_slot] = (peer_incarnation, parts + frame[1:])
            else:
                messages.append(control.decode(parts + frame[1:] if parts else frame[1:]))
        return messages
