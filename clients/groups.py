"""Consumer groups from outside: list, describe, their committed offsets, delete.

Groups are spoken to through the broker that coordinates them, again while it moves or loads. Both kinds are
described alike: classic ones, and those of KIP-848.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import msgspec

from tailrace.clients.cluster import RETRY_PAUSE_S, Cluster
from tailrace.clients.connection import Connection
from tailrace.core import errors
from tailrace.core.errors import KafkaError, ProtocolError, raise_for
from tailrace.core.groups.consumer_protocol import decode_assignment
from tailrace.core.protocol.apis import (
    CONSUMER_GROUP_DESCRIBE,
    DELETE_GROUPS,
    DESCRIBE_GROUPS,
    LIST_GROUPS,
    OFFSET_COMMIT,
    OFFSET_DELETE,
    OFFSET_FETCH,
)
from tailrace.core.protocol.messages.consumer_group_describe import (
    ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse,
    ConsumerGroupDescribeResponseMember,
)
from tailrace.core.protocol.messages.delete_groups import DeleteGroupsRequest, DeleteGroupsResponse
from tailrace.core.protocol.messages.describe_groups import (
    DescribeGroupsRequest,
    DescribeGroupsResponse,
    DescribeGroupsResponseMember,
)
from tailrace.core.protocol.messages.list_groups import (
    ListGroupsRequest,
    ListGroupsResponse,
    ListGroupsResponseGroup,
)
from tailrace.core.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from tailrace.core.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
    OffsetDeleteResponse,
)
from tailrace.core.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchResponse,
)

CLASSIC, CONSUMER = "classic", "consumer"
BY_NAME = 9  # the last version of OffsetCommit and OffsetFetch that names topics: a deleted one has no id

Offsets = dict[str, dict[int, int]]  # topic -> partition -> offset
T = TypeVar("T")


class Member(msgspec.Struct, kw_only=True, frozen=True):
    """A member of a group and the partitions it has been given."""

    member_id: str
    instance_id: str | None
    client_id: str
    host: str
    assignment: dict[str, list[int]]


class Group(msgspec.Struct, kw_only=True, frozen=True):
    """A group; `epoch` is -1 for classic ones, whose generation brokers do not tell."""

    group: str
    kind: str
    state: str
    assignor: str
    epoch: int
    coordinator: str
    members: list[Member]


class Groups:
    """What shows and changes consumer groups. Every refusal is a KafkaError."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def list(self, states: Sequence[str] = (), kinds: Sequence[str] = ()) -> list[ListGroupsResponseGroup]:
        """Every group of these states and kinds (none given: of all), by name."""
        request = ListGroupsRequest(list(states), list(kinds))
        found: list[ListGroupsResponseGroup] = []
        for broker in self._cluster.brokers():
            response = broker.request(LIST_GROUPS, request, ListGroupsResponse)
            raise_for(response.error_code, "groups cannot be listed")
            found += response.groups
        return sorted(found, key=lambda group: group.group_id)

    def describe(self, group: str) -> Group:
        """One group and its members; GROUP_ID_NOT_FOUND if there is none."""

        def ask(coordinator: Connection) -> Group:
            try:
                return _describe_consumer(coordinator, group)
            except KafkaError as error:
                if error.code not in (errors.GROUP_ID_NOT_FOUND, errors.UNSUPPORTED_VERSION):
                    raise
            return _describe_classic(coordinator, group)

        return self._retry(group, ask)

    def offsets(self, group: str) -> Offsets:
        """All committed offsets of a group; empty also for one that is not there."""
        request = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group)])

        def ask(coordinator: Connection) -> Offsets:
            response = coordinator.request(OFFSET_FETCH, request, OffsetFetchResponse, highest=BY_NAME)
            answer = response.groups[0]
            raise_for(answer.error_code, f"group {group}")
            found: Offsets = {}
            for topic in answer.topics:
                for part in topic.partitions:
                    raise_for(part.error_code, f"{topic.name}-{part.partition_index} of group {group}")
                    if part.committed_offset >= 0:
                        found.setdefault(topic.name, {})[part.partition_index] = part.committed_offset
            return found

        return self._retry(group, ask)

    def commit(self, group: str, offsets: Mapping[str, Mapping[int, int]]) -> None:
        """Set committed offsets from outside; UNKNOWN_MEMBER_ID while the group has members."""
        topics = [
            OffsetCommitRequestTopic(
                name=topic,
                partitions=[
                    OffsetCommitRequestPartition(index, offset) for index, offset in partitions.items()
                ],
            )
            for topic, partitions in offsets.items()
        ]
        request = OffsetCommitRequest(group_id=group, topics=topics)

        def ask(coordinator: Connection) -> None:
            response = coordinator.request(OFFSET_COMMIT, request, OffsetCommitResponse, highest=BY_NAME)
            for topic in response.topics:
                for part in topic.partitions:
                    raise_for(part.error_code, f"{topic.name}-{part.partition_index} of group {group}")

        self._retry(group, ask)

    def delete(self, group: str) -> None:
        """Delete a group without members, with its offsets."""

        def ask(coordinator: Connection) -> None:
            response = coordinator.request(DELETE_GROUPS, DeleteGroupsRequest([group]), DeleteGroupsResponse)
            for result in response.results:
                busy = " has members: stop them first" if result.error_code == errors.NON_EMPTY_GROUP else ""
                raise_for(result.error_code, f"group {group}{busy}")

        self._retry(group, ask)

    def delete_offsets(self, group: str, partitions: Mapping[str, Sequence[int]]) -> None:
        """Forget offsets of topics that no member of the group subscribes to."""
        topics = [
            OffsetDeleteRequestTopic(topic, [OffsetDeleteRequestPartition(index) for index in indexes])
            for topic, indexes in partitions.items()
        ]

        def ask(coordinator: Connection) -> None:
            request = OffsetDeleteRequest(group, topics)
            response = coordinator.request(OFFSET_DELETE, request, OffsetDeleteResponse)
            raise_for(response.error_code, f"group {group}")
            for topic in response.topics:
                for part in topic.partitions:
                    raise_for(part.error_code, f"{topic.name}-{part.partition_index} of group {group}")

        self._retry(group, ask)

    def _retry(self, group: str, ask: Callable[[Connection], T]) -> T:
        """Ask the coordinator, again while there is none or another, up to the timeout."""
        deadline_s = time.monotonic() + self._cluster.timeout_s
        while True:
            try:
                return ask(self._cluster.coordinator(group))
            except KafkaError as error:
                if not errors.is_retriable(error.code) or time.monotonic() > deadline_s:
                    raise
            self._cluster.forget_coordinator(group)
            time.sleep(RETRY_PAUSE_S)


