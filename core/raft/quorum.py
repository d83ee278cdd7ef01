"""Majorities: who voted how, how far each replica's log is, and so what is committed."""

from collections.abc import Iterable

from msgspec import Struct

from tailrace.core.raft.voters import ReplicaKey, VoterSet

NEVER = -1


class Tally:
    """The answers to one round of asking for votes. (R) Only voters count, each once."""

    def __init__(self, voters: VoterSet) -> None:
        self._voters = voters
        self.granted: set[ReplicaKey] = set()
        self.rejected: set[ReplicaKey] = set()

    def count(self, voter: ReplicaKey, *, granted: bool) -> None:
        """One answer; the first of a voter counts."""
        if voter in self._voters and voter not in self.granted | self.rejected:
            (self.granted if granted else self.rejected).add(voter)

    @property
    def is_won(self) -> bool:
        """A majority said yes."""
        return len(self.granted) >= self._voters.majority

    @property
    def is_lost(self) -> bool:
        """So many said no that no majority is left."""
        return len(self.rejected) > len(self._voters) - self._voters.majority


class ReplicaProgress(Struct):
    """How far one replica is, as its leader knows from its fetches. Offset and times are -1 until it came."""

    log_end_offset: int = NEVER
    last_fetch_ms: int = NEVER
    caught_up_ms: int = NEVER
    leader_end_at_last_fetch: int = NEVER

    def on_fetch(self, log_end_offset: int, leader_end_offset: int, now_ms: int) -> None:
        """Its log is on its disk up to there, and agrees with the leader's."""
        if log_end_offset >= leader_end_offset:
            self.caught_up_ms = now_ms
        elif log_end_offset >= self.leader_end_at_last_fetch >= 0:  # it had then what the leader had
            self.caught_up_ms = max(self.caught_up_ms, self.last_fetch_ms)
        self.log_end_offset, self.last_fetch_ms = log_end_offset, now_ms
        self.leader_end_at_last_fetch = leader_end_offset


class ReplicaStatus(Struct, frozen=True):
    """What DescribeQuorum says of a replica; times of the wall clock in ms, -1 if unknown."""

    key: ReplicaKey
    log_end_offset: int
    last_fetch_ms: int
    last_caught_up_ms: int


class QuorumStatus(Struct, frozen=True):
    """What DescribeQuorum says."""

    leader_id: int
    leader_epoch: int
    high_watermark: int
    voters: tuple[ReplicaStatus, ...]
    observers: tuple[ReplicaStatus, ...]


def majority_offset(log_end_offsets: Iterable[int]) -> int:
    """The largest offset that a majority of these has reached."""
    ordered = sorted(log_end_offsets, reverse=True)
    return ordered[len(ordered) // 2]
