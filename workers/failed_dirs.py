"""What the controller does about a log directory that fails: its partitions go offline, and the broker's log
says so once; or the broker ends, if it cannot do without.
"""

import os

from tailrace.workers.assignments import Assignments
from tailrace.workers.log_dirs import LogDir
from tailrace.workers.process import DiskLost, ProcessContext
from tailrace.workers.say import say


class FailedDirs:
    """What this controller has done about each."""

    def __init__(self, context: ProcessContext, assignments: Assignments) -> None:
        self._log_dirs = context.log_dirs
        self._assignments = assignments
        self._handled: set[str] = set()

    def look(self) -> None:
        """Take offline what has failed since the last look, whoever noticed. DiskLost: nothing is left."""
        for index, log_dir in enumerate(self._log_dirs.dirs):
            number = self._log_dirs.table.failure(index)
            if number and log_dir.path not in self._handled:
                self._handled.add(log_dir.path)
                self._on_failure(index, log_dir, os.strerror(number))

    def _on_failure(self, index: int, log_dir: LogDir, reason: str) -> None:
        mend = "mend that and start the broker again"
        if log_dir.path == self._log_dirs.metadata_dir:
            raise DiskLost(f"{log_dir.path}, where the metadata log lies, has failed ({reason}): {mend}")
        if not self._log_dirs.online():
            raise DiskLost(f"the last log directory, {log_dir.path}, has failed ({reason}): {mend}")
        count = self._assignments.fail_log_dir(log_dir.path)
        if not self._log_dirs.table.is_told(index):
            self._log_dirs.table.set_told(index)
            say(
                f"tailrace: log directory {log_dir.path} has failed ({reason}), "
                f"{count} of {len(self._assignments.by_key)} partitions are offline: {mend}\n"
            )
