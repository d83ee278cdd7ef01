"""A directory on a simulated disk: records stores and syncs, may be full, can lose what was not synced.

A crash keeps what was synced. Of the rest it keeps any subset of the dirty units (sectors or pages), one of
them torn at any byte, any prefix of the name changes since the last `sync` of the directory, and of each file
its old or its new length.
"""

from collections.abc import Callable
from errno import ENOSPC
from random import Random

from tailrace.core.log.directory import Buffer, MappedFile, ReadFile, storage_error

SECTOR = 512
PAGE = 4096


class Inode:
    """One file: what processes see, what is on the disk, and where these may differ."""

    def __init__(self, number: int, data: bytes = b"") -> None:
        self.number = number
        self.seen = bytearray(data)
        self.disk = bytes(data)
        self.dirty: set[int] = set()

    def touch(self, position: int, length: int) -> None:
        """These bytes were stored."""
        self.dirty.update(range(position // SECTOR, (position + length + SECTOR - 1) // SECTOR))

    def resize(self, size: int) -> None:
        """Cut, or longer by zeros; old maps of it go their own way."""
        self.seen = self.seen[:size] + bytes(max(0, size - len(self.seen)))

    def sync(self) -> None:
        """All is on the disk."""
        self.disk = bytes(self.seen)
        self.dirty.clear()

    def after_crash(self, random: Random, unit: int) -> bytes:
        """What may be found on the disk."""
        size = random.choice((len(self.seen), len(self.disk)))
        found = bytearray(self.disk[:size]).ljust(size, b"\0")
        units = sorted({sector * SECTOR // unit for sector in self.dirty})
        torn = random.choice(units) if units else -1
        for number in units:
            start = number * unit
            end = min(start + (random.randrange(unit) if number == torn else unit), size)
            if random.random() < 0.6 and start < end:
                piece = self.seen[start:end]
                found[start : start + len(piece)] = piece
        return bytes(found)


class SimulatedReadFile:
    """See ReadFile."""

    def __init__(self, name: str, inode: Inode) -> None:
        self.fd, self.name, self._inode = -1, name, inode

    def size(self) -> int:
        """See ReadFile."""
        return len(self._inode.seen)

    def read(self, position: int, length: int) -> bytes:
        """See ReadFile."""
        return bytes(self._inode.seen[position : position + length])

    def retain(self) -> None:
        """See ReadFile."""

    def release(self) -> None:
        """See ReadFile."""


class SimulatedMappedFile:
    """See MappedFile; a store beyond what is reserved fails the test, where a real one would be a SIGBUS."""

    def __init__(self, directory: "SimulatedDirectory", name: str, inode: Inode, size: int) -> None:
        self._directory, self._inode = directory, inode
        inode.resize(size)
        self.fd, self.name, self.size, self.reserved = -1, name, size, 0
        self.view = memoryview(inode.seen)

    def store(self, position: int, data: Buffer) -> None:
        """See MappedFile."""
        assert position + len(data) <= self.reserved, f"{self.name}: a store beyond what is reserved"
        self.view[position : position + len(data)] = data
        self._inode.touch(position, len(data))
        self._directory.happened("store", self.name, position, len(data))

    def zero(self, position: int, length: int) -> None:
        """See MappedFile."""
        self.store(position, bytes(length))

    def reserve(self, end: int) -> None:
        """See MappedFile."""
        end = min(end, self.size)
        if end > self.reserved:
            try:
                self._directory.take(end - self.reserved)
            except OSError as error:
                raise storage_error(error, f"cannot extend {self.name}") from error
            self.reserved = end

    def sync(self) -> None:
        """See MappedFile."""
        self._inode.sync()
        self._directory.happened("sync", self.name)

    def identity(self) -> tuple[int, int]:
        """See MappedFile."""
        return 1, self._inode.number

    def cut(self, size: int) -> None:
        """See MappedFile."""
        self.close()
        self._inode.resize(size)
        self._directory.happened("cut", self.name, size)

    def close(self) -> None:
        """See MappedFile."""
        self.view.release()


class SimulatedDirectory:
    """See Directory; `free` bytes are left on its disk."""

    def __init__(self, *, boot: int = 0, free: int = 1 << 40) -> None:
        self.path, self.free, self._boot = "simulated", free, boot
        self.events: list[tuple[str, str, int, int]] = []
        self.on_event: Callable[[], None] | None = None
        self._inodes = 0
        self._seen: dict[str, Inode] = {}
        self._changes: list[dict[str, Inode]] = [{}]  # the names on disk, then after each change since

    def happened(self, kind: str, name: str, position: int = 0, length: int = 0) -> None:
        """Writes down an event, and lets the test look in between."""
        self.events.append((kind, name, position, length))
        if self.on_event is not None:
            self.on_event()

    def take(self, size: int) -> None:
        """OSError if the disk has not so many bytes left."""
        if size > self.free:
            raise OSError(ENOSPC, "no space")
        self.free -= size

    def crash(self, random: Random, unit: int) -> "SimulatedDirectory":
        """One of the directories that a loss of power now may leave; this one goes on."""
        after = SimulatedDirectory(boot=self._boot + 1)
        for name, inode in random.choice((self._changes[-1], random.choice(self._changes))).items():
            after.put(name, inode.after_crash(random, unit))
        return after

    def killed(self) -> "SimulatedDirectory":
        """What the death of the process leaves: all that was stored."""
        after = SimulatedDirectory(boot=self._boot)
        for name, inode in self._seen.items():
            after.put(name, bytes(inode.seen), inode.number)
        return after

    def put(self, name: str, data: bytes, number: int | None = None) -> None:
        """A file that is on the disk."""
        self._inodes = max(self._inodes + 1, number or 0)
        self._seen[name] = Inode(number or self._inodes, data)
        self._changes = [dict(self._seen)]

    def contents(self, name: str) -> bytearray:
        """The bytes of a file, to be damaged."""
        return self._seen[name].seen

    def _changed(self, kind: str, name: str) -> None:
        self._changes.append(dict(self._seen))
        self.happened(kind, name)

    def names(self) -> list[str]:
        """See Directory."""
        return sorted(self._seen)

    def _made(self) -> Inode:
        self.take(1)
        self._inodes += 1
        return Inode(self._inodes)

    def open_mapped(self, name: str, size: int) -> MappedFile:
        """See Directory."""
        if name not in self._seen:
            self._seen[name] = self._made()
            self._changed("create", name)
        return SimulatedMappedFile(self, name, self._seen[name], size)

    def open_read(self, name: str) -> ReadFile:
        """See Directory."""
        return SimulatedReadFile(name, self.inode(name))

    def inode(self, name: str) -> Inode:
        """The file that has this name now."""
        if name not in self._seen:
            raise FileNotFoundError(name)
        return self._seen[name]

    def read(self, name: str) -> bytes | None:
        """See Directory."""
        return bytes(self._seen[name].seen) if name in self._seen else None

    def replace(self, name: str, data: Buffer, *, durable: bool = True) -> None:
        """See Directory."""
        self.take(len(data))
        inode = self._made()
        inode.seen[:] = data
        inode.touch(0, len(data))
        if durable:
            inode.sync()
        self._seen[name] = inode
        self._changed("replace", name)
        if durable:
            self.sync()

    def cut(self, name: str, size: int) -> None:
        """See Directory."""
        self.inode(name).resize(size)
        self.happened("cut", name, size)

    def rename(self, old: str, new: str) -> None:
        """See Directory."""
        self._seen[new] = self._seen.pop(old)
        self._changed("rename", new)

    def remove(self, name: str) -> None:
        """See Directory."""
        if self._seen.pop(name, None) is not None:
            self._changed("remove", name)

    def sync(self) -> None:
        """See Directory."""
        self._changes = [dict(self._seen)]
        self.happened("sync", "")

    def sync_file(self, name: str) -> None:
        """See Directory."""
        self.inode(name).sync()
        self.happened("sync", name)

    def identity(self, name: str) -> tuple[int, int]:
        """See Directory."""
        return 1, self.inode(name).number

    def boot_id(self) -> str:
        """See Directory."""
        return f"boot-{self._boot}"

    def destroy(self) -> None:
        """See Directory."""
        self._seen.clear()
        self._changed("destroy", "")
