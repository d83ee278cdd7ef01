"""The only door to files: one directory on disk, files in it by name, mapped or read.

Rules: every store to a mapped file goes through `MappedFile.store`, so that a simulated disk sees each; a
file is never grown past what is reserved on disk by `reserve`, so that a full disk is an answer in words and
not a SIGBUS. What partitions hold leaves a part of the disk free, which is for what must go on when it is
full: the metadata log, checkpoints and marks, and so deletions (disk.reserve.bytes).
"""

import mmap
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from errno import EDQUOT, ENOSPC
from fcntl import LOCK_EX, flock
from functools import cache
from typing import Protocol, runtime_checkable

from tailrace.core.errors import KAFKA_STORAGE_ERROR, KafkaError

Buffer = bytes | bytearray | memoryview
TEMPORARY_SUFFIX = ".tmp"
OWNER_FILE = "partition.metadata"
DERIVED_RESERVE = -1  # a share of the file system, so that the smallest can be used as well
RESERVE_SHARE = 32
RESERVE_BYTES_MAX = 64 * 1024 * 1024
ZEROS = bytes(1 << 20)
READ_BYTES = 64 * 1024  # at once


class ReadFile(Protocol):
    """A descriptor shared by its readers; it closes when the last of them lets go."""

    fd: int
    name: str

    def size(self) -> int:
        """Bytes in the file now."""
        ...

    def read(self, position: int, length: int) -> bytes:
        """At most `length` bytes, fewer only at the end of the file."""
        ...

    def retain(self) -> None:
        """One more holder."""
        ...

    def release(self) -> None:
        """One holder less."""
        ...


class MappedFile(Protocol):
    """A file mapped for writing, `size` bytes long, of which `reserved` may be stored to."""

    fd: int
    name: str
    size: int
    reserved: int
    view: memoryview

    def store(self, position: int, data: Buffer) -> None:
        """The one way in which bytes get into the mapping."""
        ...

    def zero(self, position: int, length: int) -> None:
        """Stores zeros."""
        ...

    def reserve(self, end: int) -> None:
        """Makes the disk hold the bytes below `end`: KafkaError if it cannot, DiskFullError if it would leave
        less than the directory's reserve.
        """
        ...

    def sync(self) -> None:
        """Returns when all stores so far are on the disk."""
        ...

    def identity(self) -> tuple[int, int]:
        """Device and inode."""
        ...

    def cut(self, size: int) -> None:
        """Unmaps, shrinks the inode to `size` and closes."""
        ...

    def close(self) -> None:
        """Unmaps and closes; the file stays as long as it is."""
        ...


@runtime_checkable
class Directory(Protocol):
    """Files of one directory, real or simulated. Names are plain: no separators."""

    path: str

    def names(self) -> list[str]:
        """The files in it, sorted."""
        ...

    def check_room(self, size: int) -> None:
        """OSError (see `is_full`) if `size` bytes more would leave less free than the directory's reserve."""
        ...

    def open_mapped(self, name: str, size: int) -> MappedFile:
        """Opens or makes a file, sets its length to `size` and maps it for writing."""
        ...

    def open_read(self, name: str) -> ReadFile:
        """FileNotFoundError if there is none."""
        ...

    def read(self, name: str) -> bytes | None:
        """The whole of a small file, None if there is none."""
        ...

    def replace(self, name: str, data: Buffer, *, durable: bool = True) -> None:
        """Gives a file new contents all at once: readers and crashes see the old ones or the new ones."""
        ...

    def cut(self, name: str, size: int) -> None:
        """Shrinks a file that nobody maps."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Renames inside the directory; durable after `sync`."""
        ...

    def remove(self, name: str) -> None:
        """Unlinks; not there is fine."""
        ...

    def sync(self) -> None:
        """Returns when the names are on the disk."""
        ...

    def sync_file(self, name: str) -> None:
        """Returns when the contents of a file are on the disk."""
        ...

    def identity(self, name: str) -> tuple[int, int]:
        """Device and inode of a file."""
        ...

    def boot_id(self) -> str:
        """Changes whenever the page cache may have been lost."""
        ...

    def destroy(self) -> None:
        """Removes every file and the directory; last, on the disk, the file that says whose it is."""
        ...


class DiskFullError(KafkaError):
    """The file system, or a quota, has no room: nothing is broken, and the same works once there is some."""


