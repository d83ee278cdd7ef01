"""Snapshots of a log's producers: where each segment begins, and the last one taken inside the active
segment, so that what a recovery replays is bounded.
"""

from collections.abc import Iterable

from tailrace.core.log.directory import Directory
from tailrace.core.log.producer_state import ProducerState
from tailrace.core.log.segment import SNAPSHOT_SUFFIX, file_name, offset_of


def write_snapshot(
    directory: Directory, offset: int, producers: ProducerState, bases: Iterable[int], *, for_deletion: bool
) -> None:
    """The producers as of `offset`; older snapshots that are not at a segment's base offset go. OSError if
    there is no room; only a deletion, which makes some, may use the disk's reserve.
    """
    data = producers.encode()
    if not for_deletion:
        directory.check_room(len(data))
    directory.replace(file_name(offset, SNAPSHOT_SUFFIX), data, durable=False)
    kept = set(bases)
    for name in directory.names():
        found = offset_of(name, SNAPSHOT_SUFFIX)
        if found is not None and found < offset and found not in kept:
            directory.remove(name)


def remove_snapshots(directory: Directory) -> None:
    """Of a log that begins anew."""
    for name in directory.names():
        if offset_of(name, SNAPSHOT_SUFFIX) is not None:
            directory.remove(name)
