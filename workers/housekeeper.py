"""The housekeeper: touches pages that workers are about to write, so that their stores find them warm, writes
the checkpoints of the log directories, and looks whether those are still there.

Populating a page takes the kernel microseconds that a worker would otherwise spend inside its append. Nothing
here is needed for correctness: a request that comes late or is lost costs only time, and so does an old
checkpoint.
"""

import errno
import mmap
import os
import time
from functools import partial

from tailrace.shm.ring import ByteConsumer
from tailrace.workers.background import Background
from tailrace.workers.checkpointer import Checkpointer, CheckpointWriter
from tailrace.workers.control import Prefault
from tailrace.workers.log_dirs import is_broken
from tailrace.workers.process import ProcessContext
from tailrace.workers.say import say

MADV_POPULATE_WRITE = 23  # Linux 5.14; Python 3.11 has no name for it
PROBE_S = 1.0
PREFAULT_BYTES_MAX = 64 * 1024 * 1024  # of one request: a worker asks for a few MiB
READ_AHEAD_BYTES = 4 * 1024 * 1024  # in smaller ones the kernel's read-ahead (8 MiB) costs more than it saves

# The file was rolled, cut or deleted since it was asked for, or the kernel is older than the advice.
_HARMLESS = frozenset((errno.EFAULT, errno.ENOENT, errno.ENOTDIR, errno.EINVAL))


class Prefaulter:
    """Populates ranges of files, and counts the requests that came too late."""

    def __init__(self) -> None:
        self.done_count = 0
        self.late_count = 0

    def prefault(self, path: str, position: int, length: int) -> None:
        """Make the pages of this range of the file present and writable, without changing a byte of them."""
        start = position & -mmap.PAGESIZE
        end = position + min(length, PREFAULT_BYTES_MAX)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                # Never beyond the end: the file does not grow, and pages past it would be a SIGBUS for a
                # store.
                end = min(end, os.fstat(descriptor).st_size)
                if start >= end:
                    self.late_count += 1
                    return
                with mmap.mmap(descriptor, end - start, offset=start) as pages:
                    if end - start < READ_AHEAD_BYTES:
                        pages.madvise(mmap.MADV_RANDOM)
                    pages.madvise(MADV_POPULATE_WRITE)
            finally:
                os.close(descriptor)
        except OSError as error:
            if error.errno not in _HARMLESS and not is_broken(error):
                raise
            self.late_count += 1
            return
        self.done_count += 1


class Prober:
    """Looks at each log directory now and then: one that vanished or turned read-only is found out also when
    nobody writes there. Each has a thread of its own, as a file system may hang. Time comes in as seconds of
    a clock that never goes back.
    """

    def __init__(self, context: ProcessContext, now_s: float) -> None:
        self._context = context
        self._due_s = now_s + PROBE_S
        self._looks: dict[str, Background[None]] = {
            log_dir.path: Background() for log_dir in context.log_dirs.dirs
        }

    def wait_s(self, now_s: float) -> float:
        """Seconds until the next look."""
        return max(0.0, self._due_s - now_s)

    def tick(self, now_s: float) -> None:
        """Begin the looks that are due."""
        if self._due_s > now_s:
            return
        self._due_s = now_s + PROBE_S
        for path, look in self._looks.items():
            look.take_done()
            if not look.under_way and self._context.log_dirs.is_online(path):
                look.submit(None, partial(self._look_at, path))

    def _look_at(self, path: str) -> None:
        number = self._context.log_dirs.probe(path)
        if number:
            self._context.blame_disk(path, OSError(number, os.strerror(number)))


def run(context: ProcessContext) -> None:
    """Serve until told to stop; by then the workers have ended."""
    prefaulter = Prefaulter()
    writer = CheckpointWriter(context)
    prober = Prober(context, time.monotonic())
    checkpointer = Checkpointer(context.config, writer, time.monotonic(), _complain)
    context.ready()
    while not context.stopping:
        for peer_slot, peer_incarnation, ring in context.links.poll():
            if not isinstance(ring, ByteConsumer):
                continue
            for message in context.inbox.read(peer_slot, peer_incarnation, ring):
                if isinstance(message, Prefault):
                    context.slots.set_long_operation(context.slot, 1)
                    prefaulter.prefault(message.path, message.position, message.length)
                    context.slots.set_long_operation(context.slot, 0)
        context.links.drop_dead()
        now_s = time.monotonic()
        checkpointer.tick(now_s)
        prober.tick(now_s)
        context.wait(min(checkpointer.wait_s(now_s), prober.wait_s(now_s)))
    checkpointer.close()


def _complain(text: str) -> None:
    say(f"tailrace: housekeeper: {text}\n")
