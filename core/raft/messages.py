"""What the members of the quorum say to each other: KRaft's requests and responses, as plain values.

They are pulled: who follows fetches, and its fetch says how far its log is on disk. Each carries the sender's
epoch. Responses of Fetch and FetchSnapshot carry the number of their request, so that a late one is known.
On the way between processes they are msgpack arrays that start with their tag.
"""

import msgspec

from tailrace.core.raft.voters import ReplicaKey

NO_LEADER = -1


class OffsetAndEpoch(msgspec.Struct, frozen=True, array_like=True, order=True):
    """An end of a log: the next offset, and the epoch of the one before. Of a snapshot: its id."""

    offset: int
    epoch: int


class VoteRequest(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Will you vote for me? pre_vote: would you, in the epoch after this one (KIP-996)?"""

    epoch: int
    candidate: ReplicaKey
    log_end: OffsetAndEpoch
    pre_vote: bool = False


class VoteResponse(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The voter's answer, and the leader of its epoch if it knows one."""

    epoch: int
    leader_id: int
    voter: ReplicaKey
    granted: bool
    pre_vote: bool = False


class BeginQuorumEpochRequest(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """I lead this epoch: fetch from me."""

    epoch: int
    leader_id: int


class EndQuorumEpochRequest(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """I do not lead this epoch any more; these should follow me, the first at once."""

    epoch: int
    leader_id: int
    preferred_successors: tuple[ReplicaKey, ...] = ()


class FetchRequest(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """All below fetch_offset is in my log and on my disk; what comes then? Held for max_wait_ms if none."""

    number: int
    epoch: int
    replica: ReplicaKey
    fetch_offset: int
    last_fetched_epoch: int
    high_watermark: int = 0
    max_wait_ms: int = 0


class FetchResponse(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Batches; or where the logs part; or the snapshot to fetch instead; or who leads (error_code)."""

    number: int
    epoch: int
    leader_id: int
    error_code: int = 0
    high_watermark: int = 0
    diverging: OffsetAndEpoch | None = None
    snapshot_id: OffsetAndEpoch | None = None
    records: bytes = b""


class FetchSnapshotRequest(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """The bytes of a snapshot from `position` on."""

    number: int
    epoch: int
    replica: ReplicaKey
    snapshot_id: OffsetAndEpoch
    position: int
    max_bytes: int


class FetchSnapshotResponse(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """A piece of a snapshot, which has `size` bytes."""

    number: int
    epoch: int
    leader_id: int
    snapshot_id: OffsetAndEpoch
    error_code: int = 0
    position: int = 0
    size: int = 0
    piece: bytes = b""


Message = (
    VoteRequest
    | VoteResponse
    | BeginQuorumEpochRequest
    | EndQuorumEpochRequest
    | FetchRequest
    | FetchResponse
    | FetchSnapshotRequest
    | FetchSnapshotResponse
)

encode_message = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def decode_message(data: bytes | bytearray | memoryview) -> Message:
    """The message in these bytes; msgspec.ValidationError or DecodeError if there is none."""
    return _decoder.decode(data)
