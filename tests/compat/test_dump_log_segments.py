"""Kafka's DumpLogSegments accepts our files after a clean stop, and after kill -9, restart, clean stop."""

import os
import signal
import subprocess
from pathlib import Path

from perf import wire
from perf.batches import ONE_RECORD
from perf.measures import Pipeline
from perf.peers import jars
from perf.peers.peer import Endpoint
from perf.peers.tailrace import Tailrace
from perf.processes import tree
from perf.workloads import SIXTEEN_KIB
from tailrace.core.errors import NOT_LEADER_OR_FOLLOWER
from tests.compat.clients.confluent import Confluent
from tests.compat.clients.java import QUIET
from tests.compat.corpus import PARTITIONS, records
from tests.support.peers import require
from tests.support.waiting import wait_until

TOPIC = "dumped"
REQUESTS = 200
COUNT = 4000
# The smallest segments that Kafka allows: the first writer fills several.
SETTINGS = {"log.segment.bytes": str(1 << 20), "log.index.interval.bytes": "1024"}
COMPLAINTS = (
    "mismatch",
    "error",
    "exception",
    "out of order",
    "isvalid: false",
    "corrupt",
    "not found",
    "does not pass",
)


def dump(*arguments: str) -> str:
    """What the tool says; it must end well."""
    command = ["java", *QUIET, "-cp", jars.class_path(), "org.apache.kafka.tools.DumpLogSegments", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    complaints = [
        line for line in done.stdout.splitlines() if any(word in line.lower() for word in COMPLAINTS)
    ]
    assert not complaints, complaints[:5]
    return done.stdout


def check_files(data: Path, count: int) -> None:
    """Every segment of the topic with its indexes; `count` records in all."""
    logs = sorted(data.glob(f"{TOPIC}-*/*.log"))
    indexes = sorted(data.glob(f"{TOPIC}-*/*index"))
    assert len(logs) > PARTITIONS, "the settings should have made several segments"
    shown = dump("--deep-iteration", "--files", ",".join(map(str, logs)))
    assert sum(line.startswith("| offset:") for line in shown.splitlines()) == count
    sane = dump("--index-sanity-check", "--files", ",".join(map(str, indexes)))
    assert sane.count("passed sanity check") + sane.count("index is empty") == len(indexes)
    assert ".index passed" in sane
    dump("--verify-index-only", "--files", ",".join(str(path) for path in indexes if path.suffix == ".index"))


def write_small_batches(endpoint: Endpoint) -> int:
    """Many batches of 16 KiB, so that indexes and segments have something to do; returns how many records."""
    with wire.Connection(endpoint) as connection:
        wire.create_topic(connection, TOPIC, PARTITIONS)
        pipeline = Pipeline(connection, TOPIC, SIXTEEN_KIB, -1, 5)
        pipeline.run(60, REQUESTS * len(SIXTEEN_KIB.data))
    return pipeline.records


def write_one(endpoint: Endpoint, next_offset: int) -> None:
    """One record to partition 0, as soon as that is led; it must get the offset given."""
    fields, found = wire.ProduceResponse.of(TOPIC).fields, list[tuple[int, int]]()
    with wire.Connection(endpoint) as connection:

        def is_led() -> bool:
            answer = connection.ask(wire.produce_frame(TOPIC, ONE_RECORD.data, -1, 0))
            found.append(fields.unpack(bytes(4) + answer)[2:])
            return found[-1][0] != NOT_LEADER_OR_FOLLOWER

        wait_until(is_led, "a leader of the partition")
    assert found[-1] == (0, next_offset)


def kill_everything(broker: Tailrace) -> None:
    """SIGKILL to all processes at once."""
    everyone = tree(broker.pid)
    for pid in everyone:
        os.kill(pid, signal.SIGKILL)
    broker.kill()
    wait_until(lambda: not any(Path(f"/proc/{pid}/cwd").exists() for pid in everyone), "the children's end")
    broker.stop()


def test_kafka_accepts_our_files_after_a_clean_stop_and_after_kill(tmp_path: Path) -> None:
    require(None if jars.available() else jars.MISSING)
    client, broker = Confluent(), Tailrace(tmp_path, SETTINGS)
    broker.start()
    try:
        written = write_small_batches(broker.endpoints()["tcp"])
        broker.stop()
        check_files(broker.data, written)
        broker.start()
        client.produce(broker.bootstrap, TOPIC, "zstd", records(COUNT, 1_700_000_100_000))
        kill_everything(broker)
        broker.start()
        write_one(broker.endpoints()["tcp"], written + COUNT // PARTITIONS)
    finally:
        broker.stop()
    check_files(broker.data, written + COUNT + 1)
