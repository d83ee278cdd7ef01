"""Requests about committed offsets and groups, good and bad, the same for any broker."""

from collections.abc import Iterator
from typing import Any

from tailrace.core.errors import (
    COORDINATOR_LOAD_IN_PROGRESS,
    COORDINATOR_NOT_AVAILABLE,
    NOT_COORDINATOR,
)
from tailrace.core.protocol import apis
from tailrace.core.protocol.messages import consumer_group_describe as consumer_describe
from tailrace.core.protocol.messages import delete_groups, describe_groups, list_groups
from tailrace.core.protocol.messages import offset_commit as commit
from tailrace.core.protocol.messages import offset_delete as forget
from tailrace.core.protocol.messages import offset_fetch as fetch
from tailrace.core.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
from tailrace.core.protocol.messages.create_topics import CreateTopicsRequest
from tailrace.core.protocol.messages.delete_topics import DeleteTopicsRequest
from tailrace.core.protocol.messages.find_coordinator import FindCoordinatorRequest
from tailrace.core.protocol.messages.heartbeat import HeartbeatRequest
from tailrace.core.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from tailrace.core.protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupRequestMember
from tailrace.core.protocol.messages.sync_group import SyncGroupRequest
from tests.support.admin_cases import UNKNOWN_ID, Asker, Case, new
from tests.support.waiting import wait_until

NOT_YET = {COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR}
ORDERS, BILLS, NOTHING = "orders", "bills", "nothing"
READS_ORDERS = b"\x00\x00" + b"\x00\x00\x00\x01" + b"\x00\x06orders" + b"\xff\xff\xff\xff"


def offset(partition: int, at: int, metadata: str | None = None, epoch: int = -1) -> Any:
    """A partition of an OffsetCommit."""
    return commit.OffsetCommitRequestPartition(partition, at, epoch, metadata)


