"""What members of a KIP-848 group do, and what a coordinator answers; what is left to chance is left out."""

from collections.abc import Callable
from typing import Any, Protocol

from msgspec import Struct

from tailrace.core.errors import INVALID_REGULAR_EXPRESSION, MEMBER_ID_REQUIRED, REBALANCE_IN_PROGRESS
from tailrace.core.groups.consumer_protocol import (
    ConsumerProtocolAssignment,
    ConsumerProtocolSubscription,
    ConsumerProtocolTopicPartitions,
    decode_assignment,
    encode_consumer_protocol,
)
from tailrace.core.protocol.apis import HEARTBEAT, JOIN_GROUP, LEAVE_GROUP, SYNC_GROUP
from tailrace.core.protocol.messages.consumer_group_describe import ConsumerGroupDescribeResponseGroup
from tailrace.core.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatRequestTopicPartitions,
    ConsumerGroupHeartbeatResponse,
)
from tailrace.core.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from tailrace.core.protocol.messages.join_group import (
    JoinGroupRequest,
    JoinGroupRequestProtocol,
    JoinGroupResponse,
)
from tailrace.core.protocol.messages.leave_group import (
    LeaveGroupRequest,
    LeaveGroupRequestMember,
    LeaveGroupResponse,
)
from tailrace.core.protocol.messages.sync_group import (
    SyncGroupRequest,
    SyncGroupRequestAssignment,
    SyncGroupResponse,
)
from tests.support.waiting import wait_until

TOPICS = {"orders": 6, "others": 3, "more": 1}


class Coordinator(Protocol):
    """A coordinator, on the wire or not."""

    topic_ids: dict[str, bytes]

    def heartbeat(
        self, message: ConsumerGroupHeartbeatRequest, version: int
    ) -> ConsumerGroupHeartbeatResponse:
        """One heartbeat."""
        ...

    def describe(self, group_id: str) -> ConsumerGroupDescribeResponseGroup:
        """The group."""
        ...

    def ask(self, key: int, version: int, message: Struct, response: type[Any]) -> Any:
        """Any request."""
        ...


