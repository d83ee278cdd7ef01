"""What must, and what may, be found in a log: written down beside the journal of a simulated disk."""

from typing import NamedTuple

from msgspec import Struct

from tailrace.core.log.log import Log
from tailrace.core.log.scan import scan
from tailrace.core.records.batch import HEADER_SIZE, BatchHeader


class Held(NamedTuple):
    """A batch, as much of it as an append does not change."""

    base_offset: int
    last_offset: int
    leader_epoch: int
    producer_id: int
    base_sequence: int
    timestamp: int
    body: bytes

    @classmethod
    def of(cls, header: BatchHeader, body: bytes) -> "Held":
        """A batch that was read."""
        return cls(
            header.base_offset,
            header.last_offset,
            header.leader_epoch,
            header.producer_id,
            header.base_sequence,
            header.max_timestamp,
            body,
        )


class History(Struct, kw_only=True, frozen=True):
    """Of one log, at one moment."""

    topic: str
    topic_id: bytes
    exists: bool = True  # its topic does
    batches: tuple[Held, ...] = ()  # may be there, in order; those above `end` are being appended or cut
    begins: int = 0  # offset of the first batch ever, since the log was emptied
    end: int = 0  # appends below have returned
    synced: int = 0  # what is below is on the disk
    starts: tuple[int, int] = (0, 0)  # where it starts: the least and the most that may be written down
    is_emptied: bool = False  # right now
    row: tuple[int, ...] = ()  # what its worker has published last

    def below(self, offset: int) -> tuple[Held, ...]:
        """The whole batches below an offset."""
        return tuple(one for one in self.batches if one.last_offset < offset)


def held_in(log: Log) -> list[Held]:
    """The batches in the segments of a log, whose CRC is checked."""
    found: list[Held] = []
    for segment in log.segments:
        file = log.directory.open_read(segment.log_name)
        for position, header in scan(file, 0, segment.size, check=True):
            body = file.read(position + HEADER_SIZE, header.size - HEADER_SIZE)
            found.append(Held.of(header, body))
    return found
