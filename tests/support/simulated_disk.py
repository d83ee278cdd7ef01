"""A simulated disk that writes down every store, sync and change of a name, and can lose what was not synced.

What a loss of power leaves of a file is its contents as of its last sync, changed by any of the stores
since: of each sector (or page, or of the whole file) any version that it has had, whatever became of the
others, and one of them torn at any byte; and any length that the file has had. Of the names in a directory it
leaves those of its last sync, changed by any of the changes since, in order. A file's data has nothing to do
with its name. The death of a process leaves everything, and what is not synced can still be lost later.

`journal` holds what was done, so that any moment of it can be had again: see `replay`.
"""

from collections.abc import Callable, Iterator
from errno import ENOSPC
from random import Random
from typing import Any

SECTOR = 512
PAGE = 4096

Operation = tuple[str, int, Any, Any]
Change = tuple[int, bytes | None]
"""Bytes stored at a position; or None, and the new size."""
NameChange = tuple[tuple[str, int | None], ...]
"""Names and the nodes they stand for from now on, all at once."""


class Inode:
    """One file: what processes see, what is on the disk for sure, and what was done to it since."""

    __slots__ = ("changes", "disk", "number", "seen")

    def __init__(self, number: int, data: bytes = b"") -> None:
        self.number = number
        self.seen = bytearray(data)
        self.disk = bytes(data)
        self.changes: list[Change] = []

    def store(self, position: int, data: bytes) -> None:
        """Bytes inside of the file."""
        assert position + len(data) <= len(self.seen), "a store beyond the end of a file"
        self.seen[position : position + len(data)] = data
        self.changes.append((position, data))

    def resize(self, size: int) -> None:
        """Cut, or longer by zeros; old maps of it go their own way."""
        if size != len(self.seen):
            self.changes.append((size, None))
        self.seen = self.seen[:size] + bytes(max(0, size - len(self.seen)))

    def sync(self) -> None:
        """All is on the disk."""
        self.disk = bytes(self.seen)
        self.changes = []

    def clone(self) -> "Inode":
        """The same file, going its own way."""
        twin = Inode(self.number)
        twin.seen, twin.disk, twin.changes = self.seen[:], self.disk, self.changes[:]
        return twin


class Folder:
    """The names of a directory, likewise."""

    __slots__ = ("changes", "disk", "number", "seen")

    def __init__(self, number: int, names: dict[str, int] | None = None) -> None:
        self.number = number
        self.seen = names or {}
        self.disk = dict(self.seen)
        self.changes: list[NameChange] = []

    def change(self, change: NameChange) -> None:
        """Some names, at once."""
        self.changes.append(change)
        _rename(self.seen, change)

    def sync(self) -> None:
        """All names are on the disk."""
        self.disk = dict(self.seen)
        self.changes = []

    def clone(self) -> "Folder":
        """The same names, going their own way."""
        twin = Folder(self.number, dict(self.seen))
        twin.disk, twin.changes = dict(self.disk), self.changes[:]
        return twin


def _rename(names: dict[str, int], change: NameChange) -> None:
    for name, number in change:
        if number is None:
            names.pop(name, None)
        else:
            names[name] = number