class Player:
    """Plays one script in one group and notes every answer."""

    def __init__(self, coordinator: Coordinator, group_id: str) -> None:
        self._coordinator = coordinator
        self._group_id = group_id
        self._epochs: dict[str, int] = {}
        self._owned: dict[str, dict[bytes, list[int]]] = {}
        self._ids: dict[str, str] = {}  # of members of the classic protocol, by name
        self._generations: dict[str, int] = {}
        self._held: dict[str, list[ConsumerProtocolTopicPartitions]] = {}
        self.notes: list[Any] = []

    def beat(self, member: str, epoch: int | None = None, version: int = 1, **fields: Any) -> None:
        """A heartbeat, with the epoch and the partitions that the member has if nothing else is said."""
        if "owned" in fields:
            owned = fields.pop("owned")
            fields["topic_partitions"] = None if owned is None else self._partitions(owned)
        elif "topic_partitions" not in fields:
            fields["topic_partitions"] = self._partitions(self._owned.get(member, {}))
        message = ConsumerGroupHeartbeatRequest(
            group_id=self._group_id,
            member_id=member,
            member_epoch=self._epochs.get(member, 0) if epoch is None else epoch,
            **fields,
        )
        answer = self._coordinator.heartbeat(message, version)
        if answer.error_code == 0 and answer.member_epoch >= 0:
            self._epochs[member] = answer.member_epoch
        told = None
        if answer.assignment is not None:
            names = {topic_id: name for name, topic_id in self._coordinator.topic_ids.items()}
            self._owned[member] = {
                topic.topic_id: topic.partitions for topic in answer.assignment.topic_partitions
            }
            told = {names[topic_id]: len(parts) for topic_id, parts in self._owned[member].items()}
        error = (answer.error_message or "").replace(self._group_id, "GROUP")
        self.notes.append((member, message.member_epoch, answer.error_code, error, answer.member_epoch, told))

    def join(self, member: str, *topics: str, **fields: Any) -> None:
        """A first heartbeat."""
        fields = {"rebalance_timeout_ms": 60_000, "owned": {}, **fields}
        if topics:
            fields["subscribed_topic_names"] = list(topics)
        self.beat(member, 0, **fields)

    def settle(self, *members: str) -> None:
        """Enough heartbeats for all to get there."""
        for _ in range(4):
            for member in members:
                self.beat(member)

    def wait_for(self, member: str, *topics: str) -> None:
        """Beat until the member owns all of these: Kafka resolves patterns in its own time."""
        wanted = {self._coordinator.topic_ids[name]: list(range(TOPICS[name])) for name in topics}
        noted = len(self.notes)

        def owns() -> bool:
            self.beat(member)
            return self.owned(member) == wanted

        wait_until(owns, f"{member} to own {topics}")
        del self.notes[noted:]
        self.notes.append((member, topics))

    def describe(self) -> None:
        """Note what is told of the group."""
        group = self._coordinator.describe(self._group_id)
        names = {member_id: name for name, member_id in self._ids.items()}
        members = [
            (
                names.get(member.member_id, member.member_id),
                member.instance_id,
                member.rack_id,
                member.member_epoch,
                sorted(member.subscribed_topic_names),
                member.subscribed_topic_regex,
                sorted(
                    (topic.topic_name, len(topic.partitions)) for topic in member.assignment.topic_partitions
                ),
                sorted(
                    (topic.topic_name, len(topic.partitions))
                    for topic in member.target_assignment.topic_partitions
                ),
                member.member_type,
            )
            for member in sorted(
                group.members, key=lambda member: names.get(member.member_id, member.member_id)
            )
        ]
        self.notes.append(
            (
                group.error_code,
                group.group_state,
                group.group_epoch,
                group.assignment_epoch,
                group.assignor_name,
                members,
            )
        )

    # -- members of the classic protocol

    def join_group(
        self, name: str, *topics: str, protocol: str = "range", kind: str = "consumer", **more: Any
    ) -> None:
        """A JoinGroup, sent again with the member id that is given for it."""
        subscription = ConsumerProtocolSubscription(list(topics), owned_partitions=self._held.get(name, []))
        message = JoinGroupRequest(
            group_id=self._group_id,
            session_timeout_ms=30_000,
            rebalance_timeout_ms=60_000,
            member_id=self._ids.get(name, ""),
            protocol_type=kind,
            protocols=[JoinGroupRequestProtocol(protocol, encode_consumer_protocol(subscription, 1))],
            **more,
        )
        answer = self._coordinator.ask(JOIN_GROUP, 9, message, JoinGroupResponse)
        self.notes.append(("join", name, answer.error_code, answer.generation_id, answer.protocol_name))
        if answer.member_id:
            self._ids[name] = answer.member_id
        if answer.error_code == MEMBER_ID_REQUIRED:
            self.join_group(name, *topics, protocol=protocol, kind=kind, **more)
        elif not answer.error_code:
            self._generations[name] = answer.generation_id
            self.notes[-1] += (answer.protocol_type, bool(answer.leader), len(answer.members))

    def sync_group(self, name: str, *topics: str, protocol: str = "range", **more: Any) -> None:
        """A SyncGroup; with topics it is the leader's, who keeps all of them."""
        mine = [ConsumerProtocolTopicPartitions(topic, list(range(TOPICS[topic]))) for topic in topics]
        assignment = encode_consumer_protocol(ConsumerProtocolAssignment(mine), 1)
        message = SyncGroupRequest(
            group_id=self._group_id,
            generation_id=more.pop("generation_id", self._generations.get(name, -1)),
            member_id=self._ids.get(name, name),
            protocol_type="consumer",
            protocol_name=protocol,
            assignments=[SyncGroupRequestAssignment(self._ids[name], assignment)] if topics else [],
            **more,
        )
        answer = self._coordinator.ask(SYNC_GROUP, 5, message, SyncGroupResponse)
        note: tuple[Any, ...] = ("sync", name, answer.error_code, answer.protocol_type, answer.protocol_name)
        if not answer.error_code:
            self._held[name] = decode_assignment(answer.assignment).assigned_partitions
            note += tuple(sorted((topic.topic, len(topic.partitions)) for topic in self._held[name]))
        self.notes.append(note)

    def heartbeat(self, name: str, generation_id: int | None = None, **more: Any) -> int:
        """A Heartbeat of a member of the classic protocol."""
        message = HeartbeatRequest(
            self._group_id,
            self._generations.get(name, -1) if generation_id is None else generation_id,
            self._ids.get(name, name),
            **more,
        )
        answer = self._coordinator.ask(HEARTBEAT, 4, message, HeartbeatResponse)
        self.notes.append(("heartbeat", name, answer.error_code))
        error: int = answer.error_code
        return error

    def leave_group(self, name: str, group_instance_id: str | None = None) -> None:
        """A LeaveGroup."""
        member = LeaveGroupRequestMember(self._ids.get(name, name), group_instance_id)
        message = LeaveGroupRequest(group_id=self._group_id, members=[member])
        answer = self._coordinator.ask(LEAVE_GROUP, 5, message, LeaveGroupResponse)
        self.notes.append(("leave", name, answer.error_code, [each.error_code for each in answer.members]))

    def follow(self, name: str, *topics: str, **more: Any) -> None:
        """Beat, and join and sync when told to."""
        if self.heartbeat(name) == REBALANCE_IN_PROGRESS:
            self.join_group(name, *topics, **more)
            self.sync_group(name)

    @staticmethod
    def _partitions(owned: dict[bytes, list[int]]) -> list[ConsumerGroupHeartbeatRequestTopicPartitions]:
        return [ConsumerGroupHeartbeatRequestTopicPartitions(*item) for item in owned.items()]

    def owned(self, member: str) -> dict[bytes, list[int]]:
        """What the member was last told to own."""
        return self._owned.get(member, {})

    def epoch(self, member: str) -> int:
        """The epoch it was last told."""
        return self._epochs[member]


