"""Reads that would wait for the disk: the loop does none of them.

Whatever the gateway reads of a log it asks for with RWF_NOWAIT. What is not in the page cache raises a
ColdRead; a thread reads it in, piece by piece, in turn with what others wait for, and then the same is asked
for once more: who asked looks at the partition anew, for its files may have been cut or deleted meanwhile.
What was read in once is not waited for a second time, though the kernel may have dropped it again.
"""

import errno
import os
from collections.abc import Callable
from functools import partial

from tailrace.core.log.directory import ReadFile, RealDirectory, RealReadFile
from tailrace.core.records.batch import HEADER_SIZE
from tailrace.workers.background import Background

PIECE_BYTES = 1 << 20  # that one reader reads before it is another's turn
PROBE_BYTES = 128 * 1024  # ranges are looked at in such steps: the kernel reads ahead as much
AROUND_BYTES = 64 * 1024  # read with a header or an index entry: its neighbours are asked for next
SCRATCH_BYTES = 32 * 1024

_scratch = memoryview(bytearray(SCRATCH_BYTES))
_header = memoryview(bytearray(HEADER_SIZE))
_headers = (_header,)  # where a batch header is read to: a fetch reads some, and they take a third less time
_one_byte = memoryview(bytearray(1))
_thread_scratch = memoryview(bytearray(256 * 1024))

_preadv, _NOWAIT = os.preadv, os.RWF_NOWAIT

Key = tuple[int, int, int, int]  # device, inode, position, length
Warmed = dict[Key, OSError | None]
"""What was read in for somebody already, and what became of it."""


class ColdRead(Exception):
    """These bytes are on the disk. Holds the file open."""

    def __init__(self, file: ReadFile, position: int, length: int) -> None:
        super().__init__(file.name, position, length)
        file.retain()
        self.file, self.position, self.length = file, position, length


def read_warm(fd: int, buffer: memoryview, position: int) -> int:
    """Read what is in the page cache; BlockingIOError when that is nothing."""
    try:
        return os.preadv(fd, (buffer,), position, os.RWF_NOWAIT)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:  # a file system that is memory: there it cannot be asked
            raise
        return os.preadv(fd, (buffer,), position)


def is_warm(fd: int, position: int, length: int) -> bool:
    """Whether a range is in the page cache, as far as looking at it here and there tells."""
    last = position + length - 1
    try:
        for place in range(position, last, PROBE_BYTES):
            read_warm(fd, _one_byte, place)
        read_warm(fd, _one_byte, last)
    except BlockingIOError:
        return False
    return True


def read_in(fd: int, position: int, length: int) -> None:
    """Wait for the disk, in a thread; and have the kernel go on with what comes after."""
    os.posix_fadvise(fd, position, 2 * length, os.POSIX_FADV_WILLNEED)
    end = position + length
    while position < end:
        got = os.preadv(fd, (_thread_scratch[: end - position],), position)
        if not got:
            return  # cut meanwhile: whoever asked sees that
        position += got


class WarmFile(RealReadFile):
    """A file of which only that is read which is in the page cache."""

    __slots__ = ("_reads",)

    def __init__(self, path: str, name: str, reads: "ColdReads") -> None:
        super().__init__(path, name)
        self._reads = reads

    def read(self, position: int, length: int) -> bytes:
        """See ReadFile; ColdRead when some of it is on the disk."""
        if length == HEADER_SIZE:
            try:
                if _preadv(self.fd, _headers, position, _NOWAIT) == HEADER_SIZE:
                    return bytes(_header)
            except OSError:
                pass  # met again below
        view = _scratch[:length] if length <= SCRATCH_BYTES else memoryview(bytearray(length))
        try:
            got = read_warm(self.fd, view, position)
            if got == length:
                return bytes(view)
        except BlockingIOError:
            got = -1
        if got >= 0 and position + got >= self.size():
            return bytes(view[:got])
        self._reads.must_be_warm(self, position, length)
        return os.pread(self.fd, length, position)


class WarmDirectory(RealDirectory):
    """Opens such files."""

    __slots__ = ("_reads",)

    def __init__(self, path: str, reads: "ColdReads") -> None:
        super().__init__(path, make=False)
        self._reads = reads

    def open_read(self, name: str) -> ReadFile:
        """See Directory."""
        return WarmFile(self.path, name, self._reads)


class ColdReads:
    """All reads of a gateway that wait for the disk."""

    def __init__(self, ring: Callable[[], object]) -> None:
        """`ring`: wakes the loop, from the thread."""
        self._background: Background[Callable[[OSError | None], None]] = Background(ring)
        self.warmed: Warmed = {}  # for whom reads are made now; who asks sets it to a table of its own

    @property
    def under_way(self) -> int:
        """Reads that somebody waits for."""
        return self._background.under_way

    def check(self, file: ReadFile, position: int, length: int) -> None:
        """ColdRead when a range is on the disk, whose beginning was just read; the OSError with which reading
        it in failed.
        """
        known = min(PROBE_BYTES, length - 1)
        if not is_warm(file.fd, position + known, length - known):
            self.must_be_warm(file, position, length)

    def must_be_warm(self, file: ReadFile, position: int, length: int) -> None:
        """ColdRead unless these bytes were read in before, or the OSError with which that failed."""
        key = _key(file, position, length)
        if key not in self.warmed:
            raise ColdRead(file, position, length)
        failed = self.warmed[key]
        if failed is not None:
            raise failed

    def start(self, cold: ColdRead, warmed: Warmed, on_done: Callable[[], None]) -> None:
        """Have it read in, note in `warmed` what became of it, then call `on_done`."""
        start, end = cold.position, cold.position + cold.length
        if cold.length <= SCRATCH_BYTES:
            start, end = max(0, start - AROUND_BYTES), end + AROUND_BYTES
        self._next_piece(cold, start, end, warmed, on_done)

    def _next_piece(
        self, cold: ColdRead, position: int, end: int, warmed: Warmed, on_done: Callable[[], None]
    ) -> None:
        length = min(PIECE_BYTES, end - position)

        def on_piece(failed: OSError | None) -> None:
            if failed is None and position + length < end:
                self._next_piece(cold, position + length, end, warmed, on_done)
                return
            warmed[_key(cold.file, cold.position, cold.length)] = failed
            cold.file.release()
            on_done()

        self._background.submit(on_piece, partial(read_in, cold.file.fd, position, length))

    def take(self) -> None:
        """Those that are done go on."""
        for on_piece, failed in self._background.take_done():
            on_piece(failed)


def _key(file: ReadFile, position: int, length: int) -> Key:
    found = os.fstat(file.fd)
    return found.st_dev, found.st_ino, position, length
