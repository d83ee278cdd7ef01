"""Elections, moves and brokers that are given up, between the wire and the controller."""

from typing import Any

import pytest

from tailrace.core.errors import (
    BROKER_ID_NOT_REGISTERED,
    ELECTION_NOT_NEEDED,
    INVALID_REPLICA_ASSIGNMENT,
    INVALID_REPLICATION_FACTOR,
    INVALID_REQUEST,
    NO_REASSIGNMENT_IN_PROGRESS,
    NONE,
    REQUEST_TIMED_OUT,
    UNKNOWN_TOPIC_OR_PARTITION,
)
from tailrace.core.metadata.records import BrokerChange, BrokerRegistered, PartitionChange
from tailrace.core.metadata.requests import NewTopic
from tailrace.core.metadata.topics import create_topics
from tailrace.core.protocol.apis import (
    ALTER_PARTITION_REASSIGNMENTS,
    ELECT_LEADERS,
    LIST_PARTITION_REASSIGNMENTS,
    UNREGISTER_BROKER,
)
from tailrace.core.protocol.messages.elect_leaders import PREFERRED, UNCLEAN
from tailrace.core.protocol.messages.unregister_broker import UnregisterBrokerRequest
from tailrace.workers.gateway.handlers import (
    alter_partition_reassignments,
    elect_leaders,
    list_partition_reassignments,
    unregister_broker,
)
from tests.support.replica_messages import TIMEOUT_MS, Moves, Partitions, election, listing, reassignment
from tests.unit.workers.gateway.fakes import DEFAULTS, FakeGateway


@pytest.fixture
def gateway() -> FakeGateway:
    """Of a host with brokers 1 to 3; "a" has two partitions, "b" one, all on 1 and 2."""
    made = FakeGateway()
    made.commit([BrokerRegistered(broker_id=broker, broker_epoch=broker) for broker in (2, 3)])
    for name, count in (("a", 2), ("b", 1)):
        topic = NewTopic(name=name, assignments=[(index, [1, 2]) for index in range(count)])
        made.commit(create_topics(made.image, [topic], DEFAULTS, made.peer.new_topic_id).records)
    return made


def lead(gateway: FakeGateway, name: str, partition: int, leader: int) -> None:
    """Another leads it now; -1: nobody."""
    topic_id = gateway.image.topics_by_name[name].topic_id
    gateway.commit([PartitionChange(topic_id=topic_id, partition=partition, leader=leader, leader_epoch=7)])


def elect(gateway: FakeGateway, asked: Partitions | None, kind: int = PREFERRED, version: int = 2) -> Any:
    return gateway.ask(elect_leaders.handle, ELECT_LEADERS, version, election(asked, kind))


def told(answer: Any) -> dict[str, dict[int, int]]:
    """The code of each election."""
    return {
        topic.topic: {one.partition_id: one.error_code for one in topic.partition_result}
        for topic in answer.replica_election_results
    }


def move(gateway: FakeGateway, asked: Moves, *, version: int = 1, may_change: bool = True) -> Any:
    message = reassignment(asked, may_change=may_change)
    handle = alter_partition_reassignments.handle
    return gateway.ask(handle, ALTER_PARTITION_REASSIGNMENTS, version, message)


def moved(answer: Any) -> dict[str, dict[int, int]]:
    """The code of each move."""
    return {
        topic.name: {one.partition_index: one.error_code for one in topic.partitions}
        for topic in answer.responses
    }


def listed(gateway: FakeGateway, asked: Partitions | None) -> dict[str, dict[int, list[list[int]]]]:
    handle = list_partition_reassignments.handle
    answer = gateway.ask(handle, LIST_PARTITION_REASSIGNMENTS, 0, listing(asked)).answer
    assert answer.error_code == NONE
    return {
        topic.name: {
            one.partition_index: [one.replicas, one.adding_replicas, one.removing_replicas]
            for one in topic.partitions
        }
        for topic in answer.topics
    }


@pytest.mark.parametrize("version", range(3))
def test_preferred_leaders_are_elected(gateway: FakeGateway, version: int) -> None:
    lead(gateway, "a", 1, 2)
    answer = elect(gateway, {"a": [0, 1], "none": [4], "b": []}, version=version).answer
    codes = {"a": {0: ELECTION_NOT_NEEDED, 1: NONE}, "none": {4: UNKNOWN_TOPIC_OR_PARTITION}, "b": {}}
    assert told(answer) == codes
    assert answer.error_code == NONE
    assert [each.leader for each in gateway.image.topics_by_name["a"].partitions] == [1, 1]


