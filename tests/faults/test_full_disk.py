"""Disks that fill up and are freed again: nothing acknowledged is lost, nothing dies, all goes on."""

import os
import signal
import struct
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import confluent_kafka as ck
import confluent_kafka.admin
import pytest

from perf import wire
from perf.batches import batch_of_size
from perf.peers.tailrace import COMMAND, Tailrace
from perf.processes import tree
from tailrace.core.errors import KAFKA_STORAGE_ERROR, NONE, NOT_COORDINATOR
from tailrace.core.protocol.apis import FIND_COORDINATOR, OFFSET_COMMIT
from tailrace.core.protocol.messages.find_coordinator import FindCoordinatorRequest
from tailrace.core.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from tailrace.workers.status import read_status
from tests.support.raw_client import RawClient
from tests.support.small_disk import MEBIBYTE, SmallDisk, small_disk
from tests.support.waiting import wait_until

LIBRARY = cast("Any", confluent_kafka.admin)
TOPIC, OTHER, PROBE, PARTITIONS = "kept", "other", "probe", 3
PAYLOAD = 8192
SETTINGS = {
    "log.segment.bytes": str(2 * MEBIBYTE),
    "log.flush.offset.checkpoint.interval.ms": "50",
    "workers.max": "3",
}
BATCH = batch_of_size(64 * 1024, 1000).data
SMALL_BATCH = batch_of_size(100, 100).data


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Room for a broker, and little more."""
    with small_disk(tmp_path / "disk", 40 * MEBIBYTE) as made:
        yield made


@pytest.fixture
def broker(disk: SmallDisk) -> Iterator[Tailrace]:
    """Its log is on that disk as well."""
    started = Tailrace(disk.path / "broker", SETTINGS)
    started.start()
    try:
        with wire.Connection(wire.address(started.bootstrap)) as connection:
            wire.create_topic(connection, TOPIC, PARTITIONS)
            wire.create_topic(connection, OTHER)
            wire.create_topic(connection, PROBE)
        yield started
    finally:
        started.stop()


def pids(broker: Tailrace) -> set[int]:
    """Everybody's."""
    status = read_status(str(broker.data))
    assert status is not None
    return {process.pid for process in status.processes}


def produce(broker: Tailrace, topic: str, batch: bytes, index: int = 0) -> int:
    """The error code of one batch."""
    with wire.Connection(wire.address(broker.bootstrap)) as connection:
        answer = connection.ask(wire.produce_frame(topic, batch, -1, 0, index))
        code: int = struct.unpack_from(">h", answer, 4 + 1 + 1 + len(wire.compact(topic)) + 1 + 4)[0]
        return code


def number_in(message: ck.Message) -> int:
    """That a sender has put there."""
    assert message.error() is None, message.error()
    value = message.value()
    assert value is not None
    return int(bytes(value).rstrip(b"."))


class Sender:
    """An idempotent producer of numbers, which counts what is acknowledged."""

    def __init__(self, bootstrap: str) -> None:
        self.sent = 0
        self.acknowledged: Counter[int] = Counter()
        self.errors: list[str] = []
        self._producer = ck.Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "delivery.timeout.ms": 120_000,
                "linger.ms": 1,
                "queue.buffering.max.messages": 100_000,
            }
        )

    def send(self, count: int) -> None:
        """More numbers, over all partitions."""
        for number in range(self.sent, self.sent + count):
            value = str(number).encode().ljust(PAYLOAD, b".")
            self._producer.produce(TOPIC, value, partition=number % PARTITIONS, on_delivery=self._on_delivery)
            self._producer.poll(0)
        self.sent += count

    def _on_delivery(self, error: ck.KafkaError | None, message: ck.Message) -> None:
        if error is not None:
            self.errors.append(str(error))
            return
        self.acknowledged[number_in(message)] += 1

    def hears_all(self) -> bool:
        """Hear of more; whether everything is acknowledged."""
        self._producer.poll(0.01)
        return len(self.acknowledged) == self.sent

    def finish(self) -> None:
        """Everything is acknowledged, once."""
        wait_until(self.hears_all, "acknowledgements", 90.0)
        assert not self.errors
        assert set(self.acknowledged) == set(range(self.sent))
        assert set(self.acknowledged.values()) == {1}


class Reader:
    """A member of a group that reads and commits all along, in a thread of its own."""

    def __init__(self, bootstrap: str) -> None:
        self.read: Counter[int] = Counter()
        self.commits: Counter[str] = Counter()
        self._stop = threading.Event()
        self._consumer = ck.Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "readers",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
            }
        )
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Reader":
        self._consumer.subscribe([TOPIC])
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            for message in self._consumer.consume(100, timeout=0.05):
                self.read[number_in(message)] += 1
            if self.read:
                try:
                    self._consumer.commit(asynchronous=False)
                except ck.KafkaException as error:
                    name = cast("ck.KafkaError", error.args[0]).name()
                    self.commits[name] += name != "_NO_OFFSET"
                else:
                    self.commits["done"] += 1


def delete_a_topic(admin: Any, disk: SmallDisk, reader: Reader) -> None:
    """The other topic, with 12 MiB."""
    del disk, reader
    admin.delete_topics([OTHER])[OTHER].result()


def remove_files_of_others(admin: Any, disk: SmallDisk, reader: Reader) -> None:
    """More than 12 MiB."""
    del admin, reader
    disk.clear()


def delete_records(admin: Any, disk: SmallDisk, reader: Reader) -> None:
    """All that was read."""
    del disk
    ends = Counter(number % PARTITIONS for number in reader.read)
    places = [ck.TopicPartition(TOPIC, index, ends[index]) for index in range(PARTITIONS)]
    for future in admin.delete_records(places).values():
        future.result()


