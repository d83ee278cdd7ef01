"""Our command line against real brokers, Tailrace and Apache Kafka, and against kcat if it is there."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from perf.peers.jars import MISSING, available
from perf.peers.kafka import Kafka
from perf.peers.tailrace import Tailrace
from tailrace.clients.cluster import Cluster
from tailrace.clients.connection import Connection, UnreachableError
from tailrace.clients.lag import first_timestamps
from tailrace.clients.producer import Producer
from tailrace.core.errors import KafkaError
from tailrace.core.protocol.apis import CONSUMER_GROUP_DESCRIBE
from tailrace.core.records.record import NewRecord
from tests.support.peers import require
from tests.support.waiting import wait_until

confluent_kafka: Any = import_module("confluent_kafka")

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
FORMAT = "%p %o %T %k=%s\\n"
LINES = b"".join(b"%d\tvalue %d\n" % (number, number * number) for number in range(3000))


def tailrace(*arguments: str, stdin: bytes = b"", code: int = 0) -> bytes:
    """Run a command line; its output."""
    done = subprocess.run(
        [sys.executable, "-m", "tailrace", *arguments],
        input=stdin,
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == code, done.stderr.decode()
    return done.stdout


@pytest.fixture(scope="module", params=["tailrace", "kafka"])
def bootstrap(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a real broker serves."""
    if request.param == "tailrace":
        broker: Tailrace = request.getfixturevalue("broker")
        yield broker.bootstrap
        return
    require(None if available() else MISSING)
    kafka = Kafka(tmp_path_factory.mktemp("kafka"))
    kafka.start()
    address = f"{kafka.address.host}:{kafka.address.port}"
    try:
        wait_until(lambda: answers(address), "Apache Kafka to serve", 60)
        yield address
    finally:
        kafka.stop()


def answers(address: str) -> bool:
    """Whether a broker serves there."""
    try:
        Connection(address, timeout_s=5).close()
    except UnreachableError:
        return False
    return True


def test_records_of_every_codec_come_back_with_their_keys(bootstrap: str) -> None:
    for codec in CODECS:
        topic = f"cli-{codec}"
        tailrace("topic", "create", topic, "-p", "2", "-b", bootstrap)
        tailrace("produce", "-b", bootstrap, "-t", topic, "-K", "\\t", "-z", codec, stdin=LINES)
        found = tailrace("consume", "-b", bootstrap, "-t", topic, "-e", "-q", "-K", "\\t")
        assert sorted(found.splitlines()) == sorted(LINES.splitlines())
        per_partition = [
            tailrace("consume", "-b", bootstrap, "-t", topic, "-p", partition, "-e", "-q", "-f", "%k ")
            for partition in ("0", "1")
        ]
        for keys in per_partition:
            numbers = [int(key) for key in keys.split()]
            assert numbers == sorted(numbers)


def test_kcat_and_we_read_the_same(bootstrap: str) -> None:
    require(None if shutil.which("kcat") else "kcat is not installed")
    tailrace("topic", "create", "cli-kcat", "-p", "3", "-b", bootstrap)
    tailrace("produce", "-b", bootstrap, "-t", "cli-kcat", "-K", "\\t", "-z", "lz4", stdin=LINES)
    kcat = ["kcat", "-b", bootstrap, "-t", "cli-kcat"]
    subprocess.run([*kcat, "-P", "-K", "\t", "-z", "snappy"], input=LINES, check=True, timeout=60)
    read = [*kcat, "-C", "-e", "-q", "-f", FORMAT]
    theirs = subprocess.run(read, capture_output=True, check=True, timeout=60).stdout
    ours = tailrace("consume", "-b", bootstrap, "-t", "cli-kcat", "-e", "-q", "-f", FORMAT)
    assert sorted(ours.splitlines()) == sorted(theirs.splitlines())
    assert len(ours.splitlines()) == 2 * 3000


