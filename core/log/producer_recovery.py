"""The producers of a log that is opened: the last sound snapshot, and the headers after it.

A snapshot knows the last batch of each producer, as Kafka's do; but a producer may repeat any of the last
five when it had no answer before the log was closed. Those are read from the log.
"""

from collections.abc import Sequence

from tailrace.core.log import offset_index
from tailrace.core.log.directory import Directory
from tailrace.core.log.leader_epochs import LeaderEpochs
from tailrace.core.log.producer_state import BATCHES_KEPT, ProducerState, decode_snapshot
from tailrace.core.log.recovery import Recovered, remove_snapshots_above
from tailrace.core.log.scan import scan
from tailrace.core.log.segment import INDEX_SUFFIX, SNAPSHOT_SUFFIX, Segment, file_name

RECALL_BYTES_MAX = 8 * 1024 * 1024


def restore_producers(
    directory: Directory, found: Recovered, epochs: LeaderEpochs | None = None
) -> ProducerState:
    """Producers as of the end: the last sound snapshot, then the headers above it; also `epochs` the file had
    not yet.
    """
    segments, end_offset = found.segments, found.end_offset
    state, start = ProducerState(), segments[0].base_offset
    snapshots = remove_snapshots_above(directory, end_offset)
    if not found.is_trusted:
        # (R) or a crash brings one back, and by then the log is longer, with other batches; whether or not
        # there was one: who removed it may have died before it could do this
        directory.sync()
    for offset in reversed(snapshots):
        known = decode_snapshot(directory.read(file_name(offset, SNAPSHOT_SUFFIX)) or b"")
        if known is not None and offset >= start:
            _recall(directory, segments, offset, known)
            state, start = known, offset
            break
        directory.remove(file_name(offset, SNAPSHOT_SUFFIX))
    for number, segment in enumerate(segments):
        if number + 1 < len(segments) and segments[number + 1].base_offset <= start:
            continue
        if start < end_offset:
            _replay(directory, segment, range(start, end_offset), state, epochs)
    return state


def _recall(directory: Directory, segments: Sequence[Segment], offset: int, state: ProducerState) -> None:
    """What came before the last batches: as many as may be repeated, if they were like those."""
    segment = next((each for each in reversed(segments) if each.base_offset < offset), None)
    if segment is None:
        return
    last = [producer.batches[-1] for producer in state.producers.values() if producer.batches]
    back = 2 * BATCHES_KEPT * sum(batch.last_offset - batch.base_offset + 1 for batch in last)
    end = _position_of(directory, segment, offset)
    while back > 1 and end - _position_of(directory, segment, offset - back) > RECALL_BYTES_MAX:
        back //= 2
    recalled = ProducerState()
    _replay(directory, segment, range(offset - back, offset), recalled, None)
    for producer_id, producer in state.producers.items():
        found = recalled.producers.get(producer_id)
        if found is not None and (found.epoch, found.last_offset) == (producer.epoch, producer.last_offset):
            producer.batches = found.batches


def _position_of(directory: Directory, segment: Segment, offset: int) -> int:
    """Where a batch begins that is at or before the one with this offset."""
    try:
        index = directory.open_read(file_name(segment.base_offset, INDEX_SUFFIX))
    except FileNotFoundError:
        return 0
    try:
        relative = max(offset - segment.base_offset - 1, 0)
        return offset_index.look_up(index.read, index.size(), relative)[1]
    finally:
        index.release()


def _replay(
    directory: Directory, segment: Segment, offsets: range, state: ProducerState, epochs: LeaderEpochs | None
) -> None:
    position = _position_of(directory, segment, offsets.start)
    file = directory.open_read(segment.log_name)
    try:
        for _, header in scan(file, position, segment.size, check=False):
            if header.base_offset < offsets.start:
                continue
            if header.base_offset >= offsets.stop:
                break
            if epochs is not None and header.leader_epoch >= 0:
                epochs.assign(header.leader_epoch, header.base_offset)
            state.update(
                header.producer_id,
                header.producer_epoch,
                header.base_sequence,
                header.base_offset,
                header.last_offset,
                header.max_timestamp,
                header.attributes,
            )
    finally:
        file.release()
