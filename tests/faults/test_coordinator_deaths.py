"""The worker that coordinates groups is killed while members join, sync and commit: no committed offset is
lost or goes back, and the members go on by themselves.
"""

import os
import signal
import threading
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from perf.peers.tailrace import Tailrace
from tailrace.workers.data_dir import read_info
from tailrace.workers.status import read_status
from tests.support.waiting import wait_until

confluent_kafka: Any = import_module("confluent_kafka")

TOPIC, GROUP = "work", "workers"
PARTITIONS, RECORDS, KILLS = 4, 400, 4


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Tailrace]:
    """One of our own."""
    started = Tailrace(tmp_path, {"num.partitions": str(PARTITIONS)})
    started.start()
    try:
        yield started
    finally:
        started.stop()


def coordinator_pid(broker: Tailrace) -> int:
    """The worker that leads the partitions of __consumer_offsets; 0: there is none now."""
    status = read_status(str(broker.data))
    for process in status.processes if status else ():
        if len(process.partitions) > 1:  # only internal topics share a worker here
            return process.pid
    return 0


def kill_coordinator(broker: Tailrace) -> None:
    """Kill it, and wait for its successor."""
    wait_until(lambda: coordinator_pid(broker), "a coordinator")
    old = coordinator_pid(broker)
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: coordinator_pid(broker) not in (0, old), "a new coordinator")


class Member(threading.Thread):
    """Consumes and commits synchronously; keeps the highest offset that was acknowledged."""

    def __init__(self, bootstrap: str, acknowledged: dict[int, int], lock: threading.Lock) -> None:
        super().__init__()
        self.consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": GROUP,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "session.timeout.ms": 6000,
                "heartbeat.interval.ms": 300,
            }
        )
        self.acknowledged, self.lock = acknowledged, lock
        self.stopping = threading.Event()

    def run(self) -> None:
        """Until told to stop."""
        self.consumer.subscribe([TOPIC])
        while not self.stopping.is_set():
            message = self.consumer.poll(0.1)
            if message is None or message.error():
                continue
            try:
                committed = self.consumer.commit(message, asynchronous=False)
            except confluent_kafka.KafkaException:
                continue  # not acknowledged: a rebalance, or a coordinator that is gone
            with self.lock:
                for part in committed or ():
                    if part.error is None:
                        self.acknowledged[part.partition] = max(
                            part.offset, self.acknowledged.get(part.partition, 0)
                        )
        self.consumer.close()


def committed(bootstrap: str) -> dict[int, int]:
    """What the coordinator has."""
    asking = confluent_kafka.Consumer({"bootstrap.servers": bootstrap, "group.id": GROUP})
    try:
        found = asking.committed(
            [confluent_kafka.TopicPartition(TOPIC, index) for index in range(PARTITIONS)], timeout=20
        )
        return {part.partition: part.offset for part in found}
    finally:
        asking.close()


def test_no_committed_offset_is_lost_and_members_go_on(broker: Tailrace) -> None:
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.bootstrap})
    for number in range(RECORDS):
        producer.produce(TOPIC, str(number).encode(), partition=number % PARTITIONS)
    assert producer.flush(30) == 0
    acknowledged: dict[int, int] = {}
    lock = threading.Lock()
    members = [Member(broker.bootstrap, acknowledged, lock) for _ in range(2)]
    for member in members:
        member.start()
    try:
        for kill in range(KILLS):
            enough = RECORDS * (kill + 1) // (KILLS + 2)
            wait_until(lambda enough=enough: sum(acknowledged.values()) >= enough, f"{enough} commits")
            kill_coordinator(broker)
            with lock:
                before = dict(acknowledged)
            stored = committed(broker.bootstrap)
            assert all(stored[partition] >= offset for partition, offset in before.items()), (before, stored)
        wait_until(lambda: sum(acknowledged.values()) == RECORDS, "the rest of the commits", 60)
    finally:
        for member in members:
            member.stopping.set()
        for member in members:
            member.join(30)
    assert not any(member.is_alive() for member in members)
    assert committed(broker.bootstrap) == dict.fromkeys(range(PARTITIONS), RECORDS // PARTITIONS)
    assert read_info(str(broker.data)) is not None