def test_topics_are_described_and_deleted(bootstrap: str) -> None:
    tailrace("topic", "create", "cli-topic", "-p", "2", "-b", bootstrap)
    tailrace("produce", "-b", bootstrap, "-t", "cli-topic", "-p", "1", stdin=b"a\nb\n")
    described = json.loads(tailrace("topic", "describe", "cli-topic", "-b", bootstrap, "-o", "json"))
    assert [(part["start"], part["end"]) for part in described[0]["partitions"]] == [(0, 0), (0, 2)]
    tailrace("topic", "delete", "cli-topic", "-b", bootstrap)
    wait_until(
        lambda: b"cli-topic" not in tailrace("topic", "list", "-b", bootstrap), "the deleted topic to be gone"
    )
    tailrace("topic", "describe", "cli-topic", "-b", bootstrap, code=5)
    tailrace("topic", "create", "not/a/name", "-b", bootstrap, code=1)


def as_json(*arguments: str, code: int = 0) -> Any:
    """What a command prints for programs."""
    return json.loads(tailrace(*arguments, "-o", "json", code=code))


@contextmanager
def reading(
    bootstrap: str, group: str, topic: str, count: int, protocol: str = "classic"
) -> Generator[None, None, None]:
    """A member of a group that has read and committed so many records; it leaves at the end."""
    settings = {
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "group.protocol": protocol,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    }
    consumer = confluent_kafka.Consumer(settings)
    try:
        consumer.subscribe([topic])
        got: list[Any] = []

        def is_enough() -> bool:
            got.extend(read_one(consumer))
            return len(got) >= count

        wait_until(is_enough, "the records")
        consumer.commit(message=got[-1], asynchronous=False)
        yield
    finally:
        consumer.close()


def read_one(consumer: Any) -> list[Any]:
    """The next record, if it is there soon."""
    message = consumer.poll(0.1)
    if message is None:
        return []
    assert message.error() is None, message.error()
    return [message]


def serves(bootstrap: str, protocol: str) -> bool:
    """Whether the broker has groups of this kind."""
    with Connection(bootstrap) as connection:
        try:
            return protocol == "classic" or connection.version(CONSUMER_GROUP_DESCRIBE) >= 0
        except KafkaError:
            return False


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_group_is_described_moved_and_deleted(bootstrap: str, protocol: str, tmp_path: Path) -> None:
    if not serves(bootstrap, protocol):
        pytest.skip("no KIP-848 groups are served there yet")
    group = topic = f"cli-group-{protocol}"
    at = ("-b", bootstrap)
    tailrace("topic", "create", topic, "-p", "1", *at)
    tailrace("produce", *at, "-t", topic, stdin=b"x\n" * 20)
    with reading(bootstrap, group, topic, 5, protocol):
        (shown,) = as_json("group", "describe", group, *at)
        assert (shown["kind"], shown["state"]) == (protocol, "Stable")
        (member,) = shown["members"]
        assert member["assignment"] == {topic: [0]}
        (part,) = shown["partitions"]
        assert (part["committed"], part["end"], part["records"]) == (5, 20, 15)
        assert part["member_id"] == member["member_id"]
        tailrace("group", "seek", group, "--to", "start", *at, code=1)
        tailrace("group", "delete", group, *at, code=1)

    def committed() -> int:
        (part,) = as_json("group", "describe", group, *at)[0]["partitions"]
        return int(part["committed"])

    wait_until(lambda: not as_json("group", "describe", group, *at)[0]["members"], "the member to be gone")
    assert {"group": group, "state": "Empty"}.items() <= next(
        found for found in as_json("group", "list", "--state", "Empty", *at) if found["group"] == group
    ).items()
    assert as_json("group", "seek", group, "--to", "+3", *at) == [
        {"topic": topic, "partition": 0, "before": 5, "after": 8}
    ]
    for place, offset in (("start", 0), ("end", 20), ("7", 7), ("-2", 5), ("@-1h", 0), ("@2999-01-01", 20)):
        tailrace("group", "seek", group, "--to", place, *at)
        assert committed() == offset, place
    exported = tmp_path / "offsets"
    offset_4 = ("--to-offset", "4", "--topic", f"{topic}:0")
    exported.write_bytes(tailrace("group", "reset", group, *offset_4, "--export", *at))
    assert exported.read_text() == f"{topic},0,4\n"
    assert committed() == 20, "nothing changes without --execute"
    tailrace("group", "seek", group, "--to-file", str(exported), *at)
    assert committed() == 4
    tailrace("group", "reset", group, "--shift-by", "-1", "--all-topics", "--execute", *at)
    assert committed() == 3
    tailrace("group", "delete", group, "-t", topic, *at)
    assert as_json("group", "describe", group, *at)[0]["partitions"] == []
    tailrace("group", "delete", group, *at)
    tailrace("group", "describe", group, *at, code=5)
    tailrace("group", "delete", group, *at, code=5)


