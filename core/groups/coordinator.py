"""The coordinator of one partition of __consumer_offsets: it owns the groups, hands requests to them, and
replays records into them and into the offsets.

A group begins with the first member that joins, or with offsets committed from outside of a protocol; such a
simple group is an empty classic one. It ends when it is empty and without offsets, or is deleted.
"""

from collections.abc import Callable
from typing import Any

from tailrace.core import errors
from tailrace.core.errors import NONE
from tailrace.core.groups.classic import ClassicGroup
from tailrace.core.groups.classic_answers import refuse_join
from tailrace.core.groups.classic_generations import CONSUMER, EMPTY, STABLE
from tailrace.core.groups.group import Group
from tailrace.core.groups.group_admin import GroupAdmin
from tailrace.core.groups.offset_requests import OffsetRequests, is_subscribed
from tailrace.core.groups.offsets import OffsetStore
from tailrace.core.groups.records import (
    GroupMetadataKey,
    GroupMetadataValue,
    OffsetCommitKey,
    OffsetCommitValue,
    decode_record,
)
from tailrace.core.groups.runtime import GroupRequest, Runtime
from tailrace.core.protocol.messages.heartbeat import HeartbeatResponse
from tailrace.core.protocol.messages.join_group import JoinGroupRequest
from tailrace.core.protocol.messages.leave_group import (
    LeaveGroupRequest,
    LeaveGroupResponse,
    LeaveGroupResponseMember,
)
from tailrace.core.protocol.messages.sync_group import SyncGroupResponse

LEAVE_OF_SEVERAL = 3
NOT_KNOWN = -1  # since when a group is in its state


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
        }

    # -- what the host calls

    def replay(self, key: bytes, value: bytes | None) -> None:
        """One record of the log, at load and after each append."""
        decoded = decode_record(key, value)
        if decoded is None:
            return
        match decoded:
            case OffsetCommitKey() as offset, OffsetCommitValue() | None as committed:
                if committed is not None and offset.group not in self.groups:
                    self._new_classic(offset.group)
                self.offsets.replay(offset, committed)
            case GroupMetadataKey() as name, GroupMetadataValue() | None as metadata:
                self._replay_classic(name.group, metadata)
            case _:
                pass

    def on_loaded(self) -> None:
        """All was replayed: members have their session time from now on, and offsets age."""
        self._loaded = True
        for group in list(self.groups.values()):
            group.on_loaded()
        self._forget_deleted_topics()
        self._expire_later()

    def on_metadata(self) -> None:
        """The image moved."""
        if self._loaded:
            self._forget_deleted_topics()

    def handle(self, request: GroupRequest) -> None:
        """One request, about groups of this shard."""
        self._handlers[request.api_key](request)

    # -- classic groups

    def _join(self, request: GroupRequest) -> None:
        message: JoinGroupRequest = request.message
        group = self.groups.get(message.group_id)
        if not message.group_id:
            refuse_join(request, errors.INVALID_GROUP_ID, message.member_id)
        elif group is None and message.member_id:
            refuse_join(request, errors.UNKNOWN_MEMBER_ID, message.member_id)
        elif group is None or isinstance(group, ClassicGroup):
            classic = self._new_classic(message.group_id) if group is None else group
            classic.join(request)
            self._drop_if_done(classic)
        else:
            refuse_join(request, errors.INCONSISTENT_GROUP_PROTOCOL)

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
            self._drop_if_done(group)

    def _classic(self, request: GroupRequest, refusal: Callable[[int], Any]) -> ClassicGroup | None:
        """The group of a request that a member sends; None: refused."""
        group_id: str = request.message.group_id
        group = self.groups.get(group_id)
        if group_id and isinstance(group, ClassicGroup):
            return group
        request.reply(refusal(errors.UNKNOWN_MEMBER_ID if group_id else errors.INVALID_GROUP_ID))
        return None

    def _new_classic(self, group_id: str) -> ClassicGroup:
        group = self.groups[group_id] = ClassicGroup(self._runtime, group_id)
        return group

    def _replay_classic(self, group_id: str, value: GroupMetadataValue | None) -> None:
        group = self.groups.get(group_id)
        if value is not None:
            if not isinstance(group, ClassicGroup):
                group = self._new_classic(group_id)
            group.replay(value)
        elif isinstance(group, ClassicGroup) and not (self._loaded and group.can_delete() != NONE):
            group.replay(None)  # but one that was joined while its tombstone was written lives on
            del self.groups[group_id]

    def _drop_if_done(self, group: Group) -> None:
        if (
            group.is_done
            and self.groups.get(group.group_id) is group
            and not self.offsets.topics(group.group_id)
        ):
            del self.groups[group.group_id]

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
            ages, empty_since_ms = _ages(group)
            if not ages:
                return
            expired = self.offsets.expired(
                group_id, lambda topic: is_subscribed(group, topic), empty_since_ms
            )
        records = self.offsets.tombstones(group_id, expired)
        if group.state == EMPTY and not self.offsets.has_more_than(group_id, expired):
            records += group.tombstones()
        if records:
            self._runtime.write(records, _ignore)


def _ages(group: Group) -> tuple[bool, int | None]:
    """Whether the group's offsets grow old, and since when; None: since each was committed.

    As Kafka has it: those of an empty group since it is empty; those that a stable group of consumers does
    not read, and those of groups without a protocol, since they were committed; others do not.
    """
    if not isinstance(group, ClassicGroup) or group.protocol_type is None:
        return True, None
    if group.state == EMPTY:
        known = group.current_state_timestamp != NOT_KNOWN
        return True, group.current_state_timestamp if known else None
    reads_known = group.protocol_type == CONSUMER and group.subscribed_topics() is not None
    return reads_known and group.state == STABLE, None


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
