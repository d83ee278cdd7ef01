"""Where a worker that opens a log begins: what the checkpoints of the log directory and the row say of it.

The row is what a predecessor of this run published last; the files are older, and all there is after a stop.
Both are true of the disk, so the larger one counts.
"""

import os
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from tailrace.core.errors import KAFKA_STORAGE_ERROR, KafkaError
from tailrace.core.log import checkpoints
from tailrace.core.log.directory import Directory, RealDirectory, storage_error
from tailrace.core.log.recovery import describe_segment, segment_bases
from tailrace.shm.state_table import HIGH_WATERMARK, LOG_START_OFFSET, RECOVERY_POINT, SYNC_FAILED

Stamp = tuple[int, int, int]


class StartingPoint(Struct, kw_only=True, frozen=True):
    """What `Log.open` is told."""

    recovery_point: int = 0
    high_watermark: int = 0
    log_start_offset: int = 0
    has_readers: bool = False  # in this run, below that high watermark


class StartingPoints:
    """The checkpoints of one log directory; each file is parsed again only when it was replaced."""

    def __init__(self, log_dir: str) -> None:
        self._directory: checkpoints.LogDirectory = RealDirectory(log_dir, make=False)
        self._known: dict[str, tuple[Stamp | None, checkpoints.Offsets]] = {}

    def find(
        self, directory: Directory, topic: str, partition: int, topic_id: bytes, row: Sequence[int] | None
    ) -> StartingPoint:
        """For the log in `directory`; `row`: what its predecessor of this run published. KafkaError if the
        log may not be opened.
        """
        if row is not None and row[RECOVERY_POINT] == SYNC_FAILED:
            # (R) the kernel has dropped the error and calls the pages clean: a new sync would seem to succeed
            raise KafkaError(
                KAFKA_STORAGE_ERROR,
                f"{directory.path}: a sync failed; restart the broker once the disk is well",
            )
        if not self._known:
            self._directory.sync()  # (R) what a dead predecessor was writing lasts before it is believed
        key = (topic, partition)
        point, mark, start = (self._read(name).get(key, 0) for name in checkpoints.OFFSET_FILES)
        owner, bases = checkpoints.read_partition_metadata(directory), segment_bases(directory)
        is_foreign = owner not in (None, topic_id)
        if is_foreign and any(describe_segment(directory, base).size for base in bases):
            # (R) a deletion has failed, or is still to come: the records are not this topic's
            raise KafkaError(
                KAFKA_STORAGE_ERROR,
                f"{directory.path} holds records of a deleted topic: move it away, or restart the broker",
            )
        if is_foreign or not bases:
            # (R) what the files say is of a log that is gone; but for where this one starts, if it is its own
            is_own = owner == topic_id
            if point or mark or start:
                self.take_back(topic, partition, 0 if is_own else None)
            return StartingPoint(log_start_offset=start if is_own else 0)
        if row is None:
            return StartingPoint(recovery_point=point, high_watermark=mark, log_start_offset=start)
        return StartingPoint(
            recovery_point=max(point, row[RECOVERY_POINT]),
            high_watermark=row[HIGH_WATERMARK],
            log_start_offset=max(start, row[LOG_START_OFFSET]),
            has_readers=True,
        )

    def take_back(self, topic: str, partition: int, limit: int | None = None) -> None:
        """See `checkpoints.take_back`; KafkaError if the disk refuses."""
        try:
            checkpoints.take_back(self._directory, topic, partition, limit)
        except OSError as error:
            raise storage_error(error, f"cannot take back the checkpoints of {topic}-{partition}") from error

    def enter(self, topic: str, partition: int, offsets: Mapping[str, int]) -> None:
        """See `checkpoints.enter`; KafkaError if the disk refuses."""
        try:
            checkpoints.enter(self._directory, topic, partition, offsets)
        except OSError as error:
            raise storage_error(error, f"cannot write the checkpoints of {topic}-{partition}") from error

    def write_log_start(self, topic: str, partition: int, offset: int, publish: Callable[[], object]) -> None:
        """See `checkpoints.write_log_start`; KafkaError if the disk refuses."""
        try:
            checkpoints.write_log_start(self._directory, topic, partition, offset, publish)
        except OSError as error:
            raise storage_error(error, f"cannot write where {topic}-{partition} starts") from error

    def _read(self, name: str) -> checkpoints.Offsets:
        stamp = self._stamp(name)
        known = self._known.get(name)
        if known is None or known[0] != stamp:  # read after the stamp: at worst it is read once more
            known = self._known[name] = (stamp, checkpoints.read_offsets(self._directory, name))
        return known[1]

    def _stamp(self, name: str) -> Stamp | None:
        try:
            found = os.stat(os.path.join(self._directory.path, name))
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
