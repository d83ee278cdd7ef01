"""Metadata: which topics, what of them, and those that are made because they were asked for."""

from typing import Any

import pytest

from tailrace.core.errors import (
    INVALID_REQUEST,
    INVALID_TOPIC_EXCEPTION,
    KAFKA_STORAGE_ERROR,
    LEADER_NOT_AVAILABLE,
    NONE,
    UNKNOWN_TOPIC_ID,
    UNKNOWN_TOPIC_OR_PARTITION,
)
from tailrace.core.protocol.apis import METADATA
from tailrace.core.protocol.messages.metadata import NO_OPERATIONS, MetadataRequest, MetadataRequestTopic
from tailrace.core.protocol.schema import NO_ID
from tailrace.workers.gateway.auto_creation import CREATION_TIMEOUT_MS
from tailrace.workers.gateway.handlers.metadata import handle
from tailrace.workers.gateway.leaders import LEADERS_TIMEOUT_MS
from tests.unit.workers.gateway.fakes import NODE_ID, FakeGateway, FakeRequest

UNKNOWN_ID = b"u" * 16


def _start(
    gateway: FakeGateway, topics: list[Any] | None, *, version: int = 13, auto: bool = True, **more: bool
) -> FakeRequest:
    asked = None
    if topics is not None:
        asked = [
            MetadataRequestTopic(name=topic)
            if isinstance(topic, str)
            else MetadataRequestTopic(topic or NO_ID, None)
            for topic in topics
        ]
    return gateway.ask(handle, METADATA, version, MetadataRequest(asked, auto, **more))


def _ask(gateway: FakeGateway, topics: list[Any] | None, **more: Any) -> Any:
    return _start(gateway, topics, **more).answer


def _codes(answer: Any) -> dict[str | None, int]:
    return {topic.name: topic.error_code for topic in answer.topics}


@pytest.mark.parametrize("version", range(14))
def test_every_version_tells_all_topics_and_makes_none(version: int) -> None:
    gateway = FakeGateway(broker_rack="here")
    topic_id = gateway.create("one", 2)
    gateway.create("two")
    answer = _ask(gateway, None if version else [], version=version)
    assert _codes(answer) == {"one": NONE, "two": NONE}
    (broker,) = answer.brokers
    assert (broker.node_id, broker.host, broker.port) == (NODE_ID, "127.0.0.1", 9092)
    assert broker.rack == ("here" if version >= 1 else None)
    assert answer.controller_id == (NODE_ID if version >= 1 else -1)
    assert answer.cluster_id == ("a-cluster" if version >= 2 else None)
    first = answer.topics[0]
    assert first.topic_id == (topic_id if version >= 10 else NO_ID)
    assert [(part.partition_index, part.leader_id) for part in first.partitions] == [
        (0, NODE_ID),
        (1, NODE_ID),
    ]
    assert gateway.peer.sent == []


@pytest.mark.parametrize("version", range(1, 14))
def test_an_empty_list_asks_for_no_topic(version: int) -> None:
    gateway = FakeGateway()
    gateway.create("one")
    assert _ask(gateway, [], version=version).topics == []


def test_a_partition_without_leader() -> None:
    gateway = FakeGateway()
    gateway.create("one", 3)
    gateway.leaderless = {1: LEADER_NOT_AVAILABLE, 2: KAFKA_STORAGE_ERROR}
    answer = _ask(gateway, ["one"])
    assert _codes(answer) == {"one": NONE}
    assert [
        (part.error_code, part.leader_id, part.isr_nodes, part.offline_replicas)
        for part in answer.topics[0].partitions
    ] == [
        (NONE, NODE_ID, [NODE_ID], []),
        (LEADER_NOT_AVAILABLE, -1, [NODE_ID], []),
        (LEADER_NOT_AVAILABLE, -1, [], [NODE_ID]),
    ]


def test_topics_by_id() -> None:
    gateway = FakeGateway()
    topic_id = gateway.create("one")
    answer = _ask(gateway, [topic_id, UNKNOWN_ID, topic_id, "two"])
    assert _codes(answer) == {None: UNKNOWN_TOPIC_ID, "one": NONE}
    assert {topic.topic_id for topic in answer.topics} == {UNKNOWN_ID, topic_id}
    assert gateway.peer.sent == []


def test_ids_and_nulls_before_their_time_are_refused() -> None:
    gateway = FakeGateway()
    topic_id = gateway.create("one")
    for version, topics in ((10, [topic_id]), (11, [topic_id]), (11, [None]), (13, ["one", None])):
        answer = _ask(gateway, topics, version=version)
        assert [topic.error_code for topic in answer.topics] == [INVALID_REQUEST] * len(topics)
        assert answer.error_code == (INVALID_REQUEST if version == 13 else NONE)


