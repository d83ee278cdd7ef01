"""Members of a KIP-848 group that speak the classic protocol, while clients move from one to the other.

The server assigns for them, too. A generation is the member's epoch; Heartbeat tells it to join again when it
has to move, JoinGroup is a heartbeat that says all, SyncGroup asks for the assignment. Nobody leads.
"""

from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from tailrace.core import errors
from tailrace.core.errors import NONE, KafkaError, ProtocolError
from tailrace.core.groups.classic_answers import append_error, refuse_join, refuse_sync
from tailrace.core.groups.consumer_engine import ConsumerEngine
from tailrace.core.groups.consumer_member import UNRELEASED_PARTITIONS, UNREVOKED_PARTITIONS, ConsumerMember
from tailrace.core.groups.consumer_migration import CONSUMER, classic_assignment, may_migrate
from tailrace.core.groups.consumer_protocol import (
    ConsumerProtocolSubscription,
    decode_subscription,
    version_of,
)
from tailrace.core.groups.consumer_requests import STRING_BYTES_MAX
from tailrace.core.groups.consumer_state import NO_TARGET
from tailrace.core.groups.records import ClassicMemberMetadata, ClassicProtocol
from tailrace.core.groups.runtime import GroupRequest
from tailrace.core.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from tailrace.core.protocol.messages.join_group import JoinGroupRequest, JoinGroupResponse
from tailrace.core.protocol.messages.leave_group import (
    LeaveGroupRequest,
    LeaveGroupRequestMember,
    LeaveGroupResponse,
    LeaveGroupResponseMember,
)
from tailrace.core.protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse

NEEDS_MEMBER_ID: Final = 4  # the first version that does so
LEAVE_IS_BATCH: Final = 3


class Owned(Struct):
    """Partitions of a topic that a member says it owns."""

    topic_id: bytes
    partitions: list[int]


