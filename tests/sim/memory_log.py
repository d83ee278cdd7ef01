"""A log in memory as Raft wants one, which says what it appends and can be cut by a crash.

`synced` is how far it is on disk: the cluster moves it when a sync is done. A truncation is on disk when it
returns, as that of core/log/log.py.
"""

from bisect import bisect_left
from collections.abc import Callable
from zlib import crc32

from msgspec import Struct

from tailrace.core.raft.messages import OffsetAndEpoch
from tailrace.core.raft.raft_log import Snapshot, epoch_end_offset
from tailrace.core.raft.voters import VoterSet
from tailrace.core.records.batch import stamp


class Stored(Struct, frozen=True):
    """One batch; `digest` is of it and all before it."""

    base_offset: int
    next_offset: int
    epoch: int
    data: bytes
    digest: int


class MemoryLog:
    """See the module. `on_append` hears of every batch with its predecessor's end."""

    def __init__(self, on_append: Callable[["MemoryLog", Stored], None]) -> None:
        self.on_append = on_append
        self.batches: list[Stored] = []
        self._bases: list[int] = []
        self._epochs: list[tuple[int, int]] = []
        self.start = OffsetAndEpoch(0, 0)  # what the log begins behind
        self.start_digest = 0
        self.synced = 0
        self.cuts = 0
        self.snapshot: Snapshot | None = None
        self.snapshot_bytes = b""
        self.snapshot_digest = 0
        self._arriving = bytearray()
        self.log_end_offset = 0
        self.last_epoch: int = 0

    @property
    def log_start_offset(self) -> int:
        return self.start.offset

    @property
    def digest(self) -> int:
        """Of all that the log ever said, up to its end."""
        return self.batches[-1].digest if self.batches else self.start_digest

    def append_as_leader(self, batch: bytes, leader_epoch: int, now_ms: int) -> object:
        """See RaftLog."""
        del now_ms
        stamped = bytearray(batch)
        stamp(stamped, self.log_end_offset, leader_epoch)
        self._append(bytes(stamped))
        return None

    def append_as_follower(self, batch: memoryview, now_ms: int) -> object:
        """See RaftLog."""
        del now_ms
        data = bytes(batch)
        assert int.from_bytes(data[:8], "big") == self.log_end_offset
        self._append(data)
        return None

    def _append(self, data: bytes) -> None:
        base = self.log_end_offset
        epoch = int.from_bytes(data[12:16], "big")
        end = base + int.from_bytes(data[23:27], "big") + 1
        assert epoch >= self.last_epoch
        stored = Stored(base, end, epoch, data, crc32(data, self.digest))
        self.on_append(self, stored)
        self.batches.append(stored)
        self._bases.append(base)
        if epoch != self.last_epoch or len(self.batches) == 1:
            self._epochs.append((epoch, base))
        self.last_epoch, self.log_end_offset = epoch, end

    def read(self, offset: int, max_bytes: int) -> bytes:
        """See RaftLog."""
        place = bisect_left(self._bases, offset)
        assert offset >= self.log_start_offset
        data = b""
        for stored in self.batches[place : place + 20]:
            if data and len(data) + len(stored.data) > max_bytes:
                break
            data += stored.data
        return data

    def end_offset_for(self, epoch: int) -> tuple[int, int]:
        """See RaftLog."""
        known = self.start if self.start.offset else None
        return epoch_end_offset(self._epochs, self.start.offset, self.log_end_offset, known, epoch)

    def truncate_to(self, offset: int, now_ms: int) -> None:
        """See RaftLog."""
        del now_ms
        self.cuts += 1
        while self.batches and self.batches[-1].next_offset > offset:
            self.batches.pop()
            self._bases.pop()
        self._end_changed()
        self.synced = min(self.synced, self.log_end_offset)

    def _end_changed(self) -> None:
        last = self.batches[-1] if self.batches else None
        self.log_end_offset = last.next_offset if last else self.start.offset
        self.last_epoch = last.epoch if last else self.start.epoch
        self._epochs = [entry for entry in self._epochs if entry[1] < self.log_end_offset]

    def latest_snapshot(self) -> Snapshot | None:
        """See RaftLog."""
        return self.snapshot

    def read_snapshot(self, snapshot_id: OffsetAndEpoch, position: int, max_bytes: int) -> bytes | None:
        """See RaftLog."""
        assert self.snapshot is not None
        assert self.snapshot.snapshot_id == snapshot_id
        return self.snapshot_bytes[position : position + max_bytes]

    def write_snapshot(self, snapshot_id: OffsetAndEpoch, position: int, piece: bytes) -> None:
        """See RaftLog."""
        del snapshot_id
        del self._arriving[position:]
        self._arriving += piece

    # What its owner does.

    def stored_at(self, end_offset: int) -> Stored | None:
        """The batch that ends there."""
        place = bisect_left(self._bases, end_offset) - 1
        return self.batches[place] if place >= 0 and self.batches[place].next_offset == end_offset else None

    def take_snapshot(self, end_offset: int, voters: VoterSet) -> None:
        """All below in one file, and the log begins there."""
        stored = self.stored_at(end_offset)
        assert stored is not None
        self._keep_snapshot(OffsetAndEpoch(end_offset, stored.epoch), stored.digest, voters)
        kept = [batch for batch in self.batches if batch.base_offset >= end_offset]
        self._start_at(OffsetAndEpoch(end_offset, stored.epoch), stored.digest, kept)

    def install_snapshot(self, snapshot_id: OffsetAndEpoch, voters: VoterSet) -> None:
        """The snapshot that has arrived takes the place of the log."""
        digest = int.from_bytes(self._arriving[:4], "big")
        self._keep_snapshot(snapshot_id, digest, voters)
        assert bytes(self._arriving) == self.snapshot_bytes, "its pieces were put together wrongly"
        self.cuts += 1
        self._start_at(snapshot_id, digest, [])
        self.synced = self.log_end_offset

    def _keep_snapshot(self, snapshot_id: OffsetAndEpoch, digest: int, voters: VoterSet) -> None:
        self.snapshot_bytes = digest.to_bytes(4, "big") + bytes(snapshot_id.offset % 50)
        self.snapshot = Snapshot(snapshot_id, len(self.snapshot_bytes), voters)

    def _start_at(self, start: OffsetAndEpoch, digest: int, kept: list[Stored]) -> None:
        self.start, self.start_digest, self.batches = start, digest, kept
        self._bases = [batch.base_offset for batch in kept]
        self._epochs = []
        for batch in kept:
            if not self._epochs or self._epochs[-1][0] != batch.epoch:
                self._epochs.append((batch.epoch, batch.base_offset))
        self._end_changed()
        self.synced = max(self.synced, start.offset)

    def crash(self, end_offset: int) -> None:
        """What was not on disk is gone from there on, up to the batch that it falls into."""
        synced = self.synced
        self.truncate_to(max(end_offset, synced), 0)
        self._arriving.clear()