class Loss:
    """What one loss of power takes. The same chance brings the same loss."""

    def __init__(self, random: Random, unit: int = 0) -> None:
        self._random = random
        self._unit = unit or random.choice((SECTOR, PAGE))
        self._data = random.choice(
            ("nothing", "all", "moment", "newest", "newest", "versions", "one lost", "one kept")
        )
        self._names = random.choice(("none", "all", "first", "some"))
        self._chance = random.choice((0.1, 0.5, 0.9))

    def names(self, folder: Folder) -> dict[str, int]:
        """What is left of the names."""
        changes, random = folder.changes, self._random
        if self._names == "all":
            return dict(folder.seen)
        names = dict(folder.disk)
        if self._names == "first":
            changes = changes[: random.randint(0, len(changes))]
        elif self._names == "some":
            changes = [one for one in changes if random.random() < self._chance]
        for change in changes if self._names != "none" else ():
            _rename(names, change)
        return names

    def contents(self, inode: Inode) -> bytes:
        """What is left of a file."""
        changes, random = inode.changes, self._random
        if not changes:
            return inode.disk
        how = self._data if random.random() < 0.8 else random.choice(("nothing", "all"))
        if how == "nothing":
            return inode.disk
        if how == "all":
            return bytes(inode.seen)
        sizes = [len(inode.disk), *(at for at, data in changes if data is None)]
        size = sizes[-1] if random.random() < 0.5 else random.choice(sizes)
        found = bytearray(max(sizes))
        found[: len(inode.disk)] = inode.disk
        end = max([len(inode.disk.rstrip(b"\0")), *(at + len(data) for at, data in changes if data)])
        self._play(found, changes, end, len(inode.disk), how)
        return bytes(found[:size])

    def _moments(self, how: str, units: int, count: int) -> list[int]:
        """Of each unit: how many of the changes it has seen."""
        random = self._random
        if how == "moment":
            return [random.randint(0, count)] * units
        if how == "versions":
            return [random.randint(0, count) for _ in range(units)]
        if how == "newest":
            return [count if random.random() < self._chance else 0 for _ in range(units)]
        moments = [count if how == "one lost" else 0] * units
        moments[random.randrange(units)] = 0 if how == "one lost" else count
        return moments

    def _play(self, found: bytearray, changes: list[Change], end: int, size: int, how: str) -> None:
        unit, random = self._unit, self._random
        moments = self._moments(how, end // unit + 1, len(changes))
        torn, torn_at = -1, 0
        if random.random() < 0.5:
            number = random.randrange(len(changes))
            at, data = changes[number]
            if data:
                torn, torn_at = number, at + random.randrange(len(data))
                moments[torn_at // unit] = torn
        for number, (at, data) in enumerate(changes):
            if data is None:
                data, size = bytes(max(0, min(size, end) - at)), at
            for place in range(at // unit, (at + len(data) - 1) // unit + 1 if data else 0):
                start, stop = max(at, place * unit), min(at + len(data), (place + 1) * unit)
                if moments[place] <= number:
                    if number != torn or place != torn_at // unit:
                        continue
                    stop = max(start, min(stop, torn_at))
                found[start:stop] = data[start - at : stop - at]


class SimulatedDisk:
    """Nodes by their number; 0 is the root directory. `free` bytes are left for files."""

    def __init__(self, *, boot: int = 0, free: int = 1 << 40) -> None:
        self.boot, self.free = boot, free
        self.files: dict[int, Inode] = {}
        self.folders = {0: Folder(0)}
        self.journal: list[Operation] = []
        self.on_operation: Callable[[], object] | None = None
        self._last_number = 0

    def take(self, size: int) -> None:
        """OSError if the disk has not so many bytes left."""
        if size > self.free:
            raise OSError(ENOSPC, "no space")
        self.free -= size

    def new_number(self) -> int:
        """Of a node that is made next; never one that was used."""
        return self._last_number + 1

    def note(self, what: object) -> None:
        """Something to be known of this moment when the journal is replayed."""
        self.journal.append(("note", 0, what, None))

    def do(self, kind: str, number: int, first: Any = None, second: Any = None) -> None:
        """Does something, and writes it down."""
        operation = (kind, number, first, second)
        self.apply(operation)
        self.journal.append(operation)
        if self.on_operation is not None:
            self.on_operation()

    def apply(self, operation: Operation) -> None:
        """Does something that may have been done before."""
        kind, number, first, second = operation
        if kind == "store":
            self.files[number].store(first, second)
        elif kind == "size":
            self.files[number].resize(first)
        elif kind == "sync":
            (self.files.get(number) or self.folders[number]).sync()
        elif kind == "names":
            self.folders[number].change(first)
        elif kind == "file":
            self.files[number], self._last_number = Inode(number), number
        elif kind == "folder":
            self.folders[number], self._last_number = Folder(number), number
        else:
            assert kind == "note", kind

    def crash(self, loss: Loss) -> "SimulatedDisk":
        """What a loss of power leaves; this disk goes on."""
        after = SimulatedDisk(boot=self.boot + 1)
        after._last_number = self._last_number
        todo = [0]
        while todo:
            folder = self.folders[todo.pop()]
            names = loss.names(folder)
            after.folders[folder.number] = Folder(folder.number, names)
            for number in names.values():
                if number in self.files:
                    after.files[number] = Inode(number, loss.contents(self.files[number]))
                else:
                    todo.append(number)
        return after

    def killed(self, torn: Operation | None = None) -> "SimulatedDisk":
        """What the death of all processes leaves, which `torn` may have met in a store; this disk goes on."""
        after = SimulatedDisk(boot=self.boot)
        after._last_number = self._last_number
        after.files = {number: inode.clone() for number, inode in self.files.items()}
        after.folders = {number: folder.clone() for number, folder in self.folders.items()}
        if torn is not None:
            after.apply(torn)
        return after


def replay(disk: SimulatedDisk, journal: list[Operation]) -> Iterator[Operation]:
    """Brings a disk to each moment of a journal: yields an operation, and does it before the next."""
    for operation in journal:
        yield operation
        disk.apply(operation)