def _patterns(play: Player) -> None:
    play.join("a", subscribed_topic_regex="ot.*|more")
    play.notes.clear()
    play.wait_for("a", "others", "more")
    play.join("b", subscribed_topic_regex="o(")
    assert play.notes[-1][2] == INVALID_REGULAR_EXPRESSION
    play.notes.pop()  # the words are the library's
    play.beat("a", subscribed_topic_regex="", subscribed_topic_names=["more"])
    play.notes.clear()
    play.wait_for("a", "more")


def _upgrade(play: Player) -> None:
    play.join_group("old", "orders")
    play.sync_group("old", "orders")
    play.heartbeat("old")
    play.beat("new", 4)
    play.join("new", "orders")
    play.describe()
    play.sync_group("old")
    for _ in range(4):
        play.follow("old", "orders")
        play.beat("new")
        play.describe()
    play.heartbeat("old", 99)
    play.heartbeat("new", play.epoch("new"))
    play.heartbeat("nobody", 1)
    play.sync_group("old", generation_id=99)
    play.sync_group("old", protocol="other")
    play.sync_group("old")
    play.beat("new", -1)
    play.describe()
    play.heartbeat("old")
    play.join_group("old", "orders")
    play.sync_group("old", "orders")
    play.heartbeat("old")
    play.leave_group("old")


def _both(play: Player) -> None:
    play.join("new", "orders", "others")
    play.join_group("old", "orders", kind="connect")
    play.join_group("old", "orders")
    play.sync_group("old")
    play.describe()
    play.join_group("other", "orders", protocol="other")
    for _ in range(3):
        play.beat("new")
        play.follow("old", "orders")
    play.describe()
    play.join_group("static", "others", group_instance_id="i")
    for _ in range(4):
        play.follow("old", "orders")
        play.beat("new")
        if play.heartbeat("static", group_instance_id="i") == REBALANCE_IN_PROGRESS:
            play.join_group("static", "others", group_instance_id="i")
        play.sync_group("static", group_instance_id="i")
    play.describe()
    play.heartbeat("static", group_instance_id="j")
    play.leave_group("nobody")
    play.leave_group("static", "j")
    play.leave_group("static", "i")
    play.describe()
    play.leave_group("old")
    play.settle("new")
    play.describe()


class Script(Struct, frozen=True):
    """A story by name."""

    name: str
    play: Callable[[Player], None]


def _two_and_a_third(play: Player) -> None:
    play.join("a", "orders")
    play.describe()
    play.join("b", "orders")
    play.describe()
    play.beat("b")
    had = play.owned("a")
    play.beat("a")
    play.describe()
    play.beat("a", owned=had)  # still owns what it must give back
    play.beat("a", owned=None)
    play.beat("b")
    play.beat("a")
    play.beat("b")
    play.describe()
    play.join("c", "orders")
    play.settle("a", "b", "c")
    play.describe()
    play.beat("b", -1)
    play.describe()
    play.settle("a", "c")
    play.describe()
    play.beat("a", -1)
    play.beat("c", -1)
    play.describe()


