"""Records for groups to read, and what a group has stored as a third party sees it."""

from collections.abc import Iterable
from importlib import import_module
from typing import Any

from tests.compat.members.kafka_python import close
from tests.compat.members.member import PATIENCE_S, Place, Wish

ck: Any = import_module("confluent_kafka")
kafka: Any = import_module("kafka")
PARTITIONS = 6


def produce(wish: Wish, numbers: Iterable[int]) -> None:
    """Numbers as text, number n to partition n modulo PARTITIONS; returns when all are acknowledged."""
    failed: list[object] = []

    def on_delivery(error: object, _: object) -> None:
        if error is not None:
            failed.append(error)

    producer = ck.Producer({"bootstrap.servers": wish.bootstrap, "linger.ms": 1})
    for number in numbers:
        partition = number % PARTITIONS
        producer.produce(wish.topics[0], str(number), partition=partition, on_delivery=on_delivery)
    assert producer.flush(PATIENCE_S) == 0
    assert not failed, failed[:3]


def committed_metadata(wish: Wish, place: Place) -> tuple[int, str]:
    """Offset and metadata, as somebody sees them who is no member."""
    reader = kafka.KafkaConsumer(bootstrap_servers=wish.bootstrap, group_id=wish.group)
    try:
        found = reader.committed(kafka.TopicPartition(*place), metadata=True)
    finally:
        close(reader)
    return found.offset, found.metadata.removesuffix("\0")  # confluent-kafka sends the end of a C string, too
