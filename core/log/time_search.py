"""Looks into segments by descriptor: records by time, and where a log is to be cut.

By time: the segment by its largest timestamp, the batch by the indexes, the record by decoding one batch.
"""

from contextlib import suppress

from tailrace.core.errors import KafkaError
from tailrace.core.log import offset_index, time_index
from tailrace.core.log.directory import Directory
from tailrace.core.log.scan import scan
from tailrace.core.log.segment import INDEX_SUFFIX, TIME_INDEX_SUFFIX, Segment, file_name
from tailrace.core.records.batch import LOG_APPEND_TIME, NO_TIMESTAMP, BatchHeader
from tailrace.core.records.record import iterate_batch

OPENED_RECORDS_MAX = 100_000  # of one batch: 0.2 s, for which its worker's other partitions wait
OPENED_BYTES_MAX = 16 * 1024 * 1024  # of one batch, decompressed

Found = tuple[int, int, int]
"""Offset, timestamp, leader epoch."""


def first_at_or_after(
    directory: Directory, segments: list[Segment], timestamp: int, log_start_offset: int = 0
) -> Found | None:
    """The first record, in order of offsets from where the log starts, that is not older than `timestamp`."""
    for segment in segments:
        if segment.size and segment.max_timestamp >= timestamp:
            found = _in_segment(directory, segment, timestamp, log_start_offset)
            if found is not None:
                return found
    return None


def largest(directory: Directory, segments: list[Segment]) -> Found | None:
    """The first record with the largest timestamp of all; as in Kafka, it may be a deleted one."""
    best = max(segments, key=lambda segment: segment.max_timestamp, default=None)
    if best is None or best.max_timestamp == NO_TIMESTAMP:
        return None
    return _in_segment(directory, best, best.max_timestamp, 0)


def _in_segment(directory: Directory, segment: Segment, timestamp: int, start_offset: int) -> Found | None:
    file = directory.open_read(segment.log_name)
    try:
        for position, header in scan(
            file, _start(directory, segment, timestamp, start_offset), segment.size, check=False
        ):
            if header.max_timestamp < timestamp or header.last_offset < start_offset:
                continue
            if header.attributes & LOG_APPEND_TIME:
                return max(header.base_offset, start_offset), header.max_timestamp, header.leader_epoch
            found = _in_batch(file.read(position, header.size), header, timestamp, start_offset)
            if found is not None:
                return found
    finally:
        file.release()
    return None


def _in_batch(batch: bytes, header: BatchHeader, timestamp: int, start_offset: int) -> Found | None:
    """The first such record of a batch that claims to have one.

    (R) The claim is the producer's. A batch that would take long to open (24 kB hold 36 million records), one
    that cannot be opened, or has no such record is answered for as a whole: nothing before it is younger.
    """
    if header.record_count <= OPENED_RECORDS_MAX:
        with suppress(KafkaError):
            for record in iterate_batch(batch, limit=OPENED_BYTES_MAX):
                if record.timestamp >= timestamp and record.offset >= start_offset:
                    return record.offset, record.timestamp, header.leader_epoch
            if header.base_offset < start_offset:  # it was among the deleted
                return None
    return max(header.base_offset, start_offset), header.max_timestamp, header.leader_epoch


def _start(directory: Directory, segment: Segment, timestamp: int, start_offset: int) -> int:
    """A position before which every record of the segment is older, or deleted."""
    times = directory.read(file_name(segment.base_offset, TIME_INDEX_SUFFIX)) or b""
    offsets = directory.read(file_name(segment.base_offset, INDEX_SUFFIX)) or b""

    def read_times(position: int, length: int) -> bytes:
        return times[position : position + length]

    def read_offsets(position: int, length: int) -> bytes:
        return offsets[position : position + length]

    count = offset_index.count_entries(read_times, len(times), time_index.ENTRY_SIZE, 0)
    relative = time_index.look_up(read_times, count, timestamp)[1]
    relative = max(relative, start_offset - segment.base_offset)
    return offset_index.look_up(read_offsets, len(offsets), relative)[1]
