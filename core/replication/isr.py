"""The in-sync replicas of one partition and its high watermark, as its leader sees them.

Sans-IO: time comes in as now_ms; what should happen is returned.

Rules (R), each with a test:
- the high watermark is the minimum over the *maximal* in-sync set: a replica counts from before it is
  proposed, and until the controller has committed that it is out;
- an acknowledgement counts for the link in which it came; a follower without a link has acknowledged nothing;
- what became of a proposal is known from the controller only: as long as it may have been done, it counts.
  The answer to the last attempt says it: attempts are decided in the order in which they were said, and never
  said to a controller that is older than one that heard of it before;
- nothing moves below min.insync.replicas, as in Kafka: a lone leader would show what its end takes along.

Caught up, as in Kafka: a follower that has reached what the leader had at some time within
replica.lag.time.max.ms. The leader's end is noted with its time, and noted anew once the follower gets there.
"""

from msgspec import Struct
from msgspec.structs import replace

from tailrace.core.errors import (
    FENCED_LEADER_EPOCH,
    INELIGIBLE_REPLICA,
    INVALID_UPDATE_VERSION,
    NEW_LEADER_ELECTED,
    NONE,
    NOT_ENOUGH_REPLICAS,
    OPERATION_NOT_ATTEMPTED,
    KafkaError,
)

RETRY_MS = 200  # between a proposal that failed and the next one
RESEND_MS = 2000  # until one that nobody answers is sent again
STALE = (FENCED_LEADER_EPOCH, INVALID_UPDATE_VERSION, NEW_LEADER_ELECTED)  # a newer state is on its way


class PartitionState(Struct, kw_only=True, frozen=True):
    """What the controller has committed about a partition."""

    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    partition_epoch: int


class Proposal(Struct, kw_only=True, frozen=True):
    """AlterPartition: the in-sync set shall be this."""

    isr: tuple[int, ...]
    leader_epoch: int
    partition_epoch: int  # of the state it is about
    attempt: int = 1  # how often it was said by then


class Follower(Struct, kw_only=True):
    """One of the other replicas."""

    replica_id: int
    acked: int = -1  # it holds all below; -1: it has no link
    caught_up_ms: int  # at that time the leader had nothing that this one has not by now
    noted_end: int  # the leader's end as of noted_ms
    noted_ms: int


