"""A sync of a log that may run in another thread than its owner's."""

from msgspec import Struct

from tailrace.core.log import checkpoints
from tailrace.core.log.directory import Directory


class Flush(Struct, kw_only=True):
    """A sync under way: `run` may be called in any thread, then `Log.flushed` in the owner's."""

    directory: Directory
    names: list[str]
    end_offset: int

    def run(self) -> None:
        """Returns when the log below end_offset is on the disk.

        So is where its epochs began: recovery reads that from batches only above the recovery point. The file
        itself is synced, whichever version of it is there now: it knows at least all epochs below end_offset.
        """
        for name in (*self.names, checkpoints.LEADER_EPOCHS):
            try:
                self.directory.sync_file(name)
            except (
                FileNotFoundError
            ):  # deleted by retention meanwhile, or no epoch yet: nothing of it has to last
                continue
        self.directory.sync()
