"""JoinGroup, of classic groups: who may join, who is new, who came back, and who need not wait.

A dynamic member is first given its id, and joins with it the second time (from version 4 on): answers that
get lost leave no members behind. A static one is known by its group instance id and joins at once.
"""

from msgspec import Struct

from tailrace.core.errors import (
    COORDINATOR_NOT_AVAILABLE,
    FENCED_INSTANCE_ID,
    GROUP_MAX_SIZE_REACHED,
    INCONSISTENT_GROUP_PROTOCOL,
    INVALID_SESSION_TIMEOUT,
    MEMBER_ID_REQUIRED,
    NONE,
    REBALANCE_IN_PROGRESS,
    UNKNOWN_MEMBER_ID,
    UNKNOWN_SERVER_ERROR,
)
from tailrace.core.groups.classic_answers import append_error, refuse_join
from tailrace.core.groups.classic_generations import (
    DEAD,
    EMPTY,
    PREPARING_REBALANCE,
    STABLE,
    Generations,
)
from tailrace.core.groups.classic_members import Member, Roster
from tailrace.core.groups.records import GroupMetadataValue
from tailrace.core.groups.runtime import GroupRequest, Runtime
from tailrace.core.protocol.messages.join_group import JoinGroupRequest

# The first version that does so.
HAS_REBALANCE_TIMEOUT = 1
NEEDS_MEMBER_ID = 4
MAY_SKIP_ASSIGNMENT = 9

PREFIX_BYTES_MAX = 32_767 - 37  # of a member id: a string, less the uuid and its hyphen


class Joining(Struct, kw_only=True):
    """A JoinGroup, its message looked through."""

    request: GroupRequest
    message: JoinGroupRequest
    protocols: dict[str, bytes]
    rebalance_timeout_ms: int


