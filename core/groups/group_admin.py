"""ListGroups, DescribeGroups, ConsumerGroupDescribe and DeleteGroups."""

from collections.abc import Callable, Mapping

from tailrace.core.errors import GROUP_ID_NOT_FOUND, INVALID_GROUP_ID, NONE
from tailrace.core.groups.classic import ClassicGroup
from tailrace.core.groups.classic_answers import append_error
from tailrace.core.groups.consumer import ConsumerGroup
from tailrace.core.groups.group import Group
from tailrace.core.groups.offsets import OffsetStore
from tailrace.core.groups.runtime import GroupRequest, Runtime
from tailrace.core.protocol.messages.consumer_group_describe import (
    ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse,
    ConsumerGroupDescribeResponseGroup,
)
from tailrace.core.protocol.messages.delete_groups import (
    DeleteGroupsRequest,
    DeleteGroupsResponse,
    DeleteGroupsResponseResult,
)
from tailrace.core.protocol.messages.describe_groups import (
    DescribeGroupsRequest,
    DescribeGroupsResponse,
    DescribeGroupsResponseGroup,
)
from tailrace.core.protocol.messages.list_groups import ListGroupsRequest, ListGroupsResponse

DESCRIBE_TELLS_UNKNOWN_GROUPS = 6


class GroupAdmin:
    """Answers them for the groups of one shard."""

    def __init__(self, runtime: Runtime, offsets: OffsetStore, groups: Mapping[str, Group]) -> None:
        self._runtime = runtime
        self._offsets = offsets
        self._groups = groups

    def list_groups(self, request: GroupRequest) -> None:
        """Groups in any of the states and of any of the types asked for; of none: all."""
        message: ListGroupsRequest = request.message
        states = {state.lower() for state in message.states_filter}
        types = {name.lower() for name in message.types_filter}
        listed = [group.listed() for group in self._groups.values()]
        request.reply(
            ListGroupsResponse(
                groups=[
                    group
                    for group in listed
                    if (not states or group.group_state.lower() in states)
                    and (not types or group.group_type.lower() in types)
                ]
            )
        )

    def describe(self, request: GroupRequest) -> None:
        """Classic groups; what is none is dead, in the words of old versions."""
        message: DescribeGroupsRequest = request.message
        answer = DescribeGroupsResponse()
        for group_id in message.groups:
            group = self._groups.get(group_id)
            if isinstance(group, ClassicGroup):
                told = group.describe()
            else:
                told = DescribeGroupsResponseGroup(group_id=group_id, group_state="Dead")
                if request.version >= DESCRIBE_TELLS_UNKNOWN_GROUPS:
                    told.error_code = GROUP_ID_NOT_FOUND
                    told.error_message = _why_not(group_id, group, "classic")
            answer.groups.append(told)
        request.reply(answer)

    def describe_consumers(self, request: GroupRequest) -> None:
        """Groups of KIP-848."""
        message: ConsumerGroupDescribeRequest = request.message
        answer = ConsumerGroupDescribeResponse()
        for group_id in message.group_ids:
            group = self._groups.get(group_id)
            if isinstance(group, ConsumerGroup):
                told = group.describe()
            elif not group_id:
                told = ConsumerGroupDescribeResponseGroup(INVALID_GROUP_ID)
            else:
                why = _why_not(group_id, group, "consumer")
                told = ConsumerGroupDescribeResponseGroup(GROUP_ID_NOT_FOUND, why, group_id)
            answer.groups.append(told)
        request.reply(answer)

    def delete(self, request: GroupRequest) -> None:
        """Forget empty groups with their offsets, each in a batch of its own; answered after the last."""
        message: DeleteGroupsRequest = request.message
        answer = DeleteGroupsResponse(
            results=[
                DeleteGroupsResponseResult(group_id=name) for name in dict.fromkeys(message.groups_names)
            ]
        )
        waiting = [None]  # one for the loop below, one for each write

        def done() -> None:
            waiting.pop()
            if not waiting:
                request.reply(answer)

        for result in answer.results:
            group = self._groups.get(result.group_id)
            result.error_code = GROUP_ID_NOT_FOUND if group is None else group.can_delete()
            if group is not None and result.error_code == NONE:
                waiting.append(None)
                self._delete(group, result, done)
        done()

    def _delete(self, group: Group, result: DeleteGroupsResponseResult, done: Callable[[], None]) -> None:
        def written(error: int) -> None:
            result.error_code = append_error(error)
            done()

        self._runtime.write(self._offsets.tombstones(group.group_id) + group.tombstones(), written)


def _why_not(group_id: str, group: Group | None, wanted: str) -> str:
    return f"Group {group_id} not found." if group is None else f"Group {group_id} is not a {wanted} group."
