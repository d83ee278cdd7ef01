"""Topics with a compression.type of their own: every consumer reads what was written in other codecs, also
after the type was altered, and Kafka's DumpLogSegments reads the files.
"""

import time
from pathlib import Path

from perf import wire
from perf.peers import jars
from perf.peers.tailrace import Tailrace
from tailrace.clients.admin import Admin
from tailrace.clients.cluster import Cluster
from tailrace.core.log.recompression import TARGETS
from tests.compat.clients.client import Partitions
from tests.compat.clients.confluent import Confluent
from tests.compat.corpus import PARTITIONS, records
from tests.compat.test_client_matrix import CLIENTS, CODECS, compare, stored_codecs
from tests.compat.test_dump_log_segments import dump
from tests.support.peers import require

COUNT = 1500  # records for each topic and type: batches of more than one block of LZ4


def write(bootstrap: str, admin: Admin) -> dict[str, Partitions]:
    """A topic a type, written to in another codec, and again once it has the next type."""
    producer, written = Confluent(), dict[str, Partitions]()
    targets = list(TARGETS)
    begin_ms = int(time.time() * 1000) - 3_600_000
    for number, target in enumerate(targets):
        topic, following = f"verses-{target}", targets[(number + 1) % len(targets)]
        admin.create_topic(topic, partitions=PARTITIONS, configs={"compression.type": target})
        first = records(COUNT, begin_ms, number * COUNT)
        producer.produce(bootstrap, topic, CODECS[(number + 2) % 5], first)
        assert found_codecs(bootstrap, topic, len(first[0])) == {CODECS[TARGETS[target]]}
        admin.alter_topic_configs(topic, {"compression.type": following})
        second = records(COUNT, begin_ms + COUNT, number * COUNT + 7)
        producer.produce(bootstrap, topic, CODECS[(number + 3) % 5], second)
        written[topic] = [before + after for before, after in zip(first, second, strict=True)]
        both = {CODECS[TARGETS[target]], CODECS[TARGETS[following]]}
        assert found_codecs(bootstrap, topic, len(written[topic][0])) == both
    return written


def found_codecs(bootstrap: str, topic: str, end: int) -> set[str]:
    """The codecs of its batches."""
    with wire.Connection(wire.address(bootstrap), 8 << 20) as connection:
        return stored_codecs(connection, topic, end)


def test_every_consumer_and_kafkas_tool_read_what_was_compressed_anew(tmp_path: Path) -> None:
    require(None if jars.available() else jars.MISSING)
    broker, begin_ms = Tailrace(tmp_path), int(time.time() * 1000)
    broker.start()
    try:
        with Cluster(broker.bootstrap) as cluster:
            written = write(broker.bootstrap, Admin(cluster))
        counts = {topic: [len(each) for each in wanted] for topic, wanted in written.items()}
        for consumer in CLIENTS:
            if not consumer.missing():
                read = consumer.consume(broker.bootstrap, counts)
                for topic, wanted in written.items():
                    compare(read[topic], wanted, consumer, begin_ms)
    finally:
        broker.stop()
    logs = sorted(broker.data.glob("verses-*/*.log"))
    shown = dump("--deep-iteration", "--files", ",".join(map(str, logs)))
    assert sum(line.startswith("| offset:") for line in shown.splitlines()) == 2 * COUNT * len(TARGETS)
