"""The coordinator: which group a request goes to, what of groups is listed, described and deleted."""

from typing import Any

import pytest

from tailrace.core.errors import (
    COORDINATOR_NOT_AVAILABLE,
    GROUP_ID_NOT_FOUND,
    INVALID_GROUP_ID,
    NON_EMPTY_GROUP,
    NONE,
    UNKNOWN_MEMBER_ID,
)
from tailrace.core.protocol.messages.describe_groups import DescribeGroupsRequest
from tailrace.core.protocol.messages.heartbeat import HeartbeatRequest
from tailrace.core.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from tailrace.core.protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupRequestMember
from tailrace.core.protocol.messages.list_groups import ListGroupsRequest
from tailrace.core.protocol.messages.metadata import NO_OPERATIONS
from tailrace.core.protocol.messages.sync_group import SyncGroupRequest
from tests.support.group_offsets import OffsetClient
from tests.support.group_runtime import FakeRuntime

MEMBER_REQUESTS = [
    (11, JoinGroupRequest(member_id="m", session_timeout_ms=10_000)),
    (12, HeartbeatRequest(member_id="m")),
    (13, LeaveGroupRequest(member_id="m")),
    (14, SyncGroupRequest(member_id="m")),
]
UNKNOWN_TYPE = b"\x00\x63"


@pytest.fixture
def client() -> OffsetClient:
    """Of a shard that is loaded."""
    client = OffsetClient(FakeRuntime(topics={"orders": 3}))
    client.restart()
    return client


def ask(client: OffsetClient, api_key: int, version: int, message: Any) -> Any:
    """The answer, which comes at once."""
    (answer,) = client.runtime.ask(client.shard.handle, api_key, version, message)
    return answer


# -- requests of members


@pytest.mark.parametrize(("api_key", "message"), MEMBER_REQUESTS)
@pytest.mark.parametrize(("group_id", "code"), [("", INVALID_GROUP_ID), ("g", UNKNOWN_MEMBER_ID)])
def test_members_of_no_group_are_refused(
    client: OffsetClient, api_key: int, message: Any, group_id: str, code: int
) -> None:
    message.group_id = group_id
    assert ask(client, api_key, 1, message).error_code == code
    assert client.shard.groups == {}


def test_those_who_leave_are_told_one_by_one(client: OffsetClient) -> None:
    members = [LeaveGroupRequestMember("m"), LeaveGroupRequestMember("", "i")]
    answer = ask(client, 13, 3, LeaveGroupRequest("g", members=members))
    assert answer.error_code == NONE
    assert [(each.member_id, each.group_instance_id, each.error_code) for each in answer.members] == [
        ("m", None, UNKNOWN_MEMBER_ID),
        ("", "i", UNKNOWN_MEMBER_ID),
    ]


def test_nobody_syncs_with_a_group_without_members(client: OffsetClient) -> None:
    client.commit("g", {("orders", 0): 1})
    assert ask(client, 14, 3, SyncGroupRequest("g", 0, "m")).error_code == UNKNOWN_MEMBER_ID


def test_a_simple_group_takes_members(client: OffsetClient) -> None:
    client.commit("g", {("orders", 0): 1})
    member_id = client.join("g")
    assert ask(client, 12, 3, HeartbeatRequest("g", 1, member_id)).error_code == NONE
    assert client.fetch("g") == {("orders", 0): 1}


# -- ListGroups


def listed(client: OffsetClient, **filters: Any) -> set[tuple[str, str, str, str]]:
    """What ListGroups shows."""
    answer = ask(client, 16, 5, ListGroupsRequest(**filters))
    assert answer.error_code == NONE
    return {(each.group_id, each.protocol_type, each.group_state, each.group_type) for each in answer.groups}


def test_groups_are_listed_by_state_and_type(client: OffsetClient) -> None:
    client.commit("simple", {("orders", 0): 1})
    client.join("joined")
    simple, joined = ("simple", "", "Empty", "classic"), ("joined", "consumer", "Stable", "classic")
    assert listed(client) == {simple, joined}
    assert listed(client, states_filter=["eMPTY"]) == {simple}
    assert listed(client, states_filter=["Stable", "Dead"], types_filter=["Classic"]) == {joined}
    assert listed(client, types_filter=["consumer"]) == set()
    assert listed(client, types_filter=["nonsense"]) == set()