class JoinRequests:
    """Answers them for one group, now or when the next generation begins."""

    def __init__(self, runtime: Runtime, group_id: str, generations: Generations) -> None:
        self._runtime = runtime
        self._group_id = group_id
        self._generations = generations

    def join(self, request: GroupRequest) -> None:
        """Let a member in, or say why not."""
        message: JoinGroupRequest = request.message
        has_timeout = request.version >= HAS_REBALANCE_TIMEOUT
        protocols: dict[str, bytes] = {}
        for protocol in message.protocols:
            protocols.setdefault(protocol.name, protocol.metadata)
        joining = Joining(
            request=request,
            message=message,
            protocols=protocols,
            rebalance_timeout_ms=message.rebalance_timeout_ms if has_timeout else message.session_timeout_ms,
        )
        error, member_id = self._error(joining)
        if error != NONE:
            refuse_join(request, error, member_id)
        elif message.member_id:
            self._rejoin(joining)
        elif message.group_instance_id is None:
            self._join_dynamic(joining)
        else:
            self._join_static(joining, message.group_instance_id)

    def _error(self, joining: Joining) -> tuple[int, str]:
        """Why nobody may join so, with the member id that Kafka puts beside."""
        message, config, generations = joining.message, self._runtime.config, self._generations
        timeout = message.session_timeout_ms
        if not config.group_min_session_timeout_ms <= timeout <= config.group_max_session_timeout_ms:
            return INVALID_SESSION_TIMEOUT, message.member_id
        if message.member_id and generations.is_done:
            return UNKNOWN_MEMBER_ID, message.member_id
        if not self._has_room(message.member_id):
            generations.remove(message.member_id)
            generations.maybe_complete_join()  # nobody need wait for it any more
            return GROUP_MAX_SIZE_REACHED, ""
        if generations.state == DEAD:
            return COORDINATOR_NOT_AVAILABLE, message.member_id
        if not self._is_understood(message.protocol_type, joining.protocols):
            return INCONSISTENT_GROUP_PROTOCOL, message.member_id
        return NONE, ""

    def _has_room(self, member_id: str) -> bool:
        """Whether group.max.size lets one more in; while members join again, those that are back count."""
        state, members, most = self._generations.state, self._members, self._runtime.config.group_max_size
        if state == PREPARING_REBALANCE:
            member = members.by_id.get(member_id)
            return (member is not None and member.joining is not None) or members.joining_count < most
        return state in (EMPTY, DEAD) or member_id in members or len(members) < most

    def _is_understood(self, protocol_type: str, protocols: dict[str, bytes]) -> bool:
        """Whether it speaks with the others; the first may speak anything."""
        if self._generations.state == EMPTY:
            return bool(protocol_type and protocols)
        return protocol_type == self._generations.protocol_type and self._members.all_speak_one_of(protocols)

    # -- without a member id

    def _join_dynamic(self, joining: Joining) -> None:
        request = joining.request
        member_id = self._new_member_id(request.client_id)
        if request.version < NEEDS_MEMBER_ID:
            self._add(joining, member_id)
            return
        self._generations.add_pending(member_id, joining.message.session_timeout_ms)
        refuse_join(request, MEMBER_ID_REQUIRED, member_id)
        self._write_first(request)

    def _join_static(self, joining: Joining, group_instance_id: str) -> None:
        member_id = self._new_member_id(group_instance_id)
        member = self._members.static_member(group_instance_id)
        if member is None:
            self._add(joining, member_id)
        else:
            self._replace(joining, member, member_id)

    def _add(self, joining: Joining, member_id: str) -> None:
        request, message = joining.request, joining.message
        member = Member(
            member_id=member_id,
            group_instance_id=message.group_instance_id,
            client_id=request.client_id,
            client_host=request.client_host,
            rebalance_timeout_ms=joining.rebalance_timeout_ms,
            session_timeout_ms=message.session_timeout_ms,
            protocols=joining.protocols,
            joining=request,
        )
        self._generations.add(member, message.protocol_type)
        self._write_first(request)

    def _write_first(self, request: GroupRequest) -> None:
        """A new group is in the log before it has a generation: from then on its name is taken."""
        if self._generations.has_record:
            return

        def written(error: int) -> None:
            if error != NONE:
                for member in self._members:
                    if member.joining is request:
                        self._generations.remove(member.member_id, append_error(error))

        since = self._generations.state_since_ms
        self._generations.write(GroupMetadataValue(current_state_timestamp=since), written)

    def _replace(self, joining: Joining, member: Member, member_id: str) -> None:
        """A static member came back without its id: it gets a new one, the old one is fenced.

        If the group is stable and still agrees on its protocol, the member goes on with its assignment, as
        soon as the log knows of the new id, and nobody rebalances.
        """
        generations, old_id, old_leader = self._generations, member.member_id, self._members.leader
        member.refuse_join(FENCED_INSTANCE_ID, old_id)
        member.refuse_sync(FENCED_INSTANCE_ID)
        before = (member.protocols, member.rebalance_timeout_ms, member.session_timeout_ms)
        self._update(member, joining)
        generations.rename(member, member_id)
        if generations.state != STABLE or self._members.vote() != generations.protocol_name:
            generations.go_on()
            return

        def written(error: int) -> None:
            if generations.state != STABLE or member.joining is not joining.request:
                return  # a rebalance has begun: it is told of the next generation, or was told something else
            generations.heard_from(member)
            if error == NONE:
                self._answer_replaced(member, joining.request.version, old_leader)
                return
            member.refuse_join(append_error(error))
            member.protocols, member.rebalance_timeout_ms, member.session_timeout_ms = before
            generations.rename(member, old_id)

        assignments = {each.member_id: each.assignment for each in self._members}
        generations.write(generations.record(assignments), written)

    def _answer_replaced(self, member: Member, version: int, old_leader: str | None) -> None:
        """A leader that comes back must not assign anew. Old versions cannot say so: there nobody leads."""
        if version >= MAY_SKIP_ASSIGNMENT:
            leads = self._members.leader == member.member_id
            self._generations.answer_join(member, self._generations.roll_call(member), skip_assignment=leads)
        else:
            self._generations.answer_join(member, [], leader=old_leader)

    # -- with a member id

    def _rejoin(self, joining: Joining) -> None:
        """A member to which the id was just given, or one of the last generation."""
        request, message, members = joining.request, joining.message, self._members
        member_id = message.member_id
        if member_id in members.pending:
            if message.group_instance_id is None:
                self._add(joining, member_id)
            else:  # only members without a name are given an id before they join
                refuse_join(request, UNKNOWN_SERVER_ERROR)
            return
        error = members.identity_error(member_id, message.group_instance_id)
        if error != NONE:
            refuse_join(request, error, member_id)
            return
        generations, member = self._generations, members.by_id[member_id]
        leads, changed = members.leader == member_id, not member.speaks(joining.protocols)
        self._update(member, joining)
        if generations.state == PREPARING_REBALANCE or changed or (generations.state == STABLE and leads):
            generations.go_on()
        else:  # it did not hear of the generation it is in
            generations.answer_join(member, generations.roll_call(member))

    def _update(self, member: Member, joining: Joining) -> None:
        member.refuse_join(REBALANCE_IN_PROGRESS, member.member_id)
        member.joining = joining.request
        member.protocols = joining.protocols
        member.rebalance_timeout_ms = joining.rebalance_timeout_ms
        member.session_timeout_ms = joining.message.session_timeout_ms

    # -- inside

    @property
    def _members(self) -> Roster:
        return self._generations.members

    def _new_member_id(self, name: str) -> str:
        prefix = name.encode()[:PREFIX_BYTES_MAX].decode(errors="ignore")
        return f"{prefix}-{self._runtime.new_uuid()}"
