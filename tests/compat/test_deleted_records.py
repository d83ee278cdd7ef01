"""Records deleted by unmodified clients; what is left is read by Kafka's tool, and Kafka goes on with it."""

import shutil
import struct
from importlib import import_module
from pathlib import Path
from typing import Any

from perf import wire
from perf.batches import batch_of_size
from perf.peers.jars import MISSING, available
from perf.peers.kafka import Kafka
from perf.peers.tailrace import Tailrace
from tailrace.clients.connection import Connection, UnreachableError
from tailrace.core.protocol.apis import LIST_OFFSETS
from tailrace.core.protocol.messages.list_offsets import (
    EARLIEST,
    LATEST,
    ListOffsetsRequest,
    ListOffsetsRequestPartition,
    ListOffsetsRequestTopic,
    ListOffsetsResponse,
)
from tests.compat.test_checkpoint_files import TOPIC, produce, start, take_over
from tests.compat.test_dump_log_segments import dump
from tests.support.peers import require
from tests.support.waiting import wait_until

BATCH = batch_of_size(300_000, 1000).data
RECORDS = struct.unpack_from(">i", BATCH, 57)[0]
BATCHES, START = 9, 5 * RECORDS + 7  # in the middle of a batch of the second segment

confluent_kafka: Any = import_module("confluent_kafka")
confluent_admin: Any = import_module("confluent_kafka.admin")
kafka_python: Any = import_module("kafka")


def delete_by_confluent(address: str, offset: int) -> int:
    """The low watermark that it was told."""
    admin = confluent_admin.AdminClient({"bootstrap.servers": address})
    (deleted,) = admin.delete_records([confluent_kafka.TopicPartition(TOPIC, 0, offset)]).values()
    return int(deleted.result(20).low_watermark)


def delete_by_kafka_python(address: str, offset: int) -> int:
    """The same."""
    admin = kafka_python.KafkaAdminClient(bootstrap_servers=address)
    try:
        (deleted,) = admin.delete_records({kafka_python.TopicPartition(TOPIC, 0): offset}).values()
    finally:
        admin.close()
    return int(deleted["low_watermark"])


def ends(address: str) -> tuple[int, int]:
    """Where the log begins and ends; negative while nobody leads it."""
    found: list[int] = []
    for which in (EARLIEST, LATEST):
        topic = ListOffsetsRequestTopic(TOPIC, [ListOffsetsRequestPartition(0, -1, which)])
        try:
            with Connection(address, timeout_s=20) as connection:
                message = ListOffsetsRequest(topics=[topic])
                answer = connection.request(LIST_OFFSETS, message, ListOffsetsResponse)
        except UnreachableError:
            return -1, -1
        found.append(answer.topics[0].partitions[0].offset)
    return found[0], found[1]


def test_kafka_reads_what_is_left_and_goes_on_with_it(tmp_path: Path) -> None:
    require(None if available() and shutil.which("java") else MISSING)
    ours = Tailrace(tmp_path / "ours", {"log.segment.bytes": str(1 << 20)})
    ours.start()
    try:
        with wire.Connection(wire.address(ours.bootstrap)) as connection:
            wire.create_topic(connection, TOPIC)
            for _ in range(BATCHES):
                connection.ask(wire.produce_frame(TOPIC, BATCH, -1, 0))
        assert delete_by_confluent(ours.bootstrap, RECORDS) == RECORDS
        assert delete_by_kafka_python(ours.bootstrap, START) == START
        assert ends(ours.bootstrap) == (START, BATCHES * RECORDS)
    finally:
        ours.stop()
    logs = sorted((ours.data / f"{TOPIC}-0").glob("*.log"))
    assert 0 < int(logs[0].stem) <= START, "a segment is gone, the one around the start is not"
    shown = dump("--deep-iteration", "--files", ",".join(map(str, logs)))
    left = BATCHES * RECORDS - int(logs[0].stem)
    assert sum(line.startswith("| offset:") for line in shown.splitlines()) == left
    kafka = Kafka(tmp_path / "theirs")
    try:
        start(kafka)
        with wire.Connection(kafka.address) as connection:
            wire.create_topic(connection, TOPIC)
        produce(kafka)
        kafka.stop()
        take_over(ours.data, kafka.directory / "data")
        address = f"{kafka.address.host}:{kafka.address.port}"
        kafka.start()
        wait_until(lambda: ends(address) == (START, BATCHES * RECORDS), "what is left", 60)
        produce(kafka)
        assert ends(address) == (START, (BATCHES + 1) * RECORDS)
        said = kafka.log_file.read_text()
        assert "ERROR" not in said, said
    finally:
        kafka.stop()