def test_operations_are_told_when_asked_for() -> None:
    gateway = FakeGateway()
    gateway.create("one")
    plain = _ask(gateway, ["one"], version=10)
    assert plain.cluster_authorized_operations == NO_OPERATIONS
    assert plain.topics[0].topic_authorized_operations == NO_OPERATIONS
    both = _ask(
        gateway,
        ["one", "no"],
        version=10,
        auto=False,
        include_cluster_authorized_operations=True,
        include_topic_authorized_operations=True,
    )
    assert both.cluster_authorized_operations == 8096
    assert [topic.topic_authorized_operations for topic in both.topics] == [3576, 3576]


# Topics that are made.


def test_an_absent_topic_is_made_and_told() -> None:
    gateway = FakeGateway()
    gateway.create("old")
    assert _codes(_ask(gateway, ["new", "old", "new"])) == {"new": NONE, "old": NONE}
    (creation,) = gateway.peer.sent
    assert creation.automatic
    assert [(topic.name, topic.num_partitions) for topic in creation.topics] == [("new", -1)]


@pytest.mark.parametrize("version", [0, 3])
def test_old_versions_always_allow_it(version: int) -> None:
    assert _codes(_ask(FakeGateway(), ["new"], version=version)) == {"new": NONE}


def test_nothing_is_made_unless_both_sides_want_it() -> None:
    unwilling = FakeGateway(auto_create_topics_enable="false")
    assert _codes(_ask(unwilling, ["new"])) == {"new": UNKNOWN_TOPIC_OR_PARTITION}
    assert _codes(_ask(FakeGateway(), ["new"], auto=False)) == {"new": UNKNOWN_TOPIC_OR_PARTITION}


def test_names_that_are_never_made() -> None:
    gateway = FakeGateway()
    assert _codes(_ask(gateway, ["", "a b", ".", "x" * 250, "__consumer_offsets"])) == {
        "": INVALID_TOPIC_EXCEPTION,
        "a b": INVALID_TOPIC_EXCEPTION,
        ".": INVALID_TOPIC_EXCEPTION,
        "x" * 250: INVALID_TOPIC_EXCEPTION,
        "__consumer_offsets": UNKNOWN_TOPIC_OR_PARTITION,
    }
    assert gateway.peer.sent == []


def test_what_the_controller_refuses_to_make() -> None:
    gateway = FakeGateway()
    gateway.create("a.b")
    assert _codes(_ask(gateway, ["a_b", "__cluster_metadata", "fine"])) == {
        "a_b": INVALID_TOPIC_EXCEPTION,
        "__cluster_metadata": UNKNOWN_TOPIC_OR_PARTITION,
        "fine": NONE,
    }


def test_all_who_ask_meanwhile_wait_for_one_creation() -> None:
    gateway = FakeGateway()
    gateway.peer.is_prompt = False
    first, second = _start(gateway, ["x", "y"]), _start(gateway, ["y", "z"])
    assert [[topic.name for topic in message.topics] for message in gateway.peer.sent] == [["x", "y"], ["z"]]
    gateway.peer.answer(gateway.peer.sent[0])
    assert len(first.answers) == 1
    assert second.answers == []
    gateway.peer.answer(gateway.peer.sent[1])
    assert _codes(second.answer) == {"y": NONE, "z": NONE}


def test_the_answer_waits_for_leaders() -> None:
    gateway = FakeGateway()
    gateway.has_leaders = False
    request = _start(gateway, ["new"])
    gateway.advance(LEADERS_TIMEOUT_MS // 2)
    assert request.answers == []
    gateway.has_leaders = True
    gateway.advance(50)
    assert request.answer.topics[0].partitions[0].leader_id == NODE_ID


def test_the_answer_does_not_wait_for_ever() -> None:
    gateway = FakeGateway()
    gateway.has_leaders = False
    request = _start(gateway, ["new"])
    request.connection.is_open = False  # its address was taken when it came
    gateway.advance(LEADERS_TIMEOUT_MS + 10)
    assert request.answer.topics[0].partitions[0].error_code == LEADER_NOT_AVAILABLE
    gateway.peer.incarnation = 0
    alone = _start(gateway, ["newer"])
    gateway.advance(CREATION_TIMEOUT_MS)
    assert _codes(alone.answer) == {"newer": UNKNOWN_TOPIC_OR_PARTITION}
    assert gateway.timers.next_deadline_ms() is None
