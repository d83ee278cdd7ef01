"""Kafka's tools for replicas against three brokers: moves, elections, what is under-replicated, log
directories, brokers that are given up.

TAILRACE_COMPAT_AGAINST=kafka proves the tests on three brokers of Apache Kafka.
"""

import json
import re
from collections.abc import Iterator
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any

import pytest

from perf.peers.cluster import Cluster
from perf.peers.kafka_cluster import KafkaCluster
from perf.peers.tailrace_cluster import TailraceCluster
from tailrace.clients.connection import Connection, UnreachableError
from tailrace.core.errors import NONE
from tailrace.core.protocol.apis import ALTER_PARTITION_REASSIGNMENTS, METADATA
from tailrace.core.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsResponse,
)
from tailrace.core.protocol.messages.metadata import MetadataRequest, MetadataResponse
from tests.compat.members.jvm import TOOLS, Jvm, Tools
from tests.support.bootstrap import against_kafka
from tests.support.replica_messages import reassignment
from tests.support.waiting import wait_until

REASSIGN = f"{TOOLS}.reassign.ReassignPartitionsCommand"
ELECTION = f"{TOOLS}.LeaderElectionCommand"
RECORDS = 200
PATIENCE_S = 90.0
NUMBERS = count()
SETTINGS = {"auto.leader.rebalance.enable": "false", "min.insync.replicas": "1"}


