"""A group of the consumer protocol (KIP-848): the server assigns, members beat and are told what to own.

Requests are decided one after the other: what is decided while a write of the group is under way would not
see what that write brings. So whatever comes meanwhile waits for it; one connection has at most one.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from msgspec.structs import replace

from tailrace.core import errors
from tailrace.core.errors import NONE, KafkaError
from tailrace.core.groups.classic_answers import append_error
from tailrace.core.groups.consumer_draft import ConsumerDraft, preferred_assignor
from tailrace.core.groups.consumer_member import LEFT, LEFT_FOR_A_WHILE, UNREVOKED_PARTITIONS, ConsumerMember
from tailrace.core.groups.consumer_requests import (
    check_epoch,
    check_heartbeat,
    described_members,
    heartbeat_answer,
    refusal,
    with_request,
)
from tailrace.core.groups.consumer_state import ConsumerState
from tailrace.core.groups.deadlines import Deadlines
from tailrace.core.groups.records import KeyMessage, ValueMessage
from tailrace.core.groups.runtime import GroupRequest, Record, Runtime
from tailrace.core.groups.topic_pattern import check_pattern
from tailrace.core.protocol.messages.consumer_group_describe import ConsumerGroupDescribeResponseGroup
from tailrace.core.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
)
from tailrace.core.protocol.messages.list_groups import ListGroupsResponseGroup

OFFSETS_WITH_MEMBER_EPOCH: Final = 9  # the first version of OffsetCommit that has them
RETRY_MS: Final = 500  # a timeout whose records could not be written
PATTERNS_AGAIN_MS: Final = 1_000  # looking through all topics costs time: at most this often

# A member hears only from the answers to its heartbeats that it must give partitions up for another. So all
# beat as often as these rates allow the group as a whole, within these bounds, and never less often than
# configured.
STABLE_INTERVAL_MS: Final = 500
STABLE_INTERVAL_MS_PER_MEMBER: Final = 50
MOVING_INTERVAL_MS: Final = 100
MOVING_INTERVAL_MS_PER_MEMBER: Final = 10


class ConsumerGroup:
    """See the module; core/groups/consumer_state.py for what is durable of it."""

    protocol_type: Final = "consumer"

    def __init__(self, runtime: Runtime, group_id: str) -> None:
        self.group_id = group_id
        self._runtime = runtime
        self._state = ConsumerState()
        self._waiting: deque[Callable[[], None]] = deque()
        self._writing = self._stepping = False
        self._topics_seen = False  # the metadata did not move since it was looked at
        self._patterns_due_ms = 0
        self._sessions = Deadlines(runtime.timers)
        self._revocations = Deadlines(runtime.timers)

    # -- what the coordinator asks

    @property
    def state(self) -> str:
        """Empty, Assigning, Reconciling or Stable."""
        return self._state.state

    @property
    def is_done(self) -> bool:
        """Whether it has no record, and none is on its way."""
        return not (self._state.exists or self._writing or self._waiting)

    def subscribed_topics(self) -> set[str]:
        """What its members read."""
        return self._state.subscribed_topics()

    def can_delete(self) -> int:
        """NONE, or NON_EMPTY_GROUP; one that a member is joining is as good as not empty."""
        return errors.NON_EMPTY_GROUP if self._state.members or self._writing else NONE

    def listed(self) -> ListGroupsResponseGroup:
        """Its line in ListGroups."""
        return ListGroupsResponseGroup(self.group_id, self.protocol_type, self.state, self.protocol_type)

    def describe(self) -> ConsumerGroupDescribeResponseGroup:
        """Its epochs and members, for ConsumerGroupDescribe."""
        state, runtime = self._state, self._runtime
        return ConsumerGroupDescribeResponseGroup(
            group_id=self.group_id,
            group_state=self.state,
            group_epoch=state.group_epoch,
            assignment_epoch=state.assignment_epoch,
            assignor_name=preferred_assignor(state, runtime.config.group_consumer_assignors),
            members=described_members(state, runtime.image),
        )

    def commit_error(
        self, member_id: str, group_instance_id: str | None, member_epoch: int, version: int = 10
    ) -> int:
        """Whether this member may commit offsets with an OffsetCommit of this version.

        NONE for an older epoch of the member, too: then `commit_partition_error` says it of each partition.
        """
        del group_instance_id  # Kafka does not look at it
        if member_epoch < 0 and not self._state.members:
            return NONE
        member = self._state.members.get(member_id)
        if member is None:
            return errors.UNKNOWN_MEMBER_ID
        if member.classic is None and version < OFFSETS_WITH_MEMBER_EPOCH:
            return errors.UNSUPPORTED_VERSION
        return NONE if member_epoch <= member.member_epoch else _stale(member)

    def commit_partition_error(
        self, member_id: str, member_epoch: int, topic_id: bytes, partition: int
    ) -> int:
        """Whether a member that `commit_error` let pass may commit this partition's offset.

        A member that has not heard of its new epoch may commit what it still owns since before that epoch.
        """
        member = self._state.members.get(member_id)
        if member is None or member_epoch == member.member_epoch:
            return NONE
        epoch = member.assignment_epoch(topic_id, partition)
        return _stale(member) if epoch is None or member_epoch < epoch else NONE

    def fetch_error(self, member_id: str | None, member_epoch: int) -> int:
        """Whether this member may fetch offsets; NONE or the code. Without a member: anyone may."""
        if member_id is None and member_epoch < 0:
            return NONE
        member = self._state.members.get(member_id or "")
        if member is None:
            return errors.UNKNOWN_MEMBER_ID
        return NONE if member_epoch == member.member_epoch else _stale(member)

    # -- records and time

    def replay(self, key: KeyMessage, value: ValueMessage | None) -> None:
        """One record of a KIP-848 group, of this one."""
        self._state.replay(key, value)

    def tombstones(self) -> list[Record]:
        """What makes the log forget the group."""
        draft = self._draft()
        draft.forget_group()
        return draft.records

    def on_loaded(self) -> None:
        """All records were replayed: sessions and revocations have their time from now on."""
        for member in self._state.members.values():
            self._heard_of(member)
            if member.state == UNREVOKED_PARTITIONS:
                self._await_revocation(member)

    def on_metadata(self) -> None:
        """Topics came, went or grew: the next heartbeat looks at them."""
        self._topics_seen = False

    # -- heartbeats

    def heartbeat(self, request: GroupRequest) -> None:
        """Join, beat or leave; answered when what changed is written."""
        try:
            check_heartbeat(request.message, request.version, self._runtime.config.group_consumer_assignors)
        except KafkaError as error:
            request.reply(refusal(error))
            return
        self._in_turn(lambda: self._answer(request))

    def _answer(self, request: GroupRequest) -> None:
        message: ConsumerGroupHeartbeatRequest = request.message
        try:
            leaves = message.member_epoch in (LEFT, LEFT_FOR_A_WHILE)
            if message.member_epoch != 0 and not self._state.exists:
                name = "Group" if leaves else "Consumer group"
                raise KafkaError(errors.GROUP_ID_NOT_FOUND, f"{name} {self.group_id} not found.")
            if leaves:
                self._leave(request, message)
            else:
                self._beat(request, message)
        except KafkaError as error:
            request.reply(refusal(error))

    def _beat(self, request: GroupRequest, message: ConsumerGroupHeartbeatRequest) -> None:
        state, size = self._state, self._runtime.config.group_consumer_max_size
        if len(state.members) >= size and message.member_id not in state.members:
            raise KafkaError(
                errors.GROUP_MAX_SIZE_REACHED,
                f"The consumer group has reached its maximum capacity of {size} members.",
            )
        before, replaced = self._member(message, message.member_id or self._runtime.new_uuid())
        member = with_request(before, request)
        looks = self._is_time_to_look()
        if (
            member == before
            and replaced is None
            and not looks
            and member.is_reconciled_to(state.group_epoch)  # then the assignment is of it, too
            and state.assignment_epoch == state.group_epoch
            and member.member_id in state.members
        ):
            self._told(request, before, member)
            return
        draft = self._draft()
        if replaced is not None:
            draft.replace_member(replaced, before)
        moved = _advance(draft, before, member, looks, message)

        def written(error: int) -> None:
            if error == NONE:
                self._told(request, before, moved)
                return
            self._topics_seen = self._topics_seen and not looks
            request.reply(refusal(_not_written(error)))

        self._write(draft.records, written)

    def _member(
        self, message: ConsumerGroupHeartbeatRequest, member_id: str
    ) -> tuple[ConsumerMember, ConsumerMember | None]:
        """Who beats, and whose place it takes."""
        joins = message.member_epoch == 0
        if message.instance_id is None:
            member = self._state.members.get(member_id)
            if member is None and not joins:
                raise self._unknown(member_id)
        else:
            member = self._state.static_member(message.instance_id)
            if joins and member is not None:
                if member.member_epoch != LEFT_FOR_A_WHILE:
                    raise KafkaError(
                        errors.UNRELEASED_INSTANCE_ID,
                        f"Static member {member_id} with instance id {message.instance_id} cannot join the"
                        f" group because the instance id is owned by {member.member_id} member.",
                    )
                return replace(member, member_id=member_id, member_epoch=0, previous_member_epoch=0), member
            member = self._state.members.get(member_id) if joins else self._static_member(message)
        if member is None:
            return ConsumerMember(member_id=member_id), None
        check_epoch(member, message)
        return member, None

    def _static_member(self, message: ConsumerGroupHeartbeatRequest) -> ConsumerMember:
        assert message.instance_id is not None
        member = self._state.static_member(message.instance_id)
        if member is None:
            raise KafkaError(errors.UNKNOWN_MEMBER_ID, f"Instance id {message.instance_id} is unknown.")
        if member.member_id != message.member_id:
            raise KafkaError(
                errors.FENCED_INSTANCE_ID,
                f"Static member {message.member_id} with instance id {message.instance_id} was fenced by"
                f" member {member.member_id}.",
            )
        return member

    def _unknown(self, member_id: str) -> KafkaError:
        return KafkaError(
            errors.UNKNOWN_MEMBER_ID, f"Member {member_id} is not a member of group {self.group_id}."
        )

    def _told(self, request: GroupRequest, before: ConsumerMember, member: ConsumerMember) -> None:
        self._heard_of(member)
        if member.state != UNREVOKED_PARTITIONS:
            self._revocations.cancel(member.member_id)
        elif member.revoking != before.revoking or member.member_epoch != before.member_epoch:
            self._await_revocation(member)
        request.reply(heartbeat_answer(request.message, before, member, self._interval_ms()))

    def _interval_ms(self) -> int:
        if self.state == "Stable":
            shortest, per_member = STABLE_INTERVAL_MS, STABLE_INTERVAL_MS_PER_MEMBER
        else:
            shortest, per_member = MOVING_INTERVAL_MS, MOVING_INTERVAL_MS_PER_MEMBER
        return min(
            self._runtime.config.group_consumer_heartbeat_interval_ms,
            max(shortest, per_member * len(self._state.members)),
        )

    def _is_time_to_look(self) -> bool:
        """Whether the metadata moved and this heartbeat shall see what that means."""
        now_ms = self._runtime.now_ms
        if self._topics_seen or (self._state.patterns and now_ms < self._patterns_due_ms):
            return False
        self._topics_seen = True
        self._patterns_due_ms = now_ms + PATTERNS_AGAIN_MS
        return True

    # -- leaving

    def _leave(self, request: GroupRequest, message: ConsumerGroupHeartbeatRequest) -> None:
        if message.instance_id is not None:
            member = self._static_member(message)
        elif (known := self._state.members.get(message.member_id)) is not None:
            member = known
        else:
            raise self._unknown(message.member_id)
        draft = self._draft()
        stays = message.member_epoch == LEFT_FOR_A_WHILE and message.instance_id is not None
        if stays:
            draft.put_assignment(
                replace(
                    member,
                    member_epoch=LEFT_FOR_A_WHILE,
                    revoking={},
                    assigned={
                        topic_id: dict.fromkeys(parts, 0) for topic_id, parts in member.assigned.items()
                    },
                )
            )
        else:
            draft.fence(member)

        def written(error: int) -> None:
            if error != NONE:
                request.reply(refusal(_not_written(error)))
                return
            if not stays:
                self._forget(member.member_id)
            request.reply(
                ConsumerGroupHeartbeatResponse(member_id=member.member_id, member_epoch=message.member_epoch)
            )

        self._write(draft.records, written)

    # -- timeouts

    def _heard_of(self, member: ConsumerMember) -> None:
        member_id = member.member_id
        self._sessions.set(
            member_id,
            self._runtime.now_ms + self._runtime.config.group_consumer_session_timeout_ms,
            lambda: self._fence_if(member_id, lambda _: member_id not in self._sessions),
        )

    def _await_revocation(self, member: ConsumerMember) -> None:
        def is_late(then: ConsumerMember) -> bool:
            return then.state == UNREVOKED_PARTITIONS and then.member_epoch == member.member_epoch

        self._revocations.set(
            member.member_id,
            self._runtime.now_ms + member.rebalance_timeout_ms,
            lambda: self._fence_if(member.member_id, is_late),
        )

    def _fence_if(self, member_id: str, is_late: Callable[[ConsumerMember], bool]) -> None:
        """Put a member out that is still late when this has its turn."""
        self._in_turn(lambda: self._fence(member_id, is_late))

    def _fence(self, member_id: str, is_late: Callable[[ConsumerMember], bool]) -> None:
        member = self._state.members.get(member_id)
        if member is None or not is_late(member):
            return
        draft = self._draft()
        draft.fence(member)

        def written(error: int) -> None:
            if error == NONE:
                self._forget(member_id)
                return
            self._runtime.timers.schedule(
                self._runtime.now_ms + RETRY_MS, lambda: self._fence_if(member_id, is_late)
            )

        self._write(draft.records, written)

    def _forget(self, member_id: str) -> None:
        self._sessions.cancel(member_id)
        self._revocations.cancel(member_id)

    # -- one after the other

    def _draft(self) -> ConsumerDraft:
        return ConsumerDraft(self._runtime, self.group_id, self._state)

    def _in_turn(self, step: Callable[[], None]) -> None:
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

    def _write(self, records: Sequence[Record], then: Callable[[int], None]) -> None:
        assert not self._writing, "a step writes once"
        if not records:
            then(NONE)
            return
        self._writing = True

        def written(error: int) -> None:
            self._writing = False
            then(error)
            self._go_on()

        self._runtime.write(records, written)


def _advance(
    draft: ConsumerDraft,
    before: ConsumerMember,
    member: ConsumerMember,
    looks: bool,
    message: ConsumerGroupHeartbeatRequest,
) -> ConsumerMember:
    """Take in what the member says of itself, and the topics if it is time; assign; take a step.

    Returns the member after that step.
    """
    if member != before or member.member_id not in draft.state.members:
        draft.put_member(member)
    pattern = member.topic_regex
    new_pattern = pattern != before.topic_regex
    if new_pattern:
        if pattern and pattern not in draft.state.patterns:
            check_pattern(pattern)
            draft.resolve(pattern)
        draft.forget_pattern(before.topic_regex)
    if looks:
        draft.resolve_all()
    changed = new_pattern or member.topic_names != before.topic_names
    if changed or (looks and draft.topics_changed()):
        draft.bump()
    if draft.state.assignment_epoch < draft.state.group_epoch:
        draft.assign()
    return draft.reconcile(member, changed, message.topic_partitions)


def _stale(member: ConsumerMember) -> int:
    return errors.STALE_MEMBER_EPOCH if member.classic is None else errors.ILLEGAL_GENERATION


def _not_written(error: int) -> KafkaError:
    return KafkaError(append_error(error))
