"""What drives a KIP-848 group: its steps one after the other, its writes, and the deadlines of its members.

(R) A step begins when the write of the step before it was replayed: what is decided meanwhile would not see
what that write brings, and could give a partition away twice. One connection has at most one that waits.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from tailrace.core.config_groups import SESSION
from tailrace.core.errors import NONE
from tailrace.core.groups.consumer_draft import ConsumerDraft
from tailrace.core.groups.consumer_member import UNREVOKED_PARTITIONS, ConsumerMember
from tailrace.core.groups.consumer_migration import begin, turn_classic
from tailrace.core.groups.consumer_state import ConsumerState
from tailrace.core.groups.deadlines import Deadlines
from tailrace.core.groups.runtime import Record, Runtime

RETRY_MS: Final = 500  # a timeout whose records could not be written
PATTERNS_AGAIN_MS: Final = 1_000  # looking through all topics costs time: at most this often


class ConsumerEngine:
    """Durable state, steps and deadlines of one group."""

    def __init__(self, runtime: Runtime, group_id: str) -> None:
        self.runtime = runtime
        self.group_id = group_id
        self.state = ConsumerState()
        self.turns_classic = False  # written as a classic group: the coordinator makes one of its record
        self.sessions = Deadlines(runtime.timers)  # these by member id
        self.revocations = Deadlines(runtime.timers)
        self.joins = Deadlines(runtime.timers)  # of members of the classic protocol
        self.syncs = Deadlines(runtime.timers)
        self._waiting: deque[Callable[[], None]] = deque()
        self._writing = self._stepping = False
        self._topics_seen = False  # the metadata did not move since it was looked at
        self._patterns_due_ms = 0

    # -- steps

    @property
    def is_writing(self) -> bool:
        """Whether a write is under way; while none is, nothing waits."""
        return self._writing

    def in_turn(self, step: Callable[[], None]) -> None:
        """Take the step when all before it are done. It writes at most once, as the last thing it does."""
        self._waiting.append(step)
        self._go_on()

    def _go_on(self) -> None:
        if self._stepping:  # a write that ended at once: the loop below goes on
            return
        self._stepping = True
        try:
            while self._waiting and not self._writing:
                self._waiting.popleft()()
        finally:
            self._stepping = False

    def draft(self) -> ConsumerDraft:
        """A copy of the state to decide on."""
        return ConsumerDraft(self.runtime, self.group_id, self.state)

    def write(self, records: Sequence[Record], then: Callable[[int], None]) -> None:
        """Append a draft's records; `then` takes the error code, after they were replayed."""
        assert not self._writing, "a step writes once"
        if not records:
            then(NONE)
            return
        self._writing = True

        def written(error: int) -> None:
            self._writing = False
            if error != NONE:
                self.turns_classic = False
            then(error)
            self._go_on()

        self.runtime.write(records, written)

    def begin(self, generation: int, members: list[ConsumerMember], first: Sequence[Record]) -> None:
        """Be the group that these members of a classic one are in from now on; `first` ends the other."""

        def step() -> None:
            draft = self.draft()
            begin(draft, generation, members)
            self.write([*first, *draft.records], written)

        def written(error: int) -> None:
            if error == NONE:
                for member in members:
                    self.heard_of(member)

        self.in_turn(step)

    # -- metadata

    def topics_moved(self) -> None:
        """Look at the metadata with the next heartbeat."""
        self._topics_seen = False

    def is_time_to_look(self) -> bool:
        """Whether the metadata moved and this heartbeat shall see what that means."""
        now_ms = self.runtime.now_ms
        if self._topics_seen or (self.state.patterns and now_ms < self._patterns_due_ms):
            return False
        self._topics_seen = True
        self._patterns_due_ms = now_ms + PATTERNS_AGAIN_MS
        return True

    # -- deadlines

    def heard_of(self, member: ConsumerMember) -> None:
        """The session of the member begins anew."""
        member_id, own_ms = member.member_id, self.runtime.image.group_config(self.group_id, SESSION)
        timeout_ms = own_ms or self.runtime.config.group_consumer_session_timeout_ms
        if member.classic is not None:
            timeout_ms = member.classic.session_timeout_ms
        self._limit(self.sessions, member_id, timeout_ms)

    def await_join(self, member: ConsumerMember) -> None:
        """A member of the classic protocol was told to join again; told twice, the first counts."""
        if member.member_id not in self.joins:
            self._limit(self.joins, member.member_id, member.rebalance_timeout_ms)

    def await_sync(self, member: ConsumerMember) -> None:
        """A member of the classic protocol joined and has to ask for its assignment."""
        self._limit(self.syncs, member.member_id, member.rebalance_timeout_ms)

    def _limit(self, deadlines: Deadlines, member_id: str, timeout_ms: int) -> None:
        deadlines.set(
            member_id,
            self.runtime.now_ms + timeout_ms,
            lambda: self._fence_if(member_id, lambda _: member_id not in deadlines),
        )

    def await_revocation(self, before: ConsumerMember, member: ConsumerMember) -> None:
        """If the member has to give partitions back, it has its rebalance timeout for that."""
        if member.state != UNREVOKED_PARTITIONS or member.classic is not None:
            self.revocations.cancel(member.member_id)
            return
        if member.revoking == before.revoking and member.member_epoch == before.member_epoch:
            return

        def is_late(then: ConsumerMember) -> bool:
            return then.state == UNREVOKED_PARTITIONS and then.member_epoch == member.member_epoch

        self.revocations.set(
            member.member_id,
            self.runtime.now_ms + member.rebalance_timeout_ms,
            lambda: self._fence_if(member.member_id, is_late),
        )

    def _fence_if(self, member_id: str, is_late: Callable[[ConsumerMember], bool]) -> None:
        """Put a member out that is still late when this has its turn."""

        def step() -> None:
            member = self.state.members.get(member_id)
            if member is not None and is_late(member):
                self.fence([member], written)

        def written(error: int) -> None:
            if error != NONE:
                retry_ms = self.runtime.now_ms + RETRY_MS
                self.runtime.timers.schedule(retry_ms, lambda: self._fence_if(member_id, is_late))

        self.in_turn(step)

    def fence(self, members: Sequence[ConsumerMember], then: Callable[[int], None]) -> None:
        """Put these out. If only members of the classic protocol stay, the group becomes a classic one."""
        draft = self.draft()
        draft.remove(members)
        if not self.turn_classic_if_due(draft):
            draft.bump()

        def written(error: int) -> None:
            if error == NONE:
                for member in members:
                    self.forget(member.member_id)
            then(error)

        self.write(draft.records, written)

    def turn_classic_if_due(self, draft: ConsumerDraft) -> bool:
        """Make a classic group of one that has such members alone. Returns whether it will be one."""
        runtime = self.runtime
        self.turns_classic = turn_classic(draft, runtime.config, runtime.image, runtime.time_ms)
        return self.turns_classic

    def forget(self, member_id: str) -> None:
        """No deadline of this member counts any more."""
        for deadlines in (self.sessions, self.revocations, self.joins, self.syncs):
            deadlines.cancel(member_id)
