"""A log in memory for simulations: what replication asks of one, in 150 lines, with real batches."""

from collections.abc import Callable

from msgspec import Struct

from tailrace.core.errors import FENCED_LEADER_EPOCH, OFFSET_OUT_OF_RANGE, KafkaError
from tailrace.core.records.batch import Buffer, parse_header, stamp
from tailrace.core.records.record import NewRecord, build_batch

SEGMENT_BATCHES = 7


def new_batch(number: int, records: int) -> bytes:
    """One that no other is like."""
    return bytes(build_batch([NewRecord(value=b"%d" % number, timestamp=1)] * records))


class Stored(Struct):
    """One batch, and where it lies."""

    base: int
    end: int
    epoch: int
    segment: int
    position: int
    data: bytes

    @property
    def identity(self) -> tuple[int, int, bytes]:
        """Equal for equal batches at equal places."""
        return self.base, self.end, self.data


class MemorySegment(Struct):
    """See StoredSegment."""

    base_offset: int
    size: int = 0
    count: int = 0


class MemoryEpochs(Struct):
    """See Epochs."""

    latest: int


class MemoryLog:
    """See ReplicatedLog. `recovery_point`: what is on the disk, and is left after the power went."""

    def __init__(self) -> None:
        self.log_start_offset = self.log_end_offset = self.high_watermark = self.recovery_point = 0
        self.batches: list[Stored] = []
        self.segments = [MemorySegment(base_offset=0)]
        self.truncations = self.checkpoint = 0

    @property
    def active_base_offset(self) -> int:
        """See LogView."""
        return self.segments[-1].base_offset

    @property
    def active_position(self) -> int:
        """See LogView."""
        return self.segments[-1].size

    @property
    def leader_epochs(self) -> MemoryEpochs:
        """See LogView."""
        return MemoryEpochs(self.batches[-1].epoch if self.batches else -1)

    def epoch_end_offset(self, epoch: int, leader_epoch: int = -1) -> tuple[int, int]:
        """See LeaderEpochs.end_offset_for."""
        starts: dict[int, int] = {}
        for stored in self.batches:
            starts.setdefault(stored.epoch, stored.base)
        if leader_epoch > self.leader_epochs.latest:
            starts[leader_epoch] = self.log_end_offset
        if not starts or epoch < 0:
            return -1, -1
        if epoch == max(starts):
            return epoch, self.log_end_offset
        following = [start for known, start in starts.items() if known > epoch]
        if not following:
            return -1, -1
        older = [known for known in starts if known <= epoch]
        return (max(older) if older else epoch), min(following)

    def place_of(self, offset: int) -> tuple[int, int]:
        """See LogView."""
        for stored in self.batches:
            if stored.end > offset:
                return stored.segment, stored.position
        return self.active_base_offset, self.active_position

    def stored(self, start: int, end: int) -> memoryview:
        """See LogView."""
        return memoryview(self.read(self.active_base_offset, start, end - start))

    def read(self, segment: int, position: int, length: int) -> bytes:
        """Bytes of a file, none if it is not there."""
        data = b"".join(stored.data for stored in self.batches if stored.segment == segment)
        return data[position : position + length]

    def produce(self, batch: bytes, leader_epoch: int) -> int:
        """At the end; returns the new end."""
        data = bytearray(batch)
        stamp(data, self.log_end_offset, leader_epoch)
        self._put(bytes(data))
        return self.log_end_offset

    def append_as_follower(self, source: Buffer, _now_ms: int, *, allow_gap: bool = False) -> None:
        """See FollowedLog."""
        header = parse_header(source)
        if header.base_offset != self.log_end_offset and not (
            allow_gap and header.base_offset > self.log_end_offset
        ):
            raise KafkaError(OFFSET_OUT_OF_RANGE, f"{header.base_offset}, not {self.log_end_offset}")
        if header.leader_epoch < self.leader_epochs.latest:
            raise KafkaError(FENCED_LEADER_EPOCH, f"{header.leader_epoch} after {self.leader_epochs.latest}")
        self._put(bytes(source))

    def _put(self, data: bytes) -> None:
        header, segment = parse_header(data), self.segments[-1]
        if segment.count == SEGMENT_BATCHES:
            segment = MemorySegment(base_offset=self.log_end_offset)
            self.segments.append(segment)
        end = header.last_offset + 1
        self.batches.append(
            Stored(header.base_offset, end, header.leader_epoch, segment.base_offset, segment.size, data)
        )
        segment.size += len(data)
        segment.count += 1
        self.log_end_offset = end

    def truncate_to(self, offset: int, _now_ms: int) -> None:
        """See Log."""
        self.truncations += 1
        while self.batches and self.batches[-1].end > offset:
            gone = self.batches.pop()
            self.log_end_offset = gone.base
            segment = self.segments[-1]
            segment.size -= len(gone.data)
            segment.count -= 1
            if not segment.count and len(self.segments) > 1:
                self.segments.pop()
        self.high_watermark = min(self.high_watermark, self.log_end_offset)
        self.recovery_point = min(self.recovery_point, self.log_end_offset)

    def truncate_fully_and_start_at(self, offset: int, _now_ms: int) -> None:
        """See Log."""
        self.truncations += 1
        self.batches, self.segments = [], [MemorySegment(base_offset=offset)]
        self.log_start_offset = self.log_end_offset = self.high_watermark = self.recovery_point = offset

    def delete_records_before(self, offset: int, _now_ms: int) -> None:
        """See Log; whole segments go."""
        assert offset <= self.high_watermark
        self.log_start_offset = max(self.log_start_offset, offset)
        while len(self.segments) > 1 and self.segments[1].base_offset <= offset:
            gone = self.segments.pop(0)
            self.batches = [stored for stored in self.batches if stored.segment != gone.base_offset]

    # What a simulation asks besides.

    def sync(self) -> None:
        """All is on the disk."""
        self.recovery_point = self.log_end_offset
        self.checkpoint = self.high_watermark

    def held(self, start: int = 0) -> list[tuple[int, int, bytes]]:
        """Batches at and above an offset."""
        return [stored.identity for stored in self.batches if stored.base >= start]

    def after_kill(self) -> "MemoryLog":
        """All is in the page cache; its high watermark is in its row."""
        return self

    def after_power_loss(self, keep: Callable[[int, int], int]) -> "MemoryLog":
        """What was not synced may be gone, from any batch on."""
        end = keep(self.recovery_point, self.log_end_offset)
        self.truncate_to(end, 0)
        self.recovery_point = self.log_end_offset
        self.high_watermark = min(self.checkpoint, self.log_end_offset)
        return self
