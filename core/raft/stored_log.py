"""A log of core/log as Raft wants it, with its snapshots: files beside the segments, named as in Kafka.

A snapshot that arrives is kept in memory until it is whole. (R) It is on disk before the log that it stands
for is emptied; a crash in between is found out at the next start, which empties it then.
"""

import re
from collections.abc import Callable

from tailrace.core.log.log import Log
from tailrace.core.log.reader import Hint, LogReader
from tailrace.core.raft.messages import OffsetAndEpoch
from tailrace.core.raft.raft_log import Snapshot, epoch_end_offset, split_batches
from tailrace.core.raft.voters import VoterSet

SNAPSHOT_BYTES_MAX = 1 << 30  # a larger one is none of ours
_NAME = re.compile(r"([0-9]{20})-([0-9]{10})\.checkpoint")


class StoredLog:
    """See RaftLog. The owner opens and closes the log, syncs it, and moves its high watermark.

    voters_in: the voters that a snapshot's bytes name.
    """

    def __init__(self, log: Log, voters_in: Callable[[bytes], VoterSet | None], now_ms: int) -> None:
        self.log = log
        self._voters_in = voters_in
        self._arriving = bytearray()
        self._reader = LogReader(log.directory)
        self._hint: Hint | None = None
        self._snapshot = self._newest_snapshot()
        if self._snapshot is not None and not self._reaches(self._snapshot.snapshot_id):
            self._begin_at(self._snapshot.snapshot_id.offset, now_ms)

    def _newest_snapshot(self) -> Snapshot | None:
        found = [match for name in self.log.directory.names() if (match := _NAME.fullmatch(name))]
        ids = [OffsetAndEpoch(int(match[1]), int(match[2])) for match in found]
        return self._described(max(ids), None) if ids else None

    def _described(self, snapshot_id: OffsetAndEpoch, data: bytes | None) -> Snapshot:
        data = data if data is not None else self.log.directory.read(snapshot_name(snapshot_id)) or b""
        return Snapshot(snapshot_id, len(data), self._voters_in(data))

    def _reaches(self, snapshot_id: OffsetAndEpoch) -> bool:
        """Whether the log goes on from the snapshot, or over it; else a crash came before it was emptied."""
        if self.log.log_start_offset == snapshot_id.offset:
            return True
        epoch, end_offset = self.end_offset_for(snapshot_id.epoch)
        return epoch == snapshot_id.epoch and end_offset >= snapshot_id.offset

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
        return self.log.append_as_leader(batch, leader_epoch, now_ms, from_client=False)

    def append_as_follower(self, batch: memoryview, now_ms: int) -> None:
        """See RaftLog."""
        self.log.append_as_follower(batch, now_ms)

    def read(self, offset: int, max_bytes: int) -> bytes:
        """See RaftLog. OSError if the files cannot be read."""
        log = self.log
        found = self._reader.locate(
            offset,
            high_watermark=log.log_end_offset,
            hw_segment_base_offset=log.active_base_offset,
            hw_position=log.active_position,
            active_segment_base_offset=log.active_base_offset,
            segment_generation=log.segment_generation,
            max_bytes=max_bytes,
            min_one=True,
            hint=self._hint,
        )
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
        """What InstallSnapshot asks for, on disk when it returns."""
        data = bytes(self._arriving)
        self._arriving = bytearray()
        self.keep_snapshot(snapshot_id, data)  # (R) first
        self._begin_at(snapshot_id.offset, now_ms)

    def _begin_at(self, offset: int, now_ms: int) -> None:
        self._hint = None
        self._reader.close()
        self.log.truncate_fully_and_start_at(offset, now_ms)

    def keep_snapshot(self, snapshot_id: OffsetAndEpoch, data: bytes) -> None:
        """A snapshot, on disk when it returns; older ones go. The log may then be cut below its offset."""
        directory = self.log.directory
        directory.replace(snapshot_name(snapshot_id), data, durable=True)
        self._snapshot = self._described(snapshot_id, data)
        for name in directory.names():
            match = _NAME.fullmatch(name)
            if match and OffsetAndEpoch(int(match[1]), int(match[2])) < snapshot_id:
                directory.remove(name)

    def close(self) -> None:
        """Lets go of its descriptors; the log is its owner's."""
        self._reader.close()


def snapshot_name(snapshot_id: OffsetAndEpoch) -> str:
    """The name of its file."""
    return f"{snapshot_id.offset:020d}-{snapshot_id.epoch:010d}.checkpoint"
