"""How a classic group gets from one generation to the next.

    Empty ──────────────── first member ──────────────┐
      ^                                               v
      └── all are gone ── PreparingRebalance  (members join again)
                            ^    │ all did, or the rebalance timeout
          somebody comes,   │    v
          goes, or changes  ├─ CompletingRebalance  (the leader assigns, members sync)
                            │    │ the assignment is in the log
                            └──  v
                               Stable                          Dead: deleted, or of the other protocol

(R) Nobody waits for ever: a member that is awaited has a deadline. Joining ends with the rebalance timeout,
for those that fail to come and for those that wait; so does syncing; in between the session counts, which
rests while a request of the member waits here.

Kept in the log are the members of a generation with their assignments, written before a member is told its
own, and that the group is empty. The rest is made anew after a restart.
"""

from collections.abc import Callable, Mapping
from typing import Final

from tailrace.core.errors import NONE, REBALANCE_IN_PROGRESS, UNKNOWN_MEMBER_ID, ProtocolError
from tailrace.core.groups.classic_answers import append_error
from tailrace.core.groups.classic_members import Member, Roster
from tailrace.core.groups.consumer_protocol import decode_subscription
from tailrace.core.groups.deadlines import Deadlines
from tailrace.core.groups.records import (
    GroupMetadataKey,
    GroupMetadataMember,
    GroupMetadataValue,
    encode_key,
    encode_value,
)
from tailrace.core.groups.runtime import Record, Runtime
from tailrace.core.protocol.messages.join_group import JoinGroupResponse, JoinGroupResponseMember
from tailrace.core.protocol.messages.sync_group import SyncGroupResponse

EMPTY: Final = "Empty"
PREPARING_REBALANCE: Final = "PreparingRebalance"
COMPLETING_REBALANCE: Final = "CompletingRebalance"
STABLE: Final = "Stable"
DEAD: Final = "Dead"

_COMES_FROM: Final = {
    EMPTY: {PREPARING_REBALANCE},
    PREPARING_REBALANCE: {EMPTY, COMPLETING_REBALANCE, STABLE},
    COMPLETING_REBALANCE: {PREPARING_REBALANCE},
    STABLE: {COMPLETING_REBALANCE},
    DEAD: {EMPTY, PREPARING_REBALANCE, COMPLETING_REBALANCE, STABLE, DEAD},
}

NEW_MEMBER_TIMEOUT_MS: Final = 300_000  # how long one that never was in a generation may wait for its first
RETRY_MS: Final = 100  # least pause before a rebalance that nobody joined is looked at again
JOIN: Final = "join"  # the deadlines of a rebalance
SYNC: Final = "sync"
CONSUMER: Final = "consumer"  # the protocol type whose metadata the coordinator can read


def _ignore(_: int) -> None:
    """The group is as it is, whether the log knows or not."""


