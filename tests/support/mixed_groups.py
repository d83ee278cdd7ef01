"""A coordinator that can be started anew, and members of both protocols of one group."""

from typing import Any

from tailrace.core import errors
from tailrace.core.errors import NONE
from tailrace.core.groups.consumer_protocol import (
    ConsumerProtocolAssignment,
    ConsumerProtocolSubscription,
    ConsumerProtocolTopicPartitions,
    decode_assignment,
    encode_consumer_protocol,
)
from tailrace.core.groups.coordinator import GroupCoordinator
from tailrace.core.groups.runtime import GroupConfig
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
from tests.support.group_runtime import FakeRuntime

GROUP = "readers"
COUNT = 6


class Shard:
    """A coordinator that can be started anew."""

    def __init__(self, policy: str = "bidirectional") -> None:
        self.runtime = FakeRuntime({"orders": COUNT}, GroupConfig(group_consumer_migration_policy=policy))
        self.start()

    def start(self) -> None:
        """Begin from the log."""
        self.coordinator = self.runtime.shard = GroupCoordinator(self.runtime)
        for key, value in self.runtime.log:
            self.coordinator.replay(key, value)
        self.coordinator.on_loaded()

    def ask(self, key: int, version: int, message: Any) -> list[Any]:
        """Send a request; the list takes the answer."""
        return self.runtime.ask(self.coordinator.handle, key, version, message)

    @property
    def group(self) -> Any:
        """The group as it is now."""
        return self.coordinator.groups[GROUP]


class Old:
    """A member of the classic protocol, cooperative; the leader splits partitions evenly."""

    def __init__(self, shard: Shard, instance_id: str | None = None, topic: str = "orders") -> None:
        self.shard, self.instance_id, self.topic = shard, instance_id, topic
        self.member_id, self.generation, self.owned = "", -1, set[int]()
        self.protocol: str | None = None

    def join_request(self) -> JoinGroupRequest:
        """What it would join with now."""
        owned = [ConsumerProtocolTopicPartitions(self.topic, sorted(self.owned))] if self.owned else []
        subscription = ConsumerProtocolSubscription([self.topic], owned_partitions=owned)
        metadata = encode_consumer_protocol(subscription, 1)
        protocols = [JoinGroupRequestProtocol("range", metadata)]
        return JoinGroupRequest(
            GROUP, 10_000, 20_000, self.member_id, self.instance_id, "consumer", protocols
        )

    def join(self) -> list[JoinGroupResponse]:
        """Ask to be let in, twice if it is given its id first."""
        answers: list[JoinGroupResponse] = self.shard.ask(11, 7, self.join_request())
        if answers and answers[0].error_code == errors.MEMBER_ID_REQUIRED:
            self.member_id = answers[0].member_id
            answers = self.shard.ask(11, 7, self.join_request())
        self.shard.runtime.advance(0)  # a new group waits no time, but a turn
        return answers

    def joined(self, answers: list[JoinGroupResponse]) -> JoinGroupResponse:
        """Take in the answer to that."""
        (answer,) = answers
        assert answer.error_code == NONE
        self.member_id, self.generation, self.protocol = (
            answer.member_id,
            answer.generation_id,
            answer.protocol_name,
        )
        return answer

    def sync(self, split: dict[str, set[int]] | None = None) -> list[SyncGroupResponse]:
        """Ask for its assignment; the leader says everybody's."""
        assignments = [
            SyncGroupRequestAssignment(member_id, assignment_of(parts))
            for member_id, parts in (split or {}).items()
        ]
        request = SyncGroupRequest(
            GROUP, self.generation, self.member_id, self.instance_id, "consumer", self.protocol, assignments
        )
        answers: list[SyncGroupResponse] = self.shard.ask(14, 5, request)
        return answers

    def synced(self, answers: list[SyncGroupResponse]) -> None:
        """Take in the answer to that."""
        (answer,) = answers
        assert answer.error_code == NONE
        topics = decode_assignment(answer.assignment).assigned_partitions
        self.owned = {partition for topic in topics for partition in topic.partitions}

    def beat(self) -> int:
        """Show that it is alive; returns the error code."""
        (answer,) = self.shard.ask(
            12, 4, HeartbeatRequest(GROUP, self.generation, self.member_id, self.instance_id)
        )
        assert isinstance(answer, HeartbeatResponse)
        return answer.error_code

    def follow(self) -> None:
        """What a client does every so often in a group of KIP-848: beat, and join again when told to."""
        while self.beat() == errors.REBALANCE_IN_PROGRESS:
            before = set(self.owned)
            self.joined(self.join())
            self.synced(self.sync())
            if before <= self.owned:  # cooperative: who lost partitions joins once more
                break

    def leave(self, version: int = 4) -> LeaveGroupResponse:
        """Go."""
        members = [LeaveGroupRequestMember(self.member_id, self.instance_id)]
        request = (
            LeaveGroupRequest(GROUP, members=members)
            if version > 2
            else LeaveGroupRequest(GROUP, self.member_id)
        )
        (answer,) = self.shard.ask(13, version, request)
        assert isinstance(answer, LeaveGroupResponse)
        return answer


class New:
    """A member of the consumer protocol."""

    def __init__(self, shard: Shard, member_id: str, instance_id: str | None = None) -> None:
        self.shard, self.member_id, self.instance_id = shard, member_id, instance_id
        self.epoch, self.owned = 0, set[int]()

    def beat(self, epoch: int | None = None) -> ConsumerGroupHeartbeatResponse:
        """A heartbeat that tells all, and what comes of it."""
        topic_id = self.shard.runtime.image.topics_by_name["orders"].topic_id
        request = ConsumerGroupHeartbeatRequest(
            group_id=GROUP,
            member_id=self.member_id,
            member_epoch=self.epoch if epoch is None else epoch,
            instance_id=self.instance_id,
            rebalance_timeout_ms=20_000,
            subscribed_topic_names=["orders"],
            topic_partitions=[ConsumerGroupHeartbeatRequestTopicPartitions(topic_id, sorted(self.owned))]
            if self.owned
            else [],
        )
        (answer,) = self.shard.ask(68, 1, request)
        assert isinstance(answer, ConsumerGroupHeartbeatResponse)
        if answer.error_code == NONE:
            self.epoch = answer.member_epoch
        if answer.assignment is not None:
            self.owned = {part for topic in answer.assignment.topic_partitions for part in topic.partitions}
        return answer


def assignment_of(partitions: set[int]) -> bytes:
    """Partitions in the words of the classic protocol."""
    topics = [ConsumerProtocolTopicPartitions("orders", sorted(partitions))]
    return encode_consumer_protocol(ConsumerProtocolAssignment(topics), 1)
