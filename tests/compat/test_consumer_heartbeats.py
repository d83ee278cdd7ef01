"""KIP-848 groups answer every heartbeat as Apache Kafka does: codes, words, epochs, how many partitions."""

from pathlib import Path
from struct import pack
from typing import Any

from msgspec import Struct

from perf import lifecycle
from perf.peers import jars
from perf.peers.kafka import Kafka
from tailrace.core.errors import GROUP_ID_NOT_FOUND
from tailrace.core.groups.coordinator import GroupCoordinator
from tailrace.core.protocol.compile import decoder, encode
from tailrace.core.protocol.frames import parse_response_header
from tailrace.core.protocol.messages.consumer_group_describe import (
    ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse,
    ConsumerGroupDescribeResponseGroup,
)
from tailrace.core.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
)
from tailrace.core.protocol.messages.create_topics import (
    CreateTopicsRequest,
    CreateTopicsRequestTopic,
    CreateTopicsResponse,
)
from tailrace.core.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from tests.support.group_runtime import FakeRuntime
from tests.support.heartbeat_scripts import SCRIPTS, TOPICS, play_all
from tests.support.peers import require
from tests.support.raw_client import RawClient
from tests.support.waiting import wait_until

AT_ONCE = {"group.consumer.assignment.interval.ms": "0", "group.initial.rebalance.delay.ms": "0"}


class OnTheWire:
    """Kafka."""

    def __init__(self, client: RawClient) -> None:
        self._client = client
        topics = [
            CreateTopicsRequestTopic(name=name, num_partitions=count, replication_factor=1)
            for name, count in TOPICS.items()
        ]
        created = self.ask(19, 7, CreateTopicsRequest(topics=topics, timeout_ms=30_000), CreateTopicsResponse)
        self.topic_ids = {topic.name: topic.topic_id for topic in created.topics}
        wait_until(self._has_coordinator, "Kafka's coordinator", 60)

    def _has_coordinator(self) -> bool:
        """The first question makes Kafka create the topic that the groups are kept in."""
        keys = [f"script-{number}" for number in range(len(SCRIPTS))]
        self.ask(10, 4, FindCoordinatorRequest(coordinator_keys=keys), FindCoordinatorResponse)
        return {self.describe(key).error_code for key in keys} == {GROUP_ID_NOT_FOUND}

    def ask(self, key: int, version: int, message: Struct, response: type[Any]) -> Any:
        """Any request of a flexible version."""
        body = pack(">hhih", key, version, 7, 3) + b"raw" + b"\0" + encode(message, version)
        self._client.send(pack(">i", len(body)) + body)
        answer = self._client.receive()
        assert answer is not None
        _, position = parse_response_header(answer, 0, len(answer), 1)
        return decoder(response, version)(answer, position, len(answer), memoryview(answer))

    def heartbeat(
        self, message: ConsumerGroupHeartbeatRequest, version: int
    ) -> ConsumerGroupHeartbeatResponse:
        """One heartbeat."""
        answer: ConsumerGroupHeartbeatResponse = self.ask(
            68, version, message, ConsumerGroupHeartbeatResponse
        )
        return answer

    def describe(self, group_id: str) -> ConsumerGroupDescribeResponseGroup:
        """The group."""
        asked = ConsumerGroupDescribeRequest(group_ids=[group_id])
        answer: ConsumerGroupDescribeResponse = self.ask(69, 1, asked, ConsumerGroupDescribeResponse)
        return answer.groups[0]


class InMemory:
    """Ours."""

    def __init__(self) -> None:
        self._runtime = FakeRuntime(TOPICS)
        self._runtime.shard = self._shard = GroupCoordinator(self._runtime)
        self._shard.on_loaded()
        self.topic_ids = {name: topic.topic_id for name, topic in self._runtime.image.topics_by_name.items()}

    def heartbeat(
        self, message: ConsumerGroupHeartbeatRequest, version: int
    ) -> ConsumerGroupHeartbeatResponse:
        """One heartbeat."""
        (answer,) = self._runtime.ask(self._shard.handle, 68, version, message)
        assert isinstance(answer, ConsumerGroupHeartbeatResponse)
        return answer

    def ask(self, key: int, version: int, message: Struct, response: type[Any]) -> Any:
        """Any request; what may wait a turn of the host's loop has it."""
        answers = self._runtime.ask(self._shard.handle, key, version, message)
        self._runtime.advance(0)
        (answer,) = answers
        assert isinstance(answer, response)
        return answer

    def describe(self, group_id: str) -> ConsumerGroupDescribeResponseGroup:
        """The group."""
        asked = ConsumerGroupDescribeRequest(group_ids=[group_id])
        (answer,) = self._runtime.ask(self._shard.handle, 69, 1, asked)
        assert isinstance(answer, ConsumerGroupDescribeResponse)
        return answer.groups[0]


def test_every_answer_is_as_kafka_gives_it(tmp_path: Path) -> None:
    """Kafka set to assign at once, as we do; by default it does so once a second at most."""
    require(None if jars.available() else jars.MISSING)
    kafka = Kafka(tmp_path / "kafka", AT_ONCE)
    kafka.start()
    try:
        lifecycle.wait_until_served(kafka)
        with RawClient(f"{kafka.address.host}:{kafka.address.port}") as client:
            expected = play_all(OnTheWire(client))
    finally:
        kafka.stop()
    found = play_all(InMemory())
    different = [
        (name, number, ours, theirs)
        for name, notes in expected.items()
        for number, (ours, theirs) in enumerate(zip(found[name], notes, strict=True))
        if ours != theirs
    ]
    assert different == []
