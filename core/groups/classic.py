"""A classic group: members join, one of them leads and assigns, all sync, then each shows that it is alive.

Here are its requests, each checked as Kafka does and in its order. Every one is answered once: also one whose
sender asks again while the first waits.

    classic_join.py          JoinGroup
    classic_generations.py   moves the group: rebalances, sessions, records
    classic_members.py       who is in it
    classic_answers.py       refusals
"""

from tailrace.core.errors import (
    COORDINATOR_NOT_AVAILABLE,
    GROUP_ID_NOT_FOUND,
    ILLEGAL_GENERATION,
    INCONSISTENT_GROUP_PROTOCOL,
    NON_EMPTY_GROUP,
    NONE,
    REBALANCE_IN_PROGRESS,
    UNKNOWN_MEMBER_ID,
)
from tailrace.core.groups.classic_answers import refuse_sync
from tailrace.core.groups.classic_generations import (
    COMPLETING_REBALANCE,
    DEAD,
    EMPTY,
    PREPARING_REBALANCE,
    STABLE,
    Generations,
)
from tailrace.core.groups.classic_join import JoinRequests
from tailrace.core.groups.classic_members import Roster
from tailrace.core.groups.records import GroupMetadataValue
from tailrace.core.groups.runtime import GroupRequest, Record, Runtime
from tailrace.core.protocol.messages.describe_groups import (
    DescribeGroupsResponseGroup,
    DescribeGroupsResponseMember,
)
from tailrace.core.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from tailrace.core.protocol.messages.leave_group import (
    LeaveGroupRequest,
    LeaveGroupRequestMember,
    LeaveGroupResponse,
    LeaveGroupResponseMember,
)
from tailrace.core.protocol.messages.list_groups import ListGroupsResponseGroup
from tailrace.core.protocol.messages.sync_group import SyncGroupRequest

# The first version of its API that does so.
SYNC_NAMES_PROTOCOL = 5
LEAVE_IS_BATCH = 3


