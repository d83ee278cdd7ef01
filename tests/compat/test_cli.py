"""Our command line against real brokers, Tailrace and Apache Kafka, and against kcat if it is there."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from perf.peers.jars import MISSING, available
from perf.peers.kafka import Kafka
from perf.peers.tailrace import Tailrace
from tailrace.clients.connection import Connection, UnreachableError
from tests.support.peers import require
from tests.support.waiting import wait_until

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
