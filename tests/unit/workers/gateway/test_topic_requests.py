"""CreateTopics and DeleteTopics between the wire and the controller."""

import fcntl
import os
from typing import Any

import pytest

from tailrace.core.config_entries import DEFAULT_SOURCE, STATIC_SOURCE, TOPIC_SOURCE
from tailrace.core.errors import (
    INVALID_REQUEST,
    KAFKA_STORAGE_ERROR,
    NONE,
    REQUEST_TIMED_OUT,
    TOPIC_ALREADY_EXISTS,
    TOPIC_DELETION_DISABLED,
    UNKNOWN_TOPIC_ID,
    UNKNOWN_TOPIC_OR_PARTITION,
)
from tailrace.core.metadata.requests import TopicResult
from tailrace.core.protocol.apis import CREATE_TOPICS, DELETE_TOPICS
from tailrace.core.protocol.messages.create_topics import (
    CreateTopicsRequest,
    CreateTopicsRequestConfig,
    CreateTopicsRequestTopic,
)
from tailrace.core.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsRequestTopic
from tailrace.core.protocol.schema import NO_ID
from tailrace.workers.control import TopicResults
from tailrace.workers.gateway.handlers import create_topics, delete_topics
from tests.unit.workers.gateway.fakes import FakeGateway, FakeRequest

UNKNOWN_ID = b"u" * 16


def _create(
    gateway: FakeGateway, *topics: CreateTopicsRequestTopic, version: int = 7, only: bool = False
) -> FakeRequest:
    message = CreateTopicsRequest(list(topics), 1000, only)
    return gateway.ask(create_topics.handle, CREATE_TOPICS, version, message)


def _topic(name: str, partitions: int = 1, **configs: str) -> CreateTopicsRequestTopic:
    given = [CreateTopicsRequestConfig(key.replace("_", "."), value) for key, value in configs.items()]
    return CreateTopicsRequestTopic(name, partitions, 1, [], given)


@pytest.mark.parametrize("version", range(2, 8))
def test_every_version_creates(version: int) -> None:
    gateway = FakeGateway()
    (made,) = _create(gateway, _topic("one", 3), version=version).answer.topics
    image = gateway.image.topics_by_name["one"]
    assert len(image.partitions) == 3
    assert (made.name, made.error_code) == ("one", NONE)
    assert (made.num_partitions, made.replication_factor) == ((3, 1) if version >= 5 else (-1, -1))
    assert made.topic_id == (image.topic_id if version >= 7 else NO_ID)
    assert bool(made.configs) == (version >= 5)


def test_configs_and_where_they_come_from() -> None:
    gateway = FakeGateway(log_retention_hours="2", log_cleanup_policy="compact")
    (made,) = _create(gateway, _topic("one", retention_bytes="77", preallocate="TRUE")).answer.topics
    told = {config.name: (config.value, config.config_source) for config in made.configs}
    assert list(told) == sorted(told)
    assert told["retention.bytes"] == ("77", TOPIC_SOURCE)
    assert told["preallocate"] == ("TRUE", TOPIC_SOURCE)
    assert told["retention.ms"] == ("7200000", STATIC_SOURCE)
    assert told["cleanup.policy"] == ("compact", STATIC_SOURCE)
    assert told["min.cleanable.dirty.ratio"] == ("0.5", DEFAULT_SOURCE)
    assert told["unclean.leader.election.enable"] == ("false", DEFAULT_SOURCE)
    assert "internal.segment.bytes" not in told


def test_configs_without_effect_are_named_in_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    gateway = FakeGateway()
    # As Kafka Streams and Connect make theirs; only what asks for more than happens is worth a word.
    asked = _topic(
        "t", cleanup_policy="compact", retention_ms="-1", segment_bytes="1048576", preallocate="true"
    )
    assert _create(gateway, asked, only=True).answer.topics[0].error_code == NONE
    assert capfd.readouterr().err == ""
    assert _create(gateway, asked).answer.topics[0].error_code == NONE
    said = "tailrace: warning: topic t: no effect yet: cleanup.policy=compact (LIMITS.md)\n"
    assert capfd.readouterr().err == said
    _create(gateway, asked)
    assert capfd.readouterr().err == "", "it was there already"
    assert gateway.image.topic_configs("t")["cleanup.policy"] == "compact"


class Log:
    """A log whose reader lags, or is gone."""

    def __init__(self, write_fd: int, error: Exception) -> None:
        self._write_fd = write_fd
        self._error = error

    def fileno(self) -> int:
        return self._write_fd

    def write(self, _: str) -> None:
        raise self._error


def test_a_log_that_nobody_reads_delays_no_client(monkeypatch: pytest.MonkeyPatch) -> None:
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    fcntl.fcntl(write_fd, fcntl.F_SETPIPE_SZ, 4096)
    os.write(write_fd, bytes(4096))
    with monkeypatch.context() as patched:
        patched.setattr("sys.stderr", Log(write_fd, AssertionError("it would have waited")))
        (made,) = _create(FakeGateway(), _topic("t", cleanup_policy="compact")).answer.topics
        assert made.error_code == NONE
    os.close(read_fd)
    with monkeypatch.context() as patched:
        patched.setattr("sys.stderr", Log(write_fd, BrokenPipeError()))
        (made,) = _create(FakeGateway(), _topic("t", cleanup_policy="compact")).answer.topics
        assert made.error_code == NONE
    os.close(write_fd)


