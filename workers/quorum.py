"""A controller's membership in the quorum: the Raft node with its log, vote file, clock and peers.

    quorum.step(message)    another controller said something
    quorum.turn()           time, deaths of peers, what the disk has done; then all that follows

Syncs run beside the loop, or at once where there is nobody to wait for meanwhile: in a quorum of one.

Rules (R), each with a test:
- the row's high watermark moves when the quorum has committed, and never back within a run;
- the vote file is on the disk, its name too, before the node is told so;
- a controller without a log, where others have one, votes for no empty log, and waits to hear who leads.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from tailrace.core.errors import KafkaError
from tailrace.core.ids import parse_uuid
from tailrace.core.log.directory import RealDirectory, is_full, storage_error
from tailrace.core.log.flush import Flush
from tailrace.core.log.log import Log
from tailrace.core.raft.effects import (
    BecameLeader,
    Committed,
    Effect,
    InstallSnapshot,
    LeaderChanged,
    LostLeadership,
    Send,
    StoreVote,
    Sync,
)
from tailrace.core.raft.messages import Message, decode_message, encode_message
from tailrace.core.raft.node import RaftNode
from tailrace.core.raft.quorum import QuorumStatus
from tailrace.core.raft.quorum_state import QuorumState, decode_quorum_state, encode_quorum_state
from tailrace.core.raft.settings import RaftSettings
from tailrace.core.raft.stored_log import StoredLog
from tailrace.core.raft.voters import ReplicaKey, Voter, VoterSet
from tailrace.workers.background import Background
from tailrace.workers.control import Raft
from tailrace.workers.metadata_follower import has_metadata
from tailrace.workers.metadata_snapshots import voters_in
from tailrace.workers.outbox import Outbox
from tailrace.workers.process import Broker, ProcessContext

QUORUM_STATE = "quorum-state"
FETCH_BYTES_MAX = 256 * 1024  # they go through a ring of 16 KiB
FETCH_WAIT_MS = 600  # each is some wake-ups, and those are what an idle host costs
INSTALL_RETRY_MS = 1000  # after a disk was too full for a snapshot
PIECE_BYTES_MAX = 64 * 1024  # of a snapshot, for the same reason

OnCommitted = Callable[[int], object]
Job = tuple[StoreVote, None] | tuple[Sync, Flush]


class Quorum:
    """See the module. `leads_in` is the epoch in which this controller may decide, 0: it may not."""

    def __init__(
        self, context: ProcessContext, directory: RealDirectory, log: Log, *, high_watermark: int,
        on_committed: OnCommitted,
    ) -> None:  # fmt: skip
        """`log` has recovered and is on the disk. high_watermark: committed for sure. OSError if the vote
        cannot be read.
        """
        self._context, self._directory, self.log = context, directory, log
        self._on_committed = on_committed
        self._outbox = Outbox(context.links, context.bells, context.slots)
        self._is_alone = len(context.brokers) == 1
        self._background: Background[Job] = Background(context.doorbell.wake)
        self._peers = {
            broker.node_id: context.layout.controller(index)
            for index, broker in enumerate(context.brokers)
            if index != context.broker
        }
        self._incarnations = dict.fromkeys(self._peers, 0)
        self._to_install: InstallSnapshot | None = None
        self._install_at_ms = 0
        self.leads_in = 0
        self.leader_id = -1
        self._present = [Voter(_key_of(broker)) for broker in context.brokers]
        self.stored = StoredLog(log, voters_in, time.time_ns() // 1_000_000)
        self.node = RaftNode(
            self._settings(), self.stored, self._read_vote(), self._initial_voters(), _now_ms(),
            synced_offset=log.log_end_offset, high_watermark=high_watermark,
        )  # fmt: skip

    def _read_vote(self) -> QuorumState:
        data = self._directory.read(QUORUM_STATE)
        if data is None:
            return QuorumState()
        try:
            return decode_quorum_state(data)
        except ValueError as error:
            raise storage_error(OSError(5, str(error)), f"{self._directory.path}/{QUORUM_STATE}") from error

    def _settings(self) -> RaftSettings:
        context, config = self._context, self._context.config
        fetch_ms = max(config.controller_quorum_fetch_timeout_ms, 1)  # Kafka takes 0, too
        request_ms = max(config.controller_quorum_request_timeout_ms, 1)
        return RaftSettings(
            key=self._present[context.broker].key,
            bootstrap=tuple(self._peers),
            seed=context.incarnation << 16 | context.slot,
            wall_offset_ms=time.time_ns() // 1_000_000 - _now_ms(),
            election_timeout_ms=max(config.controller_quorum_election_timeout_ms, 1),
            fetch_timeout_ms=fetch_ms,
            request_timeout_ms=request_ms,
            fetch_wait_ms=min(FETCH_WAIT_MS, fetch_ms // 3, request_ms // 2),
            fetch_bytes_max=min(config.controller_quorum_fetch_max_bytes, FETCH_BYTES_MAX),
            snapshot_piece_bytes=min(config.controller_quorum_fetch_snapshot_max_bytes, PIECE_BYTES_MAX),
        )

    def _initial_voters(self) -> VoterSet:
        """Who votes until the log says it: all controllers of this host. (R) Nobody, where only this log is
        empty: its disk may be new, and must not help to make a new log of nothing.
        """
        paths = [broker.log_dirs.metadata_dir for broker in self._context.brokers]  # its own has nothing
        if not self.log.log_end_offset and any(map(has_metadata, paths)):
            return VoterSet()
        return VoterSet(self._present)

    @property
    def is_committed(self) -> bool:
        """Whether all that this leader has appended is."""
        return self.node.high_watermark >= self.log.log_end_offset

    def append(self, batch: bytes) -> int:
        """As leader; returns the end offset that is to be committed. KafkaError: refused, by the log too."""
        return self.node.append(batch, _now_ms())

    def describe(self) -> QuorumStatus:
        """As leader: who votes, who follows, how far each is. KafkaError."""
        return self.node.describe(_now_ms())

    def add_voter(self, voter: Voter) -> None:
        """As leader; done once all is committed. KafkaError: refused."""
        self.node.add_voter(voter, _now_ms())

    def remove_voter(self, key: ReplicaKey) -> None:
        """As leader; see add_voter."""
        self.node.remove_voter(key, _now_ms())

    def step(self, message: Raft) -> None:
        """Another controller said it."""
        self.node.step(decode_message(message.data), _now_ms())

    def turn(self) -> None:
        """See the module."""
        for token, error in self._background.take_done():
            if error is not None:
                raise error
            self._done(token)
        self._install()
        self._look_for_dead()
        self.node.tick(_now_ms())
        self._rejoin()
        while effects := self.node.take_effects(_now_ms()):
            for effect in effects:
                self._perform(effect)
        self._outbox.flush()

    def wait_s(self, timeout_s: float) -> float:
        """How long the loop may sleep."""
        due_ms = self.node.next_deadline_ms
        if self._to_install is not None:
            due_ms = min(due_ms, self._install_at_ms)
        due_s = max(due_ms - _now_ms(), 0) / 1000
        waited = self._outbox.wait_s(min(timeout_s, due_s))
        assert waited is not None
        return waited

    def resign(self) -> None:
        """Another shall lead, at once."""
        self.node.resign(_now_ms())
        self.turn()

    def close(self) -> None:
        """What the disk was asked to do is done."""
        self._background.take_done(wait=True)
        self.stored.close()

    def _look_for_dead(self) -> None:
        slots = self._context.slots
        for node_id, slot in self._peers.items():
            incarnation = slots.live_incarnation(slot)
            known, self._incarnations[node_id] = self._incarnations[node_id], incarnation
            if known and incarnation != known:
                self.node.peer_died(node_id, _now_ms())

    def _rejoin(self) -> None:
        """Controllers that came with another disk vote again, as soon as they have caught up."""
        if self.leads_in and not self._is_alone:
            with suppress(KafkaError):  # the log refuses: a full disk
                auto_join = self._context.config.controller_quorum_auto_join_enable
                self.node.rejoin(self._present, _now_ms(), auto_join=auto_join)

    # What the node wants done.

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Send():
                self._send(effect.target, effect.message)
            case StoreVote():
                data = encode_quorum_state(effect.state)
                self._do((effect, None), partial(self._directory.replace, QUORUM_STATE, data))
            case Sync():
                flush = self.log.begin_flush()
                self._do((effect, flush), flush.run)
            case Committed():
                self.log.high_watermark = effect.high_watermark
                self._on_committed(effect.high_watermark)
            case LeaderChanged():
                self.leader_id = effect.leader_id
            case BecameLeader():
                self.leads_in = effect.epoch
            case LostLeadership():
                self.leads_in = 0
            case InstallSnapshot():
                self._to_install, self._install_at_ms = effect, 0
                self._install()

    def _install(self) -> None:
        """The snapshot that came from the leader; on a full disk now and then again."""
        effect, now_ms = self._to_install, _now_ms()
        if effect is None or now_ms < self._install_at_ms:
            return
        slots, slot = self._context.slots, self._context.slot
        slots.set_long_operation(slot, 1)
        try:
            self.stored.install_snapshot(effect.snapshot_id, time.time_ns() // 1_000_000)
        except OSError as error:
            if not is_full(error):
                raise
            self._install_at_ms = now_ms + INSTALL_RETRY_MS
            return
        finally:
            slots.set_long_operation(slot, 0)
        self._to_install = None
        self.node.on_snapshot_installed(effect.snapshot_id, _now_ms())

    def _send(self, target: int, message: Message) -> None:
        slot = self._peers.get(target)
        if slot is not None:
            self._outbox.send(slot, Raft(data=encode_message(message)))  # it may be lost

    def _do(self, token: Job, job: Callable[[], object]) -> None:
        if self._is_alone:
            slots, slot = self._context.slots, self._context.slot
            slots.set_long_operation(slot, 1)  # a disk may take its time
            job()
            slots.set_long_operation(slot, 0)
            self._done(token)
        else:
            self._background.submit(token, job)

    def _done(self, token: Job) -> None:
        effect, flush = token
        if isinstance(effect, StoreVote):
            self.node.on_vote_stored(effect.state, _now_ms())
        else:
            assert flush is not None
            self.log.flushed(flush)
            self.node.on_synced(effect, _now_ms())


def _key_of(broker: Broker) -> ReplicaKey:
    log_dirs = broker.log_dirs
    found = next(log_dir for log_dir in log_dirs.dirs if log_dir.path == log_dirs.metadata_dir)
    return ReplicaKey(broker.node_id, parse_uuid(found.directory_id))


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