ROUNDS: list[Callable[[Any, SmallDisk, Reader], None]] = [
    delete_a_topic,
    remove_files_of_others,
    delete_records,
]


def test_three_rounds_of_a_full_disk(broker: Tailrace, disk: SmallDisk) -> None:
    before, sender = pids(broker), Sender(broker.bootstrap)
    admin = LIBRARY.AdminClient({"bootstrap.servers": broker.bootstrap})
    sender.send(100)
    sender.finish()
    for _ in range(12 * MEBIBYTE // len(BATCH)):
        assert produce(broker, OTHER, BATCH) == NONE
    with Reader(broker.bootstrap) as reader:
        wait_until(lambda: reader.commits["done"], "the group")
        for number, make_room in enumerate(ROUNDS):
            disk.fill(leave=3 * MEBIBYTE)
            sender.send(800)  # 6.4 MiB
            wait_until(lambda: produce(broker, PROBE, BATCH) == KAFKA_STORAGE_ERROR, "a refusal")
            assert not sender.hears_all()
            acknowledged = len(sender.acknowledged)
            wait_until(lambda: len(reader.read) >= acknowledged, "what was acknowledged to be read")  # noqa: B023
            assert disk.free() > 0, "the reserve"
            late = f"late-{number}"
            admin.create_topics([LIBRARY.NewTopic(late, 1, 1)])[late].result()
            assert produce(broker, late, SMALL_BATCH) != NONE
            make_room(admin, disk, reader)
            sender.finish()
            wait_until(lambda: len(reader.read) == sender.sent, "all to be read")
            wait_until(lambda: produce(broker, late, SMALL_BATCH) == NONE, "the late topic")  # noqa: B023
            done = reader.commits["done"]
            sender.send(30)
            sender.finish()
            wait_until(lambda: reader.commits["done"] > done, "a commit")  # noqa: B023
        wait_until(lambda: len(reader.read) == sender.sent, "all to be read")
    assert set(reader.read.values()) == {1}
    assert pids(broker) == before


def offset_commit(broker: Tailrace) -> int:
    """The error code of one commit, of a consumer without a group's assignment."""
    place = OffsetCommitRequestPartition(0, 1, -1, "x" * 1000)
    request = OffsetCommitRequest("alone", topics=[OffsetCommitRequestTopic(TOPIC, partitions=[place])])
    with RawClient(broker.bootstrap) as client:
        client.ask(FIND_COORDINATOR, 4, FindCoordinatorRequest(coordinator_keys=["alone"]))
        answer = client.ask(OFFSET_COMMIT, 8, request)
    assert isinstance(answer, dict)
    code: int = answer["topics"][0]["partitions"][0]["error_code"]
    return code


def test_groups_are_told_to_try_again(broker: Tailrace, disk: SmallDisk) -> None:
    """As by Kafka, which calls a coordinator whose disk is full none."""
    before = pids(broker)
    wait_until(lambda: offset_commit(broker) == NONE, "the coordinator")
    disk.fill(leave=0)
    answers: Counter[int] = Counter()
    while not answers[NOT_COORDINATOR]:
        answers[offset_commit(broker)] += 1
    assert answers.keys() == {NONE, NOT_COORDINATOR}
    disk.clear()
    assert offset_commit(broker) == NONE
    assert pids(broker) == before


def read_all(broker: Tailrace, count: int) -> Counter[int]:
    """The numbers in all partitions, read without a group."""
    settings = {"bootstrap.servers": broker.bootstrap, "group.id": "none", "enable.auto.commit": False}
    consumer = ck.Consumer(settings)
    consumer.assign([ck.TopicPartition(TOPIC, index, 0) for index in range(PARTITIONS)])
    read: Counter[int] = Counter()

    def has_read() -> bool:
        read.update(number_in(message) for message in consumer.consume(100, timeout=0.05))
        return read.total() >= count

    wait_until(has_read, "everything to be read")
    consumer.close()
    return read


def test_a_stop_and_a_start_on_a_full_disk_lose_nothing(broker: Tailrace, disk: SmallDisk) -> None:
    sender = Sender(broker.bootstrap)
    sender.send(300)
    sender.finish()
    disk.fill(leave=2 * MEBIBYTE)
    wait_until(lambda: produce(broker, PROBE, BATCH) == KAFKA_STORAGE_ERROR, "a refusal")
    broker.stop()
    disk.fill(leave=MEBIBYTE)  # less than the reserve
    broker.start()
    assert read_all(broker, sender.sent) == sender.acknowledged
    wait_until(lambda: produce(broker, PROBE, BATCH) == KAFKA_STORAGE_ERROR, "a refusal")
    for process in tree(broker.pid):
        os.kill(process, signal.SIGKILL)
    broker.stop()
    broker.start()
    assert read_all(broker, sender.sent) == sender.acknowledged
    disk.clear()
    assert produce(broker, PROBE, BATCH) == NONE


def test_a_start_without_a_byte_is_refused_in_a_line(broker: Tailrace, disk: SmallDisk) -> None:
    """And one that has the room again finds everything."""
    sender = Sender(broker.bootstrap)
    sender.send(30)
    sender.finish()
    broker.stop()
    disk.fill()
    command = [str(COMMAND), "start", "--data", str(broker.data), "--port", "0"]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode != 0
    assert refused.stderr.startswith("tailrace: no room for the metadata log in ")
    assert "Traceback" not in refused.stderr
    disk.clear()
    broker.start()
    assert read_all(broker, sender.sent) == sender.acknowledged
