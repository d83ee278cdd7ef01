"""Producers and readers that note all they know in a history: our own on the raw wire, and confluent-kafka's.

Each runs in a thread of its own until told to stop. Producers are idempotent, wait for all replicas, and send
again what was not answered, with the sequence it had; a producer stops with nothing under way.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

from perf import many, wire
from perf.failover import COMING
from perf.peers.peer import Tcp
from perf.whereabouts import Cursor, Guide
from tailrace.core.records.record import NewRecord, build_batch, iterate_batches
from tests.support.history_check import NO_OFFSET, History, Record

confluent_kafka: Any = import_module("confluent_kafka")

IN_FLIGHT, BATCH_RECORDS = 5, 4
UNDER_WAY_MAX = 500  # records of one confluent producer
FETCH_BYTES = 1 << 20
PATIENCE_S = 90.0
PAUSE_S = 0.005
OUT_OF_RANGE, DUPLICATE = 1, 46
# A replica that is behind has not got there yet; whether it ever does is seen in the end.
BEHIND = COMING | {OUT_OF_RANGE, 78}


class Client(threading.Thread):
    """Runs until told to stop; what it dies of is a fault in the history."""

    def __init__(self, history: History, name: str) -> None:
        super().__init__(name=name)
        self.history = history
        self.stopping = threading.Event()
        self._never = threading.Event()

    def run(self) -> None:
        """The thread."""
        try:
            self.live()
        except Exception as error:
            self.history.complain("crashed", f"{self.name}: {error!r}")

    def live(self) -> None:
        """Until `stopping`."""
        raise NotImplementedError

    def pause(self) -> None:
        """Before something is tried again, and between rounds: in a cluster at its limit no replica that was
        dead catches up, and a death is no worse for a longer history.
        """
        self._never.wait(PAUSE_S)


class Routes:
    """A connection to the broker of each partition: its leader, or the replica at a place in its list."""

    def __init__(self, brokers: Mapping[int, Tcp], topic: str, replica: int = -1) -> None:
        """`replica` -1: the leader."""
        self._brokers, self._guide = dict(brokers), Guide(dict(brokers))
        self._topic, self._replica = topic, replica
        self._open: dict[int, wire.Connection] = {}

    def to(self, partition: int) -> wire.Connection | None:
        """None while nobody is known, or it cannot be reached."""
        if partition not in self._open:
            part = self._guide.partition(self._topic, partition)
            broker = part.replicas[self._replica] if self._replica >= 0 and part.replicas else part.leader
            if broker not in self._brokers:
                return None
            try:
                self._open[partition] = wire.Connection(self._brokers[broker], FETCH_BYTES)
            except OSError:
                return None
        return self._open[partition]

    def drop(self, partition: int) -> None:
        """Ask again who it is."""
        if partition in self._open:
            self._open.pop(partition).socket.close()

    def close(self) -> None:
        """Hang up everywhere."""
        for partition in list(self._open):
            self.drop(partition)
        self._guide.__exit__()


class Batch(NamedTuple):
    """One on its way."""

    frame: bytes
    numbers: range


class RawProducer(Client):
    """Sends windows of batches to each partition in turn; each window is sent again until all is answered."""

    def __init__(self, number: int, history: History, brokers: Mapping[int, Tcp], topic: str) -> None:
        super().__init__(history, f"raw producer {number}")
        self._number, self._topic, self._brokers = number, topic, brokers
        self._routes = Routes(brokers, topic)
        self._identity = (-1, -1)

    def live(self) -> None:
        first = next(iter(self._brokers.values()))
        with wire.Connection(first) as connection:
            self._identity = many.new_producer_id(connection)
        try:
            while not self.stopping.is_set():
                for partition in range(self.history.partitions):
                    self._send_window(partition)
                self.pause()
        finally:
            self._routes.close()

    def _send_window(self, partition: int) -> None:
        pending = deque(self._batch(partition) for _ in range(IN_FLIGHT))
        give_up = time.monotonic() + PATIENCE_S
        while pending:
            before = len(pending)
            try:
                self._try_window(partition, pending)
            except OSError:
                self._routes.drop(partition)
            if len(pending) < before:
                give_up = time.monotonic() + PATIENCE_S
            elif time.monotonic() > give_up:
                raise TimeoutError(f"nothing is acknowledged in partition {partition}")
            if pending:
                self.pause()

    def _try_window(self, partition: int, pending: deque[Batch]) -> None:
        connection = self._routes.to(partition)
        if connection is None:
            return
        acknowledge = partial(self.history.acknowledge, self._number, partition)
        if error := send_all(connection, pending, acknowledge):
            self._routes.drop(partition)
            if error not in COMING:
                raise wire.WireError(f"record {pending[0].numbers[0]} of {partition}: error {error}")

    def _batch(self, partition: int) -> Batch:
        numbers = [self.history.send(self._number, partition) for _ in range(BATCH_RECORDS)]
        producer_id, epoch = self._identity
        data = build_batch(
            [NewRecord(value=value_of(self._number, number), timestamp=1) for number in numbers],
            producer_id=producer_id,
            producer_epoch=epoch,
            base_sequence=numbers[0],
        )
        frame = wire.produce_frame(self._topic, bytes(data), -1, 0, partition)
        return Batch(frame, range(numbers[0], numbers[-1] + 1))


def send_all(
    connection: wire.Connection, pending: deque[Batch], acknowledge: Callable[[int, int], None]
) -> int:
    """Send all that is pending and take answers up to the first error, which is returned; 0 for none. What is
    acknowledged is pending no more. Answers after an error are not looked at: those batches lack the one
    before them.
    """
    connection.socket.sendall(b"".join(batch.frame for batch in pending))
    for _ in range(len(pending)):
        error, base_offset = produced(connection.read_frame())
        if error and error != DUPLICATE:
            return error
        for delta, number in enumerate(pending.popleft().numbers):
            acknowledge(number, base_offset + delta if base_offset >= 0 else -1)
    return 0


def value_of(producer: int, number: int) -> bytes:
    """What a record says of itself."""
    return b"%d %d" % (producer, number)


def record_of(value: bytes | None) -> Record:
    """The reverse; ValueError for a record that says nothing."""
    producer, number = map(int, (value or b"").split())
    return Record(producer, number)


def produced(answer: memoryview) -> tuple[int, int]:
    """Error code and base offset of the one partition of a Produce 9 answer."""
    cursor = Cursor(answer, 5)
    cursor.uvarint()
    cursor.compact_text()
    cursor.uvarint()
    cursor.take("i")
    return cursor.take("h"), cursor.take("q")


class RawReader(Client):
    """Reads every partition from its leader, or from one replica of each, as it grows."""

    def __init__(
        self, number: int, history: History, brokers: Mapping[int, Tcp], topic: str, replica: int = -1
    ) -> None:
        super().__init__(
            history, f"raw reader {number} of {'leaders' if replica < 0 else f'replica {replica}'}"
        )
        self._number, self._topic = number, topic
        self._routes = Routes(brokers, topic, replica)
        self._offsets = [0] * history.partitions

    def live(self) -> None:
        try:
            while not self.stopping.is_set():
                if not any([self._read_some(partition) for partition in range(self.history.partitions)]):
                    self.pause()
        finally:
            self._routes.close()

    def _read_some(self, partition: int) -> bool:
        found, _ = fetch(self._routes, self._topic, partition, self._offsets[partition])
        for offset, record in found:
            self.history.read(self._number, partition, offset, record)
            self._offsets[partition] = offset + 1
        return bool(found)


def fetch(routes: Routes, topic: str, partition: int, offset: int) -> tuple[list[tuple[int, Record]], int]:
    """What is there from an offset on, and the high watermark; nothing and -1 while nobody answers."""
    connection = routes.to(partition)
    if connection is None:
        return [], -1
    frame = wire.fetch_frame(topic, offset, FETCH_BYTES // 4, index=partition, wait_ms=0)
    try:
        answer = connection.ask(frame)
    except OSError:
        routes.drop(partition)
        return [], -1
    fetched = wire.fetch_response(answer)
    if fetched.error_code:
        routes.drop(partition)
        if fetched.error_code not in BEHIND:
            raise wire.WireError(f"fetch of {partition} at {offset}: error {fetched.error_code}")
        return [], -1
    data = bytes(answer[fetched.start : fetched.start + fetched.length])
    return [each for each in _records(data) if each[0] >= offset], fetched.high_watermark


def _records(data: bytes) -> Iterator[tuple[int, Record]]:
    for _, records in iterate_batches(data):
        for record in records:
            yield record.offset, record_of(record.value)


class ConfluentProducer(Client):
    """librdkafka's idempotent producer."""

    def __init__(self, number: int, history: History, bootstrap: str, topic: str) -> None:
        super().__init__(history, f"confluent producer {number}")
        self._number, self._topic = number, topic
        self._under_way = 0
        self._producer: Any = confluent_kafka.Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "linger.ms": 1,
                "message.timeout.ms": int(PATIENCE_S * 1000),
                "reconnect.backoff.max.ms": 200,
                "retry.backoff.ms": 20,
                "topic.metadata.refresh.interval.ms": 1000,
                "log_level": 0,
            }
        )

    def live(self) -> None:
        while not self.stopping.is_set():
            for partition in range(self.history.partitions):
                for _ in range(min(BATCH_RECORDS, UNDER_WAY_MAX - self._under_way)):
                    self._send(partition)
            self._producer.poll(0)
            self.pause()
        self._producer.flush(PATIENCE_S)

    def _send(self, partition: int) -> None:
        number = self.history.send(self._number, partition)
        value, told = value_of(self._number, number), self._on_delivery(partition, number)
        self._under_way += 1
        self._producer.produce(self._topic, value, partition=partition, on_delivery=told)

    def _on_delivery(self, partition: int, number: int) -> Callable[[Any, Any], None]:
        def on_delivery(error: Any, message: Any) -> None:
            self._under_way -= 1
            if error is None:
                offset = message.offset()  # None: what came next was taken, so this was
                self.history.acknowledge(
                    self._number, partition, number, NO_OFFSET if offset is None else offset
                )
            else:
                self.history.complain("not delivered", f"{self.name}, {partition}, {number}: {error}")

        return on_delivery


class ConfluentReader(Client):
    """librdkafka's consumer on all partitions from the beginning; it may never be told to start anew."""

    def __init__(self, number: int, history: History, bootstrap: str, topic: str) -> None:
        super().__init__(history, f"confluent reader {number}")
        self._number, self._topic = number, topic
        self._consumer: Any = confluent_kafka.Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "nobody-joins-this",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "reconnect.backoff.max.ms": 200,
                "topic.metadata.refresh.interval.ms": 1000,
                "log_level": 0,
            }
        )

    def live(self) -> None:
        places = [
            confluent_kafka.TopicPartition(self._topic, partition, 0)
            for partition in range(self.history.partitions)
        ]
        self._consumer.assign(places)
        try:
            while not self.stopping.is_set():
                for message in self._consumer.consume(1000, 0.05):
                    self._take(message)
        finally:
            self._consumer.close()

    def _take(self, message: Any) -> None:
        if message.error() is None:
            record = record_of(message.value())
            self.history.read(self._number, message.partition(), message.offset(), record)
        elif message.error().code() == confluent_kafka.KafkaError._AUTO_OFFSET_RESET:
            self.history.complain("out of range", f"{self.name}: {message.error()}")
