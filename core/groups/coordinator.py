"""The coordinator of one partition of __consumer_offsets: it owns the groups, hands requests to them, and
replays records into them and into the offsets.

A group begins with the first member that joins, or with offsets committed from outside of a protocol; such a
simple group is an empty classic one. It ends when it is empty and without offsets, or is deleted.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from tailrace.core import errors
from tailrace.core.errors import NONE, KafkaError
from tailrace.core.groups.classic import ClassicGroup
from tailrace.core.groups.classic_answers import refuse_join
from tailrace.core.groups.consumer import ConsumerGroup
from tailrace.core.groups.consumer_classic import ClassicSide
from tailrace.core.groups.consumer_migration import upgraded_members
from tailrace.core.groups.consumer_requests import check_heartbeat, refusal
from tailrace.core.groups.group import Group, is_subscribed, offsets_age
from tailrace.core.groups.group_admin import GroupAdmin
from tailrace.core.groups.offset_requests import OffsetRequests
from tailrace.core.groups.offsets import OffsetStore
from tailrace.core.groups.records import (
    GroupMetadataKey,
    GroupMetadataValue,
    KeyMessage,
    OffsetCommitKey,
    OffsetCommitValue,
    ValueMessage,
    decode_record,
)
from tailrace.core.groups.runtime import GroupRequest, Runtime
from tailrace.core.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
from tailrace.core.protocol.messages.heartbeat import HeartbeatResponse
from tailrace.core.protocol.messages.join_group import JoinGroupRequest
from tailrace.core.protocol.messages.leave_group import (
    LeaveGroupRequest,
    LeaveGroupResponse,
    LeaveGroupResponseMember,
)
from tailrace.core.protocol.messages.sync_group import SyncGroupResponse

LEAVE_OF_SEVERAL = 3

G = TypeVar("G", ClassicGroup, ConsumerGroup)


class GroupCoordinator:
    """One shard; see core/groups/runtime.py for its host's side."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.groups: dict[str, Group] = {}
        self.offsets = OffsetStore(runtime)
        self._loaded = False
        offset_requests = OffsetRequests(runtime, self.offsets, self.groups)
        admin = GroupAdmin(runtime, self.offsets, self.groups)
        self._handlers: dict[int, Callable[[GroupRequest], None]] = {
            8: offset_requests.commit,
            9: offset_requests.fetch,
            11: self._join,
            12: self._heartbeat,
            13: self._leave,
            14: self._sync,
            15: admin.describe,
            16: admin.list_groups,
            42: admin.delete,
            47: offset_requests.delete,
            68: self._consumer_heartbeat,
            69: admin.describe_consumers,
        }

    # -- what the host calls

    def replay(self, key: bytes, value: bytes | None) -> None:
        """One record of the log, at load and after each append."""
        decoded = decode_record(key, value)
        if decoded is None:
            return
        name, what = decoded
        if isinstance(name, OffsetCommitKey):
            assert what is None or isinstance(what, OffsetCommitValue)
            if what is not None and name.group not in self.groups:
                self._new(ClassicGroup, name.group)
            self.offsets.replay(name, what)
        elif isinstance(name, GroupMetadataKey):
            assert what is None or isinstance(what, GroupMetadataValue)
            self._replay_classic(name.group, what)
        else:
            self._replay_consumer(name.group_id, name, what)

    def on_loaded(self) -> None:
        """All was replayed: members have their session time from now on, and offsets age."""
        self._loaded = True
        for group in list(self.groups.values()):
            group.on_loaded()
        self._forget_deleted_topics()
        self._expire_later()

    def on_metadata(self) -> None:
        """The image moved."""
        if not self._loaded:
            return
        self._forget_deleted_topics()
        for group in self.groups.values():
            if isinstance(group, ConsumerGroup):
                group.on_metadata()

    def handle(self, request: GroupRequest) -> None:
        """One request, about groups of this shard."""
        self._handlers[request.api_key](request)

    # -- requests of members

    def _join(self, request: GroupRequest) -> None:
        message: JoinGroupRequest = request.message
        group = self.groups.get(message.group_id)
        if not message.group_id:
            refuse_join(request, errors.INVALID_GROUP_ID, message.member_id)
        elif isinstance(group, ConsumerGroup) and group.can_delete() != NONE:
            group.classic.join(request)
        elif message.member_id and not isinstance(group, ClassicGroup):
            ClassicGroup(self._runtime, message.group_id).join(request)  # which knows nobody
        else:
            classic = self._made_to_be(ClassicGroup, message.group_id, group)
            classic.join(request)
            self._drop_if_done(classic)

    def _consumer_heartbeat(self, request: GroupRequest) -> None:
        message: ConsumerGroupHeartbeatRequest = request.message
        group = self.groups.get(message.group_id)
        try:
            check_heartbeat(message, request.version, self._runtime.config.group_consumer_assignors)
            if isinstance(group, ClassicGroup):
                if message.member_epoch != 0:
                    raise KafkaError(
                        errors.GROUP_ID_NOT_FOUND, f"Group {message.group_id} is not a consumer group."
                    )
                if group.can_delete() != NONE:
                    group = self._upgraded(group)
        except KafkaError as error:
            request.reply(refusal(error))
            return
        consumers = self._made_to_be(ConsumerGroup, message.group_id, group)
        consumers.heartbeat(request)
        self._drop_if_done(consumers)

    def _made_to_be(self, kind: type[G], group_id: str, group: Group | None) -> G:
        """The group, of this protocol; an empty one of the other, or none, makes place for a new one."""
        if isinstance(group, kind):
            return group
        if group is not None:
            self._runtime.write(group.tombstones(), _ignore)
        if isinstance(group, ClassicGroup):
            group.give_up(errors.UNKNOWN_MEMBER_ID)
        return self._new(kind, group_id)

    def _upgraded(self, classic: ClassicGroup) -> ConsumerGroup:
        """A classic group with members, from now on one of KIP-848."""
        members = upgraded_members(classic, self._runtime.config, self._runtime.image)
        generation = classic.generation
        classic.give_up(errors.REBALANCE_IN_PROGRESS)
        group = self._new(ConsumerGroup, classic.group_id)
        group.begin(generation, members, classic.tombstones())
        return group

    def _sync(self, request: GroupRequest) -> None:
        group = self._classic(request, lambda code: SyncGroupResponse(error_code=code))
        if group is not None:
            group.sync(request)

    def _heartbeat(self, request: GroupRequest) -> None:
        group = self._classic(request, lambda code: HeartbeatResponse(error_code=code))
        if group is not None:
            group.heartbeat(request)

    def _leave(self, request: GroupRequest) -> None:
        group = self._classic(request, lambda code: _left(request, code))
        if group is not None:
            group.leave(request)
        if isinstance(group, ClassicGroup):
            self._drop_if_done(group)

    def _classic(
        self, request: GroupRequest, refusal: Callable[[int], Any]
    ) -> ClassicGroup | ClassicSide | None:
        """Who serves a request that a member of the classic protocol sends; None: refused."""
        group_id: str = request.message.group_id
        group = self.groups.get(group_id)
        if group_id and group is not None:
            return group if isinstance(group, ClassicGroup) else group.classic
        request.reply(refusal(errors.UNKNOWN_MEMBER_ID if group_id else errors.INVALID_GROUP_ID))
        return None

    # -- groups and their records

    def _new(self, kind: type[G], group_id: str) -> G:
        group = self.groups[group_id] = kind(self._runtime, group_id)
        return group

    def _of_record(self, kind: type[G], group_id: str) -> G | None:
        """The group that a record is about.

        Requests decide which protocol a live group has; what the log says of the other was written before.
        """
        group = self.groups.get(group_id)
        if isinstance(group, kind):
            return group
        return None if self._loaded and group is not None else self._new(kind, group_id)

    def _replay_classic(self, group_id: str, value: GroupMetadataValue | None) -> None:
        before = self.groups.get(group_id)
        if value is not None and isinstance(before, ConsumerGroup) and before.turns_classic:
            classic = self._new(ClassicGroup, group_id)
            classic.replay(value)
            classic.on_loaded()
            classic.prepare_rebalance()
            return
        group = before if value is None else self._of_record(ClassicGroup, group_id)
        if not isinstance(group, ClassicGroup):
            return
        if value is None and self._loaded and group.can_delete() != NONE:
            return  # it was joined while its tombstone was written
        group.replay(value)
        if value is None:
            del self.groups[group_id]

    def _replay_consumer(self, group_id: str, key: KeyMessage, value: ValueMessage | None) -> None:
        group = self.groups.get(group_id) if value is None else self._of_record(ConsumerGroup, group_id)
        if isinstance(group, ConsumerGroup):
            group.replay(key, value)
            if value is None:
                self._drop_if_done(group)

    def _drop_if_done(self, group: Group) -> None:
        """Forget a group that the log does not know; if it has offsets, it is a simple one."""
        group_id = group.group_id
        if not group.is_done or self.groups.get(group_id) is not group:
            return
        if not self.offsets.topics(group_id):
            del self.groups[group_id]
        elif isinstance(group, ConsumerGroup):
            self._new(ClassicGroup, group_id)

    # -- what ends

    def _forget_deleted_topics(self) -> None:
        for records in self.offsets.of_deleted_topics():
            self._runtime.write(records, _ignore)

    def _expire_later(self) -> None:
        def due() -> None:
            self.expire()
            self._expire_later()

        interval_ms = self._runtime.config.offsets_retention_check_interval_ms
        self._runtime.timers.schedule(self._runtime.now_ms + interval_ms, due)

    def expire(self) -> None:
        """Forget what has grown old; done every offsets.retention.check.interval.ms."""
        for group in list(self.groups.values()):
            self._expire_group(group)
            self._drop_if_done(group)

    def _expire_group(self, group: Group) -> None:
        """Forget offsets that are too old, and the group once it is empty and has none left."""
        group_id = group.group_id
        expired: list[tuple[str, int]] = []
        if self.offsets.topics(group_id):
            ages, empty_since_ms = offsets_age(group)
            if not ages:
                return
            expired = self.offsets.expired(
                group_id, lambda topic: is_subscribed(group, topic), empty_since_ms
            )
        records = self.offsets.tombstones(group_id, expired)
        if group.can_delete() == NONE and not self.offsets.has_more_than(group_id, expired):
            records += group.tombstones()
        if records:
            self._runtime.write(records, _ignore)


def _left(request: GroupRequest, code: int) -> LeaveGroupResponse:
    """Members unknown to the group are told one by one."""
    message: LeaveGroupRequest = request.message
    if request.version < LEAVE_OF_SEVERAL or code != errors.UNKNOWN_MEMBER_ID:
        return LeaveGroupResponse(error_code=code)
    return LeaveGroupResponse(
        members=[
            LeaveGroupResponseMember(
                member_id=member.member_id, group_instance_id=member.group_instance_id, error_code=code
            )
            for member in message.members
        ]
    )


def _ignore(_error: int) -> None:
    """What could not be written now is found again by the next check."""
