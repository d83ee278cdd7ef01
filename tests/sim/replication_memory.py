"""What processes of a simulated host share: rings, words of links, rows. A full stop takes it."""

from collections import deque

from msgspec import Struct

Peer = tuple[int, int]
"""A broker and the incarnation of its process."""
TopicPartition = tuple[bytes, int]


class Row(Struct, frozen=True):
    """What a replica shows."""

    leader_epoch: int = -1
    high_watermark: int = 0
    log_end_offset: int = 0
    leads: bool = False


class Ring:
    """One way between two incarnations; full when it holds so many bytes."""

    def __init__(self, capacity: int) -> None:
        self.frames: deque[bytes] = deque()
        self.capacity = capacity

    def push(self, frame: bytes) -> bool:
        """False when full."""
        if sum(map(len, self.frames)) + len(frame) > self.capacity:
            return False
        self.frames.append(bytes(frame))
        return True


class Words:
    """See shm.link_slots.LinkSlots; here in a list. Blocks are of two, so that they come to an end."""

    def __init__(self) -> None:
        self.words: list[int] = []
        self.seen: list[int] = []
        self.free: list[int] = []
        self.owner: dict[int, Peer] = {}

    def allocate(self, peer: Peer) -> int | None:
        """A word that holds -1."""
        if self.free:
            number = self.free.pop()
        else:
            number = len(self.words)
            self.words.append(-1)
            self.seen.append(-1)
        self.reset(number)
        self.owner[number] = peer
        return number

    def reset(self, number: int) -> None:
        """Nobody has acknowledged anything."""
        self.words[number] = self.seen[number] = -1

    def release(self, number: int) -> None:
        """It is free."""
        del self.owner[number]
        self.free.append(number)

    def release_peer(self, peer: Peer) -> None:
        """All of that process are."""
        for number in [number for number, owner in self.owner.items() if owner == peer]:
            self.release(number)

    def moved(self) -> list[tuple[int, int]]:
        """Those that say something new."""
        found = [(n, word) for n, word in enumerate(self.words) if word != self.seen[n]]
        self.seen = self.words[:]
        return found


class Memory:
    """All of it."""

    def __init__(self, ring_bytes: int) -> None:
        self.ring_bytes = ring_bytes
        self.rings: dict[tuple[Peer, Peer], Ring] = {}
        self.words: dict[Peer, Words] = {}
        self.rows: dict[tuple[TopicPartition, int], Row] = {}

    def ring(self, source: Peer, target: Peer) -> Ring:
        """That of this pair, made if it is new."""
        return self.rings.setdefault((source, target), Ring(self.ring_bytes))

    def clear(self) -> None:
        """A full stop."""
        self.rings.clear()
        self.words.clear()
        self.rows.clear()