class ClassicSide:
    """JoinGroup, SyncGroup, Heartbeat and LeaveGroup of a KIP-848 group."""

    def __init__(self, engine: ConsumerEngine) -> None:
        self._engine = engine

    # -- JoinGroup

    def join(self, request: GroupRequest) -> None:
        """Let the member in, or take it on; answered when that is written, at once."""

        def step() -> None:
            try:
                self._join(request, request.message)
            except KafkaError as error:
                refuse_join(request, error.code, request.message.member_id)

        self._engine.in_turn(step)

    def _join(self, request: GroupRequest, message: JoinGroupRequest) -> None:
        engine, runtime = self._engine, self._engine.runtime
        self._check_join(message)
        member_id = message.member_id or runtime.new_uuid()
        if not message.member_id and message.group_instance_id is None and request.version >= NEEDS_MEMBER_ID:
            refuse_join(request, errors.MEMBER_ID_REQUIRED, member_id)
            return
        try:
            subscription = decode_subscription(message.protocols[0].metadata)
        except ProtocolError as error:
            raise KafkaError(errors.INCONSISTENT_GROUP_PROTOCOL) from error
        before, replaced = self._joining(message, member_id)
        member = _with_join(before, request, message, subscription)
        draft, looks = engine.draft(), engine.is_time_to_look()
        if replaced is not None:
            draft.replace_member(replaced, before)
        moved = draft.advance(before, member, looks, self._owned(subscription))
        turns = replaced is not None and replaced.classic is None and engine.turn_classic_if_due(draft)

        def written(error: int) -> None:
            if error != NONE:
                if looks:
                    engine.topics_moved()
                refuse_join(request, append_error(error), message.member_id)
                return
            if turns:  # it was the last of the other protocol: the classic group has it join
                refuse_join(request, errors.REBALANCE_IN_PROGRESS, member_id)
                return
            engine.heard_of(moved)
            engine.joins.cancel(member_id)
            engine.await_sync(moved)
            request.reply(
                JoinGroupResponse(
                    generation_id=moved.member_epoch,
                    protocol_type=CONSUMER,
                    protocol_name=message.protocols[0].name,
                    member_id=member_id,
                )
            )

        engine.write(draft.records, written)

    def _check_join(self, message: JoinGroupRequest) -> None:
        members, config = self._engine.state.members, self._engine.runtime.config
        if self._engine.turns_classic:
            raise KafkaError(errors.REBALANCE_IN_PROGRESS)
        # (R) Requests have longer strings than records can keep: such a member could never be written.
        names = [protocol.name for protocol in message.protocols]
        if any(
            len(text.encode()) > STRING_BYTES_MAX
            for text in (message.group_id, message.member_id, message.group_instance_id or "", *names)
        ):
            raise KafkaError(errors.INVALID_REQUEST)
        if not may_migrate(config):
            raise KafkaError(errors.INCONSISTENT_GROUP_PROTOCOL)
        if len(members) >= config.group_consumer_max_size and message.member_id not in members:
            raise KafkaError(errors.GROUP_MAX_SIZE_REACHED)
        known = [
            {protocol.name for protocol in member.classic.supported_protocols}
            for member in members.values()
            if member.classic is not None
        ]
        if message.protocol_type != CONSUMER or not any(
            all(name in each for each in known) for name in names
        ):
            raise KafkaError(errors.INCONSISTENT_GROUP_PROTOCOL)

    def _joining(
        self, message: JoinGroupRequest, member_id: str
    ) -> tuple[ConsumerMember, ConsumerMember | None]:
        """Who joins, and whose place it takes."""
        state = self._engine.state
        static = None if message.group_instance_id is None else state.static_member(message.group_instance_id)
        if message.group_instance_id is not None and message.member_id:
            return self._member(message.member_id, message.group_instance_id), None
        if static is not None:
            return replace(static, member_id=member_id, member_epoch=0, previous_member_epoch=0), static
        return state.members.get(member_id) or ConsumerMember(member_id=member_id), None

    def _owned(self, subscription: ConsumerProtocolSubscription) -> list[Owned]:
        topics = self._engine.runtime.image.topics_by_name
        return [
            Owned(topics[topic.topic].topic_id, topic.partitions)
            for topic in subscription.owned_partitions
            if topic.topic in topics
        ]

    # -- SyncGroup, Heartbeat

    def sync(self, request: GroupRequest) -> None:
        """Tell the member what it owns."""

        def step() -> None:
            try:
                request.reply(self._sync(request.message))
            except KafkaError as error:
                refuse_sync(request, error.code)

        self._engine.in_turn(step)

    def _sync(self, message: SyncGroupRequest) -> SyncGroupResponse:
        engine = self._engine
        member = self._classic_member(message)
        assert member.classic is not None
        protocol = member.classic.supported_protocols[0]
        if message.protocol_type not in (None, CONSUMER) or message.protocol_name not in (
            None,
            protocol.name,
        ):
            raise KafkaError(errors.INCONSISTENT_GROUP_PROTOCOL)
        if engine.state.assignment_epoch > member.member_epoch and member.state != UNREVOKED_PARTITIONS:
            engine.await_join(member)
            raise KafkaError(errors.REBALANCE_IN_PROGRESS)
        engine.syncs.cancel(member.member_id)
        engine.heard_of(member)
        return SyncGroupResponse(
            protocol_type=message.protocol_type,
            protocol_name=message.protocol_name,
            assignment=classic_assignment(
                member.assigned, version_of(protocol.metadata), engine.runtime.image
            ),
        )

    def heartbeat(self, request: GroupRequest) -> None:
        """The session goes on; REBALANCE_IN_PROGRESS tells the member to join again."""

        def step() -> None:
            try:
                error = self._heartbeat(request.message)
            except KafkaError as refused:
                error = refused.code
            request.reply(HeartbeatResponse(error_code=error))

        self._engine.in_turn(step)

    def _heartbeat(self, message: HeartbeatRequest) -> int:
        engine, member = self._engine, self._classic_member(message)
        engine.heard_of(member)
        if (
            member.member_epoch < engine.state.assignment_epoch
            or member.state == UNREVOKED_PARTITIONS
            or (member.state == UNRELEASED_PARTITIONS and not self._waits(member))
        ):
            engine.await_join(member)
            return errors.REBALANCE_IN_PROGRESS
        return NONE

    def _waits(self, member: ConsumerMember) -> bool:
        """Whether others still own part of its target."""
        state = self._engine.state
        return any(
            partition not in member.assigned.get(topic_id, {}) and state.is_taken(topic_id, partition)
            for topic_id, partitions in state.targets.get(member.member_id, NO_TARGET).items()
            for partition in partitions
        )

    def _classic_member(self, message: SyncGroupRequest | HeartbeatRequest) -> ConsumerMember:
        """The member of this protocol that asks, in its generation."""
        if self._engine.turns_classic:
            raise KafkaError(errors.REBALANCE_IN_PROGRESS)
        member = self._member(message.member_id, message.group_instance_id)
        if member.classic is None:
            raise KafkaError(errors.UNKNOWN_MEMBER_ID)
        if member.member_epoch != message.generation_id:
            raise KafkaError(errors.ILLEGAL_GENERATION)
        return member

    def _member(self, member_id: str, group_instance_id: str | None) -> ConsumerMember:
        state = self._engine.state
        if group_instance_id is None:
            member = state.members.get(member_id)
        else:
            member = state.static_member(group_instance_id)
            if member is not None and member.member_id != member_id:
                raise KafkaError(errors.FENCED_INSTANCE_ID)
        if member is None:
            raise KafkaError(errors.UNKNOWN_MEMBER_ID)
        return member

    # -- LeaveGroup

    def leave(self, request: GroupRequest) -> None:
        """These members go, of either protocol: an admin may name any."""
        self._engine.in_turn(lambda: self._leave(request))

    def _leave(self, request: GroupRequest) -> None:
        message: LeaveGroupRequest = request.message
        is_batch = request.version >= LEAVE_IS_BATCH
        leaving = message.members if is_batch else [LeaveGroupRequestMember(message.member_id)]
        answers: list[LeaveGroupResponseMember] = []
        gone: dict[str, ConsumerMember] = {}
        for each in leaving:
            answer = LeaveGroupResponseMember(each.member_id, each.group_instance_id)
            try:
                member = self._leaving(each)
                gone[member.member_id] = member
            except KafkaError as error:
                answer.error_code = error.code
            answers.append(answer)

        def written(error: int) -> None:
            if is_batch:
                request.reply(LeaveGroupResponse(error_code=append_error(error), members=answers))
            else:
                request.reply(LeaveGroupResponse(error_code=append_error(error) or answers[0].error_code))

        self._out(list(gone.values()), written)

    def _out(self, members: Sequence[ConsumerMember], then: Callable[[int], None]) -> None:
        if members:
            self._engine.fence(members, then)
        else:
            then(NONE)

    def _leaving(self, leaving: LeaveGroupRequestMember) -> ConsumerMember:
        if leaving.group_instance_id is not None and not leaving.member_id:
            member = self._engine.state.static_member(leaving.group_instance_id)
            if member is None:
                raise KafkaError(errors.UNKNOWN_MEMBER_ID)
            return member
        return self._member(leaving.member_id, leaving.group_instance_id)


def _with_join(
    member: ConsumerMember,
    request: GroupRequest,
    message: JoinGroupRequest,
    subscription: ConsumerProtocolSubscription,
) -> ConsumerMember:
    timeout_ms = message.rebalance_timeout_ms
    return replace(
        member,
        instance_id=member.instance_id if message.group_instance_id is None else message.group_instance_id,
        rack_id=member.rack_id if subscription.rack_id is None else subscription.rack_id,
        rebalance_timeout_ms=message.session_timeout_ms if timeout_ms == -1 else timeout_ms,
        topic_names=frozenset(subscription.topics),
        topic_regex="",
        client_id=request.client_id,
        client_host=request.client_host,
        classic=ClassicMemberMetadata(
            message.session_timeout_ms,
            [ClassicProtocol(protocol.name, protocol.metadata) for protocol in message.protocols],
        ),
    )
