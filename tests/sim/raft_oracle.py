"""What must hold of a Raft cluster at every moment, whatever happens to it.

Election safety        at most one leader an epoch
Log matching           batches of one offset and epoch are the same, and so is all before them
Leader completeness    a leader has everything that was committed
State machine safety   what is committed at one node is the same at all; the high watermark never goes back
Durability             what is committed was put on the disks of a majority of its leader's voters

By induction each needs only a look at what has just changed.
"""

from typing import TYPE_CHECKING

from tailrace.core.raft.leader import Leader
from tests.sim.memory_log import MemoryLog, Stored
from tests.sim.world import World

if TYPE_CHECKING:
    from tests.sim.raft_cluster import Member


class Oracle:
    """See the module."""

    def __init__(self, world: World, members: "dict[int, Member]") -> None:
        self._world, self._members = world, members
        self._leaders: dict[int, tuple[int, int]] = {}  # epoch -> node, incarnation
        self._digests: dict[tuple[int, int], int] = {}  # (end offset, epoch) -> of the log up to there
        self._committed: dict[int, tuple[int, int]] = {0: (0, 0)}  # end offset -> epoch, digest
        self._committed_by: dict[int, int] = {}  # epoch of the leader that did -> end offset
        self.committed_end = 0

    def on_append(self, log: MemoryLog, stored: Stored) -> None:
        """Log matching."""
        del log
        key = (stored.next_offset, stored.epoch)
        if self._digests.setdefault(key, stored.digest) != stored.digest:
            self._world.fail(f"log matching: two logs differ below offset {key[0]} of epoch {key[1]}")

    def look_at(self, member: "Member") -> None:
        """Something has happened at this one."""
        node = member.node
        if node is None:
            return
        if isinstance(node.role, Leader) and member.led_epoch != node.epoch:
            member.led_epoch = node.epoch
            self._on_elected(member)
        if node.high_watermark != member.high_watermark:
            self._on_commit(member)
        member.voters = node.voters.latest

    def _on_elected(self, member: "Member") -> None:
        assert member.node is not None
        epoch, now = member.node.epoch, (member.node_id, member.incarnation)
        if self._leaders.setdefault(epoch, now) != now:
            self._world.fail(f"election safety: {self._leaders[epoch]} and {now} lead epoch {epoch}")
        # a late leader of an old epoch need not have what a newer one has committed
        needed = max((end for by, end in self._committed_by.items() if by < epoch), default=0)
        if not self._has(member.log, needed):
            self._world.fail(
                f"leader completeness: node {member.node_id} leads epoch {epoch} without what is "
                f"committed below {needed}"
            )

    def _has(self, log: MemoryLog, end_offset: int) -> bool:
        """What is committed below end_offset, by the digest of all of it; what a snapshot holds was checked
        when it was taken.
        """
        if end_offset < log.start.offset:
            return True
        if end_offset == log.start.offset:
            return self._committed[end_offset][1] == log.start_digest
        stored = log.stored_at(end_offset)
        return stored is not None and self._committed[end_offset] == (stored.epoch, stored.digest)

    def _on_commit(self, member: "Member") -> None:
        node, log = member.node, member.log
        assert node is not None
        before, now = member.high_watermark, node.high_watermark
        member.high_watermark = now
        if now < before:
            self._world.fail(f"node {member.node_id}: the high watermark went from {before} back to {now}")
        if now > log.log_end_offset:
            self._world.fail(
                f"node {member.node_id}: {now} is committed and the log ends at {log.log_end_offset}"
            )
        if now <= self.committed_end:
            if now not in self._committed or not self._has(log, now):
                self._world.fail(f"state machine safety: node {member.node_id} differs below {now}")
            return
        if not self._has(log, self.committed_end):
            self._world.fail(f"state machine safety: node {member.node_id} lost {self.committed_end}")
        if member.led_epoch != node.epoch:  # its last act as leader may have been to commit its removal
            self._world.fail(f"node {member.node_id} says that {now} is committed, and no leader did")
        for stored in reversed(log.batches):
            if stored.next_offset <= self.committed_end:
                break
            if self.committed_end < stored.next_offset <= now:
                self._committed[stored.next_offset] = (stored.epoch, stored.digest)
        self.committed_end = self._committed_by[node.epoch] = now
        self._check_durable(member, now)

    def _check_durable(self, member: "Member", end_offset: int) -> None:
        """By the voters of now or of the last look: a leader may commit and change them in one step."""
        assert member.node is not None
        sets = {member.voters, member.node.voters.latest}
        keys = {
            voter.key
            for voters in sets
            for voter in voters
            if (log := self._members[voter.key.node_id].logs[voter.key]).synced >= end_offset
            and self._has(log, end_offset)
        }
        if not any(len(keys & voters.keys) >= voters.majority for voters in sets):
            holders = sorted(map(str, keys))
            self._world.fail(f"durability: {end_offset} is committed and on the disks of {holders} alone")

    def check_end(self) -> None:
        """When all is quiet: everybody has the same."""
        for member in self._members.values():
            if member.node is not None and not self._has(member.log, self.committed_end):
                self._world.fail(f"node {member.node_id} has not got all that is committed")
