"""More partitions, and configs told and altered, between the wire, the image and the controller."""

from typing import Any

import pytest

from tailrace.core.errors import (
    INVALID_CONFIG,
    INVALID_PARTITIONS,
    INVALID_REQUEST,
    KAFKA_STORAGE_ERROR,
    NONE,
    REQUEST_TIMED_OUT,
    UNKNOWN_TOPIC_OR_PARTITION,
)
from tailrace.core.metadata.records import ConfigRecord
from tailrace.core.protocol.apis import (
    ALTER_CONFIGS,
    CREATE_PARTITIONS,
    DESCRIBE_CONFIGS,
    INCREMENTAL_ALTER_CONFIGS,
)
from tailrace.core.protocol.messages.alter_configs import (
    AlterConfigsRequest,
    AlterConfigsRequestConfig,
    AlterConfigsRequestResource,
)
from tailrace.core.protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsRequestTopic,
)
from tailrace.core.protocol.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsRequestResource,
)
from tailrace.core.protocol.messages.incremental_alter_configs import (
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsRequestConfig,
    IncrementalAlterConfigsRequestResource,
)
from tailrace.workers.gateway.broker_configs import broker_configs
from tailrace.workers.gateway.handlers import (
    alter_configs,
    create_partitions,
    describe_configs,
    incremental_alter_configs,
)
from tests.unit.workers.gateway.fakes import NODE_ID, FakeGateway, FakeRequest

TOPIC, BROKER, LOGGER, METRICS, GROUP = 2, 4, 8, 16, 32


def _grow(gateway: FakeGateway, *topics: tuple[str, int], only: bool = False, ms: int = 1000) -> FakeRequest:
    asked = [CreatePartitionsRequestTopic(name, count) for name, count in topics]
    message = CreatePartitionsRequest(asked, ms, only)
    return gateway.ask(create_partitions.handle, CREATE_PARTITIONS, 3, message)


def _alter(
    gateway: FakeGateway, kind: int, name: str, only: bool = False, how: int = 0, **configs: str | None
) -> FakeRequest:
    changes = [
        IncrementalAlterConfigsRequestConfig(key.replace("_", "."), how, value)
        for key, value in configs.items()
    ]
    resource = IncrementalAlterConfigsRequestResource(kind, name, changes)
    message = IncrementalAlterConfigsRequest([resource], only)
    return gateway.ask(incremental_alter_configs.handle, INCREMENTAL_ALTER_CONFIGS, 1, message)


def _described(gateway: FakeGateway, kind: int, name: str, *keys: str, version: int = 4) -> Any:
    resource = DescribeConfigsRequestResource(kind, name, list(keys) or None)
    message = DescribeConfigsRequest([resource], True, version >= 3)
    answer = gateway.ask(describe_configs.handle, DESCRIBE_CONFIGS, version, message).answer
    (result,) = answer.results
    assert (result.resource_type, result.resource_name) == (kind, name)
    return result


def test_the_answer_waits_until_new_partitions_are_led() -> None:
    gateway = FakeGateway()
    gateway.create("t")
    gateway.has_leaders = False
    patient = _grow(gateway, ("t", 3))
    checked = _grow(gateway, ("t", 9), only=True)
    assert checked.answer.results[0].error_code == NONE
    gateway.advance(20)
    assert patient.answers == []
    gateway.has_leaders = True
    gateway.advance(10)
    assert patient.answer.results[0].error_code == NONE
    assert len(gateway.image.topics_by_name["t"].partitions) == 3
    assert gateway.timers.next_deadline_ms() is None


def test_a_new_partition_that_failed_is_not_waited_for() -> None:
    gateway = FakeGateway()
    gateway.create("t")
    gateway.leaderless = {1: KAFKA_STORAGE_ERROR}
    assert _grow(gateway, ("t", 3)).answer.results[0].error_code == NONE


def test_each_name_is_answered_once() -> None:
    gateway = FakeGateway()
    gateway.create("t")
    gateway.create("u")
    results = _grow(gateway, ("t", 3), ("u", 1), ("t", 4), ("absent", 2)).answer.results
    assert [(result.name, result.error_code) for result in results] == [
        ("t", INVALID_REQUEST),
        ("u", INVALID_PARTITIONS),
        ("absent", UNKNOWN_TOPIC_OR_PARTITION),
    ]


def test_no_controller_in_time() -> None:
    gateway = FakeGateway()
    gateway.create("t")
    gateway.peer.incarnation = 0
    more = _grow(gateway, ("t", 3), ms=100)
    altered = _alter(gateway, TOPIC, "t", segment_ms="5")
    gateway.advance(100)
    assert more.answer.results[0].error_code == REQUEST_TIMED_OUT
    assert altered.answers == []
    gateway.advance(alter_configs.TIMEOUT_MS)
    (response,) = altered.answer.responses
    assert (response.error_code, response.resource_name) == (REQUEST_TIMED_OUT, "t")


