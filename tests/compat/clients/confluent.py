"""confluent-kafka: librdkafka from Python."""

import time
from importlib import import_module
from typing import Any

from tests.compat.clients.client import PATIENCE_S, Partitions, Shelf, Whole
from tests.compat.corpus import Record

confluent_kafka: Any = import_module("confluent_kafka")
POLL_EVERY = 1000


class Confluent(Whole):
    """The library most Python programs use."""

    name = "confluent-kafka"

    def produce(self, bootstrap: str, topic: str, codec: str, partitions: Partitions) -> None:
        """Write all; every delivery report is looked at."""
        failed: list[object] = []

        def on_delivery(error: object, _: object) -> None:
            if error is not None:
                failed.append(error)

        settings = {
            "bootstrap.servers": bootstrap,
            "compression.codec": codec,
            "linger.ms": 20,
            "queue.buffering.max.messages": 1_000_000,
            "enable.idempotence": True,
        }
        producer = confluent_kafka.Producer(settings)
        for partition, records in enumerate(partitions):
            for number, record in enumerate(records):
                producer.produce(
                    topic,
                    partition=partition,
                    key=record.key,
                    value=record.value,
                    headers=list(record.headers),
                    timestamp=record.timestamp_ms,
                    on_delivery=on_delivery,
                )
                if number % POLL_EVERY == 0:
                    producer.poll(0)
        assert producer.flush(PATIENCE_S) == 0
        assert not failed, failed[:3]

    def consume(self, bootstrap: str, counts: dict[str, list[int]]) -> dict[str, Partitions]:
        """Read with assign(): librdkafka wants a group's name, but no group is joined."""
        settings = {
            "bootstrap.servers": bootstrap,
            "group.id": "nobody-joins-this",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
        }
        consumer, shelf = confluent_kafka.Consumer(settings), Shelf(counts)
        begin = confluent_kafka.OFFSET_BEGINNING
        places = [(topic, index) for topic, each in counts.items() for index in range(len(each))]
        consumer.assign([confluent_kafka.TopicPartition(topic, index, begin) for topic, index in places])
        give_up = time.monotonic() + PATIENCE_S
        try:
            while shelf.left:
                assert time.monotonic() < give_up, f"{shelf.left} records never came"
                for message in consumer.consume(10_000, 0.5):
                    assert message.error() is None, message.error()
                    headers = tuple(message.headers() or ())
                    record = Record(message.timestamp()[1], message.key(), message.value(), headers)
                    shelf.put(message.topic(), message.partition(), message.offset(), record)
        finally:
            consumer.close()
        return shelf.read
