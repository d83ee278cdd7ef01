"""Kafka's tools for log directories against one broker with two of them.

TAILRACE_COMPAT_AGAINST=kafka proves the tests on Apache Kafka.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perf.peers.kafka import Kafka
from perf.peers.tailrace import Tailrace
from tests.compat.members.jvm import Jvm
from tests.support.bootstrap import against_kafka
from tests.support.waiting import wait_until

TOOLS = "org.apache.kafka.tools"
REASSIGN = f"{TOOLS}.reassign.ReassignPartitionsCommand"
RECORDS = 200
PATIENCE_S = 90.0


class Host:
    """The broker and the tools."""

    def __init__(self, folder: Path, jvm: Jvm) -> None:
        self.folder, self.jvm = folder, jvm
        self.dirs = [str(folder / name) for name in ("data", "other")]
        settings = {"log.dirs": ",".join(self.dirs), "node.id": "1"}
        self.broker = Kafka(folder, settings) if against_kafka() else Tailrace(folder, settings)
        self.broker.start()
        at = self.broker.endpoints()["tcp"]
        assert not isinstance(at, Path)
        self.bootstrap = f"{at.host}:{at.port}"

    def says(self, tool: str, *arguments: str, given: str = "") -> str:
        """The output of a tool."""
        ran = self.jvm.tool(tool, "--bootstrap-server", self.bootstrap, *arguments, given=given)
        assert ran.code == 0, ran.out + ran.err
        return ran.out

    def read(self) -> int:
        """How many records there are."""
        how = ("--topic", "t", "--from-beginning", "--max-messages", str(RECORDS), "--timeout-ms", "20000")
        return len(self.says(f"{TOOLS}.consumer.ConsoleConsumer", *how).splitlines())

    def logs(self) -> dict[str, bool]:
        """Where the partition lies, and whether that is a copy, as kafka-log-dirs shows it."""
        said = self.says(f"{TOOLS}.LogDirsCommand", "--describe", "--topic-list", "t")
        (broker,) = json.loads(said.splitlines()[-1])["brokers"]
        return {
            found["logDir"]: each["isFuture"] for found in broker["logDirs"] for each in found["partitions"]
        }

    def plan(self, broker: int, log_dir: str) -> str:
        """A file with one move."""
        wish: dict[str, Any] = {"topic": "t", "partition": 0, "replicas": [broker], "log_dirs": [log_dir]}
        path = self.folder / "plan.json"
        path.write_text(json.dumps({"version": 1, "partitions": [wish]}))
        return str(path)


@pytest.fixture
def host(tmp_path: Path, jvm: Jvm) -> Iterator[Host]:
    """Started for one test."""
    made = Host(tmp_path, jvm)
    try:
        yield made
    finally:
        made.broker.stop()


def test_a_plan_that_names_log_directories(host: Host) -> None:
    host.says(f"{TOOLS}.TopicCommand", "--create", "--topic", "t")
    host.says(
        f"{TOOLS}.ConsoleProducer", "--topic", "t", given="".join(f"record {n}\n" for n in range(RECORDS))
    )
    broker = 1
    ((source, is_copy),) = host.logs().items()
    assert not is_copy
    (target,) = (path for path in host.dirs if path != source)
    plan = host.plan(broker, target)
    throttle = ("--replica-alter-log-dirs-throttle", "10000000")
    said = host.says(REASSIGN, "--execute", "--reassignment-json-file", plan, *throttle)
    assert f"Successfully started moving log directory to {target} for replica t-0 with broker 1" in said
    assert "The replica-alter-dir throttle limit was set to 10000000 B/s" in said
    done = "Reassignment of replica t-0-1 completed successfully."

    def is_over() -> bool:
        return done in host.says(REASSIGN, "--verify", "--reassignment-json-file", plan)

    wait_until(is_over, "the end of the move", PATIENCE_S)
    assert host.logs() == {target: False}
    assert host.read() == RECORDS
    described = host.says(
        "kafka.admin.ConfigCommand", "--describe", "--entity-type", "brokers", "--entity-name", str(broker)
    )
    assert "replica.alter.log.dirs.io.max.bytes.per.second" not in described
    back = host.plan(broker, source)
    host.says(REASSIGN, "--execute", "--reassignment-json-file", back)
    wait_until(lambda: host.logs() == {source: False}, "it to be back", PATIENCE_S)
    assert host.read() == RECORDS


def test_a_directory_that_is_none_is_refused(host: Host) -> None:
    host.says(f"{TOOLS}.TopicCommand", "--create", "--topic", "t")
    plan = host.plan(1, "/nowhere")
    how = ("--bootstrap-server", host.bootstrap, "--execute", "--reassignment-json-file", plan)
    ran = host.jvm.tool(REASSIGN, *how)
    assert ran.code == 1
    assert "LogDirNotFoundException" in ran.out + ran.err
