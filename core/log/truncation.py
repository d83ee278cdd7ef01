"""Cuts the files of a log that nobody maps.

Rules (R), each with a test:
- later segments are gone, on disk, before an earlier one is cut: or a crash between leaves a hole between
  offsets;
- what is cut is cut on disk before it is appended to again: or a crash brings the cut batches back;
- a cut below the high watermark makes a new inode: a gateway may still be sending from the old one.
"""

from tailrace.core.log import offset_index, time_index
from tailrace.core.log.directory import Directory
from tailrace.core.log.log_config import LogConfig
from tailrace.core.log.recovery import (
    Rebuilt,
    Recovered,
    cut_log_file,
    remove_segment,
    remove_snapshots_above,
    store_indexes,
    trusted_entries,
)
from tailrace.core.log.scan import scan
from tailrace.core.log.segment import Segment


def remove_segments(directory: Directory, segments: list[Segment]) -> None:
    """Newest first, so that what a crash leaves has no hole."""
    for segment in reversed(segments):
        remove_segment(directory, segment.base_offset)
        directory.sync()


def cut_segments(
    directory: Directory, config: LogConfig, segments: list[Segment], offset: int, *, high_watermark: int
) -> Recovered:
    """Leaves the whole batches below `offset`, which is not below the first segment; the last one left is to
    be active.
    """
    remove_snapshots_above(directory, offset)
    directory.sync()  # (R) while the batches they know of are there: or a crash brings one back later
    kept = [segment for segment in segments if segment.base_offset <= offset]
    remove_segments(directory, segments[len(kept) :])
    last = kept[-1]
    rebuilt, end_offset = _part_below(directory, config, last, offset)
    if rebuilt.segment.size != last.size:
        new_inode = end_offset < high_watermark
        cut_log_file(directory, last.log_name, rebuilt.segment.size, new_inode=new_inode)
        directory.sync_file(last.log_name)
    store_indexes(directory, rebuilt, inactive=False)
    return Recovered(
        segments=[*kept[:-1], rebuilt.segment],
        end_offset=end_offset,
        offset_entries=len(rebuilt.offsets) // offset_index.ENTRY_SIZE,
        time_entries=len(rebuilt.times) // time_index.ENTRY_SIZE,
        since_index=rebuilt.since_index,
    )


def _part_below(directory: Directory, config: LogConfig, old: Segment, offset: int) -> tuple[Rebuilt, int]:
    """What a segment holds below an offset, and its next offset; read from the last index entry below on."""
    base, segment = old.base_offset, Segment(base_offset=old.base_offset)
    relative_end = offset - base
    all_offsets, all_times = trusted_entries(directory, base, old.size)
    offsets = [e for e in offset_index.ENTRY.iter_unpack(all_offsets) if e[0] < relative_end]
    times = [e for e in time_index.ENTRY.iter_unpack(all_times) if e[1] < relative_end]
    start = 0
    if offsets and times:
        start = segment.size = offsets[-1][1]
        segment.first_timestamp = old.first_timestamp
        segment.max_timestamp, segment.max_timestamp_offset = times[-1][0], base + times[-1][1]
    else:
        offsets, times = [], []
    rebuilt = Rebuilt(
        segment,
        config,
        b"".join(offset_index.ENTRY.pack(*entry) for entry in offsets),
        b"".join(time_index.ENTRY.pack(*entry) for entry in times),
    )
    end_offset = base
    file = directory.open_read(old.log_name)
    try:
        for position, header in scan(file, start, old.size, check=False):
            if header.last_offset >= offset:
                break
            rebuilt.add(position, header)
            end_offset = header.last_offset + 1
    finally:
        file.release()
    return rebuilt, end_offset