class InSync:
    """See the module. `high_watermark` is read by the owner, which shows it; `shown` is what it has shown."""

    def __init__(
        self,
        *,
        replica_id: int,
        leader_epoch: int,
        state: PartitionState,
        lag_ms_max: int,
        min_insync_replicas: int,
        log_end_offset: int,
        high_watermark: int,
        now_ms: int,
    ) -> None:
        self.replica_id, self.leader_epoch = replica_id, leader_epoch
        self.lag_ms_max, self.min_insync_replicas = lag_ms_max, min_insync_replicas
        self.log_end_offset = self.epoch_start = log_end_offset
        self.local_end = -1  # (R) until on_append says what of the log counts: it may not be on the disk
        self.high_watermark = self.shown = high_watermark
        self.followers: dict[int, Follower] = {}
        self.in_flight: Proposal | None = None
        self._sent_ms = self._not_before_ms = self._tick_ms = now_ms
        self._is_refused = False  # just now: it is looked at again soon
        self.replicas: tuple[int, ...] = ()
        self.isr = self.maximal_isr = frozenset[int]()
        self.counted: tuple[Follower, ...] = ()
        self.partition_epoch = -1
        self.adopt(state, now_ms)

    # What the controller says

    def adopt(self, state: PartitionState, now_ms: int) -> bool:
        """It has committed this. Returns whether the high watermark moved; older news change nothing.

        (R) A proposal under way is settled by it: it was about an older partition epoch, so it is either part
        of this state or refused.
        """
        if state.partition_epoch <= self.partition_epoch:
            return False
        first = self.partition_epoch < 0
        self.partition_epoch, self.replicas = state.partition_epoch, state.replicas
        self.isr = self.maximal_isr = frozenset(state.isr) | {self.replica_id}
        self.in_flight = None
        others = {*state.replicas, *state.isr} - {self.replica_id}
        for gone in self.followers.keys() - others:
            del self.followers[gone]
        for replica_id in sorted(others - self.followers.keys()):
            # as Kafka: members count as caught up when their leader begins
            caught_up_ms = now_ms if first and replica_id in self.isr else now_ms - self.lag_ms_max - 1
            self.followers[replica_id] = Follower(
                replica_id=replica_id,
                caught_up_ms=caught_up_ms,
                noted_end=self.log_end_offset,
                noted_ms=now_ms,
            )
        self.recount()
        return self._advance()

    def on_answer(self, proposal: Proposal, error: int, state: PartitionState | None, now_ms: int) -> bool:
        """What the controller answered to a proposal. Returns whether the high watermark moved."""
        if error == NONE and state is not None:
            return self.adopt(state, now_ms)
        if proposal != self.in_flight:
            return False
        self._not_before_ms, self._is_refused = now_ms + RETRY_MS, True
        if error in (INELIGIBLE_REPLICA, OPERATION_NOT_ATTEMPTED):  # (R) to the last attempt, see above
            self.in_flight, self.maximal_isr = None, self.isr
            self.recount()
            return self._advance()
        if error not in STALE:
            self._sent_ms = now_ms + RETRY_MS - RESEND_MS
        return False

    # What the log and the followers say

    def on_append(self, log_end_offset: int, local_end: int) -> bool:
        """The log ends there, of which this replica itself counts what is below local_end (what is synced,
        if only that counts). Returns whether the high watermark moved.
        """
        self.log_end_offset, self.local_end = log_end_offset, local_end
        return self._advance()

    def on_ack(self, replica_id: int, acked: int, now_ms: int) -> bool:
        """The follower holds all below, in this leader epoch. Returns whether the high watermark moved."""
        follower = self.followers.get(replica_id)
        end = self.log_end_offset
        if follower is None or acked > end:  # removed meanwhile; or it counts what nobody sent it
            return False
        follower.acked = acked
        if acked >= end:
            follower.caught_up_ms = follower.noted_ms = now_ms
            follower.noted_end = end
        elif acked >= follower.noted_end:
            follower.caught_up_ms = max(follower.caught_up_ms, follower.noted_ms)
            follower.noted_end, follower.noted_ms = end, now_ms
        return self._advance()

    def on_link_lost(self, replica_id: int) -> None:
        """(R) Its next link begins without an acknowledgement: by then it may have truncated."""
        follower = self.followers.get(replica_id)
        if follower is not None:
            follower.acked = -1

    def recount(self) -> None:
        """After a change of `maximal_isr`."""
        others = (self.followers[r] for r in self.maximal_isr if r != self.replica_id)
        self.counted = tuple(others)  # KeyError rather than a forgotten member

    def _advance(self) -> bool:
        candidate = self.local_end
        for follower in self.counted:
            if follower.acked < candidate:
                candidate = follower.acked
        if candidate <= self.high_watermark or len(self.isr) < self._needed:
            return False  # a returning follower is behind: never move back
        self.high_watermark = candidate
        return True

    # Proposals

    @property
    def _needed(self) -> int:
        return min(self.min_insync_replicas, len(self.replicas))

    @property
    def has_enough(self) -> bool:
        """Whether so many are in sync that appends with acks=all are taken."""
        return len(self.isr) >= self._needed

    def check_enough(self) -> None:
        """Before an append with acks=all: KafkaError NOT_ENOUGH_REPLICAS."""
        if not self.has_enough:
            raise KafkaError(
                NOT_ENOUGH_REPLICAS, f"{len(self.isr)} in-sync replicas, {self._needed} are needed"
            )

    def may_join(self, replica_id: int) -> bool:
        """Whether a follower has what every in-sync replica has, and all of the epochs before this one. It
        joins unless it lags: or it would be proposed to leave at once.
        """
        follower = self.followers.get(replica_id)
        if follower is None or replica_id not in self.replicas:
            return False
        return follower.acked >= self.high_watermark and follower.acked >= self.epoch_start

    def tick(self, now_ms: int) -> None:
        """Before `propose`, and after all acknowledgements that are there; at least each half lag_ms_max."""
        stalled_ms = now_ms - self._tick_ms - self.lag_ms_max // 2
        self._tick_ms = now_ms
        for follower in self.followers.values():
            if follower.acked >= self.log_end_offset:
                follower.caught_up_ms = now_ms
            elif stalled_ms > 0:  # who was not looking has not seen them catch up
                follower.caught_up_ms += stalled_ms
                follower.noted_ms += stalled_ms

    def propose(self, now_ms: int) -> Proposal | None:
        """The change that is due, to be sent to the controller; also one again that nobody answers."""
        if self.in_flight is not None:
            if now_ms - self._sent_ms < RESEND_MS:
                return None
            self._sent_ms = now_ms
            self.in_flight = replace(self.in_flight, attempt=self.in_flight.attempt + 1)
            return self.in_flight
        if now_ms < self._not_before_ms:
            return None
        self._is_refused = False
        joining = {
            r for r, f in self.followers.items()
            if r not in self.isr and self.may_join(r) and not self._lags(f, now_ms)
        }  # fmt: skip
        lagging = {r for r in self.isr if r in self.followers and self._lags(self.followers[r], now_ms)}
        if not joining and not lagging:
            return None
        isr = tuple(sorted(self.isr - lagging | joining))
        self.in_flight = Proposal(
            isr=isr, leader_epoch=self.leader_epoch, partition_epoch=self.partition_epoch
        )
        self._sent_ms = now_ms
        # (R) before it is said: those who join count from now on, those who leave count still
        self.maximal_isr = self.isr | joining
        self.recount()
        return self.in_flight

    @property
    def due_ms(self) -> int | None:
        """When `propose` has something to say again; None: not before something happens."""
        if self.in_flight is not None:
            return self._sent_ms + RESEND_MS
        return self._not_before_ms if self._is_refused else None

    def _lags(self, follower: Follower, now_ms: int) -> bool:
        return follower.acked < self.log_end_offset and now_ms - follower.caught_up_ms > self.lag_ms_max