def is_full(error: Exception) -> bool:
    """Whether an error only says that there is no room; any other of the disk's means that it is broken.

    A sync that failed is never only that (`SyncFailedError`): what it should have written may be lost.
    """
    return isinstance(error, DiskFullError) or (
        isinstance(error, OSError) and error.errno in (ENOSPC, EDQUOT)
    )


def storage_error(error: OSError, doing: str) -> KafkaError:
    """What a client hears of a disk that refuses; DiskFullError if it has no room."""
    if is_full(error):
        return DiskFullError(KAFKA_STORAGE_ERROR, f"{doing}: the disk is full")
    return KafkaError(KAFKA_STORAGE_ERROR, f"{doing}: {error.strerror or error}")


def free_bytes(found: os.statvfs_result) -> int:
    """What an ordinary user may still take of a file system."""
    return found.f_bavail * found.f_frsize


def reserve_of(found: os.statvfs_result, reserve: int) -> int:
    """What of a file system is kept free: `reserve` bytes, or its share if that is DERIVED_RESERVE."""
    if reserve != DERIVED_RESERVE:
        return reserve
    return min(RESERVE_BYTES_MAX, found.f_blocks * found.f_frsize // RESERVE_SHARE)


def _check_room(found: os.statvfs_result, size: int, reserve: int) -> None:
    """A file system that does not tell its size (a tmpfs without a limit) says itself when it is full."""
    if found.f_blocks and free_bytes(found) - size < reserve_of(found, reserve):
        raise OSError(ENOSPC, os.strerror(ENOSPC))


def bytes_lacking(path: str, size: int, reserve: int) -> int:
    """How many bytes have to be freed there before `size` more leave the reserve as it is. OSError."""
    found = os.statvfs(path)
    return max(0, size + reserve_of(found, reserve) - free_bytes(found)) if found.f_blocks else 0


class RealReadFile:
    """See ReadFile."""

    __slots__ = ("_holders", "fd", "name")

    def __init__(self, path: str, name: str) -> None:
        self.fd = os.open(os.path.join(path, name), os.O_RDONLY | os.O_CLOEXEC)
        self.name = name
        self._holders = 1

    def size(self) -> int:
        """See ReadFile."""
        return os.fstat(self.fd).st_size

    def read(self, position: int, length: int) -> bytes:
        """See ReadFile."""
        return os.pread(self.fd, length, position)

    def retain(self) -> None:
        """See ReadFile."""
        assert self._holders > 0, "a closed file cannot be held"
        self._holders += 1

    def release(self) -> None:
        """See ReadFile."""
        assert self._holders > 0, "released more often than held"
        self._holders -= 1
        if self._holders == 0:
            os.close(self.fd)


class RealMappedFile:
    """See MappedFile."""

    __slots__ = ("_held", "_kept_free", "_map", "fd", "name", "reserved", "size", "view")

    def __init__(self, path: str, name: str, size: int, kept_free: int = 0) -> None:
        self.fd = os.open(os.path.join(path, name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._held = os.fstat(self.fd).st_blocks * 512  # may be less than its length: files have holes
            os.ftruncate(self.fd, size)
            self._map = mmap.mmap(self.fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
            # or each page stored to first has the kernel read around it: 8 MiB of zeros, 1.5 ms
            self._map.madvise(mmap.MADV_RANDOM)
        except OSError:
            os.close(self.fd)
            raise
        self.name, self.size, self.reserved = name, size, 0
        self._kept_free = kept_free
        self.view = memoryview(self._map)

    def store(self, position: int, data: Buffer) -> None:
        """See MappedFile."""
        self.view[position : position + len(data)] = data

    def zero(self, position: int, length: int) -> None:
        """See MappedFile."""
        while length > 0:
            piece = min(length, len(ZEROS))
            self.store(position, memoryview(ZEROS)[:piece])
            position, length = position + piece, length - piece

    def reserve(self, end: int) -> None:
        """See MappedFile."""
        end = min(end, self.size)
        if end <= self.reserved:
            return
        try:
            more = end - max(self.reserved, self._held)
            if more > 0 and self._kept_free:
                _check_room(os.fstatvfs(self.fd), more, self._kept_free)
            os.posix_fallocate(self.fd, self.reserved, end - self.reserved)
        except OSError as error:
            raise storage_error(error, f"cannot extend {self.name}") from error
        self.reserved = end  # (R) nothing is stored above: the disk might have no room for it

    def sync(self) -> None:
        """See MappedFile."""
        os.fdatasync(self.fd)

    def identity(self) -> tuple[int, int]:
        """See MappedFile."""
        found = os.fstat(self.fd)
        return found.st_dev, found.st_ino

    def cut(self, size: int) -> None:
        """See MappedFile."""
        self._unmap()
        try:
            os.ftruncate(self.fd, size)
        finally:
            os.close(self.fd)

    def close(self) -> None:
        """See MappedFile."""
        self._unmap()
        os.close(self.fd)

    def _unmap(self) -> None:
        self.view.release()
        self._map.close()


def _sync_names(path: str) -> None:
    """Returns when the names in a directory are on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@cache
def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


class RealDirectory:
    """See Directory; made (0700) if it is missing, unless who opens it only reads. `kept_free`: the reserve,
    in bytes or DERIVED_RESERVE.
    """

    __slots__ = ("kept_free", "path")

    def __init__(self, path: str, *, make: bool = True, kept_free: int = 0) -> None:
        self.path, self.kept_free = path, kept_free
        if make and not os.path.isdir(path):
            os.makedirs(path, mode=0o700, exist_ok=True)
            _sync_names(os.path.dirname(os.path.abspath(path)))  # (R) or all in it may go with its name

    def _full(self, name: str) -> str:
        assert "/" not in name, f"not a file name: {name!r}"
        assert name not in ("", ".", ".."), f"not a file name: {name!r}"
        return os.path.join(self.path, name)

    def names(self) -> list[str]:
        """See Directory."""
        return sorted(os.listdir(self.path))

    def check_room(self, size: int) -> None:
        """See Directory."""
        _check_room(os.statvfs(self.path), size, self.kept_free)

    def open_mapped(self, name: str, size: int) -> MappedFile:
        """See Directory."""
        return RealMappedFile(self.path, name, size, self.kept_free)

    def open_read(self, name: str) -> ReadFile:
        """See Directory."""
        return RealReadFile(self.path, name)

    def read(self, name: str) -> bytes | None:
        """See Directory."""
        try:
            fd = os.open(self._full(name), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:  # by hand: a third of the system calls that open() makes, for each of a thousand logs
            found = os.read(fd, READ_BYTES)
            while len(found) >= READ_BYTES and (more := os.read(fd, READ_BYTES)):
                found += more
            return found
        finally:
            os.close(fd)

    def replace(self, name: str, data: Buffer, *, durable: bool = True) -> None:
        """See Directory."""
        temporary = self._full(f"{name}.{os.getpid()}{TEMPORARY_SUFFIX}")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            if durable:
                os.fdatasync(fd)  # (R) before the rename, or a crash leaves the new name with no contents
        except OSError:
            self.remove(os.path.basename(temporary))  # of a full disk it would take what room is left
            raise
        finally:
            os.close(fd)
        os.replace(temporary, self._full(name))
        if durable:
            self.sync()  # (R) or a crash brings the old contents back

    def cut(self, name: str, size: int) -> None:
        """See Directory."""
        os.truncate(self._full(name), size)

    def rename(self, old: str, new: str) -> None:
        """See Directory."""
        os.replace(self._full(old), self._full(new))

    def remove(self, name: str) -> None:
        """See Directory."""
        with suppress(FileNotFoundError):
            os.unlink(self._full(name))

    def sync(self) -> None:
        """See Directory."""
        _sync_names(self.path)

    def sync_file(self, name: str) -> None:
        """See Directory."""
        fd = os.open(self._full(name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fdatasync(fd)
        finally:
            os.close(fd)

    def identity(self, name: str) -> tuple[int, int]:
        """See Directory."""
        found = os.stat(self._full(name))
        return found.st_dev, found.st_ino

    def boot_id(self) -> str:
        """See Directory."""
        return _boot_id()

    def destroy(self) -> None:
        """See Directory."""
        for name in self.names():
            if name != OWNER_FILE:
                self.remove(name)
        self.sync()  # (R) or what is left is nobody's, and the next log of this name takes it for its own
        self.remove(OWNER_FILE)
        os.rmdir(self.path)

    @contextmanager
    def locked(self, name: str) -> Generator[None, None, None]:
        """Waits for a lock among processes, and holds it. Death gives it back."""
        fd = os.open(self._full(name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            flock(fd, LOCK_EX)
            yield
        finally:
            os.close(fd)
