"""Requests of both group protocols with values that fit, are stale, or are garbage, in any order, by a seed:
each is answered once, none is a fault of the coordinator's, and the log can always be read again.
"""

from random import Random
from typing import Any

import pytest
from msgspec import Struct

from tailrace.core.errors import KAFKA_STORAGE_ERROR, MESSAGE_TOO_LARGE, NONE
from tailrace.core.groups.consumer_protocol import (
    ConsumerProtocolAssignment,
    ConsumerProtocolSubscription,
    ConsumerProtocolTopicPartitions,
    encode_consumer_protocol,
)
from tailrace.core.groups.coordinator import GroupCoordinator
from tailrace.core.groups.runtime import GroupConfig
from tailrace.core.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
from tailrace.core.protocol.messages.delete_groups import DeleteGroupsRequest
from tailrace.core.protocol.messages.describe_groups import DescribeGroupsRequest
from tailrace.core.protocol.messages.heartbeat import HeartbeatRequest
from tailrace.core.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from tailrace.core.protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupRequestMember
from tailrace.core.protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from tailrace.core.timers import Timers
from tests.support.group_runtime import FakeRuntime

GOOD = [encode_consumer_protocol(ConsumerProtocolSubscription([name]), 1) for name in ("t", "u")]
GARBAGE = [b"", b"\0", b"\0\1\x7f\xff\xff\xff", b"\xff\xff\xff\xff"]
HALF = [ConsumerProtocolTopicPartitions("t", [0, 1])]
ASSIGNMENTS = [encode_consumer_protocol(ConsumerProtocolAssignment(HALF), 1), *GARBAGE]
KEYS = {"join": 11, "heartbeat": 12, "leave": 13, "sync": 14, "describe": 15, "delete": 42, "consume": 68}
VERSIONS = {"join": 9, "heartbeat": 4, "leave": 5, "sync": 5, "describe": 6, "delete": 2, "consume": 1}
LONGEST_WAIT_MS = 1_800_000 + 300_000


class Run:
    """One seed."""

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        config = GroupConfig(
            group_initial_rebalance_delay_ms=random.choice([0, 500]), group_max_size=random.choice([2, 5])
        )
        self.runtime = FakeRuntime({"t": 3, "u": 2}, config)
        self.waiting: list[list[Any]] = []
        self.ids = ["", "who"]
        self.generations = [-1, 0, 1]
        self.restart()

    def restart(self) -> None:
        """Another coordinator reads the log."""
        self.runtime.holds, self.runtime.error = False, NONE
        self.runtime.release()
        self.runtime.timers = Timers()
        self.shard = self.runtime.shard = GroupCoordinator(self.runtime)
        for key, value in self.runtime.log:
            self.shard.replay(key, value)
        self.shard.on_loaded()
        self.waiting.clear()

    def step(self) -> None:
        """One thing happens."""
        runtime, random = self.runtime, self.random
        match random.choices(["ask", "time", "write", "restart"], [80, 15, 4, 1])[0]:
            case "ask":
                self.ask(random.choices(list(KEYS), [30, 15, 4, 20, 2, 2, 12])[0])
            case "time":
                runtime.advance(random.choice([0, 1, 300, 2_000]))
            case "write":
                runtime.holds = random.random() < 0.5
                runtime.error = random.choice([NONE, NONE, KAFKA_STORAGE_ERROR, MESSAGE_TOO_LARGE])
                if not runtime.holds:
                    runtime.release()
            case _:
                self.restart()
        for answer in (answers[0] for answers in self.waiting if answers):
            if getattr(answer, "member_id", ""):
                self.ids.append(answer.member_id)
            if (epoch := getattr(answer, "generation_id", getattr(answer, "member_epoch", -1))) >= 0:
                self.generations.append(epoch)
        self.waiting = [answers for answers in self.waiting if not answers]

    def ask(self, what: str) -> None:
        """A request of any version."""
        random = self.random
        member_id, instance = random.choice(["", *self.ids[-6:]]), random.choice([None, None, None, "i", "j"])
        generation = random.choice([*self.generations[-1:] * 3, random.choice(self.generations)])
        message: Struct = getattr(self, what)(member_id, instance, generation)
        version = random.randrange(1, VERSIONS[what] + 1)
        self.waiting.append(self.runtime.ask(self.shard.handle, KEYS[what], version, message))
        if random.random() < 0.7:
            self.runtime.advance(0)

    def join(self, member_id: str, instance: str | None, _: int) -> JoinGroupRequest:
        """A new member or an old one."""
        random = self.random
        names = random.choice([["range"]] * 5 + [["range", "sticky"], ["sticky", "range"], ["sticky"], []])
        metadata = GARBAGE + GOOD if random.random() < 0.2 else GOOD
        return JoinGroupRequest(
            group_id="g",
            session_timeout_ms=random.choice([6_000] * 8 + [1_800_000, 5]),
            rebalance_timeout_ms=random.choice([4_000] * 5 + [0, -1, 1_800_000]),
            member_id=member_id,
            group_instance_id=instance,
            protocol_type=random.choice(["consumer"] * 8 + ["", "connect"]),
            protocols=[JoinGroupRequestProtocol(name, random.choice(metadata)) for name in names],
        )

    def sync(self, member_id: str, instance: str | None, generation: int) -> SyncGroupRequest:
        """A leader's or a follower's."""
        kind, name = self.random.choice([None, "consumer"]), self.random.choice([None, "range"])
        assignments = [
            SyncGroupRequestAssignment(each, self.random.choice(ASSIGNMENTS)) for each in self.ids[-5:]
        ]
        return SyncGroupRequest("g", generation, member_id, instance, kind, name, assignments)

    def heartbeat(self, member_id: str, instance: str | None, generation: int) -> HeartbeatRequest:
        """A sign of life."""
        return HeartbeatRequest("g", generation, member_id, instance)

    def leave(self, member_id: str, instance: str | None, _: int) -> LeaveGroupRequest:
        """One or two leave."""
        two = [
            LeaveGroupRequestMember(member_id, instance),
            LeaveGroupRequestMember(self.random.choice(self.ids)),
        ]
        return LeaveGroupRequest("g", member_id, two)

    def describe(self, *_: object) -> DescribeGroupsRequest:
        """What an admin asks."""
        return DescribeGroupsRequest(["g"])

    def delete(self, *_: object) -> DeleteGroupsRequest:
        """What an admin asks."""
        return DeleteGroupsRequest(["g"])

    def consume(self, member_id: str, instance: str | None, generation: int) -> ConsumerGroupHeartbeatRequest:
        """A member of the other protocol."""
        random = self.random
        return ConsumerGroupHeartbeatRequest(
            group_id="g",
            member_id=random.choice(["n1", "n2", member_id or "n3"]),
            member_epoch=random.choice([0, 0, generation, -1]),
            instance_id=instance,
            rebalance_timeout_ms=random.choice([4_000] * 9 + [-1]),
            subscribed_topic_names=random.choice([["t"], ["u"], ["t", "u"], None]),
            topic_partitions=None if random.random() < 0.1 else [],
        )


@pytest.mark.parametrize("seed", range(60))
def test_whatever_is_asked_is_answered(seed: int) -> None:
    run = Run(seed)
    for _ in range(400):
        run.step()
    run.runtime.holds, run.runtime.error = False, NONE
    run.runtime.release()
    run.runtime.advance(2 * LONGEST_WAIT_MS)
    assert all(run.waiting)
    run.restart()
