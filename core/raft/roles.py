"""The roles of a member, but for leader and follower, which have files of their own.

    Unattached   knows no leader; waits, as an observer it asks around; may have voted in this epoch
    Prospective  asks whether it would be voted for, without touching anybody's epoch (KIP-996)
    Candidate    asks for votes, in an epoch of its own, its own vote being on disk
    Resigned     led this epoch and does not any more

A role holds what only it needs and is dropped with it. Events come through the node, which has looked at the
epoch; a role changes by one of the node's `become_*`.
"""

from typing import TYPE_CHECKING

from tailrace.core.raft.messages import (
    FetchRequest,
    FetchResponse,
    FetchSnapshotRequest,
    FetchSnapshotResponse,
    VoteRequest,
    VoteResponse,
)
from tailrace.core.raft.quorum import Tally

if TYPE_CHECKING:
    from tailrace.core.raft.node import RaftNode

FOREVER = 2**62


class Role:
    """What a role does when it does nothing special. `deadline_ms`: when `tick` has something to do."""

    name = ""
    has_leader = False  # nothing that others say about the leader of this epoch is news

    def __init__(self, node: "RaftNode") -> None:
        self.node = node
        self.deadline_ms = FOREVER

    @property
    def hears_leader(self) -> bool:
        """(R) It knows by itself, and not from others, that this epoch has a leader who lives. Only then it
        says so, and wants no other: or a rumour keeps a dead leader alive among those who repeat it.
        """
        return False

    def tick(self, now_ms: int) -> None:
        """The deadline has passed."""

    def on_vote_response(self, response: VoteResponse, now_ms: int) -> None:
        """Of this epoch."""

    def on_fetch_request(self, request: FetchRequest, now_ms: int) -> None:  # noqa: ARG002 - others need it
        """Of this epoch, or any other."""
        self.node.refuse_fetch(request)

    def on_fetch_snapshot_request(
        self,
        request: FetchSnapshotRequest,
        now_ms: int,  # noqa: ARG002 - others need it
    ) -> None:
        """Of this epoch, or any other."""
        self.node.refuse_fetch_snapshot(request)

    def on_fetch_response(self, response: FetchResponse, now_ms: int) -> None:
        """Of this epoch."""

    def on_fetch_snapshot_response(self, response: FetchSnapshotResponse, now_ms: int) -> None:
        """Of this epoch."""

    def on_stored(self, now_ms: int) -> None:
        """The vote and the epoch are on disk."""

    def on_synced(self, now_ms: int) -> None:
        """More of the log is on disk."""

    def before_effects(self, now_ms: int) -> None:
        """All that came in is done: what is said once for all of it."""


class Unattached(Role):
    """No leader is known. `skip_pre_vote`: that the last one is gone is certain."""

    name = "unattached"

    def __init__(
        self, node: "RaftNode", now_ms: int, wait_ms: int | None = None, *, skip_pre_vote: bool = False
    ) -> None:
        super().__init__(node)
        self.skip_pre_vote = skip_pre_vote
        self._asked = 0
        if node.is_voter:
            self.deadline_ms = now_ms + (node.election_timeout_ms() if wait_ms is None else wait_ms)
        else:
            self.deadline_ms = now_ms

    def tick(self, now_ms: int) -> None:
        node = self.node
        if not node.is_voter:
            self._ask_around(now_ms)
        elif self.skip_pre_vote:
            node.become_candidate(now_ms)
        else:
            node.become_prospective(now_ms)

    def _ask_around(self, now_ms: int) -> None:
        """An observer finds the leader by a fetch that anybody answers with the leader's name."""
        node = self.node
        asked = node.voters.latest.ids or node.settings.bootstrap
        others = [node_id for node_id in asked if node_id != node.key.node_id]
        if others:
            node.send(others[self._asked % len(others)], node.fetch_request(max_wait_ms=0))
            self._asked += 1
        self.deadline_ms = now_ms + node.settings.retry_ms + node.jitter.below(node.settings.retry_ms)


class Prospective(Role):
    """Asks first."""

    name = "prospective"

    def __init__(self, node: "RaftNode", now_ms: int) -> None:
        super().__init__(node)
        self._votes = Tally(node.voters.latest)
        self.deadline_ms = now_ms + node.election_timeout_ms()

    def begin(self, now_ms: int) -> None:
        """Counts itself, asks all others."""
        node = self.node
        self._votes.count(node.key, granted=True)
        if self._votes.is_won:
            node.become_candidate(now_ms)
        else:
            node.ask_for_votes(pre_vote=True)

    def tick(self, now_ms: int) -> None:
        if self.node.is_voter:
            self.node.become_prospective(now_ms)
        else:
            self.node.become_unattached(self.node.epoch, now_ms)

    def on_vote_response(self, response: VoteResponse, now_ms: int) -> None:
        if response.pre_vote:
            self._votes.count(response.voter, granted=response.granted)
            if self._votes.is_won:
                self.node.become_candidate(now_ms)


class Candidate(Role):
    """Asks in earnest, as soon as its own vote is on disk: what it sends waits for that in the node."""

    name = "candidate"

    def __init__(self, node: "RaftNode", now_ms: int) -> None:
        super().__init__(node)
        self._votes = Tally(node.voters.latest)
        self.deadline_ms = now_ms + node.election_timeout_ms()

    def on_stored(self, now_ms: int) -> None:
        self._votes.count(self.node.key, granted=True)
        self._maybe_lead(now_ms)

    def on_vote_response(self, response: VoteResponse, now_ms: int) -> None:
        if response.pre_vote:
            return
        node, was_lost = self.node, self._votes.is_lost
        self._votes.count(response.voter, granted=response.granted)
        self._maybe_lead(now_ms)
        if self._votes.is_lost and not was_lost:  # somebody else may have a better log, and should go first
            self.deadline_ms = now_ms + node.jitter.below(node.settings.election_timeout_ms)

    def _maybe_lead(self, now_ms: int) -> None:
        if self._votes.is_won:
            self.node.become_leader(sorted(self._votes.granted, key=lambda key: key.node_id), now_ms)

    def tick(self, now_ms: int) -> None:
        self.node.become_prospective(now_ms)


class Resigned(Role):
    """(R) Never leads this epoch again, nor votes for another in it: it voted for itself."""

    name = "resigned"

    def __init__(self, node: "RaftNode", now_ms: int) -> None:
        super().__init__(node)
        self.deadline_ms = now_ms + node.election_timeout_ms() + node.settings.election_timeout_ms

    def tick(self, now_ms: int) -> None:
        if self.node.is_voter:
            self.node.become_prospective(now_ms)
        else:
            self.node.become_unattached(self.node.epoch, now_ms)


def would_vote(request: VoteRequest, role: Role, *, log_is_as_good: bool, may_vote: bool) -> bool:
    """Whether a request of this node's epoch is granted. (R) Nobody votes for a shorter log than its own, nor
    for two candidates in one epoch.
    """
    if request.pre_vote:
        return log_is_as_good and not role.hears_leader
    return log_is_as_good and may_vote
