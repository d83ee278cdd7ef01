"""What the node wants done. Each is a plain value; those that need an answer say which.

They are done in order. A message may be lost; everything else may not. Nothing else is implied: until an
answer comes the node waits with what depends on it, and only with that.
"""

from msgspec import Struct

from tailrace.core.raft.messages import Message, OffsetAndEpoch
from tailrace.core.raft.quorum_state import QuorumState


class Send(Struct, frozen=True):
    """Send a message to a node."""

    target: int
    message: Message


class StoreVote(Struct, frozen=True):
    """Write and sync the quorum state; then `on_vote_stored(state)`. A newer one may replace an older that is
    still to be written: then only the newer is answered.
    """

    state: QuorumState


class Sync(Struct, frozen=True):
    """Sync the log as it is now or later, at least below `upto`; then `on_synced(it)`. One at a time is under
    way. `cuts` says how often the log had been cut, for a truncation that comes between.
    """

    upto: int
    cuts: int


class InstallSnapshot(Struct, frozen=True):
    """The snapshot is whole in the log's keeping: sync it, let it take the place of the whole log, which
    begins and ends at its offset then; then `on_snapshot_installed(snapshot_id)`. One at a time is under way.
    """

    snapshot_id: OffsetAndEpoch


class Committed(Struct, frozen=True):
    """Everything below `high_watermark` is committed: it will never change."""

    high_watermark: int


class LeaderChanged(Struct, frozen=True):
    """Who leads, as far as this node knows; leader_id -1: nobody does."""

    epoch: int
    leader_id: int


class BecameLeader(Struct, frozen=True):
    """This node leads, and the first batch of its epoch is committed: so is everything before it. It may
    decide from here on; `append` is refused before.
    """

    epoch: int


class LostLeadership(Struct, frozen=True):
    """This node, which was elected in `epoch`, leads no more; what it appended above the high watermark may
    vanish.
    """

    epoch: int


Effect = Send | StoreVote | Sync | InstallSnapshot | Committed | LeaderChanged | BecameLeader | LostLeadership