# -- DescribeGroups


def test_groups_are_described(client: OffsetClient) -> None:
    client.commit("simple", {("orders", 0): 1})
    member_id = client.join("joined")
    simple, joined = ask(client, 15, 5, DescribeGroupsRequest(["simple", "joined"])).groups
    assert (simple.error_code, simple.group_state, simple.protocol_type, simple.members) == (
        NONE,
        "Empty",
        "",
        [],
    )
    assert (joined.group_state, joined.protocol_type, joined.protocol_data) == ("Stable", "consumer", "range")
    assert [member.member_id for member in joined.members] == [member_id]
    assert joined.authorized_operations == NO_OPERATIONS


def test_an_unknown_group_is_dead(client: OffsetClient) -> None:
    message = DescribeGroupsRequest(["g"], include_authorized_operations=True)
    (old,) = ask(client, 15, 5, message).groups
    assert (old.group_state, old.error_code, old.error_message) == ("Dead", NONE, None)
    (new,) = ask(client, 15, 6, message).groups
    assert (new.group_state, new.error_code) == ("Dead", GROUP_ID_NOT_FOUND)
    assert new.error_message == "Group g not found."
    assert new.authorized_operations == NO_OPERATIONS


def test_operations_are_told_when_asked_for(client: OffsetClient) -> None:
    client.commit("g", {("orders", 0): 1})
    (told,) = ask(client, 15, 3, DescribeGroupsRequest(["g"], include_authorized_operations=True)).groups
    assert told.authorized_operations == 0b110101001000  # read, delete, describe, describe and alter configs


# -- DeleteGroups


def test_empty_groups_are_deleted_with_their_offsets(client: OffsetClient) -> None:
    client.commit("a", {("orders", 0): 1})
    client.commit("b", {("orders", 0): 1})
    client.join("busy")
    (answer,) = client.delete_groups("a", "busy", "nothing", "a")
    assert [(each.group_id, each.error_code) for each in answer.results] == [
        ("a", NONE),
        ("busy", NON_EMPTY_GROUP),
        ("nothing", GROUP_ID_NOT_FOUND),
    ]
    for _ in range(2):
        assert sorted(client.shard.groups) == ["b", "busy"]
        assert (client.fetch("a"), client.fetch("b")) == ({}, {("orders", 0): 1})
        client.restart()


def test_a_group_is_there_until_its_deletion_is_written(client: OffsetClient) -> None:
    client.commit("a", {("orders", 0): 1})
    client.commit("b", {("orders", 0): 2})
    client.runtime.holds = True
    answers = client.delete_groups("a", "b")
    client.runtime.release(1)
    assert (answers, sorted(client.shard.groups), client.fetch("a")) == ([], ["b"], {})
    client.runtime.error = COORDINATOR_NOT_AVAILABLE
    client.runtime.release()
    assert [each.error_code for each in answers[0].results] == [NONE, COORDINATOR_NOT_AVAILABLE]
    assert client.fetch("b") == {("orders", 0): 2}


def test_who_joins_while_a_group_is_deleted_has_a_group(client: OffsetClient) -> None:
    client.commit("g", {("orders", 0): 1})
    client.runtime.holds = True
    client.delete_groups("g")
    protocols = [JoinGroupRequestProtocol("range")]
    join = JoinGroupRequest("g", 10_000, 10_000, protocol_type="consumer", protocols=protocols)
    joins = client.runtime.ask(client.shard.handle, 11, 3, join)
    client.runtime.holds = False
    client.runtime.release()
    client.runtime.advance(0)
    assert joins[0].error_code == NONE
    assert "g" in client.shard.groups
    assert client.fetch("g") == {}


def test_records_of_other_protocols_are_passed_over(client: OffsetClient) -> None:
    client.shard.replay(UNKNOWN_TYPE, b"")
    assert client.shard.groups == {}