class Host(Tools):
    """Three brokers and the tools; a topic's name is nobody else's."""

    def __init__(self, cluster: Cluster, jvm: Jvm, folder: Path) -> None:
        brokers = cluster.brokers()
        super().__init__(jvm, ",".join(f"{at.host}:{at.port}" for at in brokers.values()))
        self.cluster, self.folder, self.ids = cluster, folder, sorted(brokers)
        self.topic = f"replicas-{next(NUMBERS)}"

    def make(self, *replicas: tuple[int, ...], topic: str = "") -> None:
        """A topic placed by hand."""
        placed = ",".join(":".join(map(str, each)) for each in replicas)
        how = ("--create", "--topic", topic or self.topic, "--replica-assignment", placed)
        self.says(f"{TOOLS}.TopicCommand", *how)

    def fill(self) -> None:
        """Records in it."""
        lines = "".join(f"record {number}\n" for number in range(RECORDS))
        self.says(f"{TOOLS}.ConsoleProducer", "--topic", self.topic, given=lines)

    def read(self, *arguments: str) -> int:
        """How many it has."""
        how = ("--topic", self.topic, "--from-beginning", "--max-messages", str(RECORDS), *arguments)
        return len(self.says(f"{TOOLS}.consumer.ConsoleConsumer", *how, "--timeout-ms", "20000").splitlines())

    def described(self, *arguments: str) -> list[dict[str, Any]]:
        """kafka-topics --describe: leader, replicas and who is in sync of each partition shown."""
        shown = self.says(f"{TOOLS}.TopicCommand", "--describe", *arguments)
        found: list[dict[str, Any]] = []
        for line in shown.splitlines():
            parts = dict(re.findall(r"(\w+): ([^\t]*)", line))
            if "Partition" in parts:
                found.append(
                    {
                        "topic": parts["Topic"],
                        "partition": int(parts["Partition"]),
                        "leader": parts["Leader"].strip(),
                        "replicas": numbers(parts["Replicas"]),
                        "isr": sorted(numbers(parts["Isr"])),
                    }
                )
        return found

    def state(self) -> list[tuple[str, list[int], list[int]]]:
        """Of the topic of this name."""
        shown = self.described("--topic", self.topic)
        return [(each["leader"], each["replicas"], each["isr"]) for each in shown]

    def becomes(self, state: list[tuple[str, list[int], list[int]]]) -> None:
        """Whichever broker is asked: their images follow what is committed, a moment after the answer."""
        wait_until(lambda: self.state() == state, f"{self.topic} to be {state}", PATIENCE_S)

    def shown(self, flag: str) -> set[str]:
        """The partitions that kafka-topics --describe lists with a flag."""
        return {f"{each['topic']}-{each['partition']}" for each in self.described(flag)}

    def plan(self, *replicas: list[int], topic: str = "") -> str:
        """A file that says where each partition is to be."""
        partitions = [
            {"topic": topic or self.topic, "partition": index, "replicas": each}
            for index, each in enumerate(replicas)
        ]
        return self.file({"version": 1, "partitions": partitions})

    def file(self, content: Any) -> str:
        """A file of JSON."""
        path = self.folder / "asked.json"
        path.write_text(json.dumps(content))
        return str(path)

    def reassign(self, *arguments: str) -> str:
        """kafka-reassign-partitions."""
        return self.says(REASSIGN, *arguments)

    def move(self, *replicas: list[int], topic: str = "", throttle: int = 0) -> str:
        """Execute a plan and wait until the tool says of each partition that it is done; returns what it said
        when it had begun.
        """
        path, name = self.plan(*replicas, topic=topic), topic or self.topic
        how = ("--throttle", str(throttle)) if throttle else ()
        started = self.reassign("--execute", "--reassignment-json-file", path, *how)
        assert "Successfully started partition reassignment" in started
        done = [f"Reassignment of partition {name}-{index} is completed." for index in range(len(replicas))]

        def is_over() -> bool:
            said = self.reassign("--verify", "--reassignment-json-file", path)
            return all(each in said for each in done)

        wait_until(is_over, "the end of the move", PATIENCE_S)
        return started

    def elect(self, kind: str) -> str:
        """kafka-leader-election of the only partition."""
        which = ("--topic", self.topic, "--partition", "0")
        return self.says(ELECTION, "--election-type", kind, *which)

    def kill(self, broker: int) -> None:
        """SIGKILL for all of a broker; returns when the others know."""
        self.cluster.broker_killer(broker)()
        wait_until(lambda: broker not in self.alive(), f"the fence around {broker}", PATIENCE_S)

    def revive(self, broker: int) -> None:
        """And back."""
        self.cluster.revive(broker)
        wait_until(lambda: broker in self.alive(), f"{broker} to be back", PATIENCE_S)

    def alive(self) -> list[int]:
        """The brokers that clients are told of."""
        for at in self.cluster.brokers().values():
            try:
                with Connection(f"{at.host}:{at.port}", timeout_s=10) as connection:
                    connection.send(METADATA, MetadataRequest(topics=[]))
                    found = connection.receive(MetadataResponse)
            except UnreachableError:
                continue
            return sorted(broker.node_id for broker in found.brokers)
        return []

    def in_sync(self, *isr: int) -> None:
        """Wait until these are."""
        wanted = sorted(isr)
        wait_until(lambda: all(each[2] == wanted for each in self.state()), f"ISR {wanted}", PATIENCE_S)

    def start_move(self, *replicas: int) -> None:
        """What no tool does: to a broker that is dead."""
        asked = reassignment({self.topic: {0: list(replicas)}})
        first = self.cluster.brokers()[self.ids[0]]
        with Connection(f"{first.host}:{first.port}", timeout_s=30) as connection:
            connection.send(ALTER_PARTITION_REASSIGNMENTS, asked)
            answer = connection.receive(AlterPartitionReassignmentsResponse)
        assert [one.error_code for topic in answer.responses for one in topic.partitions] == [NONE]