class Cases:
    """Puts the ids of a broker's topics into the requests."""

    def __init__(self, asker: Asker) -> None:
        self._ids = {ORDERS: asker.id_of(ORDERS), BILLS: asker.id_of(BILLS), NOTHING: UNKNOWN_ID}

    def commit(self, what: str, version: int, group: str, topics: dict[str, list[Any]], **more: Any) -> Case:
        """An OffsetCommit."""
        asked = [
            commit.OffsetCommitRequestTopic(partitions=partitions, **self._topic(name, version))
            for name, partitions in topics.items()
        ]
        message = commit.OffsetCommitRequest(group_id=group, topics=asked, **more)
        return f"OffsetCommit v{version}: {what}", apis.OFFSET_COMMIT, version, message

    def fetch(
        self, what: str, version: int, group: str, topics: dict[str, list[int]] | None, **more: Any
    ) -> Case:
        """An OffsetFetch of one group."""
        asked = None
        if topics is not None:
            asked = [
                fetch.OffsetFetchRequestTopic(partition_indexes=partitions, **self._topic(name, version))
                for name, partitions in topics.items()
            ]
        if version < 8:
            message = fetch.OffsetFetchRequest(group_id=group, topics=asked)
        else:
            groups = [fetch.OffsetFetchRequestGroup(group_id=group, topics=asked, **more)]
            message = fetch.OffsetFetchRequest(groups=groups)
        return f"OffsetFetch v{version}: {what}", apis.OFFSET_FETCH, version, message

    def _topic(self, name: str, version: int) -> dict[str, Any]:
        return {"topic_id": self._ids[name]} if version >= 10 else {"name": name}

    def commits(self) -> Iterator[Case]:
        """Of groups without members."""
        for version in range(2, 11):
            group = f"v{version}"
            yield self.commit("plain", version, group, {ORDERS: [offset(0, 5, "m"), offset(2, 6)]})
            yield self.commit("unknown", version, group, {
                NOTHING: [offset(0, 1)],
                ORDERS: [offset(1, 7), offset(3, 1), offset(-1, 1)],
            })  # fmt: skip
            yield self.commit("unknown only", version, "never", {NOTHING: [offset(0, 1)]})
            yield self.commit("a generation", version, "never", {ORDERS: [offset(0, 1)]},
                              generation_id_or_member_epoch=1, member_id="m")  # fmt: skip
            yield self.commit("large metadata", version, group, {
                BILLS: [offset(0, 1, "x" * 4097)], ORDERS: [offset(1, 8, "é" * 4096)]})  # fmt: skip
            yield self.commit("nothing", version, "never", {})
            yield self.commit("an epoch", version, group, {ORDERS: [offset(2, 9, None, 4)]})
        yield self.commit("no group", 9, "", {ORDERS: [offset(0, 3)]})
        yield self.commit("a member and no generation", 9, "v9", {ORDERS: [offset(0, 4)]}, member_id="m")
        yield self.commit("a negative offset", 9, "negative", {ORDERS: [offset(0, -7)]})

    def fetches(self) -> Iterator[Case]:
        """Of groups without members."""
        for version in range(1, 11):
            for group in ("v2", "v10", "never", ""):
                asked = {NOTHING: [0], ORDERS: [0, 1, 2, 3], BILLS: [0]}
                yield self.fetch(f"some of {group}", version, group, asked)
                if version >= 2:
                    yield self.fetch(f"all of {group}", version, group, None)
                yield self.fetch(f"nothing of {group}", version, group, {})
        yield self.fetch("a member", 9, "v9", {ORDERS: [0]}, member_id="m", member_epoch=3)

    def deletions(self) -> Iterator[Case]:
        """OffsetDelete, then what is left."""

        def ask(what: str, group: str, topics: dict[str, list[int]]) -> Case:
            asked = [
                forget.OffsetDeleteRequestTopic(
                    name, list(map(forget.OffsetDeleteRequestPartition, partitions))
                )
                for name, partitions in topics.items()
            ]
            return f"OffsetDelete: {what}", apis.OFFSET_DELETE, 0, forget.OffsetDeleteRequest(group, asked)

        yield ask("some", "v9", {ORDERS: [0, 3, 2], BILLS: [0], NOTHING: [0]})
        yield self.fetch("after a delete", 9, "v9", None)
        yield ask("no group", "", {ORDERS: [0]})
        yield ask("unknown group", "never", {ORDERS: [0]})
        yield ask("unknown group and topic", "never", {NOTHING: [0]})
        yield ask("nothing", "v9", {})

    def groups(self) -> Iterator[Case]:
        """ListGroups, DescribeGroups, ConsumerGroupDescribe, DeleteGroups."""
        names = ["v2", "never", ""]
        for version in range(6):
            yield f"ListGroups v{version}", apis.LIST_GROUPS, version, list_groups.ListGroupsRequest()
        filters: list[tuple[list[str], list[str]]] = [
            (["eMPTY"], []), (["Stable"], []), (["Empty", "x"], ["CLASSIC"]),
            ([], ["consumer"]), ([], ["x"]), (["x"], []),
        ]  # fmt: skip
        for states, types in filters:
            message = list_groups.ListGroupsRequest(states, types)
            yield f"ListGroups: {states} {types}", apis.LIST_GROUPS, 5, message
        for version in range(7):
            described = describe_groups.DescribeGroupsRequest(
                names, include_authorized_operations=version > 3
            )
            yield f"DescribeGroups v{version}", apis.DESCRIBE_GROUPS, version, described
        for version in range(2):
            told = consumer_describe.ConsumerGroupDescribeRequest(names, include_authorized_operations=True)
            yield f"ConsumerGroupDescribe v{version}", apis.CONSUMER_GROUP_DESCRIBE, version, told
        for version in range(3):
            deleted = delete_groups.DeleteGroupsRequest([f"v{version + 2}", f"v{version + 2}", "never", ""])
            yield f"DeleteGroups v{version}", apis.DELETE_GROUPS, version, deleted
        yield self.fetch("after its group", 9, "v2", None)
        yield "ListGroups: after deletions", apis.LIST_GROUPS, 5, list_groups.ListGroupsRequest()

    def strangers(self) -> Iterator[Case]:
        """Members that no group knows."""
        leaving = [LeaveGroupRequestMember("m"), LeaveGroupRequestMember("", "i")]
        for group in ("", "never", "v7"):
            for version in range(10):
                join = JoinGroupRequest(group, 10_000, 10_000, "m", None, "consumer",
                                        [JoinGroupRequestProtocol("range", READS_ORDERS)])  # fmt: skip
                yield f"JoinGroup v{version}: {group}", apis.JOIN_GROUP, version, join
            for version in range(5):
                beat = HeartbeatRequest(group, 1, "m")
                yield f"Heartbeat v{version}: {group}", apis.HEARTBEAT, version, beat
            for version in range(6):
                leave = LeaveGroupRequest(group, "m" if version < 3 else "", leaving if version >= 3 else [])
                yield f"LeaveGroup v{version}: {group}", apis.LEAVE_GROUP, version, leave
                sync = SyncGroupRequest(group, 1, "m", None, "consumer", "range")
                yield f"SyncGroup v{version}: {group}", apis.SYNC_GROUP, version, sync

    def with_member(self, asker: Asker) -> Iterator[Case]:
        """A group that somebody reads with."""
        protocols = [JoinGroupRequestProtocol("range", READS_ORDERS)]
        join = JoinGroupRequest("busy", 60_000, 60_000, "", None, "consumer", protocols)
        joined = asker.ask(("", apis.JOIN_GROUP, 3, join))
        me, generation = joined["member_id"], joined["generation_id"]
        asker.ask(("", apis.SYNC_GROUP, 3, SyncGroupRequest("busy", generation, me)))
        right = {"member_id": me, "generation_id_or_member_epoch": generation}
        here = {ORDERS: [offset(0, 5), offset(9, 5)], BILLS: [offset(0, 6)]}
        yield self.commit("a member", 9, "busy", here, **right)
        yield self.commit(
            "a wrong generation", 9, "busy", here, **(right | {"generation_id_or_member_epoch": 7})
        )
        yield self.commit("no generation", 9, "busy", here, **(right | {"generation_id_or_member_epoch": -1}))
        yield self.commit("a wrong member", 9, "busy", here, **(right | {"member_id": "?"}))
        yield self.commit("nobody", 9, "busy", here)
        yield self.commit("fenced", 9, "busy", here, group_instance_id="i", **right)
        yield self.fetch("a wrong member", 9, "busy", None, member_id="?", member_epoch=9)
        asked = [
            forget.OffsetDeleteRequestTopic(name, [forget.OffsetDeleteRequestPartition(0)])
            for name in (ORDERS, BILLS)
        ]
        yield "OffsetDelete: busy", apis.OFFSET_DELETE, 0, forget.OffsetDeleteRequest("busy", asked)
        yield self.fetch("of the busy", 9, "busy", None)
        yield "DeleteGroups: busy", apis.DELETE_GROUPS, 2, delete_groups.DeleteGroupsRequest(["busy"])
        yield "ListGroups: busy", apis.LIST_GROUPS, 5, list_groups.ListGroupsRequest(["sTABLE"], ["Classic"])

    def with_consumer(self, asker: Asker) -> Iterator[Case]:
        """A group of KIP-848 that somebody reads with."""
        yield self.commit("before there is a group", 9, "modern", {ORDERS: [offset(1, 3)]})
        epoch = self._beat(asker, "modern")
        right = {"member_id": "m", "generation_id_or_member_epoch": epoch}
        here = {ORDERS: [offset(0, 5), offset(9, 5)], BILLS: [offset(0, 6)]}
        for version in (8, 9, 10):
            yield self.commit("of a modern member", version, "modern", here, **right)
        for name, wrong in (
            ("an old epoch", {"generation_id_or_member_epoch": epoch - 1}),
            ("a new epoch", {"generation_id_or_member_epoch": epoch + 1}),
            ("no epoch", {"generation_id_or_member_epoch": -1}),
            ("a wrong member", {"member_id": "?"}),
            ("an instance", {"group_instance_id": "i"}),
        ):
            yield self.commit(f"{name}, modern", 9, "modern", here, **(right | wrong))
        yield self.commit("nobody, modern", 9, "modern", here)
        for version in (8, 9, 10):
            yield self.fetch("of modern by nobody", version, "modern", None)
        for member, of in (("m", epoch), ("m", epoch - 1), ("m", -1), ("?", epoch), ("", -1)):
            what = f"of modern by {member} {of - epoch}"
            yield self.fetch(what, 9, "modern", {ORDERS: [0]}, member_id=member, member_epoch=of)
        asked = [
            forget.OffsetDeleteRequestTopic(name, [forget.OffsetDeleteRequestPartition(0)])
            for name in (ORDERS, BILLS)
        ]
        yield "OffsetDelete: modern", apis.OFFSET_DELETE, 0, forget.OffsetDeleteRequest("modern", asked)
        yield "DeleteGroups: modern", apis.DELETE_GROUPS, 2, delete_groups.DeleteGroupsRequest(["modern"])
        yield (
            "DescribeGroups: modern",
            apis.DESCRIBE_GROUPS,
            6,
            describe_groups.DescribeGroupsRequest(["modern"]),
        )
        yield (
            "ListGroups: modern",
            apis.LIST_GROUPS,
            5,
            list_groups.ListGroupsRequest(["stable"], ["CONSUMER"]),
        )
        yield "SyncGroup: modern", apis.SYNC_GROUP, 4, SyncGroupRequest("modern", epoch, "?")
        yield "Heartbeat: modern", apis.HEARTBEAT, 4, HeartbeatRequest("modern", epoch, "?")
        leave = LeaveGroupRequest("modern", members=[LeaveGroupRequestMember("?")])
        yield "LeaveGroup: modern", apis.LEAVE_GROUP, 5, leave
        self._beat(asker, "modern", member_epoch=-1)

    def changes(self, asker: Asker) -> Iterator[Case]:
        """The same group, empty: it takes the protocol of whoever comes next."""
        yield "ListGroups: left", apis.LIST_GROUPS, 5, list_groups.ListGroupsRequest([], ["consumer"])
        yield "SyncGroup: left", apis.SYNC_GROUP, 4, SyncGroupRequest("modern", 1, "?")
        protocols = [JoinGroupRequestProtocol("range", READS_ORDERS)]
        join = JoinGroupRequest("modern", 60_000, 60_000, "?", None, "consumer", protocols)
        yield "JoinGroup: left", apis.JOIN_GROUP, 3, join
        join.member_id = ""
        joined = asker.ask(("", apis.JOIN_GROUP, 3, join))
        yield "ListGroups: classic", apis.LIST_GROUPS, 5, list_groups.ListGroupsRequest()
        asker.ask(("", apis.LEAVE_GROUP, 2, LeaveGroupRequest("modern", joined["member_id"])))
        self._beat(asker, "modern")
        yield "ListGroups: modern again", apis.LIST_GROUPS, 5, list_groups.ListGroupsRequest()
        self._beat(asker, "modern", member_epoch=-1)
        yield self.fetch("of modern at last", 9, "modern", None)
        yield "DeleteGroups: left", apis.DELETE_GROUPS, 2, delete_groups.DeleteGroupsRequest(["modern"])
        yield self.fetch("of modern deleted", 9, "modern", None)
        yield "ListGroups: deleted", apis.LIST_GROUPS, 5, list_groups.ListGroupsRequest()

    def _beat(self, asker: Asker, group: str, member_epoch: int = 0) -> int:
        message = ConsumerGroupHeartbeatRequest(
            group,
            "m",
            member_epoch,
            rebalance_timeout_ms=60_000,
            subscribed_topic_names=[ORDERS],
            topic_partitions=[],
        )
        return int(asker.ask(("", apis.CONSUMER_GROUP_HEARTBEAT, 1, message))["member_epoch"])

    def ageing(self, asker: Asker) -> Iterator[Case]:
        """Offsets with an expiry of their own, as old clients give it, and what becomes of their group."""
        yield self.commit("for a moment", 4, "brief", {ORDERS: [offset(0, 1)]}, retention_time_ms=1)
        yield self.commit("for a moment", 2, "mixed", {ORDERS: [offset(0, 1)]}, retention_time_ms=1)
        yield self.commit("for long", 9, "mixed", {ORDERS: [offset(1, 1)]})

        def is_gone() -> bool:
            asked = self.fetch("", 9, "mixed", {ORDERS: [0]})
            return bool(asker.ask(asked)["groups"][0]["topics"][0]["partitions"][0]["committed_offset"] == -1)

        def has_group() -> bool:
            found = asker.ask(("", apis.LIST_GROUPS, 5, list_groups.ListGroupsRequest()))
            return any(group["group_id"] == "brief" for group in found["groups"])

        wait_until(is_gone, "an offset to expire")
        wait_until(lambda: not has_group(), "its group to go")
        yield self.fetch("of mixed ages", 9, "mixed", None)
        yield "ListGroups: aged", apis.LIST_GROUPS, 5, list_groups.ListGroupsRequest()


