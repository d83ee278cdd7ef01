"""A run's shared memory without its processes, for tests: run directory, slots, heads."""

from collections.abc import Generator
from contextlib import contextmanager

from tailrace.shm.links import HeadTable, Links
from tailrace.shm.names import RunDir
from tailrace.shm.slots import WORKER, SlotTable


class SharedRun:
    """What a supervisor would have made before the first fork."""

    def __init__(self, run_dir: RunDir, slot_count: int) -> None:
        self.run_dir = run_dir
        self.slots = SlotTable.create(run_dir.file("slots"), slot_count)
        self.heads = HeadTable.create(run_dir.file("heads"), slot_count)

    def begin(self, slot: int) -> Links:
        """A process takes the slot."""
        return self.links(slot, self.slots.begin(slot, WORKER, 0, slot))

    def links(self, slot: int, incarnation: int) -> Links:
        """The rings of a process that has its slot already."""
        return Links(self.run_dir.path, self.slots, self.heads, slot, incarnation)

    def die(self, slot: int) -> None:
        """The supervisor finds the slot's process dead."""
        self.slots.mark_dead(slot, self.slots.incarnation(slot))


@contextmanager
def shared_run(slot_count: int = 12) -> Generator[SharedRun, None, None]:
    """A run in /dev/shm, removed at the end."""
    run_dir = RunDir.create()
    try:
        yield SharedRun(run_dir, slot_count)
    finally:
        run_dir.remove()
