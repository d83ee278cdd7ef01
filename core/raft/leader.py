"""The leader of an epoch: answers fetches, counts who has what, commits.

Rules (R):
- only a batch of its own epoch is committed by counting; what is older is committed with it;
- its own log counts as far as it is on disk, that of others as far as they said that theirs is;
- a set of voters counts from when it is in the log; the next change waits until it is committed, and the
  first until a batch of this epoch is.
A leader that no majority fetches from resigns: another may lead behind a broken link, and clients wait.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from tailrace.core.errors import (
    DUPLICATE_VOTER,
    NOT_LEADER_OR_FOLLOWER,
    REQUEST_TIMED_OUT,
    SNAPSHOT_NOT_FOUND,
    VOTER_NOT_FOUND,
    KafkaError,
)
from tailrace.core.ids import uuid_text
from tailrace.core.raft.control_records import leader_change_batch, voters_batch
from tailrace.core.raft.effects import BecameLeader
from tailrace.core.raft.messages import (
    BeginQuorumEpochRequest,
    FetchRequest,
    FetchResponse,
    FetchSnapshotRequest,
    FetchSnapshotResponse,
    OffsetAndEpoch,
)
from tailrace.core.raft.quorum import (
    QuorumStatus,
    ReplicaProgress,
    ReplicaStatus,
    majority_offset,
)
from tailrace.core.raft.raft_log import check_fetch, needs_snapshot
from tailrace.core.raft.roles import FOREVER, Role
from tailrace.core.raft.voters import ReplicaKey, Voter, VoterSet

if TYPE_CHECKING:
    from tailrace.core.raft.node import RaftNode

REPLICAS_MAX = 64  # voters and observers that a leader remembers; the most silent observer goes first
OBSERVER_SILENCE_MS = 300_000  # an observer that did not fetch for so long is forgotten, as in Kafka


class HeldFetch(Struct):
    """A fetch that waits for something to come."""

    request: FetchRequest
    deadline_ms: int


class Leader(Role):
    """See the module."""

    name = "leader"
    has_leader = True

    def __init__(self, node: "RaftNode", granting: Sequence[ReplicaKey], now_ms: int) -> None:
        super().__init__(node)
        self.epoch = node.epoch
        self.epoch_start_offset = node.log.log_end_offset
        self.is_established = False  # a batch of this epoch is committed
        self._granting = granting
        self._replicas: dict[ReplicaKey, ReplicaProgress] = {}
        self._held: dict[ReplicaKey, HeldFetch] = {}
        self._begin_at = self._check_at = FOREVER
        self._elected_ms = now_ms

    @property
    def hears_leader(self) -> bool:
        return True

    def begin(self, now_ms: int) -> None:
        """The first batches of the epoch; KafkaError if the disk does not take them."""
        node = self.node
        voters = node.voters.latest
        node.append_batch(
            leader_change_batch(node.key.node_id, voters, self._granting, node.wall(now_ms)), now_ms
        )
        if node.voters.latest_offset < 0:  # the first of all: from now on the log says who votes
            self._append_voters(voters, now_ms)
        self._tell(now_ms)
        self._check_at = now_ms + node.settings.check_quorum_ms
        self._set_deadline()

    # Others fetch.

    def on_fetch_request(self, request: FetchRequest, now_ms: int) -> None:
        node = self.node
        if request.epoch != node.epoch:
            node.refuse_fetch(request)
            return
        log = node.log
        offset, last_epoch = request.fetch_offset, request.last_fetched_epoch
        snapshot_id = needs_snapshot(log, offset, last_epoch)
        diverging = None if snapshot_id else self._check_fetch(offset, last_epoch)
        progress = self._progress_of(request.replica)
        if snapshot_id or diverging:
            progress.last_fetch_ms = now_ms
            self._answer(request, FetchResponse(
                request.number, node.epoch, node.key.node_id, 0, node.high_watermark, diverging, snapshot_id
            ))  # fmt: skip
            return
        progress.on_fetch(offset, log.log_end_offset, now_ms)
        self._maybe_commit(now_ms)
        if node.role is self:  # the last act of a leader that was removed may have been to commit that
            self._held[request.replica] = HeldFetch(request, now_ms + request.max_wait_ms)
            self._set_deadline()

    def _check_fetch(self, offset: int, last_epoch: int) -> OffsetAndEpoch | None:
        """The usual answer without a search: what follows the first batch of this epoch is of this epoch."""
        node = self.node
        if last_epoch == node.epoch and self.epoch_start_offset < offset <= node.log.log_end_offset:
            return None
        return check_fetch(node.log, offset, last_epoch)

    def _progress_of(self, key: ReplicaKey) -> ReplicaProgress:
        replicas = self._replicas
        progress = replicas.get(key)
        if progress is None:
            if len(replicas) >= REPLICAS_MAX:
                self._forget(
                    min(replicas, key=lambda k: (k in self.node.voters.latest, replicas[k].last_fetch_ms))
                )
            progress = replicas[key] = ReplicaProgress()
        return progress

    def _forget(self, key: ReplicaKey) -> None:
        del self._replicas[key]
        self._held.pop(key, None)

    def before_effects(self, now_ms: int) -> None:
        """Held fetches that have something to get: once for all that was appended meanwhile. When one of the
        others was held long enough, those soon due go with it: they come again together, and wake all once.
        """
        node = self.node
        is_one_due = any(held.deadline_ms <= now_ms for held in self._held.values())
        end_offset, high_watermark = node.log.log_end_offset, node.high_watermark
        due = [
            key
            for key, held in self._held.items()
            if held.request.fetch_offset < end_offset
            or held.request.high_watermark < high_watermark
            or (is_one_due and held.deadline_ms - held.request.max_wait_ms // 2 <= now_ms)
        ]
        for key in due:
            request = self._held.pop(key).request
            records = b""
            if node.log.log_start_offset <= request.fetch_offset < end_offset:
                records = node.log.read(request.fetch_offset, node.settings.fetch_bytes_max)
            self._answer(request, FetchResponse(
                request.number, node.epoch, node.key.node_id, 0, high_watermark, None, None, records
            ))  # fmt: skip
        if due:
            self._set_deadline()

    def _answer(self, request: FetchRequest, response: FetchResponse) -> None:
        self.node.send(request.replica.node_id, response)

    def on_fetch_snapshot_request(self, request: FetchSnapshotRequest, now_ms: int) -> None:
        node = self.node
        if request.epoch != node.epoch:
            node.refuse_fetch_snapshot(request)
            return
        self._progress_of(request.replica).last_fetch_ms = now_ms  # it is alive, and busy
        snapshot = node.log.latest_snapshot()
        piece: bytes | None = None
        if snapshot is not None and snapshot.snapshot_id == request.snapshot_id:
            size_max = max(min(request.max_bytes, node.settings.snapshot_piece_bytes), 1)
            piece = node.log.read_snapshot(request.snapshot_id, max(request.position, 0), size_max)
        found = piece is not None and snapshot is not None
        node.send(request.replica.node_id, FetchSnapshotResponse(
            request.number, node.epoch, node.key.node_id, request.snapshot_id,
            0 if found else SNAPSHOT_NOT_FOUND, request.position,
            snapshot.size if snapshot is not None else 0, piece or b"",
        ))  # fmt: skip

    # What is committed.

    def on_synced(self, now_ms: int) -> None:
        self._maybe_commit(now_ms)

    def _maybe_commit(self, now_ms: int) -> None:
        node = self.node
        voters = node.voters.latest
        offset = majority_offset(self._end_of(voter.key) for voter in voters) if len(voters) else 0
        if offset <= node.high_watermark:
            return
        if offset <= self.epoch_start_offset:  # (R) a majority has it, and yet another may still overwrite it
            return
        node.commit(offset)
        if not self.is_established:
            self.is_established = True
            node.effects.append(BecameLeader(node.epoch))
        if node.key not in voters and node.voters.latest_offset < node.high_watermark:
            node.resign(now_ms)  # it was removed, and that is committed

    def _end_of(self, key: ReplicaKey) -> int:
        if key == self.node.key:
            return self.node.synced_offset  # (R) what is only in memory may be gone tomorrow
        progress = self._replicas.get(key)
        return progress.log_end_offset if progress is not None else 0

    # Time.

    def tick(self, now_ms: int) -> None:
        if now_ms >= self._begin_at:
            self._tell(now_ms)
        if now_ms >= self._check_at:
            self._check_quorum(now_ms)
        if self.node.role is self:
            self._set_deadline()

    def _set_deadline(self) -> None:
        held = min((held.deadline_ms for held in self._held.values()), default=FOREVER)
        self.deadline_ms = min(held, self._begin_at, self._check_at)

    def _others(self) -> list[ReplicaKey]:
        return [voter.key for voter in self.node.voters.latest if voter.key != self.node.key]

    def _tell(self, now_ms: int) -> None:
        """Says who leads to voters that do not fetch, again and again."""
        node, interval = self.node, self.node.settings.request_timeout_ms
        others = self._others()
        for key in others:
            progress = self._replicas.get(key)
            if progress is None or progress.last_fetch_ms + node.settings.fetch_timeout_ms // 2 < now_ms:
                node.send(key.node_id, BeginQuorumEpochRequest(node.epoch, node.key.node_id))
        self._begin_at = now_ms + interval if others else FOREVER

    def _check_quorum(self, now_ms: int) -> None:
        """Resigns, or knows when to look again: when those heard last may have been silent for too long."""
        node = self.node
        for key, progress in list(self._replicas.items()):
            if key not in node.voters.latest and progress.last_fetch_ms + OBSERVER_SILENCE_MS < now_ms:
                self._forget(key)
        others = self._others()
        needed = node.voters.latest.majority - (node.key in node.voters.latest)
        patience = node.settings.check_quorum_ms
        if needed <= 0:
            self._check_at = now_ms + patience if others else FOREVER
            return
        heard = sorted((max(self._last_fetch_ms(key), self._elected_ms) for key in others), reverse=True)
        self._check_at = heard[needed - 1] + patience
        if self._check_at <= now_ms:
            node.resign(now_ms)

    def _last_fetch_ms(self, key: ReplicaKey) -> int:
        progress = self._replicas.get(key)
        return progress.last_fetch_ms if progress is not None else -1

    # Voters come and go.

    def add_voter(self, voter: Voter, now_ms: int) -> int:
        """See RaftNode.add_voter."""
        self._check_may_change()
        voters = self.node.voters.latest
        if voters.get(voter.key.node_id) is not None:
            raise KafkaError(
                DUPLICATE_VOTER,
                f"The voter id for {_shown(voter.key)} is already part of the set of voters {_all(voters)}.",
            )
        progress = self._replicas.get(voter.key)
        if progress is None or not self._has_caught_up(progress, now_ms):
            raise KafkaError(
                REQUEST_TIMED_OUT,
                f"Aborted add voter operation for {_shown(voter.key)} since it is lagging behind",
            )
        return self._append_voters(voters.with_voter(voter), now_ms)

    def _has_caught_up(self, progress: ReplicaProgress, now_ms: int) -> bool:
        """Or the quorum would wait for it."""
        recent = progress.last_fetch_ms + self.node.settings.check_quorum_ms >= now_ms
        return recent and progress.log_end_offset >= self.node.high_watermark

    def remove_voter(self, key: ReplicaKey, now_ms: int) -> int:
        """See RaftNode.remove_voter."""
        self._check_may_change()
        voters = self.node.voters.latest
        if key not in voters or len(voters) == 1:
            raise KafkaError(
                VOTER_NOT_FOUND, f"Cannot remove voter {_shown(key)} from the set of voters {_all(voters)}"
            )
        return self._append_voters(voters.without(key), now_ms)

    def _check_may_change(self) -> None:
        """(R) One change at a time, and none before a batch of this epoch is committed: two sets that differ
        by more than one voter may have majorities that do not meet.
        """
        if not self._may_change:
            raise KafkaError(REQUEST_TIMED_OUT, "The set of voters is being changed, or the leader is new.")

    @property
    def _may_change(self) -> bool:
        node = self.node
        return self.is_established and node.voters.latest_offset < node.high_watermark

    def due_change(self, present: Iterable[Voter], now_ms: int, auto_join: bool) -> Voter | ReplicaKey | None:
        """See RaftNode.rejoin: whom to add, or the key to remove. A disk that was lost costs two changes, one
        at a time; between them the set before the latest tells a lost disk from a voter that was removed.
        """
        history = self.node.voters
        for voter in present if self._may_change else ():
            progress = self._replicas.get(voter.key)
            if voter.key in history.latest or progress is None or not self._has_caught_up(progress, now_ms):
                continue
            known = history.latest.get(voter.key.node_id)
            if known is not None:
                return known.key
            before = history.previous.get(voter.key.node_id)
            if auto_join or (before is not None and before.key != voter.key):
                return voter
        return None

    def _append_voters(self, voters: VoterSet, now_ms: int) -> int:
        node = self.node
        node.append_batch(voters_batch(voters, node.wall(now_ms)), now_ms)
        node.voters.add(node.log.log_end_offset - 1, voters)
        self._begin_at = self._check_at = now_ms  # there may be somebody to tell, or to hear from
        self._set_deadline()
        return node.log.log_end_offset

    # What is asked.

    def preferred_successors(self) -> tuple[ReplicaKey, ...]:
        """The other voters, those with the longest logs first."""
        return tuple(sorted(self._others(), key=lambda key: (-self._end_of(key), key.node_id)))

    def describe(self, now_ms: int) -> QuorumStatus:
        """See RaftNode.describe."""
        node = self.node
        voters = node.voters.latest
        own = ReplicaStatus(node.key, node.log.log_end_offset, node.wall(now_ms), node.wall(now_ms))
        listed = tuple(own if v.key == node.key else self._status(v.key) for v in voters)
        observers = tuple(self._status(key) for key in self._replicas if key not in voters)
        return QuorumStatus(node.key.node_id, node.epoch, node.high_watermark, listed, observers)

    def _status(self, key: ReplicaKey) -> ReplicaStatus:
        progress = self._replicas.get(key) or ReplicaProgress()
        fetched, caught_up = progress.last_fetch_ms, progress.caught_up_ms
        wall = self.node.wall
        return ReplicaStatus(
            key,
            progress.log_end_offset,
            wall(fetched) if fetched >= 0 else -1,
            wall(caught_up) if caught_up >= 0 else -1,
        )


def not_leader(epoch: int, leader_id: int) -> KafkaError:
    """Only a leader can do that."""
    return KafkaError(NOT_LEADER_OR_FOLLOWER, f"the leader of epoch {epoch} is {leader_id}")


def _shown(key: ReplicaKey) -> str:
    """As Kafka's messages have it."""
    return f"ReplicaKey(id={key.node_id}, directoryId={uuid_text(key.directory_id)})"


def _all(voters: VoterSet) -> str:
    return f"[{', '.join(_shown(voter.key) for voter in voters)}]"
