"""The vote, as it is kept on disk: Kafka's `quorum-state`, a JSON object in one line."""

import msgspec

from tailrace.core.ids import ZERO_UUID, parse_uuid, uuid_text
from tailrace.core.raft.messages import NO_LEADER
from tailrace.core.raft.voters import ReplicaKey

DATA_VERSION = 1
NOBODY = -1


class QuorumState(msgspec.Struct, frozen=True):
    """The epoch, whom this node voted for in it, and its leader if that was known when it was written."""

    epoch: int = 0
    voted: ReplicaKey | None = None
    leader_id: int = NO_LEADER


class _File(msgspec.Struct, rename="camel"):
    leader_id: int = NO_LEADER
    leader_epoch: int = 0
    voted_id: int = NOBODY
    voted_directory_id: str = uuid_text(ZERO_UUID)  # not in version 0
    data_version: int = msgspec.field(default=0, name="data_version")


def encode_quorum_state(state: QuorumState) -> bytes:
    """The file's bytes."""
    voted = state.voted or ReplicaKey(NOBODY)
    return msgspec.json.encode(
        _File(
            leader_id=state.leader_id,
            leader_epoch=state.epoch,
            voted_id=voted.node_id,
            voted_directory_id=uuid_text(voted.directory_id),
            data_version=DATA_VERSION,
        )
    )


def decode_quorum_state(data: bytes) -> QuorumState:
    """What such a file says, of Kafka's version 0 or 1; ValueError if it is none."""
    try:
        found = msgspec.json.decode(data, type=_File)
        directory_id = parse_uuid(found.voted_directory_id)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ValueError(f"no quorum state: {error}") from error
    if found.data_version not in (0, DATA_VERSION):
        raise ValueError(f"a quorum state of version {found.data_version}")
    voted = ReplicaKey(found.voted_id, directory_id) if found.voted_id >= 0 else None
    return QuorumState(max(found.leader_epoch, 0), voted, found.leader_id)
