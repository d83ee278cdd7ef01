"""The log directories of a run as each of its processes sees them: which serve, and what takes one out.

Kafka's rule: an error of the disk takes the whole directory out of service, until the broker is started
again. A directory that cannot be spared (it holds the metadata log, or is the last one with partitions) is
given up only when all of it fails, because that ends the broker: until then an error there takes one
partition out of service.
"""

import errno
import os
from collections.abc import Sequence
from typing import NamedTuple

from tailrace.shm.log_dir_table import LogDirTable
from tailrace.workers.data_dir import LOCK

# What a disk says that is broken, in the words of any file in it.
BROKEN = frozenset(
    (errno.EIO, errno.EROFS, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.EUCLEAN, errno.ENOTCONN)
)
# What it says of a file that is missing: the directory itself is looked at.
MISSING = frozenset((errno.ENOENT, errno.ENOTDIR))


class LogDir(NamedTuple):
    """One directory, locked by this run."""

    path: str
    directory_id: str  # empty: it could not be read when the broker started
    lock_fd: int = -1
    holds_partitions: bool = True  # false: it is only metadata.log.dir


class LogDirs:
    """All of them, in the order of log.dirs; one that is only metadata.log.dir comes last."""

    def __init__(self, dirs: Sequence[LogDir], metadata_dir: str, table: LogDirTable) -> None:
        self.dirs = tuple(dirs)
        self.metadata_dir = metadata_dir
        self.table = table
        self._index = {log_dir.path: index for index, log_dir in enumerate(self.dirs)}
        self._by_id = {log_dir.directory_id: log_dir for log_dir in self.dirs if log_dir.directory_id}

    def online(self) -> list[LogDir]:
        """Those with partitions that serve."""
        return [
            log_dir
            for index, log_dir in enumerate(self.dirs)
            if log_dir.holds_partitions and not self.table.failure(index)
        ]

    def failed_ids(self) -> list[str]:
        """The ids of those that are out of service."""
        return [log_dir.directory_id for index, log_dir in enumerate(self.dirs) if self.table.failure(index)]

    def by_id(self, directory_id: str) -> LogDir | None:
        """The directory of this id, None if this run has none."""
        return self._by_id.get(directory_id)

    def id_of(self, path: str) -> str:
        """The id of one of the run's directories."""
        return self.dirs[self._index[path]].directory_id

    def is_online(self, path: str) -> bool:
        """Whether the directory is one of the run's and serves."""
        index = self._index.get(path)
        return index is not None and not self.table.failure(index)

    def fail(self, path: str, number: int) -> None:
        """Take the directory out of service; see `LogDirTable.fail`."""
        self.table.fail(self._index[path], number)

    def blame(self, path: str, error: BaseException) -> bool:
        """Whether the directory is out of service now that this happened to a file in it."""
        index = self._index.get(path)
        if index is None or self.table.failure(index):
            return True
        number = _errno_of(error)
        found = self.probe(path) if number in BROKEN or number in MISSING else 0
        if not found and number in BROKEN and self.can_be_spared(path):
            found = number
        if found:
            self.table.fail(index, found)
        return bool(found)

    def can_be_spared(self, path: str) -> bool:
        """Whether the broker goes on without it."""
        return path != self.metadata_dir and any(log_dir.path != path for log_dir in self.online())

    def probe(self, path: str) -> int:
        """Look whether the directory is still there and may be written to: 0, or an errno. Blocks as long as
        the file system does.
        """
        log_dir = self.dirs[self._index[path]]
        try:
            found, held = os.stat(os.path.join(path, LOCK)), os.fstat(log_dir.lock_fd)
            is_read_only = os.statvfs(path).f_flag & os.ST_RDONLY
        except OSError as error:
            return 0 if error.errno == errno.ENOMEM else error.errno or errno.EIO
        if (found.st_dev, found.st_ino) != (held.st_dev, held.st_ino):
            return errno.ENOENT  # (R) another directory lies in its place, in which nothing may be made
        return errno.EROFS if is_read_only else 0


def is_broken(error: BaseException) -> bool:
    """Whether the disk said that it is, not only that it is full or that there is no such file."""
    return _errno_of(error) in BROKEN


def _errno_of(error: BaseException | None) -> int:
    """Of the disk's error behind what was raised."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__
    return 0 if error is None else error.errno or 0
