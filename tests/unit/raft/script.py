"""One node by hand: what comes in, and in words what it wants done, as in a transcript.

Voters are 1, 2 and 3 unless said otherwise, the node is 1. Stores and syncs are under way until they are
answered by `stored` and `synced`.
"""

from typing import cast

from tailrace.core.raft.effects import Effect, InstallSnapshot, Send, StoreVote, Sync
from tailrace.core.raft.messages import FetchRequest, FetchResponse, Message, VoteResponse
from tailrace.core.raft.node import RaftNode
from tailrace.core.raft.quorum_state import QuorumState
from tailrace.core.raft.raft_log import RaftLog
from tailrace.core.raft.settings import RaftSettings
from tailrace.core.raft.voters import ReplicaKey, Voter, VoterSet
from tailrace.core.records.batch import stamp
from tailrace.core.records.record import NewRecord, build_batch
from tests.sim.memory_log import MemoryLog
from tests.sim.raft_story import brief

ELECTION_MS, FETCH_MS = 100, 200


def key(node_id: int, disk: int = 1) -> ReplicaKey:
    """A node with one of its disks."""
    return ReplicaKey(node_id, bytes((node_id, disk)) * 8)


def voter_set(*node_ids: int) -> VoterSet:
    """With their first disks."""
    return VoterSet(Voter(key(node_id)) for node_id in node_ids)


def new_log() -> MemoryLog:
    """Empty, and nobody listens."""
    return MemoryLog(lambda _log, _stored: None)


def data(value: bytes = b"x") -> bytes:
    """A batch of one record."""
    return bytes(build_batch([NewRecord(value=value)]))


def stored_batch(base_offset: int, epoch: int, batch: bytes | None = None) -> bytes:
    """As it lies in a leader's log."""
    stamped = bytearray(batch or data())
    stamp(stamped, base_offset, epoch)
    return bytes(stamped)


class Script:
    """See the module."""

    def __init__(
        self,
        *epochs: int,
        node_id: int = 1,
        voters: VoterSet | None = None,
        state: QuorumState | None = None,
        log: RaftLog | None = None,
        bootstrap: tuple[int, ...] = (),
    ) -> None:
        """epochs: one batch each is in the log, on disk."""
        self.now_ms = 0
        self.log = cast(MemoryLog, log or new_log())  # but for the tests of another
        for epoch in epochs:
            self.log.append_as_leader(data(), epoch, 0)
        self.state = state or QuorumState(epochs[-1] if epochs else 0)
        self.node = RaftNode(
            RaftSettings(
                key=key(node_id),
                bootstrap=bootstrap,
                election_timeout_ms=ELECTION_MS,
                fetch_timeout_ms=FETCH_MS,
                request_timeout_ms=100,
                fetch_wait_ms=60,
            ),
            self.log,
            self.state,
            voter_set(1, 2, 3) if voters is None else voters,
            0,
            synced_offset=self.log.log_end_offset,
        )
        self._storing: list[StoreVote] = []
        self._syncing: list[Sync] = []
        self.installing: InstallSnapshot | None = None
        self.sent: list[Send] = []

    def out(self) -> list[str]:
        """What it wants done since the last time."""
        return [self._note(effect) for effect in self.node.take_effects(self.now_ms)]

    def _note(self, effect: Effect) -> str:
        match effect:
            case Send():
                self.sent.append(effect)
                return f"to {effect.target}: {brief(effect.message)}"
            case StoreVote():
                self._storing.append(effect)
                voted = effect.state.voted
                return f"store e{effect.state.epoch} voted {voted.node_id if voted else None}"
            case Sync():
                self._syncing.append(effect)
                return f"sync {effect.upto}"
            case InstallSnapshot():
                self.installing = effect
                return f"install {effect.snapshot_id.offset}@{effect.snapshot_id.epoch}"
            case _:
                return str(effect)

    def get(self, message: Message) -> list[str]:
        """A message comes."""
        self.node.step(message, self.now_ms)
        return self.out()

    def stored(self) -> list[str]:
        """The vote is on disk."""
        self.node.on_vote_stored(self._storing.pop(0).state, self.now_ms)
        return self.out()

    def synced(self) -> list[str]:
        """The log is on disk."""
        self.node.on_synced(self._syncing.pop(0), self.now_ms)
        return self.out()

    def wait(self, ms: int) -> list[str]:
        """Time passes, and it is told when it wants to be."""
        end, told = self.now_ms + ms, self.out()
        while self.node.next_deadline_ms <= end:
            self.now_ms = max(self.now_ms, self.node.next_deadline_ms)
            self.node.tick(self.now_ms)
            told += self.out()
        self.now_ms = end
        return told

    def append(self, count: int = 1) -> list[str]:
        """Records of its own, as leader."""
        for _ in range(count):
            self.node.append(data(), self.now_ms)
        return self.out()

    # Usual beginnings.

    def elected(self) -> "Script":
        """It leads the next epoch, elected by 2; its first batches are synced, nobody has fetched."""
        self.wait(0)
        epoch = self.node.epoch
        self.get(VoteResponse(epoch, -1, key(2), granted=True, pre_vote=True))
        self.stored()
        self.get(VoteResponse(epoch + 1, -1, key(2), granted=True))
        assert self.node.is_leader
        self.synced()
        return self

    def established(self) -> "Script":
        """Also, 2 and 3 have everything and wait for more."""
        if not self.node.is_leader:
            self.elected()
        for node_id in (3, 2, 2, 3):  # the first of them commits and is told, the others then wait
            self.fetch(node_id)
        return self

    def fetch(
        self,
        node_id: int,
        offset: int | None = None,
        *,
        epoch: int | None = None,
        last_epoch: int | None = None,
        disk: int = 1,
        number: int = 0,
    ) -> list[str]:
        """A replica fetches, from the end and in agreement unless said otherwise."""
        node = self.node
        return self.get(
            FetchRequest(
                number,
                node.epoch if epoch is None else epoch,
                key(node_id, disk),
                self.log.log_end_offset if offset is None else offset,
                self.log.last_epoch if last_epoch is None else last_epoch,
                node.high_watermark,
                50,
            )
        )

    def following(self, leader_id: int, epoch: int) -> "Script":
        """It follows, and its first fetch is under way."""
        self.node.become_follower(epoch, leader_id, self.now_ms)
        self.out()
        self.stored()
        return self

    def answer(self, *batches: bytes, high_watermark: int = 0) -> list[str]:
        """The leader answers the last fetch."""
        request = self.last_fetch()
        leader_id = self.node.leader_id
        records = b"".join(batches)
        response = FetchResponse(
            request.number, request.epoch, leader_id, 0, high_watermark, None, None, records
        )
        return self.get(response)

    def last_fetch(self) -> FetchRequest:
        """What it sent last."""
        return next(e.message for e in reversed(self.sent) if isinstance(e.message, FetchRequest))
