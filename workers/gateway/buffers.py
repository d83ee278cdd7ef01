"""Receive buffers: blocks of the gateway's arena, and a file of its own for a request too large for a block.

Rule: a block is given back once nobody holds it: the connection that receives into it, and each request of
which a worker may still be copying bytes (R).
"""

from tailrace.shm.arena import BLOCK_MAX, CHUNK, Arena, LargeFile
from tailrace.shm.names import unlink_large_files
from tailrace.shm.region import ShmError
from tailrace.workers.descriptors import ARENA_BYTES, arena_name
from tailrace.workers.process import ProcessContext

LARGE_BYTES_MAX = 256 << 20  # all large requests together, unless queued.max.request.bytes says otherwise
ARENA_BYTES_MIN = 2 * CHUNK  # whatever it says: room for large blocks beside small ones
SMALL_BYTES_MAX = 64 * 1024
BULK_SHARE = 0.75  # of the arena at most for larger ones: who sends little finds room beside who sends a lot
SMALL_SHARE = 0.75  # of the arena at most for small ones
GUESS_SHARE = 0.25  # of the arena at most for larger ones that may prove too small


class Block:
    """Memory to receive into: `view[start:limit]` of one mapping; large file serial 0: the arena."""

    __slots__ = ("is_guess", "large", "limit", "map", "pins", "serial", "start", "view")

    def __init__(
        self, source: Arena | LargeFile, start: int, size: int, serial: int, *, is_guess: bool = False
    ) -> None:
        self.map = source.map
        self.view = source.view
        self.large = source if isinstance(source, LargeFile) else None
        self.start = start
        self.limit = start + size
        self.serial = serial
        self.is_guess = is_guess
        self.pins = 1


class Buffers:
    """Allocates blocks, within one budget.

    (R) Who holds a block that is too small for its frame waits for a larger one. So that not all wait for
    each other, small blocks leave room for larger ones, and so do larger ones that are a guess.
    """

    def __init__(self, context: ProcessContext) -> None:
        self._run_dir, self._slot, self._incarnation = context.run_dir, context.slot, context.incarnation
        path = f"{context.run_dir}/{arena_name(context.slot, context.incarnation)}"
        budget = context.config.queued_max_request_bytes
        self.arena_bytes = ARENA_BYTES
        self._large_left = LARGE_BYTES_MAX
        if budget > 0:
            self.arena_bytes = min(ARENA_BYTES, max(ARENA_BYTES_MIN, budget - budget % CHUNK))
            self._large_left = max(1, budget - self.arena_bytes)
        chunks = self.arena_bytes // CHUNK
        self._bulk_left, self._small_left, self._guess_left = (
            int(share * chunks) * CHUNK for share in (BULK_SHARE, SMALL_SHARE, GUESS_SHARE)
        )
        self._arena = Arena.create(path, self.arena_bytes, owner=context.incarnation)
        self._serial = 0

    def allocate(self, size: int, *, is_guess: bool = False) -> Block | None:
        """A block of at least `size` bytes, None when memory is short for now. `is_guess`: what it is for may
        need more; `settle` once it does not.
        """
        if size > BLOCK_MAX:
            return self._allocate_large(size)
        is_bulk = size > SMALL_BYTES_MAX
        is_guess = is_guess and is_bulk
        left = self._bulk_left if is_bulk else self._small_left
        if size > (min(left, self._guess_left) if is_guess else left):
            return None
        position = self._arena.allocate(size)
        if position is None:
            return None
        block = Block(self._arena, position, self._arena.class_size(position), 0, is_guess=is_guess)
        self._account(block, -1)
        return block

    def _account(self, block: Block, sign: int) -> None:
        size = sign * (block.limit - block.start)
        if abs(size) > SMALL_BYTES_MAX:
            self._bulk_left += size
        else:
            self._small_left += size
        if block.is_guess:
            self._guess_left += size

    def settle(self, block: Block) -> None:
        """A block that was a guess is large enough."""
        block.is_guess = False
        self._guess_left += block.limit - block.start

    def _allocate_large(self, size: int) -> Block | None:
        if self._large_left <= 0:  # as Kafka: the last one may be larger than what is left
            return None
        self._serial += 1
        try:
            large = LargeFile.create(self._run_dir, self._slot, self._incarnation, self._serial, size)
        except ShmError:  # shared memory is full: wait, as for a full arena
            return None
        self._large_left -= size
        return Block(large, LargeFile.start, size, self._serial)

    def unpin(self, block: Block) -> None:
        """One holder less; the last one frees it."""
        block.pins -= 1
        if block.pins:
            return
        if block.large is None:
            self._arena.free(block.start)
            self._account(block, 1)
            return
        self._large_left += block.limit - block.start
        block.view = memoryview(b"")
        block.large.close()
        block.large.unlink()

    def close(self) -> None:
        """Remove what this gateway made."""
        self._arena.region.unlink()
        unlink_large_files(self._run_dir, self._slot, self._incarnation)
