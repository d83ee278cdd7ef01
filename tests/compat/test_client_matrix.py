"""Every producer, every codec, every consumer: what was written is read, byte for byte, in order.

`make check` runs a small set, `make compat` a million records. All consumers use assign(); groups are in
test_groups.py.
"""

import struct
import time

import pytest

from perf import wire
from tests.compat.clients.aio import Aiokafka
from tests.compat.clients.client import Client, Partitions
from tests.compat.clients.confluent import Confluent
from tests.compat.clients.java import Java
from tests.compat.clients.kafka_python import KafkaPython
from tests.compat.clients.kcat import Kcat
from tests.compat.corpus import PARTITIONS, Record, records
from tests.support.peers import require

CLIENTS: list[Client] = [Confluent(), KafkaPython(), Aiokafka(), Kcat(), Java()]
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
SMALL = 400  # records for each producer and codec
FULL = 1_000_000 // (len(CLIENTS) * len(CODECS))
SMALLEST_COMPRESSED = 1 << 12  # below it librdkafka may find that a codec does not pay


def stored_codecs(connection: wire.Connection, topic: str, end: int) -> set[str]:
    """The codecs in the attributes of the batches of partition 0 that are large enough to be compressed."""
    found: set[str] = set()
    offset = 0
    while offset < end:
        answer = connection.ask(wire.fetch_frame(topic, offset, 1 << 22))
        fetched = wire.fetch_response(answer)
        assert fetched.error_code == 0
        assert fetched.high_watermark == end
        start, stop = fetched.start, fetched.start + fetched.length
        while start + 61 <= stop:
            base, size = struct.unpack_from(">qi", answer, start)
            attributes, last_delta = struct.unpack_from(">hi", answer, start + 21)
            if start + 12 + size > stop:
                break
            if last_delta >= SMALLEST_COMPRESSED // 128:
                found.add(CODECS[attributes & 7])
            offset, start = base + last_delta + 1, start + 12 + size
    return found


def compare(read: Partitions, written: Partitions, consumer: Client, written_after_ms: int) -> None:
    """Every record of every partition; a time of 0 stands for the time of writing."""
    for partition, expected in enumerate(written):
        for offset, (got, wanted) in enumerate(zip(read[partition], expected, strict=True)):
            shown = consumer.seen(wanted)
            if not shown.timestamp_ms:
                assert written_after_ms - 1000 <= got.timestamp_ms <= time.time() * 1000 + 1000
                shown = shown._replace(timestamp_ms=got.timestamp_ms)
            assert got == shown, f"partition {partition}, offset {offset}"


def write_all_codecs(bootstrap: str, producer: Client, count: int) -> dict[str, tuple[str, Partitions]]:
    """One topic a codec: codec and records by topic."""
    first_ms, written = int(time.time() * 1000) - 3_600_000, dict[str, tuple[str, Partitions]]()
    with wire.Connection(wire.address(bootstrap)) as connection:
        for number, codec in enumerate(CODECS):
            topic = f"{producer.name}-{codec}-{time.monotonic_ns()}"
            wire.create_topic(connection, topic, PARTITIONS)
            wanted: Partitions = [
                [producer.able(record) for record in each]
                for each in records(count, first_ms, number * count)
            ]
            producer.produce(bootstrap, topic, codec, wanted)
            written[topic] = codec, wanted
    return written


def run_matrix(bootstrap: str, producer: Client, count: int) -> None:
    """Write with one client, read with all that are here."""
    require(producer.missing())
    begin_ms = int(time.time() * 1000)
    written = write_all_codecs(bootstrap, producer, count)
    with wire.Connection(wire.address(bootstrap), 8 << 20) as connection:
        for topic, (codec, wanted) in written.items():
            assert stored_codecs(connection, topic, len(wanted[0])) == {codec}, topic
    counts = {topic: [len(each) for each in wanted] for topic, (_, wanted) in written.items()}
    for consumer in CLIENTS:
        if consumer.missing():
            continue  # its own row of the matrix says so
        read = consumer.consume(bootstrap, counts)
        for topic, (_, wanted) in written.items():
            compare(read[topic], wanted, consumer, begin_ms)


@pytest.mark.parametrize("producer", CLIENTS, ids=[client.name for client in CLIENTS])
def test_every_consumer_reads_what_a_producer_wrote(producer: Client, bootstrap: str) -> None:
    run_matrix(bootstrap, producer, SMALL)


@pytest.mark.full
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("producer", CLIENTS, ids=[client.name for client in CLIENTS])
def test_a_million_records_pass_unchanged(producer: Client, bootstrap: str) -> None:
    run_matrix(bootstrap, producer, FULL)


def test_a_record_without_anything_and_one_with_everything_come_back() -> None:
    """The corpus really holds what the matrix claims to compare."""
    made = [record for each in records(100, 1) for record in each]
    assert any(record.key is None for record in made)
    assert any(record.value is None for record in made)
    assert {len(record.headers) for record in made} == {0, 1, 2, 3}
    assert Record(1, b"Genesis 1:1", made[0].value, ()) == made[0]
