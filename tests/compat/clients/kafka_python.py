"""kafka-python: pure Python."""

import time
from importlib import import_module
from typing import Any

from tests.compat.clients.client import PATIENCE_S, Partitions, Shelf, Whole
from tests.compat.corpus import Record

kafka: Any = import_module("kafka")


class KafkaPython(Whole):
    """The oldest Python client."""

    name = "kafka-python"

    def produce(self, bootstrap: str, topic: str, codec: str, partitions: Partitions) -> None:
        """Write all; every future is looked at."""
        compression = None if codec == "none" else codec
        producer = kafka.KafkaProducer(
            bootstrap_servers=bootstrap, compression_type=compression, linger_ms=20, batch_size=65536
        )
        try:
            futures = [
                producer.send(
                    topic,
                    partition=partition,
                    key=record.key,
                    value=record.value,
                    headers=list(record.headers),
                    timestamp_ms=record.timestamp_ms,
                )
                for partition, records in enumerate(partitions)
                for record in records
            ]
            for future in futures:
                future.get(timeout=PATIENCE_S)
        finally:
            producer.close()

    def consume(self, bootstrap: str, counts: dict[str, list[int]]) -> dict[str, Partitions]:
        """Read with assign(), without a group."""
        consumer, shelf = kafka.KafkaConsumer(bootstrap_servers=bootstrap, group_id=None), Shelf(counts)
        give_up = time.monotonic() + PATIENCE_S
        try:
            places = [(topic, index) for topic, each in counts.items() for index in range(len(each))]
            consumer.assign([kafka.TopicPartition(topic, index) for topic, index in places])
            consumer.seek_to_beginning()
            while shelf.left:
                assert time.monotonic() < give_up, f"{shelf.left} records never came"
                for messages in consumer.poll(timeout_ms=500, max_records=10_000).values():
                    for message in messages:
                        headers = tuple(message.headers)
                        record = Record(message.timestamp, message.key, message.value, headers)
                        shelf.put(message.topic, message.partition, message.offset, record)
        finally:
            consumer.close()
        return shelf.read
