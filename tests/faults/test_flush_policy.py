"""flush.policy=group and each on real processes: what is acknowledged is synced, at one call to the disk a
group of appends; a disk that refuses one ends the partition, not the truth.
"""

import os
import shutil
import signal
import struct
import subprocess
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from perf import wire
from perf.batches import batch_of_size
from perf.measures import Pipeline
from perf.peers.tailrace import Tailrace
from tailrace.core.errors import KAFKA_STORAGE_ERROR, NONE, NOT_LEADER_OR_FOLLOWER
from tailrace.workers.status import ProcessStatus, read_status
from tests.support.waiting import wait_until

TOPIC = "flushed"
BATCH = batch_of_size(61 + 120, 120).data
STRACE = shutil.which("strace")
needs_strace = pytest.mark.skipif(STRACE is None, reason="strace is not installed: it counts and fails syncs")


@contextmanager
def broker_with(path: Path, policy: str) -> Generator[Tailrace, None, None]:
    """A broker with one topic."""
    started = Tailrace(path, {"flush.policy": policy})
    started.start()
    try:
        with wire.Connection(wire.address(started.bootstrap)) as connection:
            wire.create_topic(connection, TOPIC)
        yield started
    finally:
        started.stop()


@pytest.fixture(params=["group", "each"])
def broker(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Tailrace]:
    """One of either policy."""
    with broker_with(tmp_path, request.param) as started:
        yield started


def worker(broker: Tailrace, topic_partitions: int = 1) -> ProcessStatus | None:
    """The process that leads the topic."""
    status = read_status(str(broker.data))
    found = [p for p in status.processes if p.role == "worker"] if status else []
    return next((process for process in found if len(process.partitions) >= topic_partitions), None)


@contextmanager
def traced(process: ProcessStatus | None, output: Path, *inject: str) -> Generator[None, None, None]:
    """Its syncs are written down, and interfered with."""
    assert STRACE is not None
    assert process is not None
    command = [STRACE, "-f", "-y", "-p", str(process.pid), "-o", str(output), "-e", "trace=fdatasync,fsync"]
    with subprocess.Popen([*command, *inject], stderr=subprocess.PIPE) as tracer:
        assert tracer.stderr is not None
        if b"attached" not in tracer.stderr.readline():
            pytest.skip("this user may not trace processes")
        try:
            yield
        finally:
            tracer.kill()  # which lets go of whom it traces


def produce(connection: wire.Connection, acks: int = -1) -> tuple[int, int]:
    """Error code and base offset of one batch."""
    return _outcome(connection.ask(wire.produce_frame(TOPIC, BATCH, acks, 0)))


def _outcome(answer: memoryview) -> tuple[int, int]:
    at = 4 + 1 + 1 + len(wire.compact(TOPIC)) + 1 + 4
    error, offset = struct.unpack_from(">hq", answer, at)
    return error, offset


@needs_strace
def test_an_acknowledged_append_costs_one_call_to_the_disk(broker: Tailrace, tmp_path: Path) -> None:
    with wire.Connection(wire.address(broker.bootstrap)) as connection:
        assert produce(connection) == (NONE, 0)
        with traced(worker(broker), tmp_path / "trace"):
            for number in range(1, 21):
                assert produce(connection) == (NONE, number)
    calls = [line for line in (tmp_path / "trace").read_text().splitlines() if "sync(" in line]
    assert len(calls) == 20
    assert all(f"{TOPIC}-0/{0:020d}.log" in line for line in calls)


@needs_strace
def test_appends_that_come_together_share_a_sync(tmp_path: Path) -> None:
    with (
        broker_with(tmp_path, "group") as broker,
        wire.Connection(wire.address(broker.bootstrap)) as connection,
    ):
        pipeline = Pipeline(connection, TOPIC, batch_of_size(61 + 120, 120), -1, 100)
        pipeline.run(0, 0)
        delay = ("-e", "inject=fdatasync:delay_enter=20000")  # a disk of its time
        with traced(worker(broker), tmp_path / "trace", *delay):
            requests, _ = pipeline.run(60, 1000 * len(BATCH))
    assert requests >= 1000
    syncs = sum("fdatasync(" in line for line in (tmp_path / "trace").read_text().splitlines())
    assert syncs <= requests / 20


@needs_strace
def test_a_sync_that_fails_is_never_an_acknowledgement(broker: Tailrace, tmp_path: Path) -> None:
    """(R) KAFKA_STORAGE_ERROR at once, and until the next start, though the disk is well again."""
    with wire.Connection(wire.address(broker.bootstrap)) as connection:
        assert produce(connection) == (NONE, 0)
        with traced(worker(broker), tmp_path / "trace", "-e", "inject=fdatasync:error=EIO:when=1"):
            assert produce(connection)[0] == KAFKA_STORAGE_ERROR
        assert produce(connection)[0] in (KAFKA_STORAGE_ERROR, NOT_LEADER_OR_FOLLOWER)
        fetched = wire.fetch_response(connection.ask(wire.fetch_frame(TOPIC, 0, 1 << 20)))
        assert fetched.error_code == KAFKA_STORAGE_ERROR
    broker.stop()
    broker.start()
    with wire.Connection(wire.address(broker.bootstrap)) as connection:
        error, offset = NONE, -1

        def is_taken() -> bool:
            nonlocal error, offset
            error, offset = produce(connection)
            return error == NONE

        wait_until(is_taken, "a batch to be taken")
        assert offset >= 1


