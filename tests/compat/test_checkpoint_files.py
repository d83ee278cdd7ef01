"""The checkpoints of a log directory: Kafka reads ours and starts on them; ours are as Kafka's."""

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from perf import wire
from perf.batches import batch_of_size
from perf.peers.jars import MISSING, available, class_path
from perf.peers.kafka import Kafka
from perf.peers.tailrace import Tailrace
from tailrace.core.log.checkpoints import (
    HIGH_WATERMARKS,
    OFFSET_FILES,
    RECOVERY_POINTS,
    read_offsets,
    write_offsets,
)
from tailrace.core.log.directory import RealDirectory
from tests.compat.clients.java import QUIET
from tests.support.peers import require
from tests.support.waiting import wait_until

READER = """
import java.io.File;
import java.util.*;
import org.apache.kafka.storage.internals.checkpoint.OffsetCheckpointFile;

class Reader {
    public static void main(String[] paths) throws Exception {
        for (String path : paths) {
            var found = new OffsetCheckpointFile(new File(path), null).read();
            var lines = new TreeSet<String>();
            found.forEach((partition, offset) -> lines.add(partition + "=" + offset));
            System.out.println(lines);
        }
    }
}
"""
TOPIC = "shared"
BATCH = batch_of_size(300_000, 1000).data
RECORDS = struct.unpack_from(">i", BATCH, 57)[0]


@pytest.fixture(autouse=True)
def _peers() -> None:
    require(None if available() and shutil.which("java") else MISSING)


def test_kafkas_own_reader_reads_ours(tmp_path: Path) -> None:
    directory = RealDirectory(str(tmp_path))
    write_offsets(directory, RECOVERY_POINTS, {("b", 1): 7, ("a.b_c-d", 0): 9223372036854775807})
    write_offsets(directory, HIGH_WATERMARKS, {})
    source = tmp_path / "Reader.java"
    source.write_text(READER)
    paths = [str(tmp_path / name) for name in (RECOVERY_POINTS, HIGH_WATERMARKS)]
    command = ["java", *QUIET, "-cp", class_path(), str(source), *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines() == ["[a.b_c-d-0=9223372036854775807, b-1=7]", "[]"], done.stderr


def start(kafka: Kafka) -> None:
    """It serves, and leads the topic if there is one."""
    kafka.start()
    has_topic = (kafka.directory / "data" / f"{TOPIC}-0").exists()

    def is_up() -> bool:
        try:
            with wire.Connection(kafka.address) as connection:
                fetched = wire.fetch_response(connection.ask(wire.fetch_frame(TOPIC, 0, 1)))
                return not has_topic or fetched.error_code == 0
        except OSError:
            return False

    wait_until(is_up, "Kafka", 60)


def produce(kafka: Kafka) -> None:
    """One batch, once somebody leads the topic."""

    def is_taken() -> bool:
        with wire.Connection(kafka.address) as connection:
            answer = connection.ask(wire.produce_frame(TOPIC, BATCH, -1, 0))
        return bool(struct.unpack_from(">h", answer, 4 + 1 + 1 + len(wire.compact(TOPIC)) + 1 + 4)[0] == 0)

    wait_until(is_taken, "a leader")


def read_all(kafka: Kafka) -> int:
    """How many records it has of the topic."""
    offset = 0
    with wire.Connection(kafka.address) as connection:
        while True:
            frame = connection.ask(wire.fetch_frame(TOPIC, offset, 1 << 19))
            fetched = wire.fetch_response(frame)
            assert fetched.error_code == 0
            offset = wire.next_offset(frame, fetched.start, fetched.length)
            if offset == fetched.high_watermark:
                return offset


def test_kafka_goes_on_with_a_partition_and_checkpoints_of_ours(tmp_path: Path) -> None:
    ours = Tailrace(tmp_path / "ours", {"log.segment.bytes": str(1 << 20)})
    ours.start()
    with wire.Connection(wire.address(ours.bootstrap)) as connection:
        wire.create_topic(connection, TOPIC)
        for _ in range(7):
            connection.ask(wire.produce_frame(TOPIC, BATCH, -1, 0))
    ours.stop()
    kafka = Kafka(tmp_path / "theirs")
    try:
        start(kafka)
        with wire.Connection(kafka.address) as connection:
            wire.create_topic(connection, TOPIC)
        produce(kafka)
        kafka.stop()
        data = kafka.directory / "data"
        theirs = [(data / name).read_bytes() for name in OFFSET_FILES]
        expected = [(ours.data / name).read_bytes() for name in OFFSET_FILES]
        end = b"%d" % (7 * RECORDS)
        assert theirs == [text.replace(end, b"%d" % RECORDS) for text in expected]
        take_over(ours.data, data)
        start(kafka)
        assert read_all(kafka) == 7 * RECORDS
        said = kafka.log_file.read_text()
        assert "ERROR" not in said, said
    finally:
        kafka.stop()
    assert read_offsets(RealDirectory(str(data)), HIGH_WATERMARKS)[TOPIC, 0] == 7 * RECORDS


def take_over(ours: Path, theirs: Path) -> None:
    """Our log under Kafka's topic id, our checkpoints, and no word of a clean stop."""
    metadata = (theirs / f"{TOPIC}-0" / "partition.metadata").read_bytes()
    shutil.rmtree(theirs / f"{TOPIC}-0")
    shutil.copytree(ours / f"{TOPIC}-0", theirs / f"{TOPIC}-0")
    (theirs / f"{TOPIC}-0" / "partition.metadata").write_bytes(metadata)
    for name in OFFSET_FILES:
        shutil.copy(ours / name, theirs / name)
    os.unlink(theirs / ".kafka_cleanshutdown")
