"""What controllers do about a log directory that fails: its partitions go offline, and the broker's log says
so once; or its broker ends, if it cannot do without: that is for its own controller to say.
"""

import os

from tailrace.workers.assignments import Assignments
from tailrace.workers.log_dirs import LogDir, LogDirs
from tailrace.workers.process import DiskLost, ProcessContext
from tailrace.workers.say import say


class FailedDirs:
    """What this controller has done about each, of every broker."""

    def __init__(self, context: ProcessContext, assignments: Assignments) -> None:
        self._context = context
        self._assignments = assignments
        self._handled: set[str] = set()

    def look(self) -> None:
        """Take offline what has failed since the last look, whoever noticed. DiskLost: nothing is left to
        this controller's broker.
        """
        check_own(self._context)
        for broker in self._context.brokers:
            for index, log_dir in enumerate(broker.log_dirs.dirs):
                number = broker.log_dirs.table.failure(index)
                if number and log_dir.path not in self._handled:
                    self._handled.add(log_dir.path)
                    self._on_failure(broker.log_dirs, index, log_dir, os.strerror(number))

    def _on_failure(self, log_dirs: LogDirs, index: int, log_dir: LogDir, reason: str) -> None:
        count = self._assignments.fail_log_dir(log_dir.path)
        if not log_dirs.table.is_told(index):
            log_dirs.table.set_told(index)
            say(
                f"tailrace: log directory {log_dir.path} has failed ({reason}), "
                f"{count} of {len(self._assignments.by_key)} partitions are offline: {_MEND}\n"
            )


_MEND = "mend that and start the broker again"


def check_own(context: ProcessContext) -> None:
    """DiskLost if this process's broker has lost what it cannot do without."""
    log_dirs = context.log_dirs
    for index, log_dir in enumerate(log_dirs.dirs):
        number = log_dirs.table.failure(index)
        if not number:
            continue
        reason = os.strerror(number)
        if log_dir.path == log_dirs.metadata_dir:
            raise DiskLost(f"{log_dir.path}, where the metadata log lies, has failed ({reason}): {_MEND}")
        if not log_dirs.online():
            raise DiskLost(f"the last log directory, {log_dir.path}, has failed ({reason}): {_MEND}")
