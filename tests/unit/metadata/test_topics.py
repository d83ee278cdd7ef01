"""CreateTopics and DeleteTopics decisions: Kafka's codes and sentences, values only."""

import pytest

from tailrace.core import errors
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.records import BrokerRegistered, ConfigRecord, PartitionRecord, TopicRecord
from tailrace.core.metadata.requests import NewTopic, TopicResult, TopicToDelete
from tailrace.core.metadata.topics import (
    Decision,
    TopicDefaults,
    check_topic_name,
    create_topics,
    delete_topics,
)

DEFAULTS = TopicDefaults(num_partitions=3, replication_factor=1, partitions_free=100)


class Ids:
    """Topic ids 1, 2, 3..."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> bytes:
        self.count += 1
        return self.count.to_bytes(16, "big")


def one_broker(*names: str) -> MetadataImage:
    """An image of broker 0 with these topics, made with their ids from 1 on."""
    image = MetadataImage()
    image.replay([BrokerRegistered(broker_id=0, broker_epoch=0)], 1)
    decision = create_topics(image, [NewTopic(name=name) for name in names], DEFAULTS, Ids())
    image.replay(decision.records, 1 + len(decision.records))
    return image


def create(image: MetadataImage, *topics: NewTopic, defaults: TopicDefaults = DEFAULTS) -> Decision:
    ids = Ids()
    ids.count = 1000
    return create_topics(image, topics, defaults, ids)


def refused(image: MetadataImage, topic: NewTopic) -> tuple[int, str | None]:
    decision = create(image, topic)
    assert not decision.records
    return decision.results[0].error_code, decision.results[0].error_message


def test_a_topic_gets_the_defaults_it_did_not_ask_otherwise() -> None:
    decision = create(one_broker(), NewTopic(name="a", configs=[("retention.ms", "5")]))
    (result,) = decision.results
    assert (result.error_code, result.num_partitions, result.replication_factor) == (0, 3, 1)
    assert decision.records[0] == TopicRecord(name="a", topic_id=result.topic_id)
    assert decision.records[1] == ConfigRecord(resource_type=2, name="a", key="retention.ms", value="5")
    partitions = [record for record in decision.records if isinstance(record, PartitionRecord)]
    assert [record.partition for record in partitions] == [0, 1, 2]
    assert {(record.leader, record.isr, record.leader_epoch) for record in partitions} == {(0, (0,), 0)}


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "x" * 249])
def test_legal_names_pass(name: str) -> None:
    check_topic_name(name)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("", "Topic name is invalid: the empty string is not allowed"),
        (".", "Topic name is invalid: '.' is not allowed"),
        ("..", "Topic name is invalid: '..' is not allowed"),
        (
            "x" * 250,
            f"Topic name is invalid: the length of '{'x' * 250}' is longer than the max allowed length 249",
        ),
        (
            "a b",
            "Topic name is invalid: 'a b' contains one or more characters other than "
            "ASCII alphanumerics, '.', '_' and '-'",
        ),
        (
            "ä",
            "Topic name is invalid: 'ä' contains one or more characters other than "
            "ASCII alphanumerics, '.', '_' and '-'",
        ),
    ],
)
def test_illegal_names_are_refused_in_kafkas_words(name: str, sentence: str) -> None:
    assert refused(one_broker(), NewTopic(name=name)) == (errors.INVALID_TOPIC_EXCEPTION, sentence)


@pytest.mark.parametrize(
    ("topic", "code"),
    [
        (NewTopic(name="there"), errors.TOPIC_ALREADY_EXISTS),
        (NewTopic(name="__cluster_metadata"), errors.INVALID_REQUEST),
        (NewTopic(name="a_b"), errors.INVALID_TOPIC_EXCEPTION),
        (NewTopic(name="n", num_partitions=0), errors.INVALID_PARTITIONS),
        (NewTopic(name="n", num_partitions=-2), errors.INVALID_PARTITIONS),
        (NewTopic(name="n", num_partitions=2**31 - 1), errors.POLICY_VIOLATION),
        (NewTopic(name="n", replication_factor=0), errors.INVALID_REPLICATION_FACTOR),
        (NewTopic(name="n", replication_factor=2), errors.INVALID_REPLICATION_FACTOR),
        (NewTopic(name="n", num_partitions=1, assignments=[(0, [0])]), errors.INVALID_REQUEST),
        (NewTopic(name="n", replication_factor=1, assignments=[(0, [0])]), errors.INVALID_REQUEST),
        (NewTopic(name="n", assignments=[(0, [])]), errors.INVALID_REPLICA_ASSIGNMENT),
        (NewTopic(name="n", assignments=[(0, [7])]), errors.INVALID_REPLICA_ASSIGNMENT),
        (NewTopic(name="n", assignments=[(0, [0, 0])]), errors.INVALID_REPLICA_ASSIGNMENT),
        (NewTopic(name="n", assignments=[(1, [0])]), errors.INVALID_REPLICA_ASSIGNMENT),
        (NewTopic(name="n", assignments=[(0, [0]), (0, [0])]), errors.INVALID_REPLICA_ASSIGNMENT),
        (NewTopic(name="n", configs=[("no.such", "1")]), errors.INVALID_CONFIG),
        (NewTopic(name="n", configs=[("retention.ms", "x")]), errors.INVALID_CONFIG),
        (NewTopic(name="n", configs=[("retention.ms", None)]), errors.INVALID_CONFIG),
    ],
)
def test_what_kafka_refuses_is_refused_with_its_code(topic: NewTopic, code: int) -> None:
    assert refused(one_broker("there", "a.b"), topic)[0] == code


def test_one_refused_topic_does_not_hinder_the_others() -> None:
    decision = create(one_broker("there"), NewTopic(name="there"), NewTopic(name="new", num_partitions=1))
    assert [result.error_code for result in decision.results] == [errors.TOPIC_ALREADY_EXISTS, 0]
    assert len(decision.records) == 2


def test_a_name_asked_twice_is_refused_both_times() -> None:
    decision = create(one_broker(), NewTopic(name="a"), NewTopic(name="a"))
    assert {(result.error_code, result.error_message) for result in decision.results} == {
        (errors.INVALID_REQUEST, "Duplicate topic name.")
    }


def test_names_that_collide_within_one_request_are_refused() -> None:
    decision = create(one_broker(), NewTopic(name="a.b"), NewTopic(name="a_b"))
    assert [result.error_code for result in decision.results] == [0, errors.INVALID_TOPIC_EXCEPTION]


def test_a_request_cannot_take_more_rows_than_are_free() -> None:
    few = TopicDefaults(num_partitions=3, replication_factor=1, partitions_free=4)
    decision = create(one_broker(), NewTopic(name="a"), NewTopic(name="b"), defaults=few)
    assert [result.error_code for result in decision.results] == [0, errors.POLICY_VIOLATION]


def test_topics_are_deleted_by_name_and_by_id() -> None:
    image = one_broker("a", "b", "c")
    ids = {name: topic.topic_id for name, topic in image.topics_by_name.items()}
    decision = delete_topics(image, [TopicToDelete(name="a"), TopicToDelete(topic_id=ids["b"])], DEFAULTS)
    assert decision.results == [
        TopicResult(name="a", topic_id=ids["a"]),
        TopicResult(name="b", topic_id=ids["b"]),
    ]
    image.replay(decision.records, 100)
    assert list(image.topics_by_name) == ["c"]
    assert image.partition_count == 3


def test_deletions_that_kafka_refuses() -> None:
    image = one_broker("a")
    topic_id = image.topics_by_name["a"].topic_id
    asked = [
        TopicToDelete(name="x"),
        TopicToDelete(topic_id=bytes(15) + b"\xff"),
        TopicToDelete(name="a", topic_id=topic_id),
        TopicToDelete(),
        TopicToDelete(name="a"),
        TopicToDelete(topic_id=topic_id),
    ]
    decision = delete_topics(image, asked, DEFAULTS)
    assert [result.error_code for result in decision.results] == [
        errors.UNKNOWN_TOPIC_OR_PARTITION,
        errors.UNKNOWN_TOPIC_ID,
        errors.INVALID_REQUEST,
        errors.INVALID_REQUEST,
        errors.INVALID_REQUEST,
        errors.INVALID_REQUEST,
    ]


def test_a_topic_named_and_identified_is_not_deleted() -> None:
    image = one_broker("a", "b")
    topic_id = image.topics_by_name["a"].topic_id
    asked = [TopicToDelete(name="a"), TopicToDelete(name="b"), TopicToDelete(topic_id=topic_id)]
    decision = delete_topics(image, asked, DEFAULTS)
    assert [(result.name, result.error_code) for result in decision.results] == [
        ("a", errors.INVALID_REQUEST),
        ("b", 0),
        ("a", errors.INVALID_REQUEST),
    ]
    assert len(decision.records) == 1


def test_deletion_can_be_disabled() -> None:
    off = TopicDefaults(num_partitions=1, replication_factor=1, partitions_free=1, delete_enabled=False)
    decision = delete_topics(one_broker("a"), [TopicToDelete(name="a")], off)
    assert decision.results[0].error_code == errors.TOPIC_DELETION_DISABLED
    assert not decision.records
