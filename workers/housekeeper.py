"""The housekeeper: touches pages that workers are about to write, so that their stores find them warm, and
writes the checkpoints of the log directory.

Populating a page takes the kernel microseconds that a worker would otherwise spend inside its append. Nothing
here is needed for correctness: a request that comes late or is lost costs only time, and so does an old
checkpoint.
"""

import errno
import mmap
import os
import sys
import time

from tailrace.shm.ring import ByteConsumer
from tailrace.workers.checkpointer import Checkpointer, CheckpointWriter
from tailrace.workers.control import Prefault
from tailrace.workers.process import ProcessContext

MADV_POPULATE_WRITE = 23  # Linux 5.14; Python 3.11 has no name for it
PREFAULT_BYTES_MAX = 64 * 1024 * 1024  # of one request: a worker asks for a few MiB
READ_AHEAD_BYTES = 4 * 1024 * 1024  # in smaller ones the kernel's read-ahead (8 MiB) costs more than it saves

# The file was rolled, cut or deleted since it was asked for, or the kernel is older than the advice.
_HARMLESS = frozenset((errno.EFAULT, errno.ENOENT, errno.EINVAL))


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
            if error.errno not in _HARMLESS:
                raise
            self.late_count += 1
            return
        self.done_count += 1


def run(context: ProcessContext) -> None:
    """Serve until told to stop; by then the workers have ended."""
    prefaulter = Prefaulter()
    writer = CheckpointWriter(context.data_dir, context.state_table)
    checkpointer = Checkpointer(context.config, writer, time.monotonic(), _complain)
    context.ready()
    while not context.stopping:
        for peer_slot, peer_incarnation, ring in context.links.poll():
            if not isinstance(ring, ByteConsumer):
                continue
            for message in context.inbox.read(peer_slot, peer_incarnation, ring):
                if isinstance(message, Prefault):
                    prefaulter.prefault(message.path, message.position, message.length)
        context.links.drop_dead()
        checkpointer.tick(time.monotonic())
        context.wait(checkpointer.wait_s(time.monotonic()))
    checkpointer.close()


def _complain(text: str) -> None:
    sys.stderr.write(f"tailrace: housekeeper: {text}\n")
    sys.stderr.flush()
