"""Writes the three checkpoints of each log directory from the rows that workers publish: how far each log is
on the disk, its high watermark, and where it starts.

Each file at its interval; all of them at the end of an orderly stop, when the workers have closed their logs.
An entry whose row says nothing of it (its worker has not opened it yet, or it is offline) stays as it is,
unless its directory is gone.
"""

from collections.abc import Callable

from tailrace.core.config import BrokerConfig
from tailrace.core.log import checkpoints
from tailrace.core.log.checkpoints import HIGH_WATERMARKS, LOG_STARTS, OFFSET_FILES, RECOVERY_POINTS, Offsets
from tailrace.core.log.directory import TEMPORARY_SUFFIX, RealDirectory
from tailrace.shm.state_table import (
    HIGH_WATERMARK,
    LEADER_EPOCH,
    LOG_START_OFFSET,
    OWNER,
    PARTITION,
    RECOVERY_POINT,
    ROLE,
    ROLE_FOLLOWER,
    ROLE_LEADER,
    TOPIC_ID_HI,
    TOPIC_ID_LO,
    Row,
    topic_id_bytes,
)
from tailrace.workers.background import Background
from tailrace.workers.log_dirs import LogDir
from tailrace.workers.metadata_follower import MetadataFollower
from tailrace.workers.process import ProcessContext

WORD_OF = {RECOVERY_POINTS: RECOVERY_POINT, HIGH_WATERMARKS: HIGH_WATERMARK, LOG_STARTS: LOG_START_OFFSET}
INTERVAL_MS_MIN = 10  # Kafka allows 0
WAIT_S_MAX = 3600.0
BUSY_PAUSE_S = 0.5  # until the next look whether the round before has ended


Blame = Callable[[str, OSError], bool]
"""Whether a log directory is out of service, now that this happened there; see `LogDirs.blame`."""


class CheckpointWriter:
    """Rows in, files out. Called by one thread at a time."""

    def __init__(self, context: ProcessContext) -> None:
        self._log_dirs = context.log_dirs
        self._table = context.state_table
        self._blame: Blame = context.blame_disk
        self._metadata = MetadataFollower.of(context)
        self._layout = context.layout
        self._broker, self._node_id = context.broker, context.node_id
        self._sequences: list[int] = []
        self._rows: dict[int, Row] = {}
        self._version = 0  # grows with each change of a row or of the metadata
        self._written: dict[str, dict[str, int]] = {}  # versions, by directory and name

    def write(self, names: tuple[str, ...] = OFFSET_FILES, *, even_unchanged: bool = False) -> None:
        """Bring these files up to date in every directory that serves; OSError leaves the old ones, which are
        true as well.
        """
        try:
            self._look()
        except OSError as error:
            if self._blame(self._log_dirs.metadata_dir, error):
                return  # the broker ends
            raise
        failed: OSError | None = None
        for log_dir in self._log_dirs.online():
            try:
                self._write_in(log_dir, names, even_unchanged)
            except OSError as error:
                if not self._blame(log_dir.path, error):
                    failed = failed or error
        if failed is not None:
            raise failed

    def _write_in(self, log_dir: LogDir, names: tuple[str, ...], even_unchanged: bool) -> None:
        written = self._written.setdefault(log_dir.path, {})
        names = tuple(name for name in names if even_unchanged or written.get(name) != self._version)
        if not names:
            return
        directory = RealDirectory(log_dir.path, make=False)
        with directory.locked(checkpoints.CHECKPOINT_LOCK):
            self._look()  # (R) under the lock: a worker that took something back has published that before
            there = set(directory.names())
            if not written:
                _remove_leftovers(directory, there)
            rows = self._rows_by_partition(log_dir.directory_id)
            for name in names:
                _write(directory, name, rows, there, even_unchanged)
                written[name] = self._version

    def _look(self) -> None:
        """Read the rows that have moved, and the metadata that tells their names."""
        sequences = self._table.sequences()
        old = self._sequences or [0] * len(sequences)
        moved = [
            row
            for row, sequence in enumerate(sequences)
            if sequence != old[row] and row >= self._layout.brokers  # the first are the metadata logs'
        ]
        for row in moved:
            self._rows[row] = self._table.read(row)  # after its sequence: a later store is seen next time
        self._sequences = sequences
        if self._metadata.poll() or moved:
            self._version += 1

    def _rows_by_partition(self, directory_id: str) -> dict[tuple[str, int], Row]:
        """The row of each partition in a directory that is, or was when its process died, in service."""
        found: dict[tuple[str, int], Row] = {}
        image = self._metadata.image
        for row in self._rows.values():
            if row[ROLE] not in (ROLE_LEADER, ROLE_FOLLOWER):
                continue
            if self._layout.broker_of(row[OWNER] >> 32) != self._broker:
                continue
            topic = image.topics_by_id.get(topic_id_bytes(row[TOPIC_ID_HI], row[TOPIC_ID_LO]))
            if topic is None or topic.partitions[row[PARTITION]].directory_of(self._node_id) != directory_id:
                continue
            key = (topic.name, row[PARTITION])
            if key not in found or row[LEADER_EPOCH] >= found[key][LEADER_EPOCH]:
                found[key] = row
        return found


