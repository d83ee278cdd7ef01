"""Unmodified clients and topics with three replicas: written with acks=all, read from the closest replica,
while brokers are stopped, started and restarted one after the other.
"""

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import confluent_kafka
import pytest

from tailrace.core.config_keys import RACK_AWARE_SELECTOR
from tailrace.core.protocol.apis import FETCH
from tailrace.core.protocol.messages.fetch import FetchRequest, FetchRequestPartition, FetchRequestTopic
from tests.compat.clients.aio import Aiokafka
from tests.compat.clients.client import Client, check_travel
from tests.compat.clients.confluent import Confluent
from tests.compat.clients.kafka_python import KafkaPython
from tests.support.raw_client import RawClient
from tests.support.three_brokers import IDS, Host, running
from tests.support.waiting import wait_until

CLIENTS: list[Client] = [Confluent(), KafkaPython(), Aiokafka()]
NO_RECORDS = "none"  # records, as RawClient shows them
RACKS = {1: "east", 2: "west", 3: "north"}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Each broker in a rack of its own; each test leaves all brokers running."""
    racks = {f"broker_{broker}_broker_rack": rack for broker, rack in RACKS.items()}
    settings = {"min_insync_replicas": "2", "replica_selector_class": RACK_AWARE_SELECTOR, **racks}
    with running(tmp_path_factory.mktemp("host"), **settings) as started:
        yield started


def make(host: Host, topic: str, partitions: int = 3) -> None:
    """A topic with three replicas, all in sync."""
    host.create(topic, partitions, 3)
    wait_until(lambda: host.is_whole(topic), "all replicas to be in sync")


@pytest.mark.parametrize("client", CLIENTS, ids=[client.name for client in CLIENTS])
def test_what_every_replica_has_is_read_through_any_broker(host: Host, client: Client) -> None:
    topic = f"replicated-{client.name}"
    make(host, topic)
    check_travel(client, topic, len(IDS), host.addresses[1], host.addresses[3])


# -- the closest replica


def produce(host: Host, topic: str, values: range) -> None:
    """Numbers, to partition 0, by acks=all."""
    failed: list[Any] = []

    def on_delivery(error: Any, _message: Any) -> None:
        if error is not None:
            failed.append(error)

    producer = confluent_kafka.Producer({"bootstrap.servers": host.bootstrap, "acks": "all"})
    for value in values:
        producer.produce(topic, str(value).encode(), partition=0, on_delivery=on_delivery)
    assert producer.flush(30) == 0
    assert not failed


def fetch(host: Host, broker: int, topic: str, rack: str) -> dict[str, Any]:
    """The partition in the answer of one broker to a client in that rack."""
    wanted = FetchRequestPartition(0, partition_max_bytes=1 << 20)
    asked = FetchRequest(
        max_wait_ms=0, max_bytes=1 << 20, topics=[FetchRequestTopic(topic, partitions=[wanted])], rack_id=rack
    )
    with RawClient(host.addresses[broker]) as client:
        answer = client.ask(FETCH, 12, asked)
    assert isinstance(answer, dict)
    found: dict[str, Any] = answer["responses"][0]["partitions"][0]
    return found


def test_a_leader_sends_away_who_has_a_closer_replica_and_that_one_serves(host: Host) -> None:
    make(host, "racks", 1)
    produce(host, "racks", range(10))
    leader = host.leaders(1, "racks")[0]
    for broker, rack in RACKS.items():
        told = fetch(host, leader, "racks", rack)
        assert told["error_code"] == 0
        assert told["preferred_read_replica"] == (-1 if broker == leader else broker)
        assert (told["records"] != NO_RECORDS) == (broker == leader)
        wait_until(partial(has_records, host, broker, "racks"), "the follower's records")


def has_records(host: Host, broker: int, topic: str) -> bool:
    """Whether this broker's replica is read."""
    return bool(fetch(host, broker, topic, "")["records"] != NO_RECORDS)


def test_a_consumer_reads_all_from_the_broker_in_its_rack(host: Host) -> None:
    """As librdkafka's own statistics tell, while more is written."""
    make(host, "near", 1)
    produce(host, "near", range(100))
    leader = host.leaders(1, "near")[0]
    near = next(broker for broker in IDS if broker != leader)
    asked: set[int] = set()

    def on_stats(text: str) -> None:
        partition = json.loads(text)["topics"].get("near", {}).get("partitions", {}).get("0", {})
        asked.add(partition.get("broker", -1))

    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": host.bootstrap, "group.id": "near", "auto.offset.reset": "earliest",
            "client.rack": RACKS[near], "statistics.interval.ms": 50, "stats_cb": on_stats,
        }
    )  # fmt: skip
    consumer.assign([confluent_kafka.TopicPartition("near", 0, 0)])
    seen: list[int] = []

    def take(count: int) -> None:
        give_up = time.monotonic() + 60
        while len(seen) < count or near not in asked:
            assert time.monotonic() < give_up, (len(seen), asked)
            message = consumer.poll(0.1)
            if message is not None:
                assert message.error() is None
                seen.append(int(message.value() or b""))

    try:
        take(100)
        produce(host, "near", range(100, 200))
        take(200)
    finally:
        consumer.close()
    assert seen == list(range(200))