class ClassicGroup:
    """One classic group; see the module. Its id is not empty: the coordinator saw to that."""

    def __init__(self, runtime: Runtime, group_id: str) -> None:
        self.group_id = group_id
        self._runtime = runtime
        self._generations = Generations(runtime, group_id)
        self._joins = JoinRequests(runtime, group_id, self._generations)

    # -- what it is

    @property
    def state(self) -> str:
        """Empty, PreparingRebalance, CompletingRebalance, Stable or Dead."""
        return self._generations.state

    @property
    def current_state_timestamp(self) -> int:
        """Since when, by the time of day in ms; -1: nobody knows."""
        return self._generations.state_since_ms

    @property
    def generation(self) -> int:
        """The number of the last generation that began."""
        return self._generations.generation

    @property
    def protocol_type(self) -> str | None:
        """`consumer` for consumers; None: nobody ever joined."""
        return self._generations.protocol_type

    @property
    def protocol_name(self) -> str | None:
        """What this generation has agreed on, as `range`."""
        return self._generations.protocol_name

    @property
    def members(self) -> Roster:
        """Who is in it."""
        return self._generations.members

    @property
    def is_done(self) -> bool:
        """Whether nothing would be lost by forgetting it: no member, no id given out, no record."""
        return self._generations.is_done

    def subscribed_topics(self) -> set[str] | None:
        """The topics that the consumers of this generation read; None: no consumers, or nobody can tell."""
        return self._generations.topics

    # -- JoinGroup, SyncGroup

    def join(self, request: GroupRequest) -> None:
        """JoinGroup: answered when the next generation begins, or at once if the member need not wait."""
        self._joins.join(request)

    def sync(self, request: GroupRequest) -> None:
        """SyncGroup: answered when the leader's assignment is in the log."""
        message: SyncGroupRequest = request.message
        error = self._sync_error(request)
        if error != NONE:
            refuse_sync(request, error)
            return
        generations, member = self._generations, self.members.by_id[message.member_id]
        member.refuse_sync(REBALANCE_IN_PROGRESS)
        member.syncing = request
        generations.synced(member.member_id)
        if self.state == STABLE:
            generations.answer_sync(member)
        elif self.members.leader == member.member_id:
            generations.assign({each.member_id: each.assignment for each in message.assignments})

    def _sync_error(self, request: GroupRequest) -> int:
        message: SyncGroupRequest = request.message
        unnamed = message.protocol_type is None or message.protocol_name is None
        if request.version >= SYNC_NAMES_PROTOCOL and unnamed:
            return INCONSISTENT_GROUP_PROTOCOL
        if self.state == EMPTY:
            return UNKNOWN_MEMBER_ID
        error = self._identity_error(message.member_id, message.group_instance_id, message.generation_id)
        if error != NONE:
            return error
        if _differ(message.protocol_type, self.protocol_type) or _differ(
            message.protocol_name, self.protocol_name
        ):
            return INCONSISTENT_GROUP_PROTOCOL
        return REBALANCE_IN_PROGRESS if self.state == PREPARING_REBALANCE else NONE

    # -- Heartbeat, LeaveGroup, OffsetCommit

    def heartbeat(self, request: GroupRequest) -> None:
        """Heartbeat: the session goes on; REBALANCE_IN_PROGRESS tells the member to join again."""
        message: HeartbeatRequest = request.message
        error = self._identity_error(message.member_id, message.group_instance_id, message.generation_id)
        if error == NONE:
            self._generations.heard_from(self.members.by_id[message.member_id])
            if self.state == PREPARING_REBALANCE:
                error = REBALANCE_IN_PROGRESS
        request.reply(HeartbeatResponse(error_code=error))

    def leave(self, request: GroupRequest) -> None:
        """LeaveGroup: the members go, those that stay rebalance. Answered after what that writes."""
        message: LeaveGroupRequest = request.message
        if self.state == DEAD:
            request.reply(LeaveGroupResponse(error_code=COORDINATOR_NOT_AVAILABLE))
            return
        is_batch = request.version >= LEAVE_IS_BATCH
        leaving = message.members if is_batch else [LeaveGroupRequestMember(message.member_id)]
        members = [
            LeaveGroupResponseMember(
                member_id=member.member_id,
                group_instance_id=member.group_instance_id,
                error_code=self._leave_one(member.member_id, member.group_instance_id),
            )
            for member in leaving
        ]
        if any(member.error_code == NONE for member in members) and self.state != EMPTY:
            self._generations.go_on()
        response = (
            LeaveGroupResponse(members=members)
            if is_batch
            else LeaveGroupResponse(error_code=members[0].error_code)
        )
        self._runtime.write((), lambda _: request.reply(response))

    def _leave_one(self, member_id: str, group_instance_id: str | None) -> int:
        members = self.members
        if member_id not in members.pending:
            if not member_id and group_instance_id is not None:  # an admin names it thus
                static = members.static_member(group_instance_id)
                member_id = static.member_id if static is not None else ""
            error = members.identity_error(member_id, group_instance_id)
            if error != NONE:
                return error
        self._generations.remove(member_id)
        return NONE

    def commit_error(self, member_id: str, group_instance_id: str | None, generation: int) -> int:
        """Whether this member may commit offsets, which is a sign of life; NONE or the code.

        Committing from outside of the protocol (no member id, generation -1) needs an empty group.
        """
        if self.state == DEAD:
            return COORDINATOR_NOT_AVAILABLE
        if generation < 0 and self.state == EMPTY:
            return NONE
        error = self._identity_error(member_id, group_instance_id, generation)
        if error != NONE:
            return error
        if self.state == COMPLETING_REBALANCE:
            return REBALANCE_IN_PROGRESS
        self._generations.heard_from(self.members.by_id[member_id])
        return NONE

    def _identity_error(self, member_id: str, group_instance_id: str | None, generation: int) -> int:
        if self.state == DEAD:
            return COORDINATOR_NOT_AVAILABLE
        error = self.members.identity_error(member_id, group_instance_id)
        if error == NONE and generation != self.generation:
            return ILLEGAL_GENERATION
        return error

    # -- records, and what the coordinator and the other protocol need

    def replay(self, value: GroupMetadataValue | None) -> None:
        """One of its records was read or has just been appended; None: it is deleted."""
        self._generations.replay(value)

    def on_loaded(self) -> None:
        """All was replayed: sessions begin, and a group that is too large rebalances."""
        self._generations.on_loaded()

    def can_delete(self) -> int:
        """NONE, or why DeleteGroups may not."""
        if self.state == DEAD:
            return GROUP_ID_NOT_FOUND
        return NONE if self.state == EMPTY else NON_EMPTY_GROUP

    def tombstones(self) -> list[Record]:
        """What makes the log forget the group."""
        return [self._generations.tombstone()]

    def prepare_rebalance(self) -> None:
        """Have all members join again."""
        self._generations.prepare()

    def give_up(self, error: int) -> None:
        """The group ends here, Dead: whoever waits gets the error."""
        self._generations.give_up(error)

    # -- DescribeGroups, ListGroups

    def describe(self) -> DescribeGroupsResponseGroup:
        """What DescribeGroups shows; what members asked for only while it is agreed on."""
        name = (self.protocol_name or "") if self.state == STABLE else ""
        return DescribeGroupsResponseGroup(
            group_id=self.group_id,
            group_state=self.state,
            protocol_type=self.protocol_type or "",
            protocol_data=name,
            members=[
                DescribeGroupsResponseMember(
                    member_id=member.member_id,
                    group_instance_id=member.group_instance_id,
                    client_id=member.client_id,
                    client_host=member.client_host,
                    member_metadata=member.protocols[name] if self.state == STABLE else b"",
                    member_assignment=member.assignment,
                )
                for member in self.members
            ],
        )

    def listed(self) -> ListGroupsResponseGroup:
        """Its line in ListGroups."""
        return ListGroupsResponseGroup(
            group_id=self.group_id,
            protocol_type=self.protocol_type or "",
            group_state=self.state,
            group_type="classic",
        )


def _differ(said: str | None, known: str | None) -> bool:
    """Whether a member means another protocol; what either does not say is not compared."""
    return said is not None and known is not None and said != known
