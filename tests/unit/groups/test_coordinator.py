"""The coordinator: which group a request goes to, what of groups is listed, described and deleted."""

from typing import Any

import pytest

from tailrace.core.errors import (
    COORDINATOR_NOT_AVAILABLE,
    GROUP_ID_NOT_FOUND,
    INCONSISTENT_GROUP_PROTOCOL,
    INVALID_GROUP_ID,
    INVALID_REQUEST,
    NON_EMPTY_GROUP,
    NONE,
    STALE_MEMBER_EPOCH,
    UNKNOWN_MEMBER_ID,
    UNSUPPORTED_ASSIGNOR,
    UNSUPPORTED_VERSION,
)
from tailrace.core.protocol.messages.consumer_group_describe import ConsumerGroupDescribeRequest
from tailrace.core.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatRequestTopicPartitions,
)
from tailrace.core.protocol.messages.describe_groups import DescribeGroupsRequest
from tailrace.core.protocol.messages.heartbeat import HeartbeatRequest
from tailrace.core.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from tailrace.core.protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupRequestMember
from tailrace.core.protocol.messages.list_groups import ListGroupsRequest
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


def test_an_unknown_group_is_dead(client: OffsetClient) -> None:
    message = DescribeGroupsRequest(["g"])
    (old,) = ask(client, 15, 5, message).groups
    assert (old.group_state, old.error_code, old.error_message) == ("Dead", NONE, None)
    (new,) = ask(client, 15, 6, message).groups
    assert (new.group_state, new.error_code) == ("Dead", GROUP_ID_NOT_FOUND)
    assert new.error_message == "Group g not found."


# -- groups of KIP-848


def beat(client: OffsetClient, group_id: str = "g", **fields: Any) -> Any:
    """ConsumerGroupHeartbeat of member "m"; without more it joins."""
    wanted: dict[str, Any] = {
        "member_id": "m",
        "rebalance_timeout_ms": 60_000,
        "subscribed_topic_names": ["orders"],
        "topic_partitions": [],
    }
    return ask(client, 68, 1, ConsumerGroupHeartbeatRequest(group_id=group_id, **(wanted | fields)))


def test_members_of_kip_848_have_a_group(client: OffsetClient) -> None:
    assert beat(client).error_code == NONE
    assert listed(client) == {("g", "consumer", "Stable", "consumer")}
    client.restart()
    (told,) = ask(client, 69, 1, ConsumerGroupDescribeRequest(["g"])).groups
    assert (told.error_code, told.group_state, told.members[0].member_id) == (NONE, "Stable", "m")
    assert client.delete_groups("g")[0].results[0].error_code == NON_EMPTY_GROUP


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"group_id": ""}, INVALID_REQUEST),
        ({"member_epoch": 3}, GROUP_ID_NOT_FOUND),
        ({"member_epoch": -1}, GROUP_ID_NOT_FOUND),
        ({"server_assignor": "best"}, UNSUPPORTED_ASSIGNOR),
    ],
)
def test_a_refused_member_makes_no_group(client: OffsetClient, fields: dict[str, Any], code: int) -> None:
    assert beat(client, **fields).error_code == code
    assert client.shard.groups == {}
    assert client.runtime.log == []


def test_what_is_no_group_of_kip_848_is_said(client: OffsetClient) -> None:
    client.join("classic")
    told = ask(client, 69, 0, ConsumerGroupDescribeRequest(["classic", "g"])).groups
    assert [(each.error_code, each.error_message) for each in told] == [
        (GROUP_ID_NOT_FOUND, "Group classic is not a consumer group."),
        (GROUP_ID_NOT_FOUND, "Group g not found."),
    ]
    beat(client)
    (told,) = ask(client, 15, 6, DescribeGroupsRequest(["g"])).groups
    assert (told.error_code, told.error_message) == (GROUP_ID_NOT_FOUND, "Group g is not a classic group.")


def test_commits_and_fetches_obey_member_epochs(client: OffsetClient) -> None:
    epoch = beat(client).member_epoch
    fields: dict[str, Any] = {"member_id": "m", "generation_id_or_member_epoch": epoch}
    wanted = {("orders", 0): 1}
    assert client.commit_errors("g", wanted, **fields) == [NONE]
    assert client.commit_errors("g", wanted, version=8, **fields) == [UNSUPPORTED_VERSION]
    assert client.commit_errors("g", wanted, **dict(fields, member_id="?")) == [UNKNOWN_MEMBER_ID]
    assert client.commit_errors("g", wanted, **dict(fields, generation_id_or_member_epoch=epoch + 1)) == [
        STALE_MEMBER_EPOCH
    ]
    fetched = [
        client.fetch_group("g", member_id=member_id, member_epoch=of).error_code
        for member_id, of in (("m", epoch), ("m", epoch - 1), ("?", epoch), (None, -1))
    ]
    assert fetched == [NONE, STALE_MEMBER_EPOCH, UNKNOWN_MEMBER_ID, NONE]


