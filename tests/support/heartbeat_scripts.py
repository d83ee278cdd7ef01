"""What members of a KIP-848 group do, and what a coordinator answers; what is left to chance is left out."""

from collections.abc import Callable
from typing import Any, Protocol

from msgspec import Struct

from tailrace.core.errors import INVALID_REGULAR_EXPRESSION
from tailrace.core.protocol.messages.consumer_group_describe import ConsumerGroupDescribeResponseGroup
from tailrace.core.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatRequestTopicPartitions,
    ConsumerGroupHeartbeatResponse,
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


class Player:
    """Plays one script in one group and notes every answer."""

    def __init__(self, coordinator: Coordinator, group_id: str) -> None:
        self._coordinator = coordinator
        self._group_id = group_id
        self._epochs: dict[str, int] = {}
        self._owned: dict[str, dict[bytes, list[int]]] = {}
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
        members = [
            (
                member.member_id,
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
            for member in sorted(group.members, key=lambda member: member.member_id)
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
]


def play_all(coordinator: Coordinator) -> dict[str, list[Any]]:
    """Every script in a group of its own, and the notes."""
    notes: dict[str, list[Any]] = {}
    for number, script in enumerate(SCRIPTS):
        player = Player(coordinator, f"script-{number}")
        script.play(player)
        notes[script.name] = player.notes
    return notes
