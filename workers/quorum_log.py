"""`__cluster_metadata-0` as Raft asks for a log: an ordinary log of ours, read by file.

What Raft appends it has numbered by epoch, so the epochs of the log are its whole memory of who led when.
"""

from tailrace.core.errors import KafkaError
from tailrace.core.log.log import Log
from tailrace.core.log.segment import LOG_SUFFIX, file_name
from tailrace.core.raft.messages import OffsetAndEpoch
from tailrace.core.raft.raft_log import Snapshot, epoch_end_offset
from tailrace.core.records.batch import HEADER_SIZE, LENGTH_PREFIX, Buffer, parse_header


class QuorumLog:
    """See core.raft.raft_log.RaftLog."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.refused: KafkaError | None = None  # why the last append of a leader was

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
        return max(self.log.leader_epochs.latest, 0)

    def append_as_leader(self, batch: bytes, leader_epoch: int, now_ms: int) -> object:
        """See RaftLog."""
        try:
            done = self.log.append_as_leader(batch, leader_epoch, now_ms, from_client=False)
        except KafkaError as error:
            self.refused = error
            raise
        self.refused = None
        return done

    def append_as_follower(self, batch: Buffer, now_ms: int) -> object:
        """See RaftLog."""
        self.log.append_as_follower(batch, now_ms)
        return None

    def read(self, offset: int, max_bytes: int) -> bytes:
        """See RaftLog."""
        log = self.log
        if offset >= log.log_end_offset:
            return b""
        base, position = log.place_of(offset)
        end = log.active_position
        if base != log.active_base_offset:
            end = next(segment.size for segment in log.segments if segment.base_offset == base)
        file = log.directory.open_read(file_name(base, LOG_SUFFIX))
        try:
            data = file.read(position, min(max(max_bytes, HEADER_SIZE), end - position))
            size = _whole(data)
            return data[:size] if size else file.read(position, parse_header(data).size)
        finally:
            file.release()

    def end_offset_for(self, epoch: int) -> tuple[int, int]:
        """See RaftLog."""
        log = self.log
        entries = log.leader_epochs.entries
        return epoch_end_offset(entries, log.log_start_offset, log.log_end_offset, None, epoch)

    def truncate_to(self, offset: int, now_ms: int) -> None:
        """See RaftLog."""
        self.log.truncate_to(offset, now_ms)

    def latest_snapshot(self) -> Snapshot | None:
        """See RaftLog. So far the log is never cut at its beginning."""
        return None

    def read_snapshot(self, snapshot_id: OffsetAndEpoch, position: int, max_bytes: int) -> bytes | None:
        """See RaftLog."""
        del snapshot_id, position, max_bytes
        return None

    def write_snapshot(self, snapshot_id: OffsetAndEpoch, position: int, piece: bytes) -> None:
        """See RaftLog."""
        raise AssertionError(f"nobody sends snapshots: {snapshot_id}, {position}, {len(piece)} bytes")


def _whole(data: bytes) -> int:
    """Bytes of the whole batches at the beginning."""
    position = 0
    while len(data) - position >= HEADER_SIZE:
        size = LENGTH_PREFIX + int.from_bytes(data[position + 8 : position + 12], "big")
        if position + size > len(data):
            break
        position += size
    return position
