"""A file that processes map together: made whole, checked when attached.

    byte   field     stored by   meaning
       0   magic     creator     "TAILRACE" read as a word; stored last, so a half-made file is refused
       8   kind      creator     CRC-32 of the kind's name
      16   version   creator     version of the payload's layout
      24   size      creator     bytes of payload
      32   owner     creator     incarnation of the owner, 0: the run's
    4096   payload               laid out by the module that owns the kind

Every byte is allocated when the file is made: a full file system is an answer in words here, and never a
SIGBUS later.
"""

import errno
import mmap
import os
import zlib
from typing import Final

from tailrace.shm.words import map_words

PAGE: Final = 4096
MAGIC: Final = int.from_bytes(b"TAILRACE", "little")
_MAGIC: Final = 0
_KIND: Final = 1
_VERSION: Final = 2
_SIZE: Final = 3
_OWNER: Final = 4


class ShmError(Exception):
    """Shared memory cannot be made, or is not what it should be. The text is one sentence for the user."""


def require_x86_64() -> None:
    """Refuse machines that do not keep the order of stores."""
    machine = os.uname().machine
    if machine != "x86_64":
        raise ShmError(f"tailrace needs an x86-64 processor, this is {machine}")


def allocate_file(path: str, size: int) -> int:
    """A new file of `size` allocated zero bytes, mode 0600: its descriptor. Leaves nothing when it fails."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ShmError(f"cannot create {path}: {error.strerror}") from error
    try:
        os.ftruncate(descriptor, size)
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        os.close(descriptor)
        os.unlink(path)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM):
            raise ShmError(f"no room for {size} bytes of shared memory in {os.path.dirname(path)}") from error
        raise ShmError(f"cannot allocate {path}: {error.strerror}") from error
    return descriptor


class Region:
    """One mapped file. `map` is all of it, `view` and `words` are its payload."""

    __slots__ = ("map", "owner", "path", "size", "view", "words")

    def __init__(self, path: str, mapping: mmap.mmap, size: int, owner: int) -> None:
        self.path = path
        self.map = mapping
        self.size = size
        self.owner = owner
        self.view: memoryview[int] = memoryview(mapping)[PAGE : PAGE + size]
        self.words = map_words(self.view) if size % 8 == 0 else map_words(self.view[: size & ~7])

    @classmethod
    def create(
        cls, path: str, size: int, *, kind: str, version: int, owner: int = 0, populate: bool = False
    ) -> "Region":
        """Make the file. `populate` maps every page at once, for memory that is touched on a hot path."""
        descriptor = allocate_file(path, PAGE + size)
        try:
            mapping = _map(descriptor, PAGE + size, populate)
        finally:
            os.close(descriptor)
        header = map_words(memoryview(mapping)[:PAGE])
        header[_KIND] = zlib.crc32(kind.encode())
        header[_VERSION] = version
        header[_SIZE] = size
        header[_OWNER] = owner
        header[_MAGIC] = MAGIC  # publishes the header; pairs with the load in attach
        header.release()
        return cls(path, mapping, size, owner)

    @classmethod
    def attach(cls, path: str, kind: str, version: int, *, populate: bool = False) -> "Region":
        """Map another process's file. FileNotFoundError when gone, ShmError when of another kind."""
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            length = os.fstat(descriptor).st_size
            if length < PAGE:
                raise ShmError(f"{path} is too short for a shared region")
            mapping = _map(descriptor, length, populate)
        finally:
            os.close(descriptor)
        header = map_words(memoryview(mapping)[:PAGE])
        magic, kind_sum, found, size, owner = header[:5].tolist()
        header.release()
        if magic != MAGIC:
            raise ShmError(f"{path} is not a shared region of tailrace")
        if kind_sum != zlib.crc32(kind.encode()):
            raise ShmError(f"{path} is not a {kind} region")
        if found != version:
            raise ShmError(f"{path} has version {found} of the {kind} layout, this program knows {version}")
        if not 0 <= size <= length - PAGE:
            raise ShmError(f"{path} is shorter than its header says")
        return cls(path, mapping, size, owner)

    def close(self) -> None:
        """Drop this process's mapping. Views that others still hold keep the memory until they go."""
        self.words.release()
        self.view.release()
        try:
            self.map.close()
        except BufferError:  # a view is out: the mapping goes with the last of them
            return

    def unlink(self) -> None:
        """Remove the file; it may be gone already. Mappings of it stay good."""
        unlink_if_there(self.path)


def unlink_if_there(path: str) -> None:
    """Remove a file that another process may have removed first."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _map(descriptor: int, length: int, populate: bool) -> mmap.mmap:
    flags = mmap.MAP_SHARED | (mmap.MAP_POPULATE if populate else 0)
    return mmap.mmap(descriptor, length, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