def answers(address: str) -> dict[str, Any]:
    """What the broker says to each."""
    asker = Asker(address)
    asker.ask(("", apis.CREATE_TOPICS, 7, CreateTopicsRequest([new(ORDERS, 3), new(BILLS)], 10_000)))

    def has_coordinator() -> bool:
        message = FindCoordinatorRequest(coordinator_keys=["v2"])
        found = asker.ask(("", apis.FIND_COORDINATOR, 4, message))
        if found["coordinators"][0]["error_code"]:
            return False
        return asker.ask(cases.fetch("", 9, "v2", {}))["groups"][0]["error_code"] not in NOT_YET

    cases = Cases(asker)
    wait_until(has_coordinator, "a coordinator")
    found: dict[str, Any] = {}
    stories = (cases.with_member, cases.with_consumer, cases.changes, cases.ageing)
    parts = [cases.commits(), cases.fetches(), cases.deletions(), cases.groups(), cases.strangers()]
    for part in parts + [story(asker) for story in stories]:
        for case in part:
            assert case[0] not in found
            found[case[0]] = asker.ask(case)
    asker.ask(("", apis.DELETE_TOPICS, 5, DeleteTopicsRequest(topic_names=[ORDERS], timeout_ms=10_000)))

    def has_forgotten() -> bool:
        return not asker.ask(cases.fetch("", 9, "v8", None))["groups"][0]["topics"]

    wait_until(has_forgotten, "the offsets to go with their topic")
    for case in (
        cases.fetch("of a deleted topic", 9, "v8", {ORDERS: [0]}),
        cases.fetch("of a deleted topic", 10, "v8", {ORDERS: [0]}),
        cases.fetch("of what is left", 10, "busy", None),
        cases.commit("to a deleted topic", 9, "v8", {ORDERS: [offset(0, 1)]}),
        cases.commit("to a deleted topic", 10, "v8", {ORDERS: [offset(0, 1)]}),
    ):
        found[case[0]] = asker.ask(case)
    return found