def test_refusals_come_with_their_sentence() -> None:
    gateway = FakeGateway()
    gateway.create("old")
    answer = _create(gateway, _topic("old"), _topic("twice"), _topic("new"), _topic("twice")).answer
    assert {topic.name: topic.error_code for topic in answer.topics} == {
        "old": TOPIC_ALREADY_EXISTS,
        "twice": INVALID_REQUEST,
        "new": NONE,
    }
    old = answer.topics[0]
    assert (old.error_message, old.topic_id) == ("Topic 'old' already exists.", NO_ID)
    assert (old.num_partitions, old.configs) == (-1, [])


def test_a_check_makes_nothing() -> None:
    gateway = FakeGateway()
    (checked,) = _create(gateway, _topic("one", 3), only=True).answer.topics
    assert (checked.error_code, checked.num_partitions) == (NONE, 3)
    assert gateway.image.topics_by_name == {}


def test_the_answer_waits_for_leaders_within_the_clients_time() -> None:
    gateway = FakeGateway()
    gateway.has_leaders = False
    patient = _create(gateway, _topic("one", 3))
    hasty = gateway.ask(
        create_topics.handle, CREATE_TOPICS, 7, CreateTopicsRequest([_topic("two")], timeout_ms=20)
    )
    gateway.advance(30)
    assert hasty.answer.topics[0].error_code == NONE
    assert patient.answers == []
    gateway.has_leaders = True
    gateway.advance(10)
    assert patient.answer.topics[0].error_code == NONE
    assert gateway.timers.next_deadline_ms() is None


def test_a_partition_that_failed_is_not_waited_for() -> None:
    gateway = FakeGateway()
    gateway.leaderless = {0: KAFKA_STORAGE_ERROR}
    assert _create(gateway, _topic("one", 3)).answer.topics[0].error_code == NONE


def test_no_controller_in_time() -> None:
    gateway = FakeGateway()
    gateway.create("old")
    gateway.peer.incarnation = 0
    creation = _create(gateway, _topic("a"), _topic("b"))
    deletion = _delete(gateway, DeleteTopicsRequestTopic("old"))
    gateway.advance(1000)
    assert [topic.error_code for topic in creation.answer.topics] == [REQUEST_TIMED_OUT] * 2
    assert [topic.error_code for topic in deletion.answer.responses] == [REQUEST_TIMED_OUT]


def _delete(
    gateway: FakeGateway, *topics: DeleteTopicsRequestTopic, names: tuple[str, ...] = (), version: int = 6
) -> FakeRequest:
    message = DeleteTopicsRequest(list(topics), list(names), 1000)
    return gateway.ask(delete_topics.handle, DELETE_TOPICS, version, message)


def _codes(request: FakeRequest) -> list[tuple[Any, int]]:
    return [(topic.name, topic.error_code) for topic in request.answer.responses]


@pytest.mark.parametrize("version", range(1, 6))
def test_older_versions_delete_by_name(version: int) -> None:
    gateway = FakeGateway()
    gateway.create("one")
    request = _delete(gateway, names=("one", "absent"), version=version)
    assert _codes(request) == [("one", NONE), ("absent", UNKNOWN_TOPIC_OR_PARTITION)]
    assert gateway.image.topics_by_name == {}
    assert (request.answer.responses[1].error_message is None) == (version < 5)


def test_by_name_and_by_id() -> None:
    gateway = FakeGateway()
    gateway.create("one")
    topic_id = gateway.create("two")
    request = _delete(
        gateway,
        DeleteTopicsRequestTopic("one"),
        DeleteTopicsRequestTopic(None, topic_id),
        DeleteTopicsRequestTopic(None, UNKNOWN_ID),
        DeleteTopicsRequestTopic(None, NO_ID),
    )
    assert _codes(request) == [
        ("one", NONE),
        ("two", NONE),
        (None, UNKNOWN_TOPIC_ID),
        (None, INVALID_REQUEST),
    ]
    assert request.answer.responses[1].topic_id == topic_id


def test_what_is_named_twice_is_refused_once() -> None:
    gateway = FakeGateway()
    gateway.create("one")
    assert _codes(_delete(gateway, names=("one", "one"), version=5)) == [("one", INVALID_REQUEST)]


@pytest.mark.parametrize(
    ("version", "code"), [(2, INVALID_REQUEST), (3, TOPIC_DELETION_DISABLED), (6, TOPIC_DELETION_DISABLED)]
)
def test_deletion_disabled_as_each_version_can_say_it(version: int, code: int) -> None:
    gateway = FakeGateway()
    gateway.peer.is_prompt = False
    if version < 6:
        request = _delete(gateway, names=("a",), version=version)
    else:
        request = _delete(gateway, DeleteTopicsRequestTopic("a"))
    refusal = TopicResult(name="a", error_code=TOPIC_DELETION_DISABLED)
    gateway.controller.on_message(
        TopicResults(request_id=gateway.peer.sent[0].request_id, metadata_offset=0, results=[refusal])
    )
    assert _codes(request) == [("a", code)]