def _describe_consumer(coordinator: Connection, group: str) -> Group:
    request = ConsumerGroupDescribeRequest([group])
    found = coordinator.request(CONSUMER_GROUP_DESCRIBE, request, ConsumerGroupDescribeResponse).groups[0]
    raise_for(found.error_code, found.error_message or f"group {group}")
    return Group(
        group=group,
        kind=CONSUMER,
        state=found.group_state,
        assignor=found.assignor_name,
        epoch=found.group_epoch,
        coordinator=coordinator.address,
        members=[_consumer_member(member) for member in found.members],
    )


def _consumer_member(member: ConsumerGroupDescribeResponseMember) -> Member:
    return Member(
        member_id=member.member_id,
        instance_id=member.instance_id,
        client_id=member.client_id,
        host=member.client_host,
        assignment={
            topic.topic_name: sorted(topic.partitions) for topic in member.assignment.topic_partitions
        },
    )


def _describe_classic(coordinator: Connection, group: str) -> Group:
    response = coordinator.request(DESCRIBE_GROUPS, DescribeGroupsRequest([group]), DescribeGroupsResponse)
    found = response.groups[0]
    raise_for(found.error_code, found.error_message or f"group {group}")
    if found.group_state == "Dead":  # what versions before 6 say of a group that is not there
        raise KafkaError(errors.GROUP_ID_NOT_FOUND, f"group {group}")
    return Group(
        group=group,
        kind=CLASSIC,
        state=found.group_state,
        assignor=found.protocol_data,
        epoch=-1,
        coordinator=coordinator.address,
        members=[_classic_member(member) for member in found.members],
    )


def _classic_member(member: DescribeGroupsResponseMember) -> Member:
    assignment: dict[str, list[int]] = {}
    try:
        if member.member_assignment:
            for topic in decode_assignment(member.member_assignment).assigned_partitions:
                assignment[topic.topic] = sorted(topic.partitions)
    except ProtocolError:  # of a group that is not one of consumers, as Connect's
        assignment = {}
    return Member(
        member_id=member.member_id,
        instance_id=member.group_instance_id,
        client_id=member.client_id,
        host=member.client_host,
        assignment=assignment,
    )
