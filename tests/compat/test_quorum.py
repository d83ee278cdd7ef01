"""The controllers' quorum: Kafka's own tool at work on it, and each field beside Kafka's."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from perf.peers import jars
from perf.peers.kafka import CLUSTER_ID, Node
from perf.peers.kafka_cluster import directory_id
from perf.peers.peer import free_port
from perf.peers.tailrace import Tailrace
from tests.compat.members.jvm import TOOLS, Jvm, Ran, Tools
from tests.support.peers import require
from tests.support.quorum_cases import answers, voters
from tests.support.three_brokers import IDS, Host, running
from tests.support.waiting import wait_until

TOOL = f"{TOOLS}.MetadataQuorumCommand"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """Three brokers."""
    with running(tmp_path) as started:
        yield started


class Quorum:
    """What the tool does and says."""

    def __init__(self, jvm: Jvm, host: Host) -> None:
        self._tools, self._host = Tools(jvm, host.addresses[2]), host

    def run(self, *arguments: str) -> Ran:
        """It may fail."""
        return self._tools.run(TOOL, *arguments)

    def says(self, *arguments: str) -> str:
        """It must succeed."""
        return self._tools.says(TOOL, *arguments)

    def status(self) -> dict[str, Any]:
        """describe --status, by name."""
        found: dict[str, Any] = {}
        for line in self.says("describe", "--status").splitlines():
            name, _, value = line.partition(":")
            found[name] = json.loads(value) if name.startswith("Current") else value.strip()
        return found

    def voters(self) -> list[int]:
        """Their ids."""
        return [voter["id"] for voter in self.status()["CurrentVoters"]]

    def key(self, node_id: int) -> tuple[str, ...]:
        """How remove-controller is told of one."""
        return "--controller-id", str(node_id), "--controller-directory-id", directory_of(self._host, node_id)


def directory_of(host: Host, node_id: int) -> str:
    """The id of its metadata directory."""
    lines = (host.data / f"broker-{node_id}" / "meta.properties").read_text().splitlines()
    return next(line.removeprefix("directory.id=") for line in lines if line.startswith("directory.id="))


def test_kafkas_tool_describes_the_quorum_and_changes_it(host: Host, jvm: Jvm, tmp_path: Path) -> None:
    quorum = Quorum(jvm, host)
    status = quorum.status()
    leader = int(status["LeaderId"])
    assert quorum.voters() == list(IDS)
    assert [voter["directoryId"] for voter in status["CurrentVoters"]] == [directory_of(host, i) for i in IDS]
    assert [voter["endpoints"] for voter in status["CurrentVoters"]] == [
        [f"CONTROLLER://{address}"] for address in host.addresses.values()
    ]
    rows = [line.split() for line in quorum.says("describe", "--replication").splitlines()[1:]]
    assert {int(row[0]): row[-1] for row in rows} == {i: "Leader" if i == leader else "Follower" for i in IDS}
    leaving = next(i for i in IDS if i != leader)
    assert "Removed" in quorum.says("remove-controller", *quorum.key(leaving))
    assert quorum.voters() == [i for i in IDS if i != leaving]
    wait_until(lambda: [o["id"] for o in quorum.status()["CurrentObservers"]] == [leaving], "it to follow")
    assert "VoterNotFoundException" in quorum.run("remove-controller", *quorum.key(leaving)).err
    properties = tmp_path / "controller.properties"
    properties.write_text(
        f"process.roles=controller\nnode.id={leaving}\ncontroller.listener.names=CONTROLLER\n"
        "listeners=CONTROLLER://localhost:9093\ncontroller.quorum.bootstrap.servers=localhost:9093\n"
        f"log.dirs={host.data}/broker-{leaving}\n"
    )
    assert "Added" in quorum.says("--command-config", str(properties), "add-controller")
    assert quorum.voters() == list(IDS)
    assert "Removed" in quorum.says("remove-controller", *quorum.key(leader)), "the leader itself"
    assert int(quorum.status()["LeaderId"]) not in (-1, leader)
    host.create("afterwards", 3)


@pytest.mark.full
def test_each_field_is_as_kafka_answers(tmp_path: Path) -> None:
    """Of a quorum of one that can change."""
    require(None if jars.available() else jars.MISSING)
    ports = free_port(), free_port()
    settings = {
        "controller.quorum.bootstrap.servers": f"127.0.0.1:{ports[1]}",
        "offsets.topic.replication.factor": "1",
    }
    kafka = Node(tmp_path / "kafka", 1, ports, settings, f"1@127.0.0.1:{ports[1]}:{directory_id()}")
    own = Tailrace(tmp_path / "own", {"node.id": "1", "cluster.id": CLUSTER_ID})
    told: list[dict[str, Any]] = []
    for broker in (kafka, own):
        broker.start()
        try:
            address = f"127.0.0.1:{ports[0]}" if broker is kafka else own.bootstrap
            wait_until(partial(voters, address), "it to serve", 90.0)
            told.append(answers(address, CLUSTER_ID))
        finally:
            broker.stop()
    assert told[1] == told[0]
