"""What controllers do about a log directory that fails: its replicas go offline, others lead where there are
others in sync, and the broker's log says so once; or its broker ends, if it cannot do without: that is for
its own controller to say.
"""

import os

from tailrace.core.errors import KafkaError
from tailrace.core.metadata.brokers import fail_log_dirs
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.records import Record
from tailrace.workers.assignments import Assignments
from tailrace.workers.changes import Changes
from tailrace.workers.log_dirs import LogDir, LogDirs
from tailrace.workers.process import DiskLost, ProcessContext
from tailrace.workers.say import say


class FailedDirs:
    """What this controller has done about each, of every broker."""

    def __init__(self, context: ProcessContext, changes: Changes, assignments: Assignments) -> None:
        self._context = context
        self._changes = changes
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
                    self._give_up(broker.node_id, log_dir)

    def _on_failure(self, log_dirs: LogDirs, index: int, log_dir: LogDir, reason: str) -> None:
        count = self._assignments.fail_log_dir(log_dir.path)
        if not log_dirs.table.is_told(index):
            log_dirs.table.set_told(index)
            say(
                f"tailrace: log directory {log_dir.path} has failed ({reason}), "
                f"{count} of {len(self._assignments.by_key)} partitions are offline: {_MEND}\n"
            )

    def _give_up(self, node_id: int, log_dir: LogDir) -> None:
        """Others lead what lies there, once its leaders have let go. A broker's last directory is not given
        up: that broker ends.
        """

        def decide(image: MetadataImage) -> tuple[list[Record], None]:
            broker = image.brokers.get(node_id)
            if broker is None or broker.fenced or set(broker.log_dirs) <= {log_dir.directory_id}:
                return [], None
            return fail_log_dirs(image, node_id, [log_dir.directory_id], self._changes.rules()), None

        def done(_result: None, error: KafkaError | None) -> None:
            if error is not None:
                self._handled.discard(log_dir.path)  # there was no room for it: at the next look

        self._changes.replace(decide, done)


_MEND = "mend that and start the broker again"


def probe_own(context: ProcessContext) -> None:
    """(R) Before the metadata log is opened: DiskLost if its directory is away, or another lies in its place.
    An empty log there, under the name of the lost one, would vote and know nothing of what that has promised.
    """
    log_dirs = context.log_dirs
    number = log_dirs.probe(log_dirs.metadata_dir)
    if number:
        log_dirs.fail(log_dirs.metadata_dir, number)
    check_own(context)


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
