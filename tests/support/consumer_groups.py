"""One KIP-848 group on a fake host, and members that behave as clients do."""

from collections.abc import Mapping, Sequence
from typing import Any

from tailrace.core.groups.consumer import ConsumerGroup
from tailrace.core.groups.consumer_member import LEFT, LEFT_FOR_A_WHILE
from tailrace.core.groups.records import decode_record
from tailrace.core.groups.runtime import GroupConfig
from tailrace.core.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatRequestTopicPartitions,
    ConsumerGroupHeartbeatResponse,
)
from tests.support.group_runtime import FakeRuntime

HEARTBEAT = 68
GROUP = "readers"

Owned = set[tuple[str, int]]


class GroupBench:
    """The group, its host, and what came of each heartbeat."""

    def __init__(self, topics: Mapping[str, int] | None = None, config: GroupConfig | None = None) -> None:
        self.runtime = FakeRuntime({"orders": 6} if topics is None else topics, config)
        self.runtime.shard = self
        self.group = ConsumerGroup(self.runtime, GROUP)

    def replay(self, key: bytes, value: bytes | None) -> None:
        """What the coordinator does with a record of a KIP-848 group."""
        decoded = decode_record(key, value)
        assert decoded is not None
        self.group.replay(*decoded)

    def restart(self) -> None:
        """Another coordinator, from the log alone; who waits for an answer gets none."""
        self.runtime.timers.__init__()  # type: ignore[misc]
        self.group = ConsumerGroup(self.runtime, GROUP)
        for key, value in self.runtime.log:
            self.replay(key, value)
        self.group.on_loaded()

    def send(
        self, message: ConsumerGroupHeartbeatRequest, version: int = 1
    ) -> list[ConsumerGroupHeartbeatResponse]:
        """A heartbeat; the list takes the answer."""
        message.group_id = message.group_id or GROUP
        return self.runtime.ask(self.group.heartbeat, HEARTBEAT, version, message)

    def beat(
        self, member_id: str, epoch: int, version: int = 1, **fields: Any
    ) -> ConsumerGroupHeartbeatResponse:
        """A heartbeat with these fields, answered at once."""
        message = ConsumerGroupHeartbeatRequest(member_id=member_id, member_epoch=epoch, **fields)
        (answer,) = self.send(message, version)
        return answer

    def join(
        self, member_id: str, topics: Sequence[str] | None = ("orders",), version: int = 1, **fields: Any
    ) -> ConsumerGroupHeartbeatResponse:
        """The first heartbeat of a member."""
        fields = {"rebalance_timeout_ms": 60_000, **fields}
        names = None if topics is None else list(topics)
        return self.beat(member_id, 0, version, subscribed_topic_names=names, topic_partitions=[], **fields)

    def member(self, member_id: str, **fields: Any) -> "Member":
        """A client, not yet in the group."""
        return Member(self, member_id, **fields)


class Member:
    """A client: it owns what it was told, gives back what it was told to, and joins again when fenced."""

    def __init__(
        self,
        bench: GroupBench,
        member_id: str,
        topics: Sequence[str] | None = ("orders",),
        instance_id: str | None = None,
        pattern: str | None = None,
        assignor: str | None = None,
    ) -> None:
        self.bench = bench
        self.member_id = member_id
        self.topics = None if topics is None else list(topics)
        self.instance_id, self.pattern, self.assignor = instance_id, pattern, assignor
        self.epoch = 0
        self.owned: Owned = set()
        self.told: Owned = set()
        self.interval_ms = 0
        self.error = 0

    def request(self, full: bool = False) -> ConsumerGroupHeartbeatRequest:
        """What it would send now: everything when it joins, else its partitions."""
        message = ConsumerGroupHeartbeatRequest(member_id=self.member_id, member_epoch=self.epoch)
        message.instance_id = self.instance_id
        if self.epoch == 0 or full:
            message.rebalance_timeout_ms = 60_000
            message.subscribed_topic_names = self.topics
            message.subscribed_topic_regex = self.pattern
            message.server_assignor = self.assignor
        message.topic_partitions = [] if self.epoch == 0 else self.partitions()
        return message

    def partitions(self) -> list[ConsumerGroupHeartbeatRequestTopicPartitions]:
        """What it owns, as a heartbeat says it; topics that are no more have no id to say."""
        ids = {name: topic.topic_id for name, topic in self.bench.runtime.image.topics_by_name.items()}
        by_topic: dict[bytes, list[int]] = {}
        for name, partition in sorted(self.owned):
            if name in ids:
                by_topic.setdefault(ids[name], []).append(partition)
        return [
            ConsumerGroupHeartbeatRequestTopicPartitions(topic_id, parts)
            for topic_id, parts in by_topic.items()
        ]

    def beat(self, full: bool = False) -> ConsumerGroupHeartbeatResponse:
        """Send, take in the answer, and give back what is not its own any more."""
        (answer,) = self.bench.send(self.request(full))
        self.take_in(answer)
        return answer

    def take_in(self, answer: ConsumerGroupHeartbeatResponse) -> None:
        """An answer came."""
        self.error = answer.error_code
        if answer.error_code:
            self.owned, self.told, self.epoch = set(), set(), 0
            return
        self.epoch, self.interval_ms = answer.member_epoch, answer.heartbeat_interval_ms
        if answer.assignment is not None:
            names = {
                topic_id: topic.name for topic_id, topic in self.bench.runtime.image.topics_by_id.items()
            }
            self.told = {
                (names.get(topic.topic_id, ""), partition)
                for topic in answer.assignment.topic_partitions
                for partition in topic.partitions
            }
            self.owned = set(self.told)

    def leave(self, for_a_while: bool = False) -> ConsumerGroupHeartbeatResponse:
        """Its last heartbeat."""
        message = ConsumerGroupHeartbeatRequest(
            member_id=self.member_id,
            member_epoch=LEFT_FOR_A_WHILE if for_a_while else LEFT,
            instance_id=self.instance_id,
        )
        (answer,) = self.bench.send(message)
        self.owned, self.told, self.epoch = set(), set(), 0
        return answer


def settle(*members: Member, rounds: int = 10) -> None:
    """All beat until nothing changes."""
    for _ in range(rounds):
        for member in members:
            member.beat()
        if members[0].bench.group.state == "Stable":
            return
    raise AssertionError(f"not stable after {rounds} rounds: {members[0].bench.group.describe()}")
