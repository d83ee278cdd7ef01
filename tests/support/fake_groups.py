"""The broker in a thread, with groups: a dict of committed offsets and what classic groups' members are.

Groups are classic ones; faults of these requests are error codes of the whole answer.
"""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from tailrace.core import errors
from tailrace.core.protocol import apis
from tailrace.core.protocol.messages import (
    consumer_group_describe,
    delete_groups,
    describe_groups,
    find_coordinator,
    list_groups,
    offset_commit,
    offset_fetch,
)
from tests.support.fake_broker import NODE_ID, FakeBroker

Offsets = dict[tuple[str, int], int]


class FakeGroupBroker(FakeBroker):
    """See the module. A group is there when it has offsets or members."""

    def __init__(self) -> None:
        self.offsets: dict[str, Offsets] = {}
        self.members: dict[str, list[describe_groups.DescribeGroupsResponseMember]] = {}
        super().__init__()

    def _find(self, request: find_coordinator.FindCoordinatorRequest, fault: int) -> Struct:
        coordinator = find_coordinator.FindCoordinatorResponseCoordinator
        port = int(self.address.rpartition(":")[2])
        found = [coordinator(key, NODE_ID, "127.0.0.1", port, fault) for key in request.coordinator_keys]
        return find_coordinator.FindCoordinatorResponse(coordinators=found)

    def _list(self, _: list_groups.ListGroupsRequest, fault: int) -> Struct:
        names = {*self.offsets, *self.members}
        found = [
            list_groups.ListGroupsResponseGroup(name, "consumer", self._state(name), "Classic")
            for name in names
        ]
        return list_groups.ListGroupsResponse(0, fault, found)

    def _describe_consumer(
        self, request: consumer_group_describe.ConsumerGroupDescribeRequest, fault: int
    ) -> Struct:
        code = fault or errors.GROUP_ID_NOT_FOUND
        group = consumer_group_describe.ConsumerGroupDescribeResponseGroup
        return consumer_group_describe.ConsumerGroupDescribeResponse(
            0, [group(code, None, name) for name in request.group_ids]
        )

    def _describe(self, request: describe_groups.DescribeGroupsRequest, fault: int) -> Struct:
        found: list[describe_groups.DescribeGroupsResponseGroup] = []
        for name in request.groups:
            known = name in self.offsets or name in self.members
            code = fault or (errors.NONE if known else errors.GROUP_ID_NOT_FOUND)
            state = "Dead" if code else self._state(name)
            members = self.members.get(name, [])
            found.append(
                describe_groups.DescribeGroupsResponseGroup(
                    code, None, name, state, "consumer", "range", members
                )
            )
        return describe_groups.DescribeGroupsResponse(0, found)

    def _fetch_offsets(self, request: offset_fetch.OffsetFetchRequest, fault: int) -> Struct:
        name = request.groups[0].group_id
        topics = [
            offset_fetch.OffsetFetchResponseTopic(
                topic, partitions=[offset_fetch.OffsetFetchResponsePartition(index, offset)]
            )
            for (topic, index), offset in self.offsets.get(name, {}).items()
        ]
        answer = offset_fetch.OffsetFetchResponseGroup(name, [] if fault else topics, fault)
        return offset_fetch.OffsetFetchResponse(groups=[answer])

    def _commit(self, request: offset_commit.OffsetCommitRequest, fault: int) -> Struct:
        topics: list[offset_commit.OffsetCommitResponseTopic] = []
        for topic in request.topics:
            parts = [
                offset_commit.OffsetCommitResponsePartition(part.partition_index, fault)
                for part in topic.partitions
            ]
            topics.append(offset_commit.OffsetCommitResponseTopic(topic.name, partitions=parts))
            for part in topic.partitions if not fault else ():
                kept = self.offsets.setdefault(request.group_id, {})
                kept[topic.name, part.partition_index] = part.committed_offset
        return offset_commit.OffsetCommitResponse(0, topics)

    def _delete_groups(self, request: delete_groups.DeleteGroupsRequest, fault: int) -> Struct:
        results: list[delete_groups.DeleteGroupsResponseResult] = []
        for name in request.groups_names:
            code = fault or (errors.NON_EMPTY_GROUP if self.members.get(name) else errors.NONE)
            if not code and self.offsets.pop(name, None) is None:
                code = errors.GROUP_ID_NOT_FOUND
            results.append(delete_groups.DeleteGroupsResponseResult(name, code))
        return delete_groups.DeleteGroupsResponse(0, results)

    def _state(self, name: str) -> str:
        return "Stable" if self.members.get(name) else "Empty"

    _handlers: dict[int, Callable[[Any, Any, int], Struct | None]] = {  # noqa: RUF012 - never changed
        **FakeBroker._handlers,
        apis.FIND_COORDINATOR: _find,
        apis.LIST_GROUPS: _list,
        apis.CONSUMER_GROUP_DESCRIBE: _describe_consumer,
        apis.DESCRIBE_GROUPS: _describe,
        apis.OFFSET_FETCH: _fetch_offsets,
        apis.OFFSET_COMMIT: _commit,
        apis.DELETE_GROUPS: _delete_groups,
    }
