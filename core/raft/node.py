"""One member of the quorum: KRaft as a machine that is told what happened and says what to do.

    node = RaftNode(settings, log, state, initial_voters, now_ms)
    node.step(message, now_ms)             a message came
    node.tick(now_ms)                      node.next_deadline_ms has come, or passed
    node.on_synced, on_vote_stored, on_snapshot_installed      answers to effects
    node.append(batch, now_ms)             to the leader: the end offset that has to be committed
    node.take_effects(now_ms)              after any of these, or several: what is to be done, in order

Nothing happens by itself: no clock, no threads, no disk but the log's page cache. Rules (R):
- no message leaves before the epoch and the vote that it was written in are on disk: what is sent meanwhile
  waits here;
- who restarts never leads, nor asks for votes in, an epoch it was in before: what it had not synced is gone;
- nothing below the high watermark is truncated, and the high watermark never goes back;
- one epoch has one leader;
- who knows of no voters, for others have logs and it has none, helps nobody to lead whose log is empty, too.
Quorums of one elect themselves at once, and commit with their own sync.
"""

from collections.abc import Iterable

from tailrace.core.errors import (
    FENCED_LEADER_EPOCH,
    NOT_LEADER_OR_FOLLOWER,
    UNKNOWN_LEADER_EPOCH,
    KafkaError,
)
from tailrace.core.raft.effects import (
    Committed,
    Effect,
    LeaderChanged,
    LostLeadership,
    Send,
    StoreVote,
    Sync,
)
from tailrace.core.raft.follower import Follower
from tailrace.core.raft.leader import Leader, not_leader
from tailrace.core.raft.messages import (
    NO_LEADER,
    BeginQuorumEpochRequest,
    EndQuorumEpochRequest,
    FetchRequest,
    FetchResponse,
    FetchSnapshotRequest,
    FetchSnapshotResponse,
    Message,
    OffsetAndEpoch,
    VoteRequest,
    VoteResponse,
)
from tailrace.core.raft.quorum import QuorumStatus
from tailrace.core.raft.quorum_state import QuorumState
from tailrace.core.raft.raft_log import RaftLog, read_voters
from tailrace.core.raft.roles import Candidate, Prospective, Resigned, Role, Unattached, would_vote
from tailrace.core.raft.settings import Jitter, RaftSettings
from tailrace.core.raft.voters import ReplicaKey, Voter, VoterSet

HELD_MAX = 1000  # messages that wait for the vote to be stored; more are lost, as on a bad link


