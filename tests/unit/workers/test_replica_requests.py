"""Elections, moves and brokers that are given up, as the controller takes them: when they are answered, and
what.
"""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from tailrace.core import errors
from tailrace.core.errors import KafkaError
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.leadership import LeaderRules
from tailrace.core.metadata.records import BrokerRegistered, PartitionChange, Record
from tailrace.core.metadata.requests import NewTopic, Reassignment
from tailrace.core.metadata.topics import TopicDefaults, create_topics
from tailrace.workers.control import ElectLeaders, PartitionResults, Reassign, UnregisterBroker
from tailrace.workers.replica_requests import ReplicaRequest, ReplicaRequests

DEFAULTS = TopicDefaults(num_partitions=1, replication_factor=1, partitions_free=100)
TOPIC_ID = b"t" * 16


class Changes:
    """Leaders that resign when they are told to."""

    def __init__(self) -> None:
        self.image = MetadataImage()
        self.refusal: KafkaError | None = None
        self.resign: Callable[[], None] | None = None  # what was decided waits until it is called
        self.is_slow = False
        self.stage([BrokerRegistered(broker_id=broker, broker_epoch=0) for broker in (1, 2, 3)])
        topic = NewTopic(name="t", assignments=[(0, [1, 2])])
        self.stage(create_topics(self.image, [topic], DEFAULTS, lambda: TOPIC_ID).records)

    def rules(self) -> LeaderRules:
        return LeaderRules()

    def stage(self, records: Sequence[Record]) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.image.replay(records, self.image.metadata_offset + len(records))

    def replace(self, decide: Any, done: Any) -> None:
        def end() -> None:
            result = None
            try:
                records, result = decide(self.image)
                self.stage(records)
            except KafkaError as error:
                done(result, error)
            else:
                done(result, None)

        self.resign = end
        if not self.is_slow:
            end()

    def lead(self, broker: int) -> None:
        """By other means."""
        epoch = self.image.topics_by_name["t"].partitions[0].leader_epoch + 1
        self.stage([PartitionChange(topic_id=TOPIC_ID, partition=0, leader=broker, leader_epoch=epoch)])

    @property
    def leader(self) -> int:
        return self.image.topics_by_name["t"].partitions[0].leader


@pytest.fixture
def changes() -> Changes:
    return Changes()


def asked(changes: Changes, request: ReplicaRequest, rows_free: int = 10) -> list[PartitionResults]:
    """What the gateway is told, perhaps later."""
    answers: list[PartitionResults] = []
    assignments: Any = SimpleNamespace(seats=SimpleNamespace(rows_free=rows_free))
    requests = ReplicaRequests(changes, assignments)  # type: ignore[arg-type]
    requests.take(request, answers.append)
    return answers


def elect(kind: int = 0) -> ElectLeaders:
    return ElectLeaders(request_id=5, election_type=kind, partitions=[("t", 0), ("absent", 0)])


def move(*replicas: int) -> Reassign:
    moves = [Reassignment(topic="t", partition=0, replicas=replicas)]
    return Reassign(request_id=6, moves=moves, replication_factor_may_change=True)


def test_an_election_is_answered_when_the_old_leader_has_resigned(changes: Changes) -> None:
    changes.lead(2)
    changes.is_slow = True
    answers = asked(changes, elect())
    assert not answers
    assert changes.leader == 2
    assert changes.resign is not None
    changes.resign()
    (answer,) = answers
    assert changes.leader == 1
    assert (answer.request_id, answer.metadata_offset) == (5, changes.image.metadata_offset)
    codes = [result.error_code for result in answer.results]
    assert codes == [errors.NONE, errors.UNKNOWN_TOPIC_OR_PARTITION]


def test_what_is_answered_is_what_was_decided_last(changes: Changes) -> None:
    changes.lead(2)
    changes.is_slow = True
    answers = asked(changes, elect())
    changes.lead(1)
    assert changes.resign is not None
    changes.resign()
    assert answers[0].results[0].error_code == errors.ELECTION_NOT_NEEDED


def test_an_election_of_no_kind_is_refused(changes: Changes) -> None:
    (answer,) = asked(changes, elect(9))
    assert (answer.error_code, answer.results) == (errors.INVALID_REQUEST, [])
    assert answer.error_message == "Unknown election type 9"


def test_a_move_begins(changes: Changes) -> None:
    (answer,) = asked(changes, move(1, 3))
    assert [result.error_code for result in answer.results] == [errors.NONE]
    partition = changes.image.topics_by_name["t"].partitions[0]
    assert (partition.adding, partition.removing) == ((3,), (2,))


def test_a_move_needs_room_for_its_replicas(changes: Changes) -> None:
    (answer,) = asked(changes, move(1, 2, 3), rows_free=0)
    assert [result.error_code for result in answer.results] == [errors.POLICY_VIOLATION]
    assert not changes.image.topics_by_name["t"].partitions[0].is_reassigned


def test_a_disk_that_takes_nothing_refuses_the_whole(changes: Changes) -> None:
    changes.refusal = KafkaError(errors.KAFKA_STORAGE_ERROR, "full")
    for request in (move(1, 3), UnregisterBroker(request_id=7, broker_id=3)):
        (answer,) = asked(changes, request)
        assert (answer.error_code, answer.error_message) == (errors.KAFKA_STORAGE_ERROR, "full")
        assert not answer.results
    assert 3 in changes.image.brokers


def test_a_broker_is_given_up_once(changes: Changes) -> None:
    request = UnregisterBroker(request_id=7, broker_id=3)
    (answer,) = asked(changes, request)
    assert (answer.error_code, answer.error_message) == (errors.NONE, None)
    assert 3 not in changes.image.brokers
    (answer,) = asked(changes, request)
    assert answer.error_code == errors.BROKER_ID_NOT_REGISTERED