def test_lag_is_in_records_and_seconds_and_has_limits(bootstrap: str) -> None:
    at = ("-b", bootstrap)
    tailrace("topic", "create", "cli-lag", "-p", "2", *at)
    now_ms = int(time.time() * 1000)
    ages_s = (5000, 4000, 3000, 2000, 1000)
    records = [NewRecord(value=b"x", timestamp=now_ms - age_s * 1000) for age_s in ages_s]
    with Cluster(bootstrap) as cluster:
        for codec in CODECS:  # each a batch of five
            Producer(cluster, codec=codec).produce("cli-lag", 0, records)
        for offset in (0, 3, 7, 14, 24):
            found = first_timestamps(cluster, "cli-lag", {0: offset, 1: 0})
            assert found == {0: records[offset % 5].timestamp}, "of the record itself, also inside a batch"
    tailrace("group", "seek", "cli-lag", "--to", "23", "-t", "cli-lag", *at)
    (lag,) = as_json("lag", "cli-lag", *at)
    assert lag["records"] == 2
    assert lag["seconds"] >= 2000
    assert [(part["committed"], part["records"]) for part in lag["partitions"]] == [(23, 2), (0, 0)]
    tailrace("lag", "cli-lag", "--max-records", "2", *at)
    tailrace("lag", "cli-lag", "--max-records", "1", *at, code=1)
    tailrace("lag", "cli-lag", "--max-seconds", "1999", *at, code=1)
    tailrace("lag", "--watch", "--interval", "0.1", "--max-records", "1", *at, code=1)
    tailrace("group", "seek", "cli-lag", "--to", "end", *at)
    (lag,) = as_json("lag", "cli-lag", *at)
    assert (lag["records"], lag["seconds"]) == (0, 0.0)
    tailrace("lag", "cli-nobody", *at, code=5)


