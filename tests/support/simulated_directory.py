"""A directory on a simulated disk (see there), through the door that a log knows."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from random import Random

from tailrace.core.log.directory import (
    OWNER_FILE,
    TEMPORARY_SUFFIX,
    Buffer,
    MappedFile,
    ReadFile,
    storage_error,
)
from tests.support.simulated_disk import PAGE, SECTOR, Folder, Inode, Loss, NameChange, SimulatedDisk

__all__ = ["PAGE", "SECTOR", "Inode", "SimulatedDirectory", "SimulatedReadFile"]


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
        directory.disk.do("size", inode.number, size)
        self.fd, self.name, self.size, self.reserved = -1, name, size, 0
        self.view = memoryview(inode.seen)

    def store(self, position: int, data: Buffer) -> None:
        """See MappedFile."""
        assert position + len(data) <= self.reserved, f"{self.name}: a store beyond what is reserved"
        self._directory.disk.do("store", self._inode.number, position, bytes(data))
        self._directory.happened("store", self.name, position, len(data))

    def zero(self, position: int, length: int) -> None:
        """See MappedFile."""
        self.store(position, bytes(length))

    def reserve(self, end: int) -> None:
        """See MappedFile."""
        end = min(end, self.size)
        if end > self.reserved:
            try:
                self._directory.disk.take(end - self.reserved)
            except OSError as error:
                raise storage_error(error, f"cannot extend {self.name}") from error
            self.reserved = end

    def sync(self) -> None:
        """See MappedFile."""
        self._directory.disk.do("sync", self._inode.number)
        self._directory.happened("sync", self.name)

    def identity(self) -> tuple[int, int]:
        """See MappedFile."""
        return 1, self._inode.number

    def cut(self, size: int) -> None:
        """See MappedFile."""
        self.close()
        self._directory.disk.do("size", self._inode.number, size)
        self._directory.happened("cut", self.name, size)

    def close(self) -> None:
        """See MappedFile."""
        self.view.release()


class SimulatedDirectory:
    """See Directory: the root of a disk, or a directory in it, which is made, on disk, if it is missing."""

    def __init__(
        self, disk: SimulatedDisk | None = None, name: str = "", *, boot: int = 0, free: int = 1 << 40
    ) -> None:
        self.disk = disk or SimulatedDisk(boot=boot, free=free)
        self.path = f"simulated/{name}"
        self.events: list[tuple[str, str, int, int]] = []
        self.on_event: Callable[[], None] | None = None
        self._name, root = name, self.disk.folders[0]
        if name and name not in root.seen:
            number = self.disk.new_number()
            self.disk.do("folder", number)
            self.disk.do("names", 0, ((name, number),))
            self.disk.do("sync", 0)
        self._number = root.seen[name] if name else 0

    @property
    def _folder(self) -> Folder:
        return self.disk.folders[self._number]

    def happened(self, kind: str, name: str, position: int = 0, length: int = 0) -> None:
        """Writes down an event, and lets the test look in between."""
        self.events.append((kind, name, position, length))
        if self.on_event is not None:
            self.on_event()

    def crash(self, random: Random, unit: int) -> "SimulatedDirectory":
        """One of the directories that a loss of power now may leave; this one goes on."""
        return SimulatedDirectory(self.disk.crash(Loss(random, unit)), self._name)

    def killed(self) -> "SimulatedDirectory":
        """What the death of the process leaves: all that was stored."""
        return SimulatedDirectory(self.disk.killed(), self._name)

    def put(self, name: str, data: bytes) -> None:
        """A file that is on the disk."""
        if name not in self._folder.seen:
            self._make(name)
        inode = self.inode(name)
        self.disk.do("size", inode.number, len(data))
        self.disk.do("store", inode.number, 0, data)
        self.disk.do("sync", inode.number)
        self.disk.do("sync", self._number)

    def contents(self, name: str) -> bytearray:
        """The bytes of a file, to be damaged."""
        return self.inode(name).seen

    def names(self) -> list[str]:
        """See Directory."""
        return sorted(self._folder.seen)

    def _make(self, name: str) -> int:
        self.disk.take(1)
        number = self.disk.new_number()
        self.disk.do("file", number)
        self._change((name, number))
        return number

    def _change(self, *changes: tuple[str, int | None]) -> None:
        change: NameChange = changes
        self.disk.do("names", self._number, change)

    def check_room(self, size: int) -> None:
        """See Directory; nothing is kept free."""
        self.disk.take(size)
        self.disk.free += size

    def open_mapped(self, name: str, size: int) -> MappedFile:
        """See Directory."""
        if name not in self._folder.seen:
            self._make(name)
            self.happened("create", name)
        return SimulatedMappedFile(self, name, self.inode(name), size)

    def open_read(self, name: str) -> ReadFile:
        """See Directory."""
        return SimulatedReadFile(name, self.inode(name))

    def inode(self, name: str) -> Inode:
        """The file that has this name now."""
        number = self._folder.seen.get(name)
        if number is None:
            raise FileNotFoundError(name)
        return self.disk.files[number]

    def read(self, name: str) -> bytes | None:
        """See Directory."""
        return bytes(self.inode(name).seen) if name in self._folder.seen else None

    def replace(self, name: str, data: Buffer, *, durable: bool = True) -> None:
        """See Directory."""
        self.disk.take(len(data))
        temporary = f"{name}.1{TEMPORARY_SUFFIX}"
        number = self._folder.seen[temporary] if temporary in self._folder.seen else self._make(temporary)
        self.disk.do("size", number, 0)
        self.disk.do("size", number, len(data))
        self.disk.do("store", number, 0, bytes(data))
        if durable:
            self.disk.do("sync", number)
        self._change((temporary, None), (name, number))
        self.happened("replace", name)
        if durable:
            self.sync()

    def cut(self, name: str, size: int) -> None:
        """See Directory."""
        self.disk.do("size", self.inode(name).number, size)
        self.happened("cut", name, size)

    def rename(self, old: str, new: str) -> None:
        """See Directory."""
        self._change((old, None), (new, self._folder.seen[old]))
        self.happened("rename", new)

    def remove(self, name: str) -> None:
        """See Directory."""
        if name in self._folder.seen:
            self._change((name, None))
            self.happened("remove", name)

    def sync(self) -> None:
        """See Directory."""
        self.disk.do("sync", self._number)
        self.happened("sync", "")

    def sync_file(self, name: str) -> None:
        """See Directory."""
        self.disk.do("sync", self.inode(name).number)
        self.happened("sync", name)

    def identity(self, name: str) -> tuple[int, int]:
        """See Directory."""
        return 1, self.inode(name).number

    def boot_id(self) -> str:
        """See Directory."""
        return f"boot-{self.disk.boot}"

    def destroy(self) -> None:
        """See Directory."""
        for name in self.names():
            if name != OWNER_FILE:
                self.remove(name)
        self.sync()
        self.remove(OWNER_FILE)
        if self._name:
            self.disk.do("names", 0, ((self._name, None),))
        self.happened("destroy", "")

    @contextmanager
    def locked(self, name: str) -> Generator[None, None, None]:
        """See RealDirectory: here is only one process."""
        if name not in self._folder.seen:
            self._make(name)
        yield
