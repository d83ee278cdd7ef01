"""Snapshots as the quorum sees them: what they are called, and how a follower fetches one in pieces."""

import re

from msgspec import Struct

from tailrace.core.raft.messages import FetchSnapshotResponse, OffsetAndEpoch

_NAME = re.compile(r"([0-9]{20})-([0-9]{10})\.checkpoint")


def snapshot_name(snapshot_id: OffsetAndEpoch) -> str:
    """The name of its file, as in Kafka: the offset after its last record, and the epoch of that record."""
    return f"{snapshot_id.offset:020d}-{snapshot_id.epoch:010d}.checkpoint"


def parse_snapshot_name(name: str) -> OffsetAndEpoch | None:
    """The snapshot that a file of this name is, None if it is none."""
    match = _NAME.fullmatch(name)
    return None if match is None else OffsetAndEpoch(int(match[1]), int(match[2]))


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