class RaftNode:
    """See the module. Attributes are for its roles; others use methods and properties."""

    def __init__(
        self,
        settings: RaftSettings,
        log: RaftLog,
        state: QuorumState,
        initial_voters: VoterSet,
        now_ms: int,
        *,
        synced_offset: int = 0,
        high_watermark: int = 0,
    ) -> None:
        """state: as it was stored last. initial_voters: until the log says otherwise; nobody: it may be a new
        disk among old ones, and waits for a leader. synced_offset: below it the log is known to be on disk.
        high_watermark: below it all is known to be committed.
        """
        self.settings, self.log, self.key = settings, log, settings.key
        self.jitter = Jitter(settings.seed)
        self.voters = read_voters(log, initial_voters)
        self.epoch, self.voted = state.epoch, state.voted
        if log.last_epoch > state.epoch:  # the vote was lost, or never was: an older log of a single node
            self.epoch, self.voted = log.last_epoch, self.key  # (R) it may have voted, for whomever
        self.leader_id = NO_LEADER  # of this epoch, once known; a fact, whether it lives or not
        self.leader_is_gone = False  # it resigned, or died: this epoch has no leader any more
        snapshot = log.latest_snapshot()
        self.high_watermark = max(high_watermark, snapshot.snapshot_id.offset if snapshot else 0)
        self.synced_offset = min(synced_offset, log.log_end_offset)
        self.installing: OffsetAndEpoch | None = None
        self.effects: list[Effect] = []
        self._held: list[Effect] = []
        self._storing: QuorumState | None = None  # what has to be on disk before anything is said
        self._store_is_told = True
        self._syncing: Sync | None = None
        self._cuts = 0
        self._number = self.jitter.below(1 << 30)  # another one than before a restart
        self._told_high_watermark = 0
        self._told_leader = (self.epoch, NO_LEADER)
        self.role: Role = Unattached(self, now_ms, self._first_wait_ms())

    def _first_wait_ms(self) -> int:
        """The first by id asks at once: whether there is a leader, or else for votes."""
        return self.voters.latest.rank(self.key.node_id) * self.settings.successor_delay_ms

    # What others may know.

    @property
    def is_voter(self) -> bool:
        """Whether it votes, as far as its own log says."""
        return self.key in self.voters.latest

    @property
    def is_leader(self) -> bool:
        """Whether it leads; see BecameLeader for when it may decide."""
        return isinstance(self.role, Leader)

    @property
    def known_leader_id(self) -> int:
        """Who leads; -1 if it does not know."""
        return self.leader_id if self.role.has_leader else NO_LEADER

    @property
    def next_deadline_ms(self) -> int:
        """When to call tick, if nothing else happens."""
        return self.role.deadline_ms

    def describe(self, now_ms: int) -> QuorumStatus:
        """What DescribeQuorum answers; KafkaError if it does not lead."""
        return self._leader().describe(now_ms)

    def wall(self, now_ms: int) -> int:
        """The time of the wall clock."""
        return now_ms + self.settings.wall_offset_ms

    # What comes in.

    def append(self, batch: bytes, now_ms: int) -> int:
        """Appends a batch of this epoch, which counts once what is returned is committed; KafkaError if this
        node does not lead, or the log refuses it.
        """
        self._leader()
        return self.append_batch(batch, now_ms)

    def add_voter(self, voter: Voter, now_ms: int) -> int:
        """A voter more, who has to have caught up as an observer. Returns the end offset to be committed;
        KafkaError with Kafka's code if it is refused: REQUEST_TIMED_OUT may be tried again.
        """
        return self._leader().add_voter(voter, now_ms)

    def remove_voter(self, key: ReplicaKey, now_ms: int) -> int:
        """A voter less, be it this node: then it resigns once that is committed. See add_voter."""
        return self._leader().remove_voter(key, now_ms)

    def rejoin(self, present: Iterable[Voter], now_ms: int, *, auto_join: bool = False) -> bool:
        """Those who are `present` with another disk than they vote with have to become voters anew: the next
        step of that, if this node leads and one is due. auto_join: those who never voted as well. Whether
        there was one; KafkaError if the log refuses it.
        """
        change = self.role.due_change(present, now_ms, auto_join) if isinstance(self.role, Leader) else None
        if isinstance(change, Voter):
            self.add_voter(change, now_ms)
        elif change is not None:
            self.remove_voter(change, now_ms)
        return change is not None

    def resign(self, now_ms: int) -> None:
        """Gives the leadership up, to the others in the order of their logs; nothing if it does not lead."""
        if isinstance(self.role, Leader):
            message = EndQuorumEpochRequest(self.epoch, self.key.node_id, self.role.preferred_successors())
            targets = {key.node_id for key in message.preferred_successors}
            for target in sorted(targets):
                self.send(target, message)
            self.leader_is_gone = True
            self._become(Resigned(self, now_ms))

    def peer_died(self, node_id: int, now_ms: int) -> None:
        """That node's process is gone, for certain: what it led or wanted to lead goes on without it. A hint,
        which only makes it quicker; it may be wrong.
        """
        role = self.role
        if (isinstance(role, Follower) and role.leader_id == node_id) or (
            isinstance(role, Unattached) and self.voted is not None and self.voted.node_id == node_id
        ):
            self._leader_is_gone(self._rank(node_id), now_ms)

    def tick(self, now_ms: int) -> None:
        """Time passes."""
        if now_ms >= self.role.deadline_ms:
            self.role.tick(now_ms)

    def step(self, message: Message, now_ms: int) -> None:
        """A message came in, perhaps late, perhaps twice."""
        match message:
            case FetchRequest():
                self.role.on_fetch_request(message, now_ms)
            case FetchResponse():
                # of a voter this may be the last that a dead leader had said
                found = not message.error_code and not self.is_voter
                if self._observe(message.epoch, message.leader_id, now_ms, from_leader=found):
                    self.role.on_fetch_response(message, now_ms)
            case FetchSnapshotRequest():
                self.role.on_fetch_snapshot_request(message, now_ms)
            case FetchSnapshotResponse():
                if self._observe(message.epoch, message.leader_id, now_ms):
                    self.role.on_fetch_snapshot_response(message, now_ms)
            case VoteRequest():
                self._on_vote_request(message, now_ms)
            case VoteResponse():
                if self._observe(message.epoch, message.leader_id, now_ms):
                    self.role.on_vote_response(message, now_ms)
            case BeginQuorumEpochRequest():
                self._on_begin_quorum_epoch(message, now_ms)
            case EndQuorumEpochRequest():
                self._on_end_quorum_epoch(message, now_ms)

    def on_vote_stored(self, state: QuorumState, now_ms: int) -> None:
        """The answer to StoreVote."""
        if state is not self._storing and state != self._storing:
            return  # a newer one is under way, and what waits, waits for that
        self._storing = None
        self.effects += self._held
        self._held.clear()
        self.role.on_stored(now_ms)

    def on_synced(self, sync: Sync, now_ms: int) -> None:
        """The answer to Sync."""
        self._syncing = None
        if sync.cuts != self._cuts:
            return  # (R) what was synced may be what was cut: it is synced again
        if sync.upto > self.synced_offset:
            self.synced_offset = min(sync.upto, self.log.log_end_offset)
            self.role.on_synced(now_ms)

    def on_snapshot_installed(self, snapshot_id: OffsetAndEpoch, now_ms: int) -> None:
        """The answer to InstallSnapshot: the log begins and ends at its offset."""
        assert self.installing == snapshot_id
        assert self.log.log_end_offset == snapshot_id.offset
        self.installing = None
        self._cuts += 1
        self.synced_offset = snapshot_id.offset
        snapshot = self.log.latest_snapshot()
        voters = snapshot.voters if snapshot is not None and snapshot.voters is not None else None
        self.voters.start_over(snapshot_id.offset, voters or self.voters.latest)
        self.commit(snapshot_id.offset)
        self.role.on_synced(now_ms)

    def take_effects(self, now_ms: int) -> list[Effect]:
        """What is to be done for all that came in since the last call."""
        self.role.before_effects(now_ms)
        if self._storing is not None and not self._store_is_told:
            self._store_is_told = True
            self.effects.append(StoreVote(self._storing))
        if self.high_watermark > self._told_high_watermark:
            self._told_high_watermark = self.high_watermark
            self.effects.append(Committed(self.high_watermark))
        if self._syncing is None and self.installing is None and self.synced_offset < self.log.log_end_offset:
            self._syncing = Sync(self.log.log_end_offset, self._cuts)
            self.effects.append(self._syncing)
        effects, self.effects = self.effects, []
        return effects

    # Votes and epochs.

    def _on_vote_request(self, request: VoteRequest, now_ms: int) -> None:
        candidate = request.candidate
        gone = self.leader_id if self.leader_is_gone else NO_LEADER
        if request.epoch > self.epoch:
            self.become_unattached(request.epoch, now_ms)
        is_from_nothing = not len(self.voters.latest) and not request.log_end.offset  # (R) see above
        log_is_as_good = _log_rank(request.log_end) >= _log_rank(self.log_end) and not is_from_nothing
        granted = False
        if request.epoch == self.epoch:
            may_vote = self.voted in (None, candidate) and self.leader_id == NO_LEADER
            granted = would_vote(request, self.role, log_is_as_good=log_is_as_good, may_vote=may_vote)
            if granted and not request.pre_vote and self.voted is None:
                self.voted = candidate
                self._store()
                self._become(Unattached(self, now_ms))
        answer = VoteResponse(self.epoch, self.heard_leader_id, self.key, granted, request.pre_vote)
        self.send(candidate.node_id, answer)
        if gone != NO_LEADER and request.epoch == self.epoch and not log_is_as_good and self.voted is None:
            # who went first cannot win: the next does, without waiting
            self._leader_is_gone(self._rank(gone, candidate.node_id), now_ms)

    def _on_begin_quorum_epoch(self, request: BeginQuorumEpochRequest, now_ms: int) -> None:
        is_current = self._observe(request.epoch, request.leader_id, now_ms, from_leader=True)
        if is_current and isinstance(self.role, Follower):
            self.role.on_leader_heard(now_ms)

    def _on_end_quorum_epoch(self, request: EndQuorumEpochRequest, now_ms: int) -> None:
        if request.epoch < self.epoch or self.is_leader:
            return
        if request.epoch > self.epoch:
            self.become_unattached(request.epoch, now_ms)
        if self.key in request.preferred_successors:
            self._leader_is_gone(request.preferred_successors.index(self.key), now_ms)

    def _leader_is_gone(self, rank: int, now_ms: int) -> None:
        """This epoch has no leader any more: an election, at once if this node is the first in rank."""
        self.leader_is_gone = True
        if rank == 0 and self.is_voter and self.installing is None:
            self.become_candidate(now_ms)
        else:
            wait_ms = rank * self.settings.successor_delay_ms
            self._become(Unattached(self, now_ms, wait_ms, skip_pre_vote=True))

    def _rank(self, *gone: int) -> int:
        return self.voters.latest.rank(self.key.node_id, *gone)

    def _observe(self, epoch: int, leader_id: int, now_ms: int, *, from_leader: bool = False) -> bool:
        """Somebody is in that epoch, with that leader, or is it. Returns whether this node is in it, too."""
        if epoch < self.epoch:
            return False
        if epoch > self.epoch:
            if leader_id in (NO_LEADER, self.key.node_id):
                self.become_unattached(epoch, now_ms)
            else:
                self.become_follower(epoch, leader_id, now_ms)
        elif leader_id not in (NO_LEADER, self.key.node_id):
            assert self.leader_id in (NO_LEADER, leader_id), f"two leaders in epoch {epoch}"
            if from_leader:
                self.leader_is_gone = False  # who said so was wrong
            if not self.role.has_leader and not self.leader_is_gone:
                self.become_follower(epoch, leader_id, now_ms)
        return True

    def _begin_epoch(self, epoch: int) -> None:
        assert epoch > self.epoch
        self.epoch, self.voted = epoch, None
        self.leader_id, self.leader_is_gone = NO_LEADER, False

    def become_unattached(self, epoch: int, now_ms: int) -> None:
        """No leader is known, in that epoch or a new one."""
        if epoch > self.epoch:
            self._begin_epoch(epoch)
            self._store()
        self._become(Unattached(self, now_ms))

    def become_prospective(self, now_ms: int) -> None:
        """Would others vote for it?"""
        if self.installing is not None:  # its log is about to be replaced
            self._become(Unattached(self, now_ms))
            return
        role = Prospective(self, now_ms)
        self._become(role)
        role.begin(now_ms)

    def become_candidate(self, now_ms: int) -> None:
        """In an epoch of its own it votes for itself, and asks others to."""
        if self.installing is not None:
            self._become(Unattached(self, now_ms))
            return
        self._begin_epoch(self.epoch + 1)
        self.voted = self.key
        self._store()
        self._become(Candidate(self, now_ms))
        self.ask_for_votes(pre_vote=False)

    def become_leader(self, granting: list[ReplicaKey], now_ms: int) -> None:
        """A majority voted for it."""
        assert isinstance(self.role, Candidate)
        assert self.voted == self.key
        role = Leader(self, granting, now_ms)
        self.leader_id = self.key.node_id
        self._become(role)
        try:
            role.begin(now_ms)
        except KafkaError:  # a disk that takes nothing is no place for a leader
            self.resign(now_ms)

    def become_follower(self, epoch: int, leader_id: int, now_ms: int) -> None:
        """Somebody else leads that epoch."""
        assert leader_id != self.key.node_id
        if epoch > self.epoch:
            self._begin_epoch(epoch)
            self.leader_id = leader_id
            self._store()
        self.leader_id = leader_id
        self._become(Follower(self, leader_id, now_ms))

    def _become(self, role: Role) -> None:
        was, self.role = self.role, role
        if isinstance(was, Leader):
            self.effects.append(LostLeadership(was.epoch))
        told = (self.epoch, self.known_leader_id)
        if told != self._told_leader:
            self._told_leader = told
            self.effects.append(LeaderChanged(*told))

    def _store(self) -> None:
        self._storing = QuorumState(self.epoch, self.voted, self.leader_id)
        self._store_is_told = False

    # For the roles.

    @property
    def heard_leader_id(self) -> int:
        """Who leads, for others to believe."""
        return self.leader_id if self.role.hears_leader else NO_LEADER

    def _leader(self) -> Leader:
        if not isinstance(self.role, Leader):
            raise not_leader(self.epoch, self.known_leader_id)
        return self.role

    @property
    def log_end(self) -> OffsetAndEpoch:
        """Where its log ends."""
        return OffsetAndEpoch(self.log.log_end_offset, self.log.last_epoch)

    def election_timeout_ms(self) -> int:
        """Another one each time."""
        timeout = self.settings.election_timeout_ms
        return timeout + self.jitter.below(timeout)

    def send(self, target: int, message: Message) -> None:
        """(R) Not before what it rests on is on disk."""
        if self._storing is None:
            self.effects.append(Send(target, message))
        elif len(self._held) < HELD_MAX:
            self._held.append(Send(target, message))

    def ask_for_votes(self, *, pre_vote: bool) -> None:
        """Of all other voters."""
        request = VoteRequest(self.epoch, self.key, self.log_end, pre_vote)
        for node_id in self.voters.latest.ids:
            if node_id != self.key.node_id:
                self.send(node_id, request)

    def next_number(self) -> int:
        """For a request whose answer has to be known."""
        self._number += 1
        return self._number

    def fetch_request(self, max_wait_ms: int) -> FetchRequest:
        """What comes after this node's log?"""
        return FetchRequest(
            self.next_number(), self.epoch, self.key, self.log.log_end_offset, self.log.last_epoch,
            self.high_watermark, max_wait_ms,
        )  # fmt: skip

    def refuse_fetch(self, request: FetchRequest) -> None:
        """Not here, or not in that epoch."""
        response = FetchResponse(
            request.number, self.epoch, self.heard_leader_id, self._refusal(request.epoch)
        )
        self.send(request.replica.node_id, response)

    def refuse_fetch_snapshot(self, request: FetchSnapshotRequest) -> None:
        """Not here, or not in that epoch."""
        code = self._refusal(request.epoch)
        response = FetchSnapshotResponse(
            request.number, self.epoch, self.heard_leader_id, request.snapshot_id, code
        )
        self.send(request.replica.node_id, response)

    def _refusal(self, epoch: int) -> int:
        if epoch == self.epoch:
            return NOT_LEADER_OR_FOLLOWER
        return FENCED_LEADER_EPOCH if epoch < self.epoch else UNKNOWN_LEADER_EPOCH

    def append_batch(self, batch: bytes, now_ms: int) -> int:
        """As leader."""
        self.log.append_as_leader(batch, self.epoch, self.wall(now_ms))
        return self.log.log_end_offset

    def commit(self, high_watermark: int) -> None:
        """(R) Never back."""
        if high_watermark > self.high_watermark:
            self.high_watermark = high_watermark

    def truncate(self, offset: int, now_ms: int) -> None:
        """Takes back what another leader overrules, and the voters that it named."""
        assert offset >= self.high_watermark, "what is committed is never truncated"
        if offset < self.log.log_end_offset:
            self.log.truncate_to(offset, self.wall(now_ms))
            self._cuts += 1
            self.synced_offset = min(self.synced_offset, offset)
            self.voters.truncate(self.log.log_end_offset)


def _log_rank(end: OffsetAndEpoch) -> tuple[int, int]:
    return end.epoch, end.offset