@needs_strace
def test_what_no_sync_has_covered_is_neither_acknowledged_nor_read(tmp_path: Path) -> None:
    """(R) The worker is killed while a sync is under way; its successor syncs, and then shows it."""
    with broker_with(tmp_path, "group") as broker:
        address = wire.address(broker.bootstrap)
        with wire.Connection(address) as waiting, wire.Connection(address) as other:
            assert produce(other) == (NONE, 0)
            leader = worker(broker)
            assert leader is not None
            with traced(leader, tmp_path / "trace", "-e", "inject=fdatasync:delay_enter=600000000"):
                waiting.socket.sendall(wire.produce_frame(TOPIC, BATCH, -1, 0))
                assert produce(other, acks=1)[0] == NONE
                fetched = wire.fetch_response(other.ask(wire.fetch_frame(TOPIC, 1, 1 << 20)))
                assert (fetched.error_code, fetched.high_watermark, fetched.length) == (NONE, 1, 0)
                os.kill(leader.pid, signal.SIGKILL)
            answer = waiting.read_frame()
            assert _outcome(answer)[0] == NOT_LEADER_OR_FOLLOWER

            def high_watermark() -> int:
                fetched = wire.fetch_response(other.ask(wire.fetch_frame(TOPIC, 0, 1 << 20)))
                return fetched.high_watermark

            # the page cache has kept all of it, and its successor has synced it
            wait_until(lambda: high_watermark() == 3, "all of it to be shown")


@pytest.mark.parametrize("policy", ["group", "each"])
def test_what_was_acknowledged_survives_workers_that_are_killed(tmp_path: Path, policy: str) -> None:
    """A producer of librdkafka, its idempotence included: nothing lost, nothing twice."""
    with broker_with(tmp_path, policy) as broker:
        acked: list[str] = []

        def on_delivery(error: KafkaError | None, message: Message) -> None:
            if error is None:
                acked.append((message.value() or b"").decode())

        producer = Producer(
            {
                "bootstrap.servers": broker.bootstrap,
                "enable.idempotence": True,
                "linger.ms": 0,
                "retry.backoff.ms": 20,
            }
        )
        sent: list[str] = []
        for round_number in range(3):
            for number in range(200):
                text = f"{round_number}-{number}"
                sent.append(text)
                producer.produce(TOPIC, text, partition=0, on_delivery=on_delivery)
                producer.poll(0)
            leader = worker(broker)
            if leader is not None:
                with suppress(ProcessLookupError):
                    os.kill(leader.pid, signal.SIGKILL)
        assert producer.flush(60) == 0
        assert sorted(acked) == sorted(sent)
        assert _read(broker, len(sent)) == sent


def _read(broker: Tailrace, count: int) -> list[str]:
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "g", "enable.auto.commit": False})
    found: list[str] = []
    try:
        consumer.assign([TopicPartition(TOPIC, 0, 0)])
        while len(found) < count:
            for message in consumer.consume(count, 20):
                assert message.error() is None
                found.append((message.value() or b"").decode())
        done = consumer.commit(offsets=[TopicPartition(TOPIC, 0, len(found))], asynchronous=False)
        assert done is not None
        assert done[0].error is None
        assert consumer.committed([TopicPartition(TOPIC, 0)], 20)[0].offset == len(found)
    finally:
        consumer.close()
    return found


@needs_strace
def test_an_offset_commit_is_answered_once_it_is_synced(tmp_path: Path) -> None:
    """(R) As Kafka's coordinator, whose writes are acks=all."""
    with broker_with(tmp_path, "group") as broker:
        consumer = Consumer(
            {
                "bootstrap.servers": broker.bootstrap,
                "group.id": "g",
                "enable.auto.commit": False,
                "log_level": 0,
            }
        )
        try:
            consumer.assign([TopicPartition(TOPIC, 0, 0)])
            consumer.commit(offsets=[TopicPartition(TOPIC, 0, 0)], asynchronous=False)
            wait_until(lambda: worker(broker, 2) is not None, "a worker of the group's partitions")
            fail = ("-e", "inject=fdatasync:error=EIO")
            with traced(worker(broker, 2), tmp_path / "trace", *fail), pytest.raises(KafkaException):
                consumer.commit(offsets=[TopicPartition(TOPIC, 0, 5)], asynchronous=False)
        finally:
            consumer.close()