# -- brokers go and come


def test_a_broker_that_stops_hands_over_what_it_leads_and_catches_up_when_it_is_back(host: Host) -> None:
    make(host, "handed", 3)
    assert set(host.leaders(1, "handed").values()) == set(IDS)
    produce(host, "handed", range(50))
    host.broker("stop", "2")
    assert set(host.leaders(1, "handed").values()) == {1, 3}
    assert all(isr == [1, 3] for isr in host.isrs(1, "handed").values())
    produce(host, "handed", range(50, 100))
    host.broker("start", "2")
    wait_until(lambda: host.is_whole("handed"), "broker 2 to be in sync")
    host.broker("stop", "1")
    produce(host, "handed", range(100, 150))
    host.broker("start", "1")
    wait_until(lambda: host.is_whole("handed"), "broker 1 to be in sync")
    assert values_of(host, "handed", 0, 150) == list(range(150))


def values_of(host: Host, topic: str, partition: int, count: int) -> list[int]:
    """The numbers that a partition holds."""
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": host.bootstrap, "group.id": "-", "enable.auto.commit": False}
    )
    consumer.assign([confluent_kafka.TopicPartition(topic, partition, 0)])
    found: list[int] = []
    give_up = time.monotonic() + 60
    try:
        while len(found) < count and time.monotonic() < give_up:
            for message in consumer.consume(1000, 0.2):
                if message.error() is None:
                    found.append(int(message.value() or b""))
    finally:
        consumer.close()
    return found


class Load:
    """Numbers written to each partition, by an idempotent producer with acks=all, until it is stopped."""

    def __init__(self, host: Host, topic: str, partitions: int) -> None:
        self._producer = confluent_kafka.Producer(
            {"bootstrap.servers": host.bootstrap, "enable.idempotence": True, "linger.ms": 5}
        )
        self._topic, self._partitions = topic, partitions
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.written = 0  # to each partition
        self.failed: list[Any] = []
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.wait(0.002):
            for partition in range(self._partitions):
                value = str(self.written).encode()
                self._producer.produce(self._topic, value, partition=partition, on_delivery=self._on_delivery)
            self.written += 1
            self._producer.poll(0)

    def _on_delivery(self, error: Any, _message: Any) -> None:
        if error is not None:
            self.failed.append(error)

    def stop(self) -> None:
        """All is delivered."""
        self._stopping.set()
        self._thread.join()
        assert self._producer.flush(60) == 0


class Reader:
    """A member of a group that reads a topic until it has seen as much as was written."""

    def __init__(self, host: Host, topic: str, partitions: int) -> None:
        self.seen: list[set[int]] = [set() for _ in range(partitions)]
        self.failed: list[Any] = []
        self._consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": host.bootstrap, "group.id": "readers", "auto.offset.reset": "earliest",
                "auto.commit.interval.ms": 100,
            }
        )  # fmt: skip
        self._consumer.subscribe([topic])
        self._wanted = -1  # of each partition; -1: nobody knows yet
        self._give_up_s = 0.0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _is_done(self) -> bool:
        if self._wanted < 0:
            return False
        return all(len(each) >= self._wanted for each in self.seen) or time.monotonic() > self._give_up_s

    def _run(self) -> None:
        while not self._is_done():
            for message in self._consumer.consume(1000, 0.1):
                error = message.error()
                if error is None:
                    self.seen[message.partition() or 0].add(int(message.value() or b""))
                elif not error.retriable():
                    self.failed.append(error)
        self._consumer.close()

    def finish(self, wanted: int) -> None:
        """Read to the end."""
        self._give_up_s = time.monotonic() + 60
        self._wanted = wanted
        self._thread.join()


def test_a_rolling_restart_is_hardly_noticed(host: Host) -> None:
    """No client hears of an error, nothing is lost, doubled or out of order; other processes serve then."""
    make(host, "rolling", 3)
    before = {broker: host.pids(broker, "gateway") for broker in IDS}
    reader, load = Reader(host, "rolling", 3), Load(host, "rolling", 3)
    try:
        done: subprocess.CompletedProcess[str] = host.command("restart", "--rolling")
    finally:
        load.stop()
        reader.finish(load.written)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"broker {each} is back, all replicas are in sync" for each in IDS]
    assert not load.failed
    assert not reader.failed
    assert reader.seen == [set(range(load.written))] * 3
    assert load.written > 100
    assert all(host.pids(broker, "gateway") != before[broker] for broker in IDS)
    assert host.is_whole("rolling")
    assert host.is_whole("__consumer_offsets")
    for partition in range(3):
        assert values_of(host, "rolling", partition, load.written) == list(range(load.written))
