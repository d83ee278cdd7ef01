"""Idempotent producers that number what they send, and a reader for the check: all there, once, in order."""

import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any

from tests.support.waiting import wait_until

confluent_kafka: Any = import_module("confluent_kafka")

PATIENCE_S = 120.0
IN_FLIGHT_MAX = 2000  # records not acknowledged; it bounds what one kill can catch


class Ledger:
    """Sends 0, 1, 2... to each partition of a topic in a thread of its own until told to stop."""

    def __init__(self, bootstrap: str, topic: str, partitions: int) -> None:
        self.topic, self.partitions = topic, partitions
        self.sent = [0] * partitions
        self.acknowledged = [0] * partitions
        self.failed: list[str] = []
        self._stopping = threading.Event()
        self._producer: Any = confluent_kafka.Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 1,
                "message.timeout.ms": int(PATIENCE_S * 1000),
                "reconnect.backoff.max.ms": 200,
                "retry.backoff.ms": 20,
                "log_level": 0,
            }
        )
        self._thread = threading.Thread(target=self._run, name="ledger")

    @property
    def total(self) -> int:
        """Records acknowledged so far."""
        return sum(self.acknowledged)

    def __enter__(self) -> "Ledger":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def goes_on(self, records: int) -> None:
        """Wait until so many more are acknowledged."""
        wanted = self.total + records
        wait_until(lambda: self.failed or self.total >= wanted, f"{records} acknowledged records", PATIENCE_S)
        assert not self.failed, self.failed[:3]

    def _run(self) -> None:
        while not self._stopping.is_set():
            for partition in range(self.partitions):
                if self.sent[partition] - self.acknowledged[partition] < IN_FLIGHT_MAX:
                    self._send(partition)
            self._producer.poll(0.001)
        self._producer.flush(PATIENCE_S)

    def _send(self, partition: int) -> None:
        number = self.sent[partition]
        value = b"%d %d" % (partition, number)
        self._producer.produce(self.topic, value, partition=partition, on_delivery=self._on_delivery(number))
        self.sent[partition] += 1

    def _on_delivery(self, number: int) -> Callable[[Any, Any], None]:
        def on_delivery(error: Any, message: Any) -> None:
            if error is not None:
                self.failed.append(f"record {number}: {error}")
            else:
                self.acknowledged[message.partition()] += 1

        return on_delivery


def read_numbers(bootstrap: str, topic: str, counts: list[int]) -> list[list[int]]:
    """All that is stored, by partition, in the order of offsets, up to the end of each partition."""
    consumer: Any = confluent_kafka.Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "nobody-joins-this",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    begin, ended = confluent_kafka.OFFSET_BEGINNING, set[int]()
    found: list[list[int]] = [[] for _ in counts]
    consumer.assign(
        [confluent_kafka.TopicPartition(topic, partition, begin) for partition in range(len(counts))]
    )

    def read_more() -> bool:
        for message in consumer.consume(10_000, 0.2):
            partition: int = message.partition()
            if message.error() is not None:
                assert message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF, message.error()
                ended.add(partition)
                continue
            assert message.offset() == len(found[partition])
            written_to, number = map(int, message.value().split())
            assert written_to == partition
            found[partition].append(number)
        return len(ended) == len(counts)

    try:
        wait_until(read_more, "the end of every partition", PATIENCE_S)
    finally:
        consumer.close()
    return found