def test_a_late_commit_of_what_is_not_owned_is_refused_whole(client: OffsetClient) -> None:
    """A member may commit in an older epoch what it owns since before that epoch, and nothing else."""
    old = beat(client).member_epoch
    beat(client, member_id="n")
    kept = beat(client, member_epoch=old, topic_partitions=None).assignment.topic_partitions[0]
    owned = [ConsumerGroupHeartbeatRequestTopicPartitions(kept.topic_id, kept.partitions)]
    assert beat(client, member_epoch=old, topic_partitions=owned).member_epoch > old
    fields: dict[str, Any] = {"member_id": "m", "generation_id_or_member_epoch": old}
    committed = {("orders", partition): 1 for partition in kept.partitions}
    assert set(client.commit_errors("g", committed, **fields)) == {NONE}
    committed = {("orders", partition): 2 for partition in range(3)}
    assert client.commit_errors("g", committed, **fields) == [STALE_MEMBER_EPOCH] * 3


def test_an_empty_group_changes_its_protocol(client: OffsetClient) -> None:
    """Whichever comes next says what it is; the offsets stay."""
    client.commit("g", {("orders", 0): 1})
    for _ in range(2):
        assert beat(client).error_code == NONE
        assert listed(client) == {("g", "consumer", "Stable", "consumer")}
        client.restart()
        assert beat(client, member_epoch=-1).error_code == NONE
        assert listed(client) == {("g", "consumer", "Empty", "consumer")}
        member_id = client.join("g")
        assert listed(client) == {("g", "consumer", "Stable", "classic")}
        client.restart()
        assert listed(client) == {("g", "consumer", "Stable", "classic")}
        assert ask(client, 13, 2, LeaveGroupRequest("g", member_id)).error_code == NONE
        client.runtime.advance(0)
        assert client.fetch("g") == {("orders", 0): 1}


def test_a_group_keeps_its_protocol_though_the_log_lags(client: OffsetClient) -> None:
    """What was written of the other protocol is replayed after the group has changed."""
    member_id = client.join("g")
    client.runtime.holds = True
    leaves = client.runtime.ask(client.shard.handle, 13, 2, LeaveGroupRequest("g", member_id))
    beats = client.runtime.ask(
        client.shard.handle,
        68,
        1,
        ConsumerGroupHeartbeatRequest(
            "g", "m", rebalance_timeout_ms=1000, subscribed_topic_names=["orders"], topic_partitions=[]
        ),
    )
    client.runtime.holds = False
    client.runtime.release()
    assert (leaves[0].error_code, beats[0].error_code) == (NONE, NONE)
    for _ in range(2):
        assert listed(client) == {("g", "consumer", "Stable", "consumer")}
        client.restart()


def test_a_group_of_another_protocol_refuses(client: OffsetClient) -> None:
    client.join("classic")
    assert beat(client, "classic").error_code == GROUP_ID_NOT_FOUND
    beat(client)
    assert ask(client, 12, 3, HeartbeatRequest("g", 1, "m")).error_code == UNKNOWN_MEMBER_ID
    assert ask(client, 14, 3, SyncGroupRequest("g", 1, "m")).error_code == UNKNOWN_MEMBER_ID
    join = JoinGroupRequest("g", 10_000, 10_000, "", None, "connect", [JoinGroupRequestProtocol("range")])
    assert ask(client, 11, 5, join).error_code == INCONSISTENT_GROUP_PROTOCOL


def test_a_deleted_group_of_kip_848_is_gone(client: OffsetClient) -> None:
    beat(client)
    client.commit("g", {("orders", 0): 1}, member_id="m", generation_id_or_member_epoch=1)
    beat(client, member_epoch=-1)
    assert client.delete_groups("g")[0].results[0].error_code == NONE
    for _ in range(2):
        assert (client.shard.groups, client.fetch("g")) == ({}, {})
        client.restart()


def test_an_abandoned_group_of_kip_848_expires(client: OffsetClient) -> None:
    beat(client)
    beat(client, member_epoch=-1)
    client.runtime.advance(client.runtime.config.offsets_retention_check_interval_ms)
    assert client.shard.groups == {}
    client.restart()
    assert client.shard.groups == {}


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