@pytest.mark.parametrize("version", range(2))
def test_every_version_alters(version: int) -> None:
    gateway = FakeGateway()
    gateway.create("t")
    changes = [IncrementalAlterConfigsRequestConfig("segment.ms", 0, "5")]
    resources = [
        IncrementalAlterConfigsRequestResource(TOPIC, "t", changes),
        IncrementalAlterConfigsRequestResource(TOPIC, "absent", changes),
    ]
    message = IncrementalAlterConfigsRequest(resources, False)
    key = INCREMENTAL_ALTER_CONFIGS
    answer = gateway.ask(incremental_alter_configs.handle, key, version, message).answer
    assert [(response.resource_name, response.error_code) for response in answer.responses] == [
        ("t", NONE),
        ("absent", UNKNOWN_TOPIC_OR_PARTITION),
    ]
    assert gateway.image.topic_configs("t") == {"segment.ms": "5"}


@pytest.mark.parametrize("version", range(3))
def test_every_version_replaces(version: int) -> None:
    gateway = FakeGateway()
    gateway.create("t")
    _alter(gateway, TOPIC, "t", segment_ms="5")
    resource = AlterConfigsRequestResource(TOPIC, "t", [AlterConfigsRequestConfig("flush.ms", "6")])
    for only in (True, False):
        message = AlterConfigsRequest([resource], only)
        answer = gateway.ask(alter_configs.handle, ALTER_CONFIGS, version, message).answer
        assert answer.responses[0].error_code == NONE
        assert gateway.image.topic_configs("t") == ({"segment.ms": "5"} if only else {"flush.ms": "6"})


def test_what_is_stored_without_effect_is_named_in_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    gateway = FakeGateway()
    gateway.create("t")
    _alter(gateway, TOPIC, "t", only=True, cleanup_policy="compact")
    _alter(gateway, TOPIC, "t", segment_ms="5")
    _alter(gateway, TOPIC, "t", file_delete_delay_ms="5")
    assert capfd.readouterr().err == ""
    _alter(gateway, TOPIC, "t", how=2, cleanup_policy="compact")
    said = "tailrace: warning: topic t: no effect yet: cleanup.policy=delete,compact (LIMITS.md)\n"
    assert capfd.readouterr().err == said
    _alter(gateway, TOPIC, "t", segment_ms="6")
    _alter(gateway, TOPIC, "t", how=1, cleanup_policy=None)
    assert capfd.readouterr().err == "", "only of what is asked for now"


def test_a_refusal_comes_with_its_sentence() -> None:
    gateway = FakeGateway()
    gateway.create("t")
    (response,) = _alter(gateway, TOPIC, "t", segment_ms="x").answer.responses
    assert response.error_code == INVALID_CONFIG
    assert response.error_message == (
        "Invalid value x for configuration segment.ms: Not a number of type LONG"
    )


@pytest.mark.parametrize("version", range(1, 5))
def test_every_version_describes(version: int) -> None:
    gateway = FakeGateway()
    gateway.create("t")
    _alter(gateway, TOPIC, "t", segment_ms="5")
    result = _described(gateway, TOPIC, "t", "segment.ms", "no.such", version=version)
    (config,) = result.configs
    assert (config.name, config.value, config.config_source) == ("segment.ms", "5", 1)
    assert config.config_type == (5 if version >= 3 else 0)
    assert bool(config.documentation) == (version >= 3)


def test_the_broker_is_described_as_it_is_now() -> None:
    gateway = FakeGateway(log_segment_bytes="2000000")
    assert _described(gateway, BROKER, "").configs == []
    _alter(gateway, BROKER, "", log_segment_bytes="3000000", max_connections="5")
    assert {config.name for config in _described(gateway, BROKER, "").configs} == {
        "log.segment.bytes",
        "max.connections",
    }
    (config,) = _described(gateway, BROKER, str(NODE_ID), "log.segment.bytes").configs
    assert (config.value, [synonym.source for synonym in config.synonyms]) == ("3000000", [3, 4, 5])
    effective = broker_configs(gateway).effective  # type: ignore[arg-type]
    assert effective.max_connections == 5


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (BROKER, "x"),
        (BROKER, "7"),
        (LOGGER, ""),
        (LOGGER, "7"),
        (METRICS, ""),
        (GROUP, ""),
        (0, "x"),
        (99, ""),
    ],
)
def test_what_cannot_be_described(kind: int, name: str) -> None:
    result = _described(FakeGateway(), kind, name)
    assert (result.error_code, result.configs) == (INVALID_REQUEST, [])
    assert result.error_message


def test_there_are_no_loggers_and_no_metrics_of_clients() -> None:
    for kind, name in ((LOGGER, str(NODE_ID)), (METRICS, "m")):
        result = _described(FakeGateway(), kind, name)
        assert (result.error_code, result.configs) == (NONE, [])


def test_groups_have_the_brokers_values_until_they_have_their_own() -> None:
    gateway = FakeGateway()
    key = "consumer.session.timeout.ms"
    (config,) = _described(gateway, GROUP, "g", key).configs
    assert (config.value, config.config_source) == ("45000", 5)
    gateway.commit([ConfigRecord(resource_type=GROUP, name="g", key=key, value="50000")])
    (config,) = _described(gateway, GROUP, "g", key).configs
    assert (config.value, config.config_source) == ("50000", 8)
    assert [synonym.name for synonym in config.synonyms] == [key, f"group.{key}"]
