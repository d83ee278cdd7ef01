"""A group of the consumer protocol (KIP-848): the server assigns, members beat and are told what to own.

consumer_requests.py        what no group accepts; answers
consumer_engine.py          one step after the other, deadlines
consumer_draft.py           what a step decides
consumer_reconciliation.py  how a member gets to its target
consumer_state.py           what is durable
consumer_classic.py         members that speak the classic protocol
"""

from typing import Final

from msgspec.structs import replace

from tailrace.core import errors
from tailrace.core.config_groups import HEARTBEAT
from tailrace.core.errors import NONE, KafkaError
from tailrace.core.groups.classic_answers import append_error
from tailrace.core.groups.consumer_classic import ClassicSide
from tailrace.core.groups.consumer_draft import preferred_assignor
from tailrace.core.groups.consumer_engine import ConsumerEngine
from tailrace.core.groups.consumer_member import LEFT, LEFT_FOR_A_WHILE, ConsumerMember
from tailrace.core.groups.consumer_requests import (
    check_epoch,
    described_members,
    heartbeat_answer,
    refusal,
    with_request,
)
from tailrace.core.groups.consumer_state import ConsumerState
from tailrace.core.groups.records import KeyMessage, ValueMessage
from tailrace.core.groups.runtime import GroupRequest, Record, Runtime
from tailrace.core.protocol.messages.consumer_group_describe import ConsumerGroupDescribeResponseGroup
from tailrace.core.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
)
from tailrace.core.protocol.messages.list_groups import ListGroupsResponseGroup

OFFSETS_WITH_MEMBER_EPOCH: Final = 9  # the first version of OffsetCommit that has them

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
        self._engine = ConsumerEngine(runtime, group_id)
        self.classic = ClassicSide(self._engine)

    @property
    def _state(self) -> ConsumerState:
        return self._engine.state

    # -- what the coordinator asks

    @property
    def state(self) -> str:
        """Empty, Assigning, Reconciling or Stable."""
        return self._state.state

    @property
    def is_done(self) -> bool:
        """Whether it has no record, and none is on its way."""
        return not (self._state.exists or self._engine.is_writing)

    def subscribed_topics(self) -> set[str]:
        """What its members read."""
        return self._state.subscribed_topics()

    def can_delete(self) -> int:
        """NONE, or NON_EMPTY_GROUP; one that a member is joining is as good as not empty."""
        return errors.NON_EMPTY_GROUP if self._state.members or self._engine.is_writing else NONE

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
        draft = self._engine.draft()
        draft.forget_group()
        return draft.records

    def on_loaded(self) -> None:
        """All records were replayed: sessions and revocations have their time from now on."""
        for member in self._state.members.values():
            self._engine.heard_of(member)
            self._engine.await_revocation(ConsumerMember(member_id=member.member_id), member)

    @property
    def turns_classic(self) -> bool:
        """Whether its last write made a classic group of it."""
        return self._engine.turns_classic

    def begin(self, generation: int, members: list[ConsumerMember], first: list[Record]) -> None:
        """Go on as a classic group of this generation, whose records `first` ends."""
        self._engine.begin(generation, members, first)

    def on_metadata(self) -> None:
        """Topics came, went or grew: the next heartbeat looks at them."""
        self._engine.topics_moved()

    # -- heartbeats

    def heartbeat(self, request: GroupRequest) -> None:
        """Join, beat or leave, after `check_heartbeat`; answered when what changed is written."""
        self._engine.in_turn(lambda: self._answer(request))

    def _answer(self, request: GroupRequest) -> None:
        message: ConsumerGroupHeartbeatRequest = request.message
        try:
            if self._engine.turns_classic:  # in the log it is one; the next request finds that
                raise KafkaError(errors.COORDINATOR_LOAD_IN_PROGRESS)
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
        looks = self._engine.is_time_to_look()
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
        draft = self._engine.draft()
        if replaced is not None:
            draft.replace_member(replaced, before)
        moved = draft.advance(before, member, looks, message.topic_partitions)

        def written(error: int) -> None:
            if error == NONE:
                self._told(request, before, moved)
                return
            if looks:
                self._engine.topics_moved()
            request.reply(refusal(KafkaError(append_error(error))))

        self._engine.write(draft.records, written)

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
                if member.member_epoch != LEFT_FOR_A_WHILE and member.classic is None:
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
        self._engine.heard_of(member)
        self._engine.await_revocation(before, member)
        request.reply(heartbeat_answer(request.message, before, member, self._interval_ms()))

    def _interval_ms(self) -> int:
        if self.state == "Stable":
            shortest, per_member = STABLE_INTERVAL_MS, STABLE_INTERVAL_MS_PER_MEMBER
        else:
            shortest, per_member = MOVING_INTERVAL_MS, MOVING_INTERVAL_MS_PER_MEMBER
        own_ms = self._runtime.image.group_config(self.group_id, HEARTBEAT)
        return min(
            own_ms or self._runtime.config.group_consumer_heartbeat_interval_ms,
            max(shortest, per_member * len(self._state.members)),
        )

    # -- leaving

    def _leave(self, request: GroupRequest, message: ConsumerGroupHeartbeatRequest) -> None:
        if message.instance_id is not None:
            member = self._static_member(message)
        elif (known := self._state.members.get(message.member_id)) is not None:
            member = known
        else:
            raise self._unknown(message.member_id)

        def written(error: int) -> None:
            request.reply(
                ConsumerGroupHeartbeatResponse(member_id=member.member_id, member_epoch=message.member_epoch)
                if error == NONE
                else refusal(KafkaError(append_error(error)))
            )

        if message.member_epoch == LEFT or message.instance_id is None:
            self._engine.fence([member], written)
            return
        draft = self._engine.draft()
        draft.put_assignment(
            replace(
                member,
                member_epoch=LEFT_FOR_A_WHILE,
                revoking={},
                assigned={topic_id: dict.fromkeys(parts, 0) for topic_id, parts in member.assigned.items()},
            )
        )
        self._engine.write(draft.records, written)


def _stale(member: ConsumerMember) -> int:
    return errors.STALE_MEMBER_EPOCH if member.classic is None else errors.ILLEGAL_GENERATION