def test_of_all_only_those_that_need_one_are_told(gateway: FakeGateway) -> None:
    lead(gateway, "a", 1, 2)
    lead(gateway, "b", 0, 2)
    assert told(elect(gateway, None).answer) == {"a": {1: NONE}, "b": {0: NONE}}
    assert told(elect(gateway, None).answer) == {"a": {}, "b": {}}


def test_an_unclean_election_takes_who_lives(gateway: FakeGateway) -> None:
    topic_id = gateway.image.topics_by_name["b"].topic_id
    gateway.commit([PartitionChange(topic_id=topic_id, partition=0, leader=-1, leader_epoch=3, isr=(1,))])
    gateway.commit([BrokerChange(broker_id=1, broker_epoch=0, fenced=True)])
    assert told(elect(gateway, {"b": [0]}, UNCLEAN).answer) == {"b": {0: NONE}}
    assert gateway.image.topics_by_name["b"].partitions[0].leader == 2


def test_an_election_of_no_kind_is_refused_as_a_whole(gateway: FakeGateway) -> None:
    answer = elect(gateway, {"a": [0]}, 7).answer
    assert answer.error_code == INVALID_REQUEST
    assert told(answer) == {"a": {0: INVALID_REQUEST}}


def test_an_election_that_nobody_decides_times_out(gateway: FakeGateway) -> None:
    gateway.peer.is_prompt = False
    request = elect(gateway, {"a": [0]})
    gateway.advance(TIMEOUT_MS - 1)
    assert not request.answers
    gateway.advance(1)
    assert request.answer.error_code == REQUEST_TIMED_OUT
    assert told(request.answer) == {"a": {0: REQUEST_TIMED_OUT}}


@pytest.mark.parametrize("version", range(2))
def test_replicas_are_moved_and_listed_and_taken_back(gateway: FakeGateway, version: int) -> None:
    asked: Moves = {"a": {1: [3, 2], 0: [9]}, "b": {0: None}}
    answer = move(gateway, asked, version=version).answer
    assert answer.error_code == NONE
    assert moved(answer) == {
        "a": {1: NONE, 0: INVALID_REPLICA_ASSIGNMENT},
        "b": {0: NO_REASSIGNMENT_IN_PROGRESS},
    }
    under_way = {"a": {1: [[3, 2, 1], [3], [1]]}}
    assert listed(gateway, None) == under_way
    assert listed(gateway, {"a": [0, 1, 2], "b": [0], "none": [0]}) == under_way
    assert listed(gateway, {"b": [0]}) == {}
    assert moved(move(gateway, {"a": {1: None}}).answer) == {"a": {1: NONE}}
    assert listed(gateway, None) == {}


def test_how_many_replicas_there_are_changes_only_where_it_may(gateway: FakeGateway) -> None:
    asked: Moves = {"b": {0: [1, 2, 3]}}
    answer = move(gateway, asked, may_change=False).answer
    assert answer.allow_replication_factor_change is False
    assert moved(answer) == {"b": {0: INVALID_REPLICATION_FACTOR}}
    assert moved(move(gateway, asked, version=0).answer) == {"b": {0: NONE}}


def test_moves_that_nobody_decides_time_out(gateway: FakeGateway) -> None:
    gateway.peer.is_prompt = False
    request = move(gateway, {"a": {1: [3, 2]}})
    gateway.advance(TIMEOUT_MS)
    assert (request.answer.error_code, request.answer.responses) == (REQUEST_TIMED_OUT, [])


def test_a_broker_is_given_up(gateway: FakeGateway) -> None:
    def unregister(broker: int) -> Any:
        message = UnregisterBrokerRequest(broker)
        return gateway.ask(unregister_broker.handle, UNREGISTER_BROKER, 0, message)

    answer = unregister(3).answer
    assert (answer.error_code, answer.error_message) == (NONE, "")
    assert 3 not in gateway.image.brokers
    answer = unregister(3).answer
    assert answer.error_code == BROKER_ID_NOT_REGISTERED
    assert answer.error_message == "Broker ID 3 is not currently registered"
    gateway.peer.is_prompt = False
    late = unregister(2)
    gateway.advance(30_000)
    assert late.answer.error_code == REQUEST_TIMED_OUT