def _refusals(play: Player) -> None:
    play.beat("a", 3)
    play.beat("a", -1)
    play.join("", "orders")
    play.join("a")
    play.join("a", "orders", rebalance_timeout_ms=-1)
    play.join("a", "orders", owned=None)
    play.join("a", "orders", server_assignor="best")
    play.join("a", "orders", instance_id="")
    play.join("a", "orders", rack_id=" ")
    play.beat("a", -2)
    play.beat("a", -3)
    play.join("a", "orders")
    play.beat("b", 2)
    play.beat("b", -1)
    play.beat("a", play.epoch("a") + 1)
    play.beat("a", play.epoch("a") - 1)
    play.beat("a", instance_id="i")
    play.beat("a", server_assignor="best")
    play.join("a", "orders")
    play.describe()


def _lost_answers(play: Player) -> None:
    play.join("a", "orders")
    play.join("b", "orders")
    play.settle("a", "b")
    old = play.epoch("a")
    play.join("c", "orders")
    had = play.owned("a")
    play.settle("a", "b", "c")
    play.beat("a", old, owned=had)
    play.beat("a", old, owned=play.owned("a"))
    play.beat("a", old, owned=None)
    play.beat("a", old - 1, owned={})
    play.beat("a", rebalance_timeout_ms=60_000, subscribed_topic_names=["orders"])
    play.beat("a", owned=None)
    play.describe()


def _subscriptions(play: Player) -> None:
    play.join("a", "orders")
    play.beat("a", subscribed_topic_names=["others"])
    play.describe()
    play.beat("a")
    play.describe()
    play.join("b", "others", "nothing")
    play.settle("a", "b")
    play.beat("b", subscribed_topic_names=["others", "more", "orders"])
    play.settle("a", "b")
    play.describe()
    play.beat("a", subscribed_topic_names=[])
    play.settle("a", "b")
    play.describe()
    play.beat("a", rack_id="r1", server_assignor="range")
    play.beat("a", rebalance_timeout_ms=10_000)
    play.describe()


def _static(play: Player) -> None:
    play.join("a", "orders", instance_id="i")
    play.join("b", "orders")
    play.settle("b")
    play.beat("a", instance_id="i")
    play.beat("a", instance_id="i")
    play.settle("b")
    play.join("z", "orders", instance_id="i")
    play.beat("z", 3, instance_id="i")
    play.beat("a", 3, instance_id="j")
    play.beat("z", -2, instance_id="i")
    play.beat("a", -2, instance_id="i")
    play.describe()
    play.beat("b")
    play.join("y", "orders", instance_id="i")
    play.describe()
    play.beat("a", instance_id="i")
    play.beat("y", -2, instance_id="i")
    play.join("x", "others", instance_id="i")
    play.describe()
    play.settle("b")
    play.beat("x", instance_id="i")
    play.beat("x", instance_id="i")
    play.settle("b")
    play.describe()
    play.beat("x", -1, instance_id="i")
    play.beat("b", -1)
    play.describe()


def _range(play: Player) -> None:
    play.join("a", "orders", "others", server_assignor="range")
    play.join("b", "orders", "others", server_assignor="range")
    play.join("c", "orders", server_assignor="uniform")
    play.settle("a", "b", "c")
    play.describe()


def _first_version(play: Player) -> None:
    play.join("a", "orders", version=0)
    play.beat("a", version=0)
    play.beat("", version=0)
    play.beat("", -1, version=0)
    play.describe()


SCRIPTS = [
    Script("two members and a third", _two_and_a_third),
    Script("refusals", _refusals),
    Script("lost answers", _lost_answers),
    Script("subscriptions", _subscriptions),
    Script("static members", _static),
    Script("range", _range),
    Script("version 0", _first_version),
    Script("patterns", _patterns),
    Script("upgrade and downgrade", _upgrade),
    Script("members of both protocols", _both),
]


def play_all(coordinator: Coordinator) -> dict[str, list[Any]]:
    """Every script in a group of its own, and the notes."""
    notes: dict[str, list[Any]] = {}
    for number, script in enumerate(SCRIPTS):
        player = Player(coordinator, f"script-{number}")
        script.play(player)
        notes[script.name] = player.notes
    return notes
