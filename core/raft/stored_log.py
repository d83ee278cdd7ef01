"""A log of core/log as Raft wants it, with its snapshots: files beside the segments, named as in Kafka.

A snapshot that arrives is kept in memory until it is whole. Rules (R), each with a test:
- it is on disk before the log that it stands for is emptied, or cut below it; a crash in between is found out
  at the next start, which does that then;
- older snapshots go once a newer one is on the disk.

A full disk leaves the log longer than it need be: it is cut with the next snapshot, or at the next open.
"""

from collections.abc import Callable
from contextlib import suppress

from tailrace.core.errors import KafkaError
from tailrace.core.log.directory import DiskFullError
from tailrace.core.log.log import Log
from tailrace.core.log.reader import Hint, LogReader
from tailrace.core.raft.messages import OffsetAndEpoch
from tailrace.core.raft.raft_log import Snapshot, epoch_end_offset, split_batches
from tailrace.core.raft.snapshot import parse_snapshot_name, snapshot_name
from tailrace.core.raft.voters import VoterSet

SNAPSHOT_BYTES_MAX = 1 << 30  # a larger one is none of ours


class StoredLog:
    """See RaftLog. The owner opens and closes the log, syncs it, and moves its high watermark.

    voters_in: the voters that a snapshot's bytes name. `refused`: why the last append of a leader was.
    """

    def __init__(self, log: Log, voters_in: Callable[[bytes], VoterSet | None], now_ms: int) -> None:
        self.log = log
        self.refused: KafkaError | None = None
        self._voters_in = voters_in
        self._arriving = bytearray()
        self._reader = LogReader(log.directory)
        self._hint: Hint | None = None
        self._snapshot = self._newest_snapshot()
        if self._snapshot is None:
            return
        snapshot_id = self._snapshot.snapshot_id
        if self._reaches(snapshot_id):
            self._cut_below(snapshot_id, now_ms)
        else:
            self._begin_at(snapshot_id.offset, now_ms)

    def _newest_snapshot(self) -> Snapshot | None:
        newest = max(self._snapshot_ids(), default=None)
        if newest is None:
            return None
        data = self.log.directory.read(snapshot_name(newest)) or b""
        return Snapshot(newest, len(data), self._voters_in(data))

    def _snapshot_ids(self) -> list[OffsetAndEpoch]:
        return [found for name in self.log.directory.names() if (found := parse_snapshot_name(name))]

    def _reaches(self, snapshot_id: OffsetAndEpoch) -> bool:
        """Whether the log goes on from the snapshot, or over it; else a crash came before it was emptied."""
        log, offset = self.log, snapshot_id.offset
        if not log.log_start_offset < offset <= log.log_end_offset:
            return log.log_start_offset == offset
        entries = log.leader_epochs.entries
        below = [epoch for epoch, start in entries if start < offset]
        if below:
            return below[-1] == snapshot_id.epoch
        return bool(entries) and entries[0][1] == offset  # (R) the crash came after the epochs were cut there

    @property
    def log_start_offset(self) -> int:
        """See RaftLog."""
        return self.log.log_start_offset

    @property
    def log_end_offset(self) -> int:
        """See RaftLog."""
        return self.log.log_end_offset

    @property
    def last_epoch(self) -> int:
        """See RaftLog."""
        latest = self.log.leader_epochs.latest
        if latest >= 0:
            return latest
        return self._snapshot.snapshot_id.epoch if self._snapshot is not None else 0

    def append_as_leader(self, batch: bytes, leader_epoch: int, now_ms: int) -> object:
        """See RaftLog."""
        try:
            done = self.log.append_as_leader(batch, leader_epoch, now_ms, from_client=False)
        except KafkaError as error:
            self.refused = error
            raise
        self.refused = None
        return done

    def append_as_follower(self, batch: memoryview, now_ms: int) -> None:
        """See RaftLog."""
        self.log.append_as_follower(batch, now_ms)

    def read(self, offset: int, max_bytes: int) -> bytes:
        """See RaftLog. OSError if the files cannot be read."""
        found = self._reader.locate_in(self.log, offset, max_bytes, self._hint)
        if found is None:
            return b""
        self._hint = found.next_hint
        data = found.file.read(found.position, found.length)
        return data[: sum(len(batch.data) for batch in split_batches(data))]

    def end_offset_for(self, epoch: int) -> tuple[int, int]:
        """See RaftLog."""
        log, snapshot = self.log, self._snapshot
        known = snapshot.snapshot_id if snapshot is not None else None
        entries = log.leader_epochs.entries
        return epoch_end_offset(entries, log.log_start_offset, log.log_end_offset, known, epoch)

    def truncate_to(self, offset: int, now_ms: int) -> None:
        """See RaftLog."""
        self._hint = None
        self.log.truncate_to(offset, now_ms)

    def latest_snapshot(self) -> Snapshot | None:
        """See RaftLog."""
        return self._snapshot

    def read_snapshot(self, snapshot_id: OffsetAndEpoch, position: int, max_bytes: int) -> bytes | None:
        """See RaftLog."""
        try:
            file = self.log.directory.open_read(snapshot_name(snapshot_id))
        except FileNotFoundError:
            return None
        try:
            return file.read(position, max_bytes)
        finally:
            file.release()

    def write_snapshot(self, snapshot_id: OffsetAndEpoch, position: int, piece: bytes) -> None:
        """See RaftLog."""
        assert position <= len(self._arriving), f"a gap in snapshot {snapshot_id}"
        assert position + len(piece) <= SNAPSHOT_BYTES_MAX
        del self._arriving[position:]
        self._arriving += piece

    # What its owner does.

    def install_snapshot(self, snapshot_id: OffsetAndEpoch, now_ms: int) -> None:
        """What InstallSnapshot asks for, on disk when it returns. OSError: nothing has happened, it may be
        tried again. KafkaError: the log is to be opened anew.
        """
        data = bytes(self._arriving)
        voters = self._voters_in(data)
        self.store_snapshot(snapshot_id, data)  # (R) first
        self._arriving = bytearray()
        self._snapshot = Snapshot(snapshot_id, len(data), voters)
        self._begin_at(snapshot_id.offset, now_ms)
        self._remove_older(snapshot_id)

    def _begin_at(self, offset: int, now_ms: int) -> None:
        self._hint = None
        self._reader.close()
        self.log.truncate_fully_and_start_at(offset, now_ms)

    def epoch_before(self, offset: int) -> int:
        """That of the record before `offset`, which is not below the log's start."""
        below = [epoch for epoch, start in self.log.leader_epochs.entries if start < offset]
        if below:
            return below[-1]
        return self._snapshot.snapshot_id.epoch if self._snapshot is not None else 0

    def store_snapshot(self, snapshot_id: OffsetAndEpoch, data: bytes) -> None:
        """Puts a snapshot on the disk, in any thread; the owner's then calls `keep_snapshot`. OSError."""
        self.log.directory.replace(snapshot_name(snapshot_id), data, durable=True)

    def keep_snapshot(self, snapshot: Snapshot, now_ms: int) -> None:
        """One of its own that was stored is the newest: the log begins there, older ones go. If a newer one
        came from the leader meanwhile, this one goes. KafkaError if the disk refuses.
        """
        latest = self._snapshot
        if latest is not None and latest.snapshot_id >= snapshot.snapshot_id:
            if latest.snapshot_id != snapshot.snapshot_id:
                self.log.directory.remove(snapshot_name(snapshot.snapshot_id))
            return
        self._snapshot = snapshot
        self._cut_below(snapshot.snapshot_id, now_ms)

    def _cut_below(self, snapshot_id: OffsetAndEpoch, now_ms: int) -> None:
        log = self.log
        log.high_watermark = max(log.high_watermark, snapshot_id.offset)  # a snapshot is of what is committed
        self._remove_older(snapshot_id)
        with suppress(DiskFullError):
            log.delete_records_before(snapshot_id.offset, now_ms)

    def _remove_older(self, snapshot_id: OffsetAndEpoch) -> None:
        for other in self._snapshot_ids():
            if other < snapshot_id:
                self.log.directory.remove(snapshot_name(other))

    def close(self) -> None:
        """Lets go of its descriptors; the log is its owner's."""
        self._reader.close()
