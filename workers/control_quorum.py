"""What gateways and controllers say to each other about the quorum of the controllers; see control.py."""

import msgspec

from tailrace.core.raft.quorum import QuorumStatus
from tailrace.core.raft.voters import ReplicaKey, Voter


class DescribeQuorum(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=60):
    """A gateway asks who leads the quorum, who votes, who follows. Answered by QuorumDescribed."""

    request_id: int


class AddVoter(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=61):
    """Let this controller vote. Answered by VotersChanged once that is committed, or in the log of the leader
    where `ack_when_committed` is false, or refused.
    """

    request_id: int
    voter: Voter
    ack_when_committed: bool = True


class RemoveVoter(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=62):
    """Let this controller vote no more. Answered by VotersChanged once that is committed, or refused."""

    request_id: int
    key: ReplicaKey


class QuorumDescribed(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=63):
    """The quorum as its leader sees it; None: it leads no more."""

    request_id: int
    status: QuorumStatus | None


class VotersChanged(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=64):
    """What became of a change of the voters; error_message None comes without an error."""

    request_id: int
    error_code: int
    error_message: str | None
