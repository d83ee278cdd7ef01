"""The log that Raft replicates: what it asks of one, and where two of them part.

Entries are record batches. Whoever owns the log reads it as well; only the node appends and truncates, and
the owner replaces it by a snapshot when the node asks. `(R)` nothing below the high watermark is truncated.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from struct import Struct as Layout
from typing import Protocol

from msgspec import Struct

from tailrace.core.raft.control_records import voters_of
from tailrace.core.raft.messages import OffsetAndEpoch
from tailrace.core.raft.voters import VoterHistory, VoterSet
from tailrace.core.records.batch import CONTROL, whole_batches

READ_BYTES = 1024 * 1024
BATCH = Layout(">qiiBIhi")  # base offset, length, leader epoch, magic, CRC, attributes, last offset delta


class Snapshot(Struct, frozen=True):
    """All below `snapshot_id.offset` in one file; `voters` as the log said there."""

    snapshot_id: OffsetAndEpoch
    size: int
    voters: VoterSet | None = None


class RaftLog(Protocol):
    """See core/log/log.py for the words. What is appended can be read at once, and is on disk once synced."""

    @property
    def log_start_offset(self) -> int:
        """The first offset that is there; what is below is in the snapshot."""
        ...

    @property
    def log_end_offset(self) -> int:
        """The next offset."""
        ...

    @property
    def last_epoch(self) -> int:
        """Of the last batch, or of the snapshot if there is none behind it; 0 if there is neither."""
        ...

    def append_as_leader(self, batch: bytes, leader_epoch: int, now_ms: int) -> object:
        """Gives the batch the next offset and that epoch; KafkaError if it is refused."""
        ...

    def append_as_follower(self, batch: memoryview, now_ms: int) -> object:
        """The batch begins at the end of the log; KafkaError if it is unsound or the disk refuses it."""
        ...

    def read(self, offset: int, max_bytes: int) -> bytes:
        """Whole batches from the one that begins at `offset`, at least one if there is any."""
        ...

    def end_offset_for(self, epoch: int) -> tuple[int, int]:
        """(the largest epoch in the log not above `epoch`, where it ends): `epoch_end_offset`."""
        ...

    def truncate_to(self, offset: int, now_ms: int) -> None:
        """Takes back all from `offset` on, on disk when it returns."""
        ...

    def latest_snapshot(self) -> Snapshot | None:
        """The newest one that is whole."""
        ...

    def read_snapshot(self, snapshot_id: OffsetAndEpoch, position: int, max_bytes: int) -> bytes | None:
        """Bytes of a snapshot; None if it is not there (any more)."""
        ...

    def write_snapshot(self, snapshot_id: OffsetAndEpoch, position: int, piece: bytes) -> None:
        """Keeps a piece of a snapshot that is on its way; position 0 begins it anew. Not synced."""
        ...


class BatchRange(Struct, frozen=True):
    """One batch of a range of bytes."""

    base_offset: int
    next_offset: int
    epoch: int
    is_control: bool
    data: memoryview


def split_batches(data: bytes) -> Iterator[BatchRange]:
    """The whole batches of a range, by their headers alone; ends where one is not whole."""
    for batch in whole_batches(memoryview(data)):
        base, _, epoch, _, _, attributes, delta = BATCH.unpack_from(batch)
        yield BatchRange(base, base + delta + 1, epoch, bool(attributes & CONTROL), batch)


def read_voters(log: RaftLog, initial: VoterSet) -> VoterHistory:
    """What the log and its snapshot say about voters: every header is looked at once, when a node starts."""
    snapshot = log.latest_snapshot()
    history = VoterHistory(initial)
    if snapshot is not None and snapshot.voters is not None:
        history.start_over(snapshot.snapshot_id.offset, snapshot.voters)
    offset = max(log.log_start_offset, snapshot.snapshot_id.offset if snapshot else 0)
    while offset < log.log_end_offset:
        before = offset
        for batch in split_batches(log.read(offset, READ_BYTES)):
            note_voters(history, batch)
            offset = batch.next_offset
        assert offset > before, "a log gives at least one batch"
    return history


def note_voters(history: VoterHistory, batch: BatchRange) -> None:
    """(R) A set of voters counts as soon as it is in the log."""
    if batch.is_control and (found := voters_of(batch.data)):
        history.add(*found)


def check_fetch(log: RaftLog, fetch_offset: int, last_epoch: int) -> OffsetAndEpoch | None:
    """Where the fetcher's log, which ends so, parts from this one; None if it is a beginning of it. What lies
    below the log's start has to be asked first: `needs_snapshot`.
    """
    if fetch_offset == 0:
        return None
    epoch, end_offset = log.end_offset_for(last_epoch)
    if epoch == last_epoch and fetch_offset <= end_offset:
        return None
    return OffsetAndEpoch(min(max(end_offset, 0), fetch_offset), max(epoch, 0))


def needs_snapshot(log: RaftLog, fetch_offset: int, last_epoch: int) -> OffsetAndEpoch | None:
    """The snapshot to fetch, for one whose log ends where this one cannot tell any more if they agree."""
    start = log.log_start_offset
    if start == 0 or (fetch_offset >= start and log.end_offset_for(last_epoch)[0] >= 0):
        return None
    snapshot = log.latest_snapshot()
    return snapshot.snapshot_id if snapshot else None


def epoch_end_offset(
    entries: Sequence[tuple[int, int]],
    log_start_offset: int,
    log_end_offset: int,
    snapshot_id: OffsetAndEpoch | None,
    epoch: int,
) -> tuple[int, int]:
    """What `RaftLog.end_offset_for` answers, from the (epoch, start offset) of a log, ascending.

    (R) The epoch of a snapshot is known too, where the log begins at its end: or its fetcher would be told to
    fetch it again. Of what is older nothing is known: (-1, log_start_offset).
    """
    place = bisect_right(entries, epoch, key=first_of)
    end_offset = entries[place][1] if place < len(entries) else log_end_offset
    if place:
        return entries[place - 1][0], end_offset
    if snapshot_id is not None and snapshot_id.offset == log_start_offset and snapshot_id.epoch <= epoch:
        return snapshot_id.epoch, end_offset
    return -1, log_start_offset


def first_of(entry: tuple[int, int]) -> int:
    """The epoch of an entry."""
    return entry[0]


def truncation_point(log: RaftLog, diverging: OffsetAndEpoch) -> int:
    """Where a follower cuts its log when the leader says that they part: below it both may be the same."""
    epoch, end_offset = log.end_offset_for(diverging.epoch)
    if epoch == diverging.epoch:
        return min(end_offset, diverging.offset)
    return max(end_offset, log.log_start_offset)
