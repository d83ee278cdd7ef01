"""Raft's messages in a few words, for stories."""

from tailrace.core.raft.messages import (
    FetchRequest,
    FetchResponse,
    FetchSnapshotRequest,
    FetchSnapshotResponse,
    Message,
    OffsetAndEpoch,
    VoteRequest,
    VoteResponse,
)
from tailrace.core.raft.raft_log import split_batches


def brief(told: object) -> str:
    """Anything that a story tells."""
    return _message(told) if isinstance(told, Message) else str(told)


def _message(message: Message) -> str:
    """`offset@epoch` is an end of a log, or a snapshot."""
    at = f"e{message.epoch}"
    match message:
        case VoteRequest():
            kind = "Pre-vote" if message.pre_vote else "Vote"
            return f"{kind}? {at} of {message.candidate} at {_end(message.log_end)}"
        case VoteResponse():
            kind = "Pre-vote" if message.pre_vote else "Vote"
            return f"{kind} {at} {'yes' if message.granted else 'no'}, leader {message.leader_id}"
        case FetchRequest():
            end = f"{message.fetch_offset}@{message.last_fetched_epoch}"
            return f"Fetch? {at} #{message.number % 1000} at {end}, hw {message.high_watermark}"
        case FetchResponse():
            return f"Fetch {at} #{message.number % 1000} {_fetched(message)}"
        case FetchSnapshotRequest():
            return f"Snapshot? {at} {_end(message.snapshot_id)} from byte {message.position}"
        case FetchSnapshotResponse():
            where = f"byte {message.position} + {len(message.piece)} of {message.size}"
            return f"Snapshot {at} {_end(message.snapshot_id)} {where} error {message.error_code}"
        case _:
            return f"{type(message).__name__.removesuffix('Request')} {at} {message.leader_id}"


def _end(end: OffsetAndEpoch) -> str:
    return f"{end.offset}@{end.epoch}"


def _fetched(message: FetchResponse) -> str:
    if message.error_code:
        return f"error {message.error_code}, leader {message.leader_id}"
    if message.snapshot_id is not None:
        return f"take snapshot {_end(message.snapshot_id)}"
    if message.diverging is not None:
        return f"diverging at {_end(message.diverging)}"
    batches = " ".join(f"{b.base_offset}@{b.epoch}" for b in split_batches(message.records))
    return f"[{batches}], hw {message.high_watermark}"
