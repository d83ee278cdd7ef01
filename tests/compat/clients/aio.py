"""aiokafka: asyncio."""

import asyncio
from importlib import import_module
from typing import Any

from tests.compat.clients.client import PATIENCE_S, Partitions, Shelf, Whole
from tests.compat.corpus import Record

aiokafka: Any = import_module("aiokafka")


class Aiokafka(Whole):
    """The asyncio client."""

    name = "aiokafka"

    def produce(self, bootstrap: str, topic: str, codec: str, partitions: Partitions) -> None:
        """Write all; every future is looked at."""
        asyncio.run(asyncio.wait_for(self._produce(bootstrap, topic, codec, partitions), PATIENCE_S))

    def consume(self, bootstrap: str, counts: dict[str, list[int]]) -> dict[str, Partitions]:
        """Read with assign(), without a group."""
        return asyncio.run(asyncio.wait_for(self._consume(bootstrap, counts), PATIENCE_S))

    async def _produce(self, bootstrap: str, topic: str, codec: str, partitions: Partitions) -> None:
        compression = None if codec == "none" else codec
        producer = aiokafka.AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            compression_type=compression,
            linger_ms=20,
            max_batch_size=65536,
            enable_idempotence=True,
        )
        await producer.start()
        try:
            futures = [
                await producer.send(
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
            await asyncio.gather(*futures)
        finally:
            await producer.stop()

    async def _consume(self, bootstrap: str, counts: dict[str, list[int]]) -> dict[str, Partitions]:
        shelf = Shelf(counts)
        places = [(topic, index) for topic, each in counts.items() for index in range(len(each))]
        consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=None)
        consumer.assign([aiokafka.TopicPartition(topic, index) for topic, index in places])
        await consumer.start()
        try:
            await consumer.seek_to_beginning()
            while shelf.left:
                for messages in (await consumer.getmany(timeout_ms=500, max_records=10_000)).values():
                    for message in messages:
                        headers = tuple(message.headers)
                        record = Record(message.timestamp, message.key, message.value, headers)
                        shelf.put(message.topic, message.partition, message.offset, record)
        finally:
            await consumer.stop()
        return shelf.read
