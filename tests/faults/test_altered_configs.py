"""Configs and partitions that are altered while a broker runs, with real processes: obeyed without a restart,
and after every death.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perf.peers.tailrace import Tailrace
from tailrace.clients.connection import Connection, UnreachableError
from tailrace.core.errors import INVALID_TIMESTAMP, MESSAGE_TOO_LARGE, NONE
from tailrace.core.protocol.apis import CREATE_PARTITIONS, CREATE_TOPICS, PRODUCE
from tailrace.core.protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsRequestTopic,
)
from tailrace.core.protocol.messages.create_topics import CreateTopicsRequest
from tailrace.core.protocol.messages.produce import (
    ProduceRequest,
    ProduceRequestPartition,
    ProduceRequestTopic,
    ProduceResponse,
    ProduceResponsePartition,
)
from tailrace.core.records.batch import parse_header
from tailrace.core.records.record import NewRecord, build_batch
from tests.faults.test_restarts import kill
from tests.support.admin_cases import Asker, new
from tests.support.config_cases import BROKER, DELETE, TOPIC, alter, changed, descriptions, of
from tests.support.waiting import wait_until

NAME = "altered"
LOG_DIR = f"{NAME}-0"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Tailrace]:
    """One of our own, with a topic."""
    started = Tailrace(tmp_path)
    started.start()
    try:
        created = Asker(started.bootstrap).ask(
            ("topic", CREATE_TOPICS, 7, CreateTopicsRequest([new(NAME)], 10_000))
        )
        assert created["topics"][0]["error_code"] == NONE
        yield started
    finally:
        started.stop()


def set_config(broker: Tailrace, kind: int, name: str, key: str, value: str | None) -> None:
    """Alter one config, or with None take it back."""
    change = changed(key, value, 0 if value is not None else DELETE)
    answer = Asker(broker.bootstrap).ask(alter("set", of(kind, name, change)))
    assert answer["responses"][0]["error_code"] == NONE, answer


def produced(
    broker: Tailrace, size: int = 10, partition: int = 0, timestamp: int = -1
) -> ProduceResponsePartition:
    """What became of one batch, sent once."""
    batch = build_batch([NewRecord(value=bytes(size), timestamp=timestamp)])
    part = ProduceRequestPartition(partition, memoryview(batch))
    request = ProduceRequest(None, -1, 5000, [ProduceRequestTopic(NAME, b"", [part])])
    with Connection(broker.bootstrap) as connection:
        connection.send(PRODUCE, request, version=12)
        return connection.receive(ProduceResponse).responses[0].partition_responses[0]


def segments(broker: Tailrace) -> list[str]:
    """The .log files of partition 0."""
    return sorted(path.name for path in (broker.data / LOG_DIR).glob("*.log"))


def wait_for_code(broker: Tailrace, code: int, size: int) -> None:
    """Wait until a batch of that size is answered so; meanwhile nobody may answer."""

    def is_answered() -> bool:
        try:
            return produced(broker, size).error_code == code
        except UnreachableError:
            return False

    wait_until(is_answered, f"error {code}")


def test_a_topics_configs_are_obeyed_while_it_is_written_to(broker: Tailrace) -> None:
    assert produced(broker, 5000).error_code == NONE
    set_config(broker, TOPIC, NAME, "max.message.bytes", "1000")
    wait_for_code(broker, MESSAGE_TOO_LARGE, 5000)
    assert produced(broker, 100).error_code == NONE
    set_config(broker, TOPIC, NAME, "max.message.bytes", None)
    wait_for_code(broker, NONE, 5000)
    set_config(broker, TOPIC, NAME, "message.timestamp.type", "LogAppendTime")
    wait_until(lambda: produced(broker).log_append_time_ms > 0, "the broker's time")
    set_config(broker, TOPIC, NAME, "message.timestamp.type", "CreateTime")
    set_config(broker, TOPIC, NAME, "message.timestamp.before.max.ms", "1000")
    wait_until(lambda: produced(broker, timestamp=5).error_code == INVALID_TIMESTAMP, "old records refused")
    set_config(broker, TOPIC, NAME, "segment.bytes", str(1 << 20))
    assert len(segments(broker)) == 1
    now = produced(broker).base_offset
    while len(segments(broker)) == 1:
        answer = produced(broker, 100_000)
        assert answer.error_code == NONE
        assert answer.base_offset < now + 12, "1 MiB is full"


def last_codec(broker: Tailrace) -> int:
    """Of one more batch, as it is stored."""
    answer = produced(broker, 1000)
    assert answer.error_code == NONE
    with (broker.data / LOG_DIR / segments(broker)[-1]).open("rb") as file:
        data = file.read(1 << 20)
    header = parse_header(data)
    while header.base_offset != answer.base_offset:
        data = data[header.size :]
        header = parse_header(data)
    return header.codec


def test_batches_are_stored_in_the_codec_that_holds_now(broker: Tailrace) -> None:
    assert last_codec(broker) == 0
    set_config(broker, BROKER, "", "compression.type", "zstd")
    wait_until(lambda: last_codec(broker) == 4, "zstd, as the cluster has it")
    set_config(broker, BROKER, "0", "compression.type", "lz4")
    wait_until(lambda: last_codec(broker) == 3, "lz4, as the broker has it")
    set_config(broker, TOPIC, NAME, "compression.type", "gzip")
    wait_until(lambda: last_codec(broker) == 1, "gzip, as the topic has it")
    set_config(broker, TOPIC, NAME, "compression.gzip.level", "1")
    set_config(broker, TOPIC, NAME, "segment.jitter.ms", "5")
    set_config(broker, TOPIC, NAME, "preallocate", "true")
    set_config(broker, TOPIC, NAME, "compression.type", "producer")
    wait_until(lambda: last_codec(broker) == 0, "as it is sent")


def test_a_brokers_configs_are_obeyed_and_yield_to_the_topics_own(broker: Tailrace) -> None:
    set_config(broker, BROKER, "", "message.max.bytes", "1000")
    wait_for_code(broker, MESSAGE_TOO_LARGE, 5000)
    set_config(broker, BROKER, "0", "message.max.bytes", "6000")
    wait_for_code(broker, NONE, 5000)
    assert produced(broker, 7000).error_code == MESSAGE_TOO_LARGE
    set_config(broker, TOPIC, NAME, "max.message.bytes", "8000")
    wait_for_code(broker, NONE, 7000)


@pytest.mark.parametrize("role", ["worker", "gateway", "controller"])
def test_what_was_altered_outlives_a_process(broker: Tailrace, role: str) -> None:
    set_config(broker, TOPIC, NAME, "max.message.bytes", "1000")
    set_config(broker, BROKER, "", "message.max.bytes", "900000")
    wait_for_code(broker, MESSAGE_TOO_LARGE, 5000)
    kill(broker, role)
    wait_for_code(broker, MESSAGE_TOO_LARGE, 5000)
    wait_for_code(broker, NONE, 100)
    set_config(broker, TOPIC, NAME, "max.message.bytes", None)
    wait_for_code(broker, NONE, 5000)


def test_what_was_altered_outlives_the_broker(broker: Tailrace) -> None:
    set_config(broker, TOPIC, NAME, "max.message.bytes", "1000")
    set_config(broker, BROKER, "0", "max.connections", "777")
    told = _told(broker)
    broker.stop()
    broker.start()
    wait_for_code(broker, MESSAGE_TOO_LARGE, 5000)
    assert _told(broker) == told


def _told(broker: Tailrace) -> list[object]:
    ask: Callable[[tuple[str, int, int, object]], object] = Asker(broker.bootstrap).ask
    return [ask(case) for case in descriptions(0)]


def test_new_partitions_are_served_when_the_client_hears_of_them(broker: Tailrace) -> None:
    for count in (2, 5, 9):
        request = CreatePartitionsRequest([CreatePartitionsRequestTopic(NAME, count)], 10_000)
        (result,) = Asker(broker.bootstrap).ask(("more", CREATE_PARTITIONS, 3, request))["results"]
        assert result["error_code"] == NONE
        for partition in range(count):
            answer = produced(broker, partition=partition)
            assert answer.error_code == NONE
    broker.stop()
    broker.start()
    wait_until(lambda: produced(broker, partition=8).base_offset >= 1, "the last partition")