def _write(
    directory: RealDirectory,
    name: str,
    rows: dict[tuple[str, int], Row],
    there: set[str],
    even_unchanged: bool,
) -> None:
    old = checkpoints.read_offsets(directory, name)
    new: Offsets = {key: offset for key, offset in old.items() if f"{key[0]}-{key[1]}" in there}
    word = WORD_OF[name]
    new.update((key, row[word]) for key, row in rows.items())
    if name == LOG_STARTS:  # as Kafka: a log that starts where its first segment can, needs no entry
        new = {key: offset for key, offset in new.items() if offset > 0}
    if new != old or even_unchanged:
        checkpoints.write_offsets(directory, name, new)


def _remove_leftovers(directory: RealDirectory, there: set[str]) -> None:
    for name in there:
        if name.startswith(OFFSET_FILES) and name.endswith(TEMPORARY_SUFFIX):
            directory.remove(name)


class Checkpointer:
    """When to write what. Time comes in as seconds of a clock that never goes back."""

    def __init__(
        self, config: BrokerConfig, writer: CheckpointWriter, now_s: float, complain: Callable[[str], object]
    ) -> None:
        intervals_ms = {
            RECOVERY_POINTS: config.log_flush_offset_checkpoint_interval_ms,
            HIGH_WATERMARKS: config.replica_high_watermark_checkpoint_interval_ms,
            LOG_STARTS: config.log_flush_start_offset_checkpoint_interval_ms,
        }
        self._intervals_s = {
            name: max(interval_ms, INTERVAL_MS_MIN) / 1000 for name, interval_ms in intervals_ms.items()
        }
        self._due_s = {name: now_s + interval_s for name, interval_s in self._intervals_s.items()}
        self._writer = writer
        self._background: Background[None] = Background()
        self._complain = complain
        self._complained = ""

    def wait_s(self, now_s: float) -> float:
        """Seconds until something is due."""
        return min(max(0.0, min(self._due_s.values()) - now_s), WAIT_S_MAX)

    def tick(self, now_s: float) -> None:
        """Have the files written that are due, in the background: what else this process does goes on."""
        self._take_done()
        due = tuple(name for name, due_s in self._due_s.items() if due_s <= now_s)
        if self._background.under_way:  # a slow disk
            self._due_s.update((name, now_s + BUSY_PAUSE_S) for name in due)
        elif due:
            self._due_s.update((name, now_s + self._intervals_s[name]) for name in due)
            self._background.submit(None, lambda: self._writer.write(due))

    def close(self) -> None:
        """The last time, all of them: whoever published rows has ended."""
        self._take_done(wait=True)
        self._background.submit(None, lambda: self._writer.write(even_unchanged=True))
        self._take_done(wait=True)

    def _take_done(self, *, wait: bool = False) -> None:
        for _, error in self._background.take_done(wait=wait):
            text = "" if error is None else f"cannot write checkpoints: {error}"
            if text and text != self._complained:
                self._complain(text)
            self._complained = text
