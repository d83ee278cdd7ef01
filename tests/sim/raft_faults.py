"""Rules of Raft, each broken on purpose: the simulation has to notice.

Each is a node that keeps all rules but one. Where a rule is one line of a role, the fault puts back what the
line takes away.
"""

from collections.abc import Generator
from contextlib import contextmanager
from unittest import mock

from msgspec import structs

from tailrace.core.raft import follower, leader
from tailrace.core.raft.effects import Send
from tailrace.core.raft.leader import Leader
from tailrace.core.raft.messages import (
    FetchRequest,
    Message,
    OffsetAndEpoch,
    VoteRequest,
    VoteResponse,
)
from tailrace.core.raft.node import RaftNode
from tailrace.core.raft.raft_log import RaftLog
from tailrace.core.raft.roles import Candidate, Unattached
from tailrace.core.raft.voters import ReplicaKey


class CommitsOldEpochs(RaftNode):
    """Commits what a majority has, of whatever epoch."""

    def become_leader(self, granting: list[ReplicaKey], now_ms: int) -> None:
        super().become_leader(granting, now_ms)
        if isinstance(self.role, Leader):
            self.role.epoch_start_offset = -1


class CountsOldVotes(RaftNode):
    """Takes a vote of any epoch for one of this."""

    def step(self, message: Message, now_ms: int) -> None:
        if (
            isinstance(message, VoteResponse)
            and message.epoch < self.epoch
            and isinstance(self.role, Candidate)
        ):
            message = structs.replace(message, epoch=self.epoch, pre_vote=False)
        super().step(message, now_ms)


class CountsOldFetches(RaftNode):
    """Takes a fetch of any epoch for one of this."""

    def step(self, message: Message, now_ms: int) -> None:
        if isinstance(message, FetchRequest) and message.epoch < self.epoch and self.is_leader:
            message = structs.replace(message, epoch=self.epoch, last_fetched_epoch=self.log.last_epoch)
        super().step(message, now_ms)


class TellsVotesEarly(RaftNode):
    """Says what it voted before that is on disk."""

    def send(self, target: int, message: Message) -> None:
        self.effects.append(Send(target, message))


class VotesTwice(RaftNode):
    """Forgets in an epoch that it has voted."""

    def step(self, message: Message, now_ms: int) -> None:
        if isinstance(message, VoteRequest) and not message.pre_vote and isinstance(self.role, Unattached):
            self.voted = None
        super().step(message, now_ms)


class VotesForShortLogs(RaftNode):
    """Does not look at the candidate's log."""

    def step(self, message: Message, now_ms: int) -> None:
        if isinstance(message, VoteRequest):
            message = structs.replace(message, log_end=OffsetAndEpoch(1 << 40, 1 << 40))
        super().step(message, now_ms)


class CountsUnsynced(RaftNode):
    """Takes for synced what is only appended."""

    @property
    def synced_offset(self) -> int:
        return self.log.log_end_offset

    @synced_offset.setter
    def synced_offset(self, offset: int) -> None: ...


class IgnoresTruncationsOfSyncs(RaftNode):
    """Believes a sync that was begun before the log was cut."""

    def truncate(self, offset: int, now_ms: int) -> None:
        synced = self.synced_offset
        super().truncate(offset, now_ms)
        self.synced_offset = max(synced, self.log.log_end_offset)


class KeepsCutVoters(RaftNode):
    """Goes on with a set of voters whose record was truncated."""

    def truncate(self, offset: int, now_ms: int) -> None:
        with mock.patch.object(self.voters, "truncate"):
            super().truncate(offset, now_ms)


@contextmanager
def never_diverging() -> Generator[None]:
    """A leader that does not look whether a follower's log is the beginning of its own."""
    with mock.patch.object(leader, "check_fetch", return_value=None):
        yield


@contextmanager
def never_cutting() -> Generator[None]:
    """A follower that is told to cut its log cuts nothing."""

    def end(log: RaftLog, _diverging: OffsetAndEpoch) -> int:
        return log.log_end_offset

    with mock.patch.object(follower, "truncation_point", end):
        yield


@contextmanager
def changing_at_once() -> Generator[None]:
    """A leader that changes the voters while the last change is not committed."""
    with mock.patch.object(Leader, "_check_may_change"):
        yield