class Generations:
    """The state of one classic group and what moves it; see the module."""

    def __init__(self, runtime: Runtime, group_id: str) -> None:
        self.members = Roster()
        self.state: str = EMPTY
        self.state_since_ms = runtime.time_ms  # time of day; -1: not known
        self.generation = 0
        self.protocol_type: str | None = None
        self.protocol_name: str | None = None
        self.topics: set[str] | None = None
        self.has_record = False  # in the log, or on the way there
        self._runtime = runtime
        self._group_id = group_id
        self._is_live = False  # it serves members: it is ahead of its log
        self._is_first = False  # the rebalance under way began in Empty and lasts its delay
        self._came_meanwhile = False  # a member, during such a rebalance
        self._unsynced: set[str] = set()
        self._assigned = 0  # the last generation whose leader has assigned
        self._sessions = Deadlines(runtime.timers)  # by member id
        self._rebalance = Deadlines(runtime.timers)  # JOIN and SYNC

    @property
    def is_done(self) -> bool:
        """Whether nothing would be lost by forgetting the group: no member, no id given out, no record."""
        return not (len(self.members) or self.members.pending or self.has_record)

    # -- members

    def add(self, member: Member, protocol_type: str) -> None:
        """A new member, which waits for its first generation."""
        self._is_live = True
        if not len(self.members):
            self.protocol_type = protocol_type
        if self.state == PREPARING_REBALANCE:
            self._came_meanwhile = True
        member.is_new = True
        self.members.add(member)
        self._await(member.member_id, NEW_MEMBER_TIMEOUT_MS)
        self.go_on()

    def add_pending(self, member_id: str, session_timeout_ms: int) -> None:
        """An id that was given out: it is kept for one session."""
        self._is_live = True
        self.members.pending.add(member_id)
        self._await(member_id, session_timeout_ms)

    def remove(self, member_id: str, error: int = UNKNOWN_MEMBER_ID) -> None:
        """Forget a member or a pending id. What it waits for is answered with the error."""
        self._unsynced.discard(member_id)
        self._sessions.cancel(member_id)
        member = self.members.remove(member_id)
        if member is not None:
            member.refuse_join(error)
            member.refuse_sync(error)

    def rename(self, member: Member, member_id: str) -> None:
        """A static member goes on under another id, in the same session."""
        old = member.member_id
        self.members.rename(member, member_id)
        if old in self._unsynced:
            self._unsynced.remove(old)
            self._unsynced.add(member_id)
        self._sessions.cancel(old)
        self.heard_from(member)

    def heard_from(self, member: Member) -> None:
        """The member's session begins anew."""
        self._await(member.member_id, member.session_timeout_ms)

    def give_up(self, error: int) -> None:
        """The group ends here: whoever waits gets the error."""
        for member_id in (*self.members.by_id, *self.members.pending):
            self.remove(member_id, error)
        self._rebalance.cancel_all()
        self._unsynced.clear()
        self._become(DEAD)

    # -- joining

    def go_on(self) -> None:
        """Somebody came, went or changed: begin a rebalance, or end the one that waited for that."""
        if self.state in _COMES_FROM[PREPARING_REBALANCE]:
            self.prepare()
        else:
            self.maybe_complete_join()

    def prepare(self) -> None:
        """Have all members join again."""
        if self.state == COMPLETING_REBALANCE:
            self._hand_out({}, REBALANCE_IN_PROGRESS)
        self._rebalance.cancel_all()
        self._unsynced.clear()
        self._is_first = self.state == EMPTY
        self._become(PREPARING_REBALANCE)
        if self._is_first:
            self._came_meanwhile = False
            delay = self._runtime.config.group_initial_rebalance_delay_ms
            self._wait_for_more(delay, max(self.members.rebalance_timeout_ms - delay, 0))
        elif self.members.all_joined:
            self.complete_join()
        else:
            self._within(JOIN, self.members.rebalance_timeout_ms, self.complete_join)

    def maybe_complete_join(self) -> None:
        """End the rebalance if everybody is there. The first of a group waits its delay out all the same."""
        if self.state == PREPARING_REBALANCE and not self._is_first and self.members.all_joined:
            self.complete_join()

    def complete_join(self) -> None:
        """Begin the next generation with those that joined. Static members stay while their session lasts."""
        self._rebalance.cancel(JOIN)
        for member in self.members:
            if member.joining is None and member.group_instance_id is None:
                self.remove(member.member_id)
        if len(self.members) and not self.members.elect():
            pause = max(self.members.rebalance_timeout_ms, RETRY_MS)
            self._within(JOIN, pause, self.complete_join)
            return
        self.generation += 1
        if not len(self.members):
            self.protocol_name = None
            self.topics = self._subscriptions()
            self._become(EMPTY)
            self.write(self.record({}), _ignore)
            return
        self.protocol_name = self.members.vote()
        self.topics = self._subscriptions()
        self._become(COMPLETING_REBALANCE)
        for member in self.members:
            member.is_new = False
            self._unsynced.add(member.member_id)
            self.heard_from(member)
            self.answer_join(member, self.roll_call(member))
        self._within(SYNC, self.members.rebalance_timeout_ms, self._expire_sync)

    def answer_join(
        self,
        member: Member,
        members: list[JoinGroupResponseMember],
        leader: str | None = None,
        skip_assignment: bool = False,
    ) -> None:
        """Tell a member that joins of this generation; nothing if it waits for no answer."""
        request, member.joining = member.joining, None
        if request is not None:
            request.reply(
                JoinGroupResponse(
                    generation_id=self.generation,
                    protocol_type=self.protocol_type,
                    protocol_name=self.protocol_name,
                    leader=leader if leader is not None else self.members.leader or "",
                    skip_assignment=skip_assignment,
                    member_id=member.member_id,
                    members=members,
                )
            )

    def roll_call(self, member: Member) -> list[JoinGroupResponseMember]:
        """What the leader needs in order to assign; nothing for others."""
        if member.member_id != self.members.leader:
            return []
        name = self.protocol_name or ""
        return [
            JoinGroupResponseMember(each.member_id, each.group_instance_id, each.protocols[name])
            for each in self.members
        ]

    # -- syncing

    def synced(self, member_id: str) -> None:
        """The member asked for its assignment."""
        self._unsynced.discard(member_id)
        if not self._unsynced:
            self._rebalance.cancel(SYNC)

    def assign(self, assignments: Mapping[str, bytes]) -> None:
        """Keep what the leader decided, then tell each its own; members it forgot have nothing.

        Said twice, the first counts: the log must not end with what nobody was told.
        """
        generation = self.generation
        if self._assigned == generation:
            return
        self._assigned = generation

        def written(error: int) -> None:
            if self.state != COMPLETING_REBALANCE or self.generation != generation:
                return  # a rebalance has begun and told those that waited
            if error == NONE:
                self._hand_out(assignments, NONE)
                self._become(STABLE)
            else:
                self._hand_out({}, append_error(error))
                self.prepare()

        self.write(self.record(assignments), written)

    def answer_sync(self, member: Member) -> None:
        """Tell a member its assignment, if it waits for that."""
        request, member.syncing = member.syncing, None
        if request is not None:
            request.reply(
                SyncGroupResponse(
                    protocol_type=self.protocol_type,
                    protocol_name=self.protocol_name,
                    assignment=member.assignment,
                )
            )

    # -- records

    def write(self, value: GroupMetadataValue, then: Callable[[int], None]) -> None:
        """Append the record of this group; `then` takes the error code."""
        self.has_record = True
        self._runtime.write([(encode_key(GroupMetadataKey(self._group_id)), encode_value(value))], then)

    def record(self, assignments: Mapping[str, bytes]) -> GroupMetadataValue:
        """The group with these assignments."""
        name = self.protocol_name or ""
        return GroupMetadataValue(
            protocol_type=self.protocol_type or "",
            generation=self.generation,
            protocol=self.protocol_name,
            leader=self.members.leader,
            current_state_timestamp=self.state_since_ms,
            members=[
                GroupMetadataMember(
                    member_id=member.member_id,
                    group_instance_id=member.group_instance_id,
                    client_id=member.client_id,
                    client_host=member.client_host,
                    rebalance_timeout=member.rebalance_timeout_ms,
                    session_timeout=member.session_timeout_ms,
                    subscription=member.protocols[name],
                    assignment=assignments.get(member.member_id, b""),
                )
                for member in self.members
            ],
        )

    def tombstone(self) -> Record:
        """What makes the log forget the group."""
        return encode_key(GroupMetadataKey(self._group_id)), None

    def replay(self, value: GroupMetadataValue | None) -> None:
        """Become what the record says; a group that serves members has written it and is that already."""
        if value is None:
            self.give_up(UNKNOWN_MEMBER_ID)
            self.has_record = self._is_live = False
            return
        if self._is_live:
            return
        self.members = Roster()
        self.has_record = True
        self.state = STABLE if value.members else EMPTY
        self.state_since_ms = value.current_state_timestamp
        self.generation = value.generation
        self.protocol_type = value.protocol_type or None
        self.protocol_name = value.protocol
        for kept in value.members:
            rebalance_timeout_ms = kept.rebalance_timeout
            if rebalance_timeout_ms == -1:
                rebalance_timeout_ms = kept.session_timeout
            self.members.add(
                Member(
                    member_id=kept.member_id,
                    group_instance_id=kept.group_instance_id,
                    client_id=kept.client_id,
                    client_host=kept.client_host,
                    rebalance_timeout_ms=rebalance_timeout_ms,
                    session_timeout_ms=kept.session_timeout,
                    protocols={value.protocol or "": kept.subscription},
                    assignment=kept.assignment,
                )
            )
        if value.leader in self.members:
            self.members.leader = value.leader
        self.topics = self._subscriptions()

    def on_loaded(self) -> None:
        """Sessions begin; a group that is larger than now allowed rebalances, so that it can shrink."""
        self._is_live = True
        for member in self.members:
            self.heard_from(member)
        if len(self.members) > self._runtime.config.group_max_size:
            self.prepare()

    # -- inside

    def _become(self, state: str) -> None:
        assert self.state in _COMES_FROM[state], f"{self.state} to {state}"
        self.state = state
        self.state_since_ms = self._runtime.time_ms

    def _hand_out(self, assignments: Mapping[str, bytes], error: int) -> None:
        """Every member has its assignment of these; those that wait for theirs are told, or get the error."""
        for member in self.members:
            member.assignment = assignments.get(member.member_id, b"")
            if member.syncing is not None:
                self.heard_from(member)
                if error == NONE:
                    self.answer_sync(member)
                else:
                    member.refuse_sync(error)

    def _subscriptions(self) -> set[str] | None:
        """The topics that this generation reads; None: it does not say, or nobody can read it."""
        if self.protocol_type != CONSUMER:
            return None
        name = self.protocol_name or ""
        try:
            return {
                topic
                for member in self.members
                for topic in decode_subscription(member.protocols[name]).topics
            }
        except ProtocolError:
            return None

    def _wait_for_more(self, delay_ms: int, left_ms: int) -> None:
        """The first rebalance of a group: wait for one delay more as long as members came during the last."""

        def look() -> None:
            if self._came_meanwhile and left_ms > 0:
                self._came_meanwhile = False
                self._wait_for_more(min(delay_ms, left_ms), max(left_ms - delay_ms, 0))
            else:
                self.complete_join()

        self._within(JOIN, delay_ms, look)

    def _expire_session(self, member_id: str) -> None:
        member = self.members.by_id.get(member_id)
        if member is not None and not member.is_new and (member.joining or member.syncing):
            return  # it waits for us: its session goes on when it is answered
        self.remove(member_id)
        if self.state == PREPARING_REBALANCE:
            if self.members.all_joined:
                self.complete_join()
        elif member is not None:
            self.prepare()

    def _expire_sync(self) -> None:
        for member_id in tuple(self._unsynced):
            self.remove(member_id)
        self.prepare()

    def _await(self, member_id: str, timeout_ms: int) -> None:
        deadline_ms = self._runtime.now_ms + timeout_ms
        self._sessions.set(member_id, deadline_ms, lambda: self._expire_session(member_id))

    def _within(self, what: str, timeout_ms: int, callback: Callable[[], None]) -> None:
        self._rebalance.set(what, self._runtime.now_ms + timeout_ms, callback)
