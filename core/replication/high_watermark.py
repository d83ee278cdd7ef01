"""Where the high watermark of a new leader begins.

Readers may have seen any high watermark that a replica ever published, so none of them may be forgotten: not
that of a predecessor which died before it could publish, nor that of the leader before it (R).

A row counts with the leader epoch in it: its owner publishes an epoch only after it has truncated by it (R),
or once it leads in it, and -1 until it has done either since the last full stop of all replicas. So a row of
an epoch not below `lineage`, that of the last unclean election, tells of batches that are in this line. Where
no row has such an epoch, who was elected then has not led yet, whatever epochs it died in meanwhile: what it
has of the line before is what the choice has left (R).
"""

from collections.abc import Iterable

from tailrace.core.errors import KAFKA_STORAGE_ERROR, KafkaError


def starting_high_watermark(
    rows: Iterable[tuple[int, int]],
    *,
    lineage: int,
    leader_epoch: int,
    own_high_watermark: int,
    log_end_offset: int,
) -> int:
    """Of who leads in `leader_epoch`; before it serves. KafkaError: it lacks what is committed.

    rows: (leader epoch, high watermark) of all replicas of the partition. lineage: leader epoch of the last
    unclean election, -1 if there was none. own_high_watermark: of its log as it was opened; after a full stop
    that is the checkpoint, and there is nothing else.
    """
    own, rows = min(own_high_watermark, log_end_offset), list(rows)
    if lineage == leader_epoch:  # what it has not is lost, and that was the choice
        return min(max((mark for _, mark in rows), default=own), log_end_offset)
    shown = [(epoch, mark) for epoch, mark in rows if epoch >= 0]
    if shown and max(shown)[0] < lineage:  # (R) who was elected then died before it began: this is the first
        return max(own, min(max(mark for _, mark in shown), log_end_offset))
    known = max((mark for epoch, mark in shown if epoch >= lineage), default=0)
    if known > log_end_offset:  # (R) an in-sync replica has it all: rather no leader than one that lost it
        raise KafkaError(
            KAFKA_STORAGE_ERROR, f"committed up to {known}, but the log ends at {log_end_offset}"
        )
    return max(known, own)