def test_a_topic_is_configured_grown_and_trimmed(bootstrap: str) -> None:
    at = ("-b", bootstrap)

    def config(key: str) -> tuple[str, str]:
        (shown,) = as_json("topic", "describe", "cli-change", "--configs", *at)
        (found,) = (entry for entry in shown["configs"] if entry["key"] == key)
        return found["value"], found["source"]

    def partitions() -> list[tuple[int, int]]:
        (shown,) = as_json("topic", "describe", "cli-change", *at)
        return [(part["start"], part["end"]) for part in shown["partitions"]]

    tailrace("topic", "create", "cli-change", "-p", "1", *at)
    tailrace("topic", "alter-config", "cli-change", "max.message.bytes=2000", *at)
    wait_until(lambda: config("max.message.bytes") == ("2000", "topic"), "the config to be seen")
    tailrace("topic", "alter-config", "cli-change", "--delete", "max.message.bytes", *at)
    wait_until(lambda: config("max.message.bytes")[1] == "default", "the config to be gone")
    tailrace("topic", "alter-config", "cli-change", "max.message.bytes=x", *at, code=1)
    tailrace("topic", "alter-config", "cli-absent", "max.message.bytes=1", *at, code=5)
    tailrace("topic", "add-partitions", "cli-change", "1", "--validate-only", *at)
    assert len(partitions()) == 1
    tailrace("topic", "add-partitions", "cli-change", "2", *at)
    wait_until(lambda: len(partitions()) == 3, "the new partitions")
    for partition in ("0", "1"):
        tailrace("produce", *at, "-t", "cli-change", "-p", partition, stdin=b"x\n" * 10)
    tailrace("topic", "trim", "cli-change", "--before-offset", "4", "-p", "1", "--dry-run", *at)
    assert partitions() == [(0, 10), (0, 10), (0, 0)]
    assert as_json("topic", "trim", "cli-change", "--before-offset", "4", "-p", "1", *at) == [
        {"topic": "cli-change", "partition": 1, "before": 0, "after": 4}
    ]
    tailrace("topic", "trim", "cli-change", "--before-time", "-1h", *at)
    assert partitions() == [(0, 10), (4, 10), (0, 0)]
    tailrace("topic", "trim", "cli-change", "--before-time", "2999-01-01", *at)
    assert partitions() == [(10, 10), (10, 10), (0, 0)]
    tailrace("topic", "trim", "cli-change", "--before-offset", "99", *at, code=1)


def test_the_files_of_a_broker_are_dumped_and_verified(tmp_path: Path) -> None:
    broker = Tailrace(tmp_path)
    broker.start()
    try:
        tailrace("produce", "-b", broker.bootstrap, "-t", "files", stdin=LINES)
        tailrace("group", "seek", "cli-files", "--to", "7", "-t", "files", "-b", broker.bootstrap)
        offsets = [
            json.loads(line)
            for log in broker.data.glob("__consumer_offsets-*/*.log")
            for line in tailrace("log", "dump", str(log), "--offsets", "-o", "json").splitlines()
        ]
        commits = [entry for entry in offsets if entry.get("group") == "cli-files"]
        assert [(entry["topic"], entry["value"]["offset"]) for entry in commits] == [("files", 7)]
        tailrace("log", "verify", str(broker.data), code=1)
        checks = as_json("doctor", "--data", str(broker.data))
        assert {"broker": "ok", "processes": "ok"}.items() <= {
            c["check"]: c["status"] for c in checks
        }.items()
    finally:
        broker.stop()
    verified = as_json("log", "verify", str(broker.data), "--records")
    assert not any(partition["faults"] for partition in verified)
    assert max(partition["end_offset"] for partition in verified) == len(LINES.splitlines())


def test_the_unix_socket_serves_the_command_line(broker: Tailrace) -> None:
    assert broker.bootstrap
    unix = f"unix:{broker.endpoints()['unix']}"
    tailrace("produce", "-b", unix, "-t", "cli-unix", stdin=b"over a socket\n")
    assert tailrace("consume", "-b", unix, "-t", "cli-unix", "-e", "-q") == b"over a socket\n"


def test_status_shows_the_processes_and_stop_ends_them(tmp_path: Path) -> None:
    broker = Tailrace(tmp_path)
    broker.start()
    try:
        bootstrap = broker.bootstrap
        tailrace("topic", "create", "owned", "-p", "2", "-b", bootstrap)
        status = json.loads(tailrace("status", "--data", str(broker.data), "-o", "json"))
        roles = [process["role"] for process in status["processes"]]
        assert roles == ["supervisor", "controller", "gateway", "housekeeper", "worker", "worker"]
        assert all(os.path.exists(f"/proc/{process['pid']}") for process in status["processes"])
        owned = {part["topic"] for process in status["processes"] for part in process["partitions"]}
        assert "owned" in owned
        tailrace("stop", "--data", str(broker.data))
        assert not any(os.path.exists(f"/proc/{process['pid']}") for process in status["processes"][1:])
    finally:
        broker.stop()
    tailrace("status", "--data", str(broker.data), code=5)
    tailrace("topic", "list", "-b", bootstrap, code=3)
