"""Snapshots: when one is due, and how a follower fetches one in pieces."""

from msgspec import Struct

from tailrace.core.raft.messages import FetchSnapshotResponse, OffsetAndEpoch


class SnapshotSchedule(Struct):
    """When the log's owner should write a snapshot: enough was committed since the last, or it is old."""

    new_bytes_max: int = 20 * 1024 * 1024
    interval_ms: int = 3_600_000
    new_bytes: int = 0
    taken_ms: int = 0

    def on_committed(self, size: int) -> None:
        """So many bytes more are committed."""
        self.new_bytes += size

    def on_taken(self, now_ms: int) -> None:
        """One was written."""
        self.new_bytes, self.taken_ms = 0, now_ms

    def is_due(self, now_ms: int) -> bool:
        """Whether it is time; never while nothing is new."""
        enough = self.new_bytes >= self.new_bytes_max
        return enough or (self.new_bytes > 0 and now_ms - self.taken_ms >= self.interval_ms)


class SnapshotFetch(Struct):
    """A snapshot on its way; pieces come one after the other."""

    snapshot_id: OffsetAndEpoch
    position: int = 0

    def takes(self, response: FetchSnapshotResponse) -> bool:
        """Whether this is the piece that is wanted next."""
        return (
            response.snapshot_id == self.snapshot_id
            and response.position == self.position
            and (bool(response.piece) or self.position == response.size)
        )

    def advance(self, response: FetchSnapshotResponse) -> bool:
        """The piece is kept. Returns whether the snapshot is whole."""
        self.position += len(response.piece)
        return self.position >= response.size
