"""Where an offset lies: the segment, and the position in it."""

from bisect import bisect_right

from tailrace.core.errors import OFFSET_OUT_OF_RANGE, KafkaError
from tailrace.core.log import offset_index
from tailrace.core.log.directory import Directory
from tailrace.core.log.scan import scan
from tailrace.core.log.segment import INDEX_SUFFIX, Segment, file_name

SCAN_BYTES = 16 * 1024  # read at once: an index entry is never far


def place_of(directory: Directory, segments: list[Segment], offset: int) -> tuple[int, int]:
    """(base offset of the segment, position) of the first batch that ends at or above `offset`."""
    number = bisect_right([segment.base_offset for segment in segments], offset) - 1
    if number < 0:
        raise KafkaError(OFFSET_OUT_OF_RANGE, f"{offset} is below {segments[0].base_offset}")
    for segment in segments[number:]:  # what follows is read if compaction has taken the end of a segment
        position = _position_in(directory, segment, offset)
        if position < segment.size:
            return segment.base_offset, position
    last = segments[-1]
    raise KafkaError(OFFSET_OUT_OF_RANGE, f"{offset} is above the end of segment {last.base_offset}")


def _position_in(directory: Directory, segment: Segment, offset: int) -> int:
    """Its size if all its batches end below."""
    start = 0
    if offset > segment.base_offset:
        try:
            index = directory.open_read(file_name(segment.base_offset, INDEX_SUFFIX))
        except FileNotFoundError:
            index = None
        if index is not None:
            wanted = offset - segment.base_offset - 1
            start = offset_index.look_up(index.read, index.size(), wanted)[1]
            index.release()
    file = directory.open_read(segment.log_name)
    try:
        for position, header in scan(file, start, segment.size, check=False, chunk_size=SCAN_BYTES):
            if header.last_offset >= offset:
                return position
    finally:
        file.release()
    return segment.size
