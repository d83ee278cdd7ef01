"""Snapshots of a controller's image: when enough has come since the last, the whole of it is written beside
the metadata log, which then begins there.

Each controller takes its own. The image is encoded and synced in a thread, piece by piece; what is replayed
meanwhile is not in it. (R) Only what is committed is in it, and the log is cut once it is on the disk.
"""

import time
from collections.abc import Callable, Iterator
from errno import EIO

from tailrace.core.config import BrokerConfig
from tailrace.core.log.directory import is_full, storage_error
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.snapshot import SnapshotError, SnapshotSchedule, encode_snapshot, quorum_of
from tailrace.core.raft.messages import OffsetAndEpoch
from tailrace.core.raft.raft_log import Snapshot
from tailrace.core.raft.stored_log import StoredLog
from tailrace.core.raft.voters import VoterSet, decode_voters, encode_voters
from tailrace.workers.background import Background

RETRY_MS = 60_000  # after a disk was too full for one


class _Writing:
    """A snapshot on its way to the disk."""

    def __init__(self, snapshot_id: OffsetAndEpoch, voters: VoterSet, pieces: Iterator[bytes]) -> None:
        self.snapshot = Snapshot(snapshot_id, 0, voters)
        self._pieces = pieces

    def store(self, log: StoredLog) -> None:
        """All of it, in a thread of its own."""
        data = b"".join(self._pieces)
        self.snapshot = Snapshot(self.snapshot.snapshot_id, len(data), self.snapshot.voters)
        log.store_snapshot(self.snapshot.snapshot_id, data)


class Snapshots:
    """Those that this controller takes."""

    def __init__(self, config: BrokerConfig, log: StoredLog, ring: Callable[[], object]) -> None:
        """ring: called, in a thread, when `look` has something to do."""
        self._log = log
        self._background: Background[_Writing] = Background(ring)
        self._schedule = SnapshotSchedule(
            config.metadata_log_max_record_bytes_between_snapshots,
            config.metadata_log_max_snapshot_interval_ms,
            _monotonic_ms(),
        )
        self._is_owed, self._not_before_ms = False, 0

    def look(self, image: MetadataImage, new_bytes: int, voters_at: Callable[[int], VoterSet]) -> None:
        """So many bytes more are in the image, which is at the commit: take a snapshot if one is due, or
        finish the one that was written. OSError, KafkaError: the disk is broken.
        """
        now_ms = _monotonic_ms()
        self._is_owed |= self._schedule.is_due(new_bytes, now_ms)
        if self._background.under_way:
            self._finish(now_ms)
        elif self._is_owed and now_ms >= self._not_before_ms:
            self._begin(image, voters_at(image.metadata_offset))

    def _begin(self, image: MetadataImage, voters: VoterSet) -> None:
        offset = image.metadata_offset
        epoch = self._log.epoch_before(offset)
        pieces = encode_snapshot(image, epoch, _wall_ms(), encode_voters(voters))
        writing = _Writing(OffsetAndEpoch(offset, epoch), voters, pieces)
        self._is_owed = False
        self._schedule.taken(_monotonic_ms())
        self._background.submit(writing, lambda: writing.store(self._log))

    def _finish(self, now_ms: int) -> None:
        for writing, error in self._background.take_done():
            if error is None:
                self._log.keep_snapshot(writing.snapshot, _wall_ms())
            elif is_full(error):
                self._is_owed, self._not_before_ms = True, now_ms + RETRY_MS
            else:
                raise storage_error(error, "cannot write a snapshot of the metadata") from error

    def close(self) -> None:
        """What was begun is on the disk."""
        self._background.take_done(wait=True)


def voters_in(data: bytes) -> VoterSet | None:
    """The voters that a snapshot names. OSError if that is damaged."""
    try:
        quorum = quorum_of(data)
    except SnapshotError as error:
        raise OSError(EIO, f"a snapshot of the metadata: {error}") from error
    return decode_voters(quorum) if quorum else None


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
