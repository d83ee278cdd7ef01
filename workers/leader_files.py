"""What followers copy from the files of their leaders."""

import os
from contextlib import suppress

from tailrace.core.log.segment import LOG_SUFFIX, file_name


class LeaderFile:
    """The segment of one leader's replica that is being copied; one descriptor, kept while it is needed."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._segment = -1
        self._descriptor = -1

    def read(self, segment: int, position: int, length: int) -> bytes:
        """Of the segment with this base offset; fewer bytes if it has no more, none if it is gone.

        None also if the disk does not give it: (R) it is not the follower's disk that is to blame. The leader
        finds out for itself, and the follower asks again meanwhile.
        """
        with suppress(OSError):
            return self._read(segment, position, length)
        return b""

    def _read(self, segment: int, position: int, length: int) -> bytes:
        if segment != self._segment or self._descriptor < 0:
            self.close()
            path = os.path.join(self.directory, file_name(segment, LOG_SUFFIX))
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._segment = segment
        return os.pread(self._descriptor, length, position)

    def close(self) -> None:
        """The next read opens the file anew: another may have its name by then."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