def numbers(text: str) -> list[int]:
    """1,2,3."""
    return [int(number) for number in text.split(",") if number.strip()]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Started for these tests."""
    folder = tmp_path_factory.mktemp("cluster")
    started = KafkaCluster(folder, SETTINGS) if against_kafka() else TailraceCluster(folder, SETTINGS)
    started.start()
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture
def host(cluster: Cluster, jvm: Jvm, tmp_path: Path) -> Host:
    """All three brokers serve."""
    made = Host(cluster, jvm, tmp_path)
    wait_until(lambda: made.alive() == made.ids, "three brokers", PATIENCE_S)
    return made


def test_topics_of_three_replicas_are_made_and_widened(host: Host) -> None:
    how = ("--topic", host.topic, "--partitions", "3")
    host.says(f"{TOOLS}.TopicCommand", "--create", *how, "--replication-factor", "3")
    widen = ("--alter", "--topic", host.topic, "--partitions", "4", "--replica-assignment")
    placed = ",".join([":".join(map(str, host.ids))] * 4)
    host.says(f"{TOOLS}.TopicCommand", *widen, placed)
    host.in_sync(*host.ids)
    shown = host.state()
    assert {leader for leader, _, _ in shown} == {str(broker) for broker in host.ids}
    assert all(sorted(replicas) == host.ids for _, replicas, _ in shown)
    assert shown[3][:2] == (str(host.ids[0]), host.ids)
    host.fill()
    assert host.read() == RECORDS


def test_replicas_are_moved_by_plan_and_nothing_is_lost(host: Host) -> None:
    one, two, three = host.ids
    host.make((one, two), (two, one))
    host.fill()
    wish = host.file({"version": 1, "topics": [{"topic": host.topic}]})
    said = host.reassign("--generate", "--topics-to-move-json-file", wish, "--broker-list", f"{two},{three}")
    now, proposed = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert [each["replicas"] for each in now["partitions"]] == [[one, two], [two, one]]
    assert {broker for each in proposed["partitions"] for broker in each["replicas"]} == {two, three}
    host.move([three, two], [two, three])
    assert host.reassign("--list").strip() == "No partition reassignments found."
    assert [(replicas, isr) for _, replicas, isr in host.state()] == [
        ([three, two], [two, three]),
        ([two, three], [two, three]),
    ]
    assert host.read() == RECORDS
    host.move([one, two, three], [one])
    assert [replicas for _, replicas, _ in host.state()] == [[one, two, three], [one]]
    assert host.read() == RECORDS


def test_a_group_keeps_its_offsets_when_its_coordinator_moves(host: Host) -> None:
    host.make((host.ids[0],))
    host.fill()
    group = ("--group", host.topic)
    assert host.read(*group) == RECORDS
    offsets = "__consumer_offsets"
    placed = [each["replicas"] for each in host.described("--topic", offsets)]
    host.move(*([broker] for broker in islice(cycle(host.ids), len(placed))), topic=offsets)
    host.move(*([broker] for broker in islice(cycle(host.ids[1:]), len(placed))), topic=offsets)
    host.move(*placed, topic=offsets)
    shown = host.says(f"{TOOLS}.consumer.group.ConsumerGroupCommand", "--describe", *group)
    assert f"{host.topic} 0 {RECORDS} {RECORDS} 0" in " ".join(shown.split())


def test_a_plan_that_cannot_be_is_refused(host: Host) -> None:
    host.make((host.ids[0], host.ids[1]))
    refused = host.run(REASSIGN, "--execute", "--reassignment-json-file", host.plan([host.ids[0], 77]))
    assert refused.code == 1
    assert "Unknown broker id 77" in refused.out + refused.err


def test_a_throttled_move_ends_and_the_throttles_go_with_it(host: Host) -> None:
    one, two, three = host.ids
    host.make((one, two))
    host.fill()
    about = ("--entity-type", "topics", "--entity-name", host.topic, "--describe")
    said = host.move([one, three], throttle=50_000_000)
    assert "The inter-broker throttle limit was set to 50000000 B/s" in said
    shown = host.says("kafka.admin.ConfigCommand", *about)
    assert "throttled" not in shown
    host.becomes([(str(one), [one, three], sorted([one, three]))])
    assert host.read() == RECORDS


def test_a_move_that_waits_for_the_dead_is_listed_and_cancelled(host: Host) -> None:
    one, two, three = host.ids
    host.make((one, two))
    host.kill(three)
    try:
        host.start_move(one, three)
        name = f"{host.topic}-0"
        listed = host.reassign("--list")
        assert f"{name}: replicas: {one},{three},{two}. adding: {three}. removing: {two}." in listed
        path = host.plan([one, three])
        which = ("--reassignment-json-file", path, "--preserve-throttles")
        assert "still in progress" in host.reassign("--verify", *which)
        cancelled = host.reassign("--cancel", *which)
        assert f"Successfully cancelled partition reassignment for: {name}" in cancelled
        assert host.reassign("--list").strip() == "No partition reassignments found."
        host.becomes([(str(one), [one, two], [one, two])])
    finally:
        host.revive(three)


def test_leaders_are_elected(host: Host) -> None:
    one, _, three = host.ids
    host.make((three, one))
    host.fill()
    host.kill(three)
    try:
        host.becomes([(str(one), [three, one], [one])])
        ran = host.run(ELECTION, "--election-type", "preferred", "--topic", host.topic, "--partition", "0")
        assert ran.code == 1
        assert "PreferredLeaderNotAvailableException" in ran.out + ran.err
    finally:
        host.revive(three)
    host.in_sync(three, one)
    host.becomes([(str(one), [three, one], sorted([one, three]))])
    assert "Successfully completed leader election (PREFERRED)" in host.elect("preferred")
    host.becomes([(str(three), [three, one], sorted([one, three]))])
    assert "Valid replica already elected for partitions" in host.elect("preferred")
    assert host.read() == RECORDS


def test_what_lacks_replicas_or_a_leader_is_shown(host: Host) -> None:
    one, _, three = host.ids
    alone, both = f"{host.topic}-alone", f"{host.topic}-both"
    host.make((three,), topic=alone)
    host.make((one, three), topic=both)
    flags = ("--under-replicated-partitions", "--at-min-isr-partitions", "--unavailable-partitions")
    # A topic with one replica is at its minimum from the beginning.
    healthy = [set[str](), {f"{alone}-0"}, set[str]()]
    assert [mine(host.shown(flag), host.topic) for flag in flags] == healthy
    host.kill(three)
    try:
        lost, short = f"{alone}-0", f"{both}-0"
        assert mine(host.shown("--under-replicated-partitions"), host.topic) >= {short}
        assert short in host.shown("--at-min-isr-partitions")
        assert mine(host.shown("--unavailable-partitions"), host.topic) == {lost}
    finally:
        host.revive(three)
    wait_until(
        lambda: [mine(host.shown(flag), host.topic) for flag in flags] == healthy, "health", PATIENCE_S
    )


def mine(partitions: set[str], topic: str) -> set[str]:
    """Those of one test."""
    return {partition for partition in partitions if partition.startswith(topic)}


def test_log_directories_of_all_brokers_are_measured(host: Host) -> None:
    one, two, three = host.ids
    host.make((one, three))
    host.fill()
    brokers = ",".join(map(str, host.ids))

    def is_measured() -> bool:
        """A follower counts what it knows to be committed, which it hears a little later."""
        said = host.says(
            f"{TOOLS}.LogDirsCommand", "--describe", "--broker-list", brokers, "--topic-list", host.topic
        )
        found = {
            (broker["broker"], each["partition"]): each
            for broker in json.loads(said.splitlines()[-1])["brokers"]
            for directory in broker["logDirs"]
            for each in directory["partitions"]
        }
        assert found.keys() == {(one, f"{host.topic}-0"), (three, f"{host.topic}-0")}
        assert two not in {broker for broker, _ in found}
        assert not any(each["isFuture"] or each["offsetLag"] for each in found.values())
        return all(each["size"] > 0 for each in found.values())

    wait_until(is_measured, "sizes of both")


def test_a_broker_is_given_up_and_comes_back(host: Host) -> None:
    one, _, three = host.ids
    host.make((one, three))
    host.fill()
    tool = f"{TOOLS}.ClusterTool"
    host.kill(three)
    try:
        said = host.jvm.tool(tool, "unregister", "--bootstrap-server", host.bootstrap, "--id", str(three))
        assert f"Broker {three} is no longer registered." in said.out
        said = host.jvm.tool(tool, "unregister", "--bootstrap-server", host.bootstrap, "--id", str(three))
        assert said.code == 1
        assert f"Broker ID {three} is not currently registered" in said.out + said.err
        host.becomes([(str(one), [one, three], [one])])
    finally:
        host.revive(three)
    host.in_sync(one, three)
    assert host.read() == RECORDS


def test_an_unclean_election_takes_who_lives(host: Host) -> None:
    one, two, _ = host.ids
    host.make((one, two))
    host.fill()
    host.in_sync(one, two)
    host.kill(two)
    try:
        host.in_sync(one)
        host.cluster.broker_killer(one)()
        host.revive(two)
        wait_until(lambda: one not in host.alive(), "the fence around the leader", PATIENCE_S)
        wait_until(lambda: host.state()[0][0] == "none", "a partition without leader", PATIENCE_S)
        assert "Successfully completed leader election (UNCLEAN)" in host.elect("unclean")
        host.becomes([(str(two), [one, two], [two])])
        assert host.read() == RECORDS
    finally:
        host.revive(one)
    host.in_sync(one, two)
