"""Looks into segments by descriptor: records by time, and where a log is to be cut.

By time: the segment by its largest timestamp, the batch by the indexes, the record by decoding one batch.
"""

from tailrace.core.log import offset_index, time_index
from tailrace.core.log.directory import Directory
from tailrace.core.log.scan import scan
from tailrace.core.log.segment import INDEX_SUFFIX, TIME_INDEX_SUFFIX, Segment, file_name
from tailrace.core.records.batch import LOG_APPEND_TIME, NO_TIMESTAMP
from tailrace.core.records.record import iterate_batch

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
        for position, header in scan(file, _start(directory, segment, timestamp), segment.size, check=False):
            if header.max_timestamp < timestamp or header.last_offset < start_offset:
                continue
            if header.attributes & LOG_APPEND_TIME:
                return max(header.base_offset, start_offset), header.max_timestamp, header.leader_epoch
            for record in iterate_batch(file.read(position, header.size)):
                if record.timestamp >= timestamp and record.offset >= start_offset:
                    return record.offset, record.timestamp, header.leader_epoch
    finally:
        file.release()
    return None


def _start(directory: Directory, segment: Segment, timestamp: int) -> int:
    """A position before which every record of the segment is older."""
    times = directory.read(file_name(segment.base_offset, TIME_INDEX_SUFFIX)) or b""
    offsets = directory.read(file_name(segment.base_offset, INDEX_SUFFIX)) or b""

    def read_times(position: int, length: int) -> bytes:
        return times[position : position + length]

    def read_offsets(position: int, length: int) -> bytes:
        return offsets[position : position + length]

    count = offset_index.count_entries(read_times, len(times), time_index.ENTRY_SIZE, 0)
    relative = time_index.look_up(read_times, count, timestamp)[1]
    return offset_index.look_up(read_offsets, len(offsets), relative)[1]
