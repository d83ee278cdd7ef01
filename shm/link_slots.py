"""Acknowledgements of followers: a word a link, in a file of the leader's incarnation.

    word   field       stored by   meaning
       0   count       creator     words
       8   words       follower    of link n, word 8 + n: it holds all below that; -1: said nothing yet

The leader gives words out in blocks of eight, one cache line to one follower process, and stores -1 in a word
before it tells whom it is for. From then on only that follower stores in it, one store an acknowledgement.

The leader keeps a copy of what it has seen: whether any word has moved is one comparison of bytes, and only
if one has is it looked for.

Rule (R): a word is given out again only after its follower's incarnation is dead, or has said that it stores
in it no more: else what it acknowledged for one partition would count for another.
"""

import os
from typing import Final

from tailrace.shm.region import Region, ShmError
from tailrace.shm.words import differing, map_words

KIND: Final = "links"
VERSION: Final = 1
WORDS: Final = 8192  # as many as the state table has rows
NOTHING: Final = -1

_HEADER_WORDS: Final = 8
_BLOCK: Final = 8
_WIDE: Final = 2048  # bytes compared at once to find the words that moved, and then
_NARROW: Final = 256

Peer = tuple[int, int]
"""Slot and incarnation of a follower's process."""


def slots_path(run_dir: str, slot: int, incarnation: int) -> str:
    """The file of a leader's incarnation."""
    return os.path.join(run_dir, f"links-{slot}.{incarnation}")


class LinkSlots:
    """The leader's side: gives words out, and sees which have moved."""

    __slots__ = (
        "_end", "_free_blocks", "_map", "_peers", "_seen", "_seen_words", "_start", "_used", "_words",
        "region",
    )  # fmt: skip

    def __init__(self, region: Region) -> None:
        self.region = region
        self._map, self._words = region.map, region.words
        count = region.words[0]
        self._start = self._end = len(region.map) - region.size + 8 * _HEADER_WORDS
        seen = bytearray(8 * count)
        self._seen: bytes | bytearray = seen
        self._seen_words = map_words(seen)
        self._used = 0  # blocks that ever were in use: only these are looked at
        self._free_blocks: list[int] = []
        self._peers: dict[Peer, tuple[list[int], list[int]]] = {}  # its blocks, and the free words of them

    @classmethod
    def create(cls, run_dir: str, slot: int, incarnation: int, count: int = WORDS) -> "LinkSlots":
        """A file of `count` words, a multiple of 8. ShmError if there is no room."""
        assert count % _BLOCK == 0
        path = slots_path(run_dir, slot, incarnation)
        region = Region.create(
            path, 8 * (_HEADER_WORDS + count), kind=KIND, version=VERSION, owner=incarnation
        )
        region.words[0] = count
        return cls(region)

    def allocate(self, peer: Peer) -> int | None:
        """A word that holds -1, for a link to that process; None if all are taken."""
        blocks, free = self._peers.setdefault(peer, ([], []))
        if not free:
            block = self._take_block()
            if block is None:
                return None
            blocks.append(block)
            free.extend(range(block * _BLOCK + _BLOCK - 1, block * _BLOCK - 1, -1))
        number = free.pop()
        self._words[_HEADER_WORDS + number] = self._seen_words[number] = NOTHING  # (R) before anybody is told
        return number

    def _take_block(self) -> int | None:
        if self._free_blocks:
            return self._free_blocks.pop()
        if (self._used + 1) * _BLOCK > self._words[0]:
            return None
        self._used += 1
        self._end = self._start + 8 * _BLOCK * self._used
        return self._used - 1

    def release(self, number: int) -> None:
        """Its follower has said that it stores in it no more, or was never told of it (R)."""
        for blocks, free in self._peers.values():
            if number // _BLOCK in blocks:
                assert number not in free, "a word is given back once"
                free.append(number)
                return
        raise AssertionError("a word is given back by whom it was given to")

    def release_peer(self, peer: Peer) -> None:
        """That incarnation is dead (R): its blocks are anybody's."""
        blocks, _ = self._peers.pop(peer, ([], []))
        for block in blocks:
            for number in range(block * _BLOCK, (block + 1) * _BLOCK):
                self._words[_HEADER_WORDS + number] = self._seen_words[number] = NOTHING
        self._free_blocks += blocks

    def has_moved(self) -> bool:
        """Whether a word says something new. Cheap: for Doorbell.park."""
        return self._map[self._start : self._end] != self._seen[: self._end - self._start]

    def moved(self) -> list[tuple[int, int]]:
        """(number, offset) of each word that moved since the last call."""
        now = self._map[self._start : self._end]  # pairs with AckWords.store
        if now == self._seen[: len(now)]:
            return []
        found: list[tuple[int, int]] = []
        if len(now) <= _NARROW:
            self._compare(now, 0, found)
            return found
        before = bytes(self._seen[: len(now)])
        for wide in range(0, len(now), _WIDE):
            if now[wide : wide + _WIDE] != before[wide : wide + _WIDE]:
                for at in range(wide, min(wide + _WIDE, len(now)), _NARROW):
                    chunk = now[at : at + _NARROW]
                    if chunk != before[at : at + _NARROW]:
                        self._compare(chunk, at // 8, found)
        return found

    def _compare(self, chunk: bytes, first: int, found: list[tuple[int, int]]) -> None:
        seen, words, at = self._seen_words, memoryview(chunk).cast("q"), 8 * first
        for place in differing(chunk, self._seen[at : at + len(chunk)]):
            seen[first + place] = words[place]
            found.append((first + place, words[place]))

    def close(self) -> None:
        """Unmaps and unlinks the file."""
        self.region.close()
        self.region.unlink()


class AckWords:
    """A follower's side of one leader's file."""

    __slots__ = ("_count", "_words", "region")

    def __init__(self, run_dir: str, slot: int, incarnation: int) -> None:
        """FileNotFoundError if that leader is gone, ShmError if the file is no such."""
        self.region = Region.attach(slots_path(run_dir, slot, incarnation), KIND, VERSION)
        self._words = self.region.words
        self._count = self._words[0]
        if not 0 < self._count <= self.region.size // 8 - _HEADER_WORDS:
            raise ShmError(f"{self.region.path} is shorter than its count says")

    def store(self, number: int, offset: int) -> None:
        """This replica holds all below. Then, once for a run of them, ring the leader."""
        if not 0 <= number < self._count:
            raise ShmError(f"{self.region.path} has no word {number}")
        self._words[_HEADER_WORDS + number] = offset  # pairs with LinkSlots.moved

    def close(self) -> None:
        """Unmaps the file."""
        self.region.close()
