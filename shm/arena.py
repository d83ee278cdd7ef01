"""A gateway's arena: the memory it receives requests into, for the workers to copy from.

    byte   field       meaning
       0   header      of region.py; its owner is the gateway's incarnation
    4096   chunks      2 MiB each, cut into blocks of one size: 4, 16, 64, 256, 1024 or 2048 KiB

A position is a byte place in the whole mapping: `arena.map[position : position + n]` here and in the worker.
Who has which block is known to the owner alone, in private memory. A block is freed by its completion or by
the proven death of the peer that had it, never sooner: the peer may be copying from it (R). Free lists are
last in, first out, so that warm memory is used again.

A larger request gets a file of its own, named by the owner's slot, incarnation and a serial number.
"""

import os
from typing import Final

from tailrace.shm.names import large_name
from tailrace.shm.region import PAGE, Region

KIND: Final = "arena"
LARGE_KIND: Final = "large"
VERSION: Final = 1

BLOCK_SIZES: Final = (4096, 16384, 65536, 262144, 1048576, 2097152)
BLOCK_MAX: Final = 2097152  # a batch of message.max.bytes, 1 MiB by default, and the request around it
CHUNK: Final = 2097152
_CHUNK_SHIFT: Final = 21
_PAGE_SHIFT: Final = 12
_CLASS_OF_PAGES: Final = tuple(
    next(index for index, size in enumerate(BLOCK_SIZES) if size >= max(1, pages) << _PAGE_SHIFT)
    for pages in range(CHUNK // PAGE + 1)
)


class Arena:
    """A mapped arena; in its owner also the allocator."""

    __slots__ = ("_chunk_class", "_free", "_free_chunks", "_taken", "map", "region", "size", "view")

    def __init__(self, region: Region) -> None:
        self.region = region
        self.map = region.map
        self.view: memoryview[int] = memoryview(region.map)  # of the whole mapping, as positions count
        self.size = region.size
        chunks = region.size >> _CHUNK_SHIFT
        self._chunk_class = [-1] * chunks
        self._free_chunks = list(range(chunks - 1, -1, -1))
        self._free: tuple[list[int], ...] = tuple([] for _ in BLOCK_SIZES)
        self._taken = bytearray(region.size // PAGE)

    @classmethod
    def create(cls, path: str, size: int, *, owner: int = 0) -> "Arena":
        """A new arena of `size` bytes, a multiple of 2 MiB."""
        assert size > 0
        assert size % CHUNK == 0
        return cls(Region.create(path, size, kind=KIND, version=VERSION, owner=owner))

    @classmethod
    def attach(cls, path: str) -> "Arena":
        """Another process's arena, to read from."""
        return cls(Region.attach(path, KIND, VERSION))

    def allocate(self, size: int) -> int | None:
        """Position of a block of at least `size` bytes (at most BLOCK_MAX), None when the arena is full."""
        index = _CLASS_OF_PAGES[size + 4095 >> 12]
        free = self._free[index]
        if not free and not self._refill(index):
            return None
        position = free.pop()
        self._taken[position - 4096 >> 12] = 1
        return position

    def free(self, position: int) -> None:
        """Give a block back."""
        page = position - 4096 >> 12
        assert self._taken[page], "a block is freed once"
        self._taken[page] = 0
        self._free[self._chunk_class[page >> _CHUNK_SHIFT - _PAGE_SHIFT]].append(position)

    def class_size(self, position: int) -> int:
        """How many bytes the block at `position` has."""
        return BLOCK_SIZES[self._chunk_class[position - 4096 >> _CHUNK_SHIFT]]

    def _refill(self, index: int) -> bool:
        """Cut one chunk, unused or emptied by another class, into blocks of this class."""
        if not self._free_chunks:
            self._reclaim()
            if not self._free_chunks:
                return False
        chunk = self._free_chunks.pop()
        self._chunk_class[chunk] = index
        start = PAGE + (chunk << _CHUNK_SHIFT)
        size = BLOCK_SIZES[index]
        self._free[index].extend(range(start + CHUNK - size, start - 1, -size))
        return True

    def _reclaim(self) -> None:
        """Take back every chunk of which all blocks are free."""
        for index, free in enumerate(self._free):
            counts: dict[int, int] = {}
            for position in free:
                chunk = position - PAGE >> _CHUNK_SHIFT
                counts[chunk] = counts.get(chunk, 0) + 1
            per_chunk = CHUNK // BLOCK_SIZES[index]
            empty = {chunk for chunk, count in counts.items() if count == per_chunk}
            if empty:
                free[:] = [p for p in free if p - PAGE >> _CHUNK_SHIFT not in empty]
                self._free_chunks.extend(empty)

    def close(self) -> None:
        """Drop the mapping."""
        self.view.release()
        self.region.close()


class LargeFile:
    """The file of one request too large for a block. Positions count in the whole mapping, as in an arena."""

    __slots__ = ("map", "region", "view")

    start: Final = PAGE  # position of the first byte

    def __init__(self, region: Region) -> None:
        self.region = region
        self.map = region.map
        self.view: memoryview[int] = memoryview(region.map)

    @classmethod
    def create(cls, run_dir: str, slot: int, incarnation: int, serial: int, size: int) -> "LargeFile":
        """A new one, of `size` bytes."""
        path = os.path.join(run_dir, large_name(slot, incarnation, serial))
        return cls(Region.create(path, size, kind=LARGE_KIND, version=VERSION, owner=incarnation))

    @classmethod
    def attach(cls, run_dir: str, slot: int, incarnation: int, serial: int) -> "LargeFile":
        """One that another process made."""
        path = os.path.join(run_dir, large_name(slot, incarnation, serial))
        return cls(Region.attach(path, LARGE_KIND, VERSION))

    def close(self) -> None:
        """Drop the mapping."""
        self.view.release()
        self.region.close()

    def unlink(self) -> None:
        """Remove the file: its owner, once the request is answered."""
        self.region.unlink()
