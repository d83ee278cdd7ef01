"""Consumers that ask where an epoch ended (OffsetForLeaderEpoch) go on behind a dead leader."""

import os
import signal
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from perf import wire
from perf.peers.tailrace import Tailrace
from tailrace.workers.status import read_status
from tests.support.waiting import wait_until

TOPIC = "epochs"
ROUNDS, RECORDS = 4, 500

confluent_kafka: Any = import_module("confluent_kafka")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Tailrace]:
    """One of our own: its worker dies."""
    started = Tailrace(tmp_path)
    started.start()
    try:
        with wire.Connection(wire.address(started.bootstrap)) as connection:
            wire.create_topic(connection, TOPIC)
        yield started
    finally:
        started.stop()


def worker(broker: Tailrace) -> int:
    """The process that leads, 0 while there is none."""
    status = read_status(str(broker.data))
    assert status is not None
    return next((process.pid for process in status.processes if process.role == "worker"), 0)


def kill_worker(broker: Tailrace) -> None:
    """Kill it, and wait for its successor."""
    old = worker(broker)
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: worker(broker) not in (0, old), "a new worker")


def test_a_consumer_that_validates_its_position_goes_on_after_each_death(broker: Tailrace) -> None:
    settings: dict[str, Any] = {
        "bootstrap.servers": broker.bootstrap,
        "topic.metadata.refresh.interval.ms": 100,
    }
    producer = confluent_kafka.Producer(settings)
    consumer = confluent_kafka.Consumer(settings | {"group.id": "unused", "auto.offset.reset": "error"})
    consumer.assign([confluent_kafka.TopicPartition(TOPIC, 0, 0)])
    seen: list[int] = []

    def has_seen(count: int) -> bool:
        for message in consumer.consume(100, 0.05):
            assert message.error() is None or message.error().retriable(), message.error()
            if message.error() is None:
                seen.append(message.offset())
        return len(seen) == count

    try:
        for number in range(1, ROUNDS + 1):
            for _ in range(RECORDS):
                producer.produce(TOPIC, value=b"v" * 100, partition=0)
            assert producer.flush(30) == 0
            wait_until(partial(has_seen, number * RECORDS), "all records")
            kill_worker(broker)
    finally:
        consumer.close()
    assert seen == list(range(ROUNDS * RECORDS))
