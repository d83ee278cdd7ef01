"""Kafka's own command line tools, run by the names of their classes, and what they say."""

import json
import time
from itertools import count, dropwhile
from pathlib import Path

import pytest

from tests.compat.members.jvm import TOOLS, Jvm, Ran, Tools, run_alone

GROUPS = f"{TOOLS}.consumer.group.ConsumerGroupCommand"
CONSOLE_CONSUMER = f"{TOOLS}.consumer.ConsoleConsumer"
PARTITIONS = 3
NUMBERS = count()


class Kit(Tools):
    """The tools, a broker, and a name that is nobody else's."""

    def __init__(self, jvm: Jvm, bootstrap: str, name: str) -> None:
        super().__init__(jvm, bootstrap)
        self.name = name

    def rows(self, tool: str, *arguments: str) -> list[dict[str, str]]:
        """The table it prints, by the names of the columns; they are as wide as what is in them."""
        lines = [line for line in self.says(tool, *arguments).splitlines() if line.strip()]
        tables = dropwhile(lambda line: not line.startswith("GROUP "), lines)  # after warnings
        head, *rest = [*tables] or [""]
        return [dict(zip(head.split(), line.split(), strict=False)) for line in rest]

    def topics(self, *arguments: str) -> str:
        """kafka-topics."""
        return self.says(f"{TOOLS}.TopicCommand", *arguments)

    def make_topic(self, partitions: int = PARTITIONS) -> None:
        """A topic of this name."""
        self.topics("--create", "--topic", self.name, "--partitions", str(partitions))

    def fill(self, records: int) -> None:
        """Records with keys, so that each partition has some."""
        lines = "".join(f"key {number}:value {number}\n" for number in range(records))
        how = ("--reader-property", "parse.key=true", "--reader-property", "key.separator=:")
        self.says(f"{TOOLS}.ConsoleProducer", "--topic", self.name, *how, given=lines)

    def consume(self, records: int, *arguments: str) -> list[str]:
        """kafka-console-consumer until so many records have come."""
        stop = ("--max-messages", str(records), "--timeout-ms", "20000")
        return self.says(CONSOLE_CONSUMER, "--topic", self.name, *stop, *arguments).splitlines()

    def ends(self, *arguments: str) -> dict[int, int]:
        """kafka-get-offsets of the topic, by partition."""
        lines = self.says(f"{TOOLS}.GetOffsetShell", "--topic", self.name, *arguments).split()
        parts = [line.rsplit(":", 2) for line in lines]
        assert {topic for topic, _, _ in parts} <= {self.name}
        return {int(partition): int(offset) for _, partition, offset in parts}

    def group(self, *arguments: str) -> list[dict[str, str]]:
        """kafka-consumer-groups --describe of the group of this name."""
        return self.rows(GROUPS, "--describe", "--group", self.name, *arguments)

    def committed(self) -> dict[int, int]:
        """What the group has stored, by partition."""
        return {int(row["PARTITION"]): int(row["CURRENT-OFFSET"]) for row in self.group()}

    def reset(self, *how: str) -> dict[int, int]:
        """kafka-consumer-groups --reset-offsets of all partitions; what it says is what is stored."""
        asked = ("--reset-offsets", "--group", self.name, "--topic", self.name, *how)
        said = {
            int(row["PARTITION"]): int(row["NEW-OFFSET"]) for row in self.rows(GROUPS, *asked, "--execute")
        }
        assert said == self.committed()
        return said


@pytest.fixture
def kit(jvm: Jvm, bootstrap: str) -> Kit:
    """The tools on the broker under test."""
    return Kit(jvm, bootstrap, f"tools-{time.monotonic_ns()}-{next(NUMBERS)}")


def test_topics_are_made_shown_widened_and_deleted(kit: Kit) -> None:
    kit.make_topic()
    assert kit.name in kit.topics("--list").splitlines()
    shown = kit.topics("--describe", "--topic", kit.name)
    assert f"Topic: {kit.name}\t" in shown
    assert "PartitionCount: 3\tReplicationFactor: 1\t" in shown
    assert [f"Partition: {index}\t" in shown for index in range(4)] == [True, True, True, False]
    kit.topics("--alter", "--topic", kit.name, "--partitions", "5")
    assert "PartitionCount: 5\t" in kit.topics("--describe", "--topic", kit.name)
    fewer = kit.run(f"{TOOLS}.TopicCommand", "--alter", "--topic", kit.name, "--partitions", "2")
    assert fewer.code == 1
    assert "Error while executing topic command" in fewer.out
    assert "PartitionCount: 5\t" in kit.topics("--describe", "--topic", kit.name)
    kit.topics("--delete", "--topic", kit.name)
    assert kit.name not in kit.topics("--list").splitlines()


def test_configs_are_set_shown_and_taken_back(kit: Kit) -> None:
    kit.make_topic()
    about = ("--entity-type", "topics", "--entity-name", kit.name)

    def shown() -> list[str]:
        """The first word of each line below the heading: key=value."""
        lines = kit.says("kafka.admin.ConfigCommand", *about, "--describe").splitlines()
        assert lines[0] == f"Dynamic configs for topic {kit.name} are:"
        return [line.split()[0] for line in lines[1:]]

    def alter(*arguments: str) -> Ran:
        return kit.run("kafka.admin.ConfigCommand", *about, "--alter", *arguments)

    assert shown() == []
    done = alter("--add-config", "max.message.bytes=2000000,segment.bytes=33554432")
    assert done.out == f"Completed updating config for topic {kit.name}.\n"
    assert shown() == ["max.message.bytes=2000000", "segment.bytes=33554432"]
    assert alter("--delete-config", "max.message.bytes").code == 0
    assert shown() == ["segment.bytes=33554432"]
    refused = alter("--add-config", "max.message.bytes=many")
    assert refused.code == 1
    assert shown() == ["segment.bytes=33554432"]


def test_what_the_console_producer_writes_the_console_consumer_reads(kit: Kit) -> None:
    kit.make_topic()
    kit.fill(120)
    assert sum(kit.ends().values()) == 120
    wanted = sorted(f"key {number}\tvalue {number}" for number in range(120))
    how = ("--group", kit.name, "--from-beginning", "--formatter-property", "print.key=true")
    assert sorted(kit.consume(120, *how)) == wanted
    assert kit.committed() == kit.ends()


def test_members_states_and_offsets_of_a_group_are_listed_and_described(kit: Kit) -> None:
    kit.make_topic()
    kit.fill(90)
    kit.consume(90, "--group", kit.name, "--from-beginning")
    assert kit.name in kit.says(GROUPS, "--list").splitlines()
    assert {"GROUP": kit.name, "STATE": "Empty"} in kit.rows(GROUPS, "--list", "--state")
    assert {"GROUP": kit.name, "STATE": "Empty"} in kit.rows(GROUPS, "--list", "--state", "empty")
    assert kit.name not in kit.says(GROUPS, "--list", "--state", "stable")
    assert {"GROUP": kit.name, "TYPE": "Classic"} in kit.rows(GROUPS, "--list", "--type")
    kit.fill(30)
    ends, rows = kit.ends(), kit.group("--offsets")
    assert sum(int(row["LAG"]) for row in rows) == 30
    assert {int(row["PARTITION"]): int(row["LOG-END-OFFSET"]) for row in rows} == ends
    assert {row["CONSUMER-ID"] for row in rows} == {"-"}
    (state,) = kit.group("--state")
    assert state["GROUP"] == kit.name
    assert kit.bootstrap in state.values()
    said = kit.run(GROUPS, "--describe", "--group", kit.name, "--state").out.split()
    assert said[-2:] == ["Empty", "0"]


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_an_active_member_is_described_and_guards_its_group(kit: Kit, protocol: str) -> None:
    kit.make_topic()
    settings = {"bootstrap.servers": kit.bootstrap, "group.id": kit.name, "group.protocol": protocol}
    kit.jvm.ask("open", kit.name, *(f"{key}={value}" for key, value in settings.items()))
    try:
        kit.jvm.ask("subscribe", kit.name, kit.name)
        while not kit.jvm.ask("assignment", kit.name):
            kit.jvm.ask("poll", kit.name, "50")
        (member,) = kit.group("--members")
        assert member["#PARTITIONS"] == str(PARTITIONS)
        assert member["HOST"] == "/127.0.0.1"
        (verbose,) = kit.group("--members", "--verbose")
        assert f"{kit.name}:0,1,2" in verbose.values()
        said = kit.says(GROUPS, "--describe", "--group", kit.name, "--state").split()
        assert said[-2:] == ["Stable", "1"]
        assert {"classic": "range", "consumer": "uniform"}[protocol] in said
        stated = {"GROUP": kit.name, "TYPE": protocol.title()}
        assert stated in kit.rows(GROUPS, "--list", "--type", protocol)
        refused = kit.run(GROUPS, "--delete", "--group", kit.name)
        assert "GroupNotEmptyException" in refused.out
        asked = ("--reset-offsets", "--group", kit.name, "--topic", kit.name, "--to-earliest", "--execute")
        assert "current state is Stable" in (ran := kit.run(GROUPS, *asked)).out + ran.err
    finally:
        kit.jvm.ask("close", kit.name)


def test_offsets_are_reset_in_every_way(kit: Kit) -> None:
    kit.make_topic()
    kit.fill(120)
    kit.consume(120, "--group", kit.name, "--from-beginning")
    ends = kit.ends()
    assert kit.reset("--to-earliest") == dict.fromkeys(ends, 0)
    assert kit.reset("--to-latest") == ends
    assert kit.reset("--shift-by", "-2") == {index: end - 2 for index, end in ends.items()}
    assert kit.reset("--to-current") == {index: end - 2 for index, end in ends.items()}
    assert kit.reset("--to-offset", "3") == dict.fromkeys(ends, 3)
    assert kit.reset("--to-datetime", "2020-01-01T00:00:00.000") == dict.fromkeys(ends, 0)
    assert kit.reset("--to-datetime", "2120-01-01T00:00:00.000") == ends
    assert kit.reset("--by-duration", "PT1H") == dict.fromkeys(ends, 0)
    assert kit.reset("--shift-by", "100000") == ends
    one = ("--reset-offsets", "--group", kit.name, "--topic", f"{kit.name}:1", "--to-offset", "2")
    plan = kit.says(GROUPS, *one, "--dry-run", "--export").strip()
    assert plan == f"{kit.name},1,2"
    assert kit.committed() == ends


def test_offsets_and_groups_are_deleted(kit: Kit, tmp_path: Path) -> None:
    kit.make_topic()
    kit.fill(60)
    kit.consume(60, "--group", kit.name, "--from-beginning")
    plan = tmp_path / "plan.csv"
    plan.write_text(f"{kit.name},0,1\n{kit.name},2,3\n")
    kit.says(GROUPS, "--reset-offsets", "--group", kit.name, "--from-file", str(plan), "--execute")
    assert kit.committed() | {1: -1} == {0: 1, 1: -1, 2: 3}
    deleted = kit.says(GROUPS, "--delete-offsets", "--group", kit.name, "--topic", f"{kit.name}:0,2")
    assert deleted.count("Successful") == 2
    assert set(kit.committed()) == {1}
    assert "was successful" in kit.says(GROUPS, "--delete", "--group", kit.name)
    gone = kit.run(GROUPS, "--delete", "--group", kit.name)
    assert "GroupIdNotFoundException" in gone.out
    assert kit.name not in kit.says(GROUPS, "--list").splitlines()


def test_records_are_deleted_and_log_directories_measured(kit: Kit, tmp_path: Path) -> None:
    kit.make_topic()
    kit.fill(90)
    wish = tmp_path / "delete.json"
    partitions = [{"topic": kit.name, "partition": index, "offset": index + 1} for index in range(2)]
    wish.write_text(json.dumps({"partitions": partitions, "version": 1}))
    said = kit.says(f"{TOOLS}.DeleteRecordsCommand", "--offset-json-file", str(wish))
    assert f"partition: {kit.name}-0\tlow_watermark: 1\n" in said
    assert f"partition: {kit.name}-1\tlow_watermark: 2\n" in said
    assert kit.ends("--time", "earliest") == {0: 1, 1: 2, 2: 0}
    assert len(kit.consume(87, "--from-beginning")) == 87
    shown = kit.says(f"{TOOLS}.LogDirsCommand", "--describe", "--topic-list", kit.name)
    ((directory,),) = [broker["logDirs"] for broker in json.loads(shown.splitlines()[-1])["brokers"]]
    assert directory["error"] is None
    assert {one["partition"] for one in directory["partitions"]} == {f"{kit.name}-{n}" for n in range(3)}
    assert all(one["size"] > 0 for one in directory["partitions"])


def test_the_verifiable_producer_and_consumer_agree(kit: Kit) -> None:
    kit.make_topic(1)
    where = ("--bootstrap-server", kit.bootstrap, "--topic", kit.name)
    sent = run_alone(f"{TOOLS}.VerifiableProducer", *where, "--max-messages", "500")
    assert sent.code == 0, sent.err
    events = [json.loads(line) for line in sent.out.splitlines()]
    assert sum(event["name"] == "producer_send_success" for event in events) == 500
    arguments = ("--group-id", kit.name, "--max-messages", "500", "--reset-policy", "earliest")
    read = kit.says(f"{TOOLS}.VerifiableConsumer", "--topic", kit.name, *arguments)
    events = [json.loads(line) for line in read.splitlines()]
    assert sum(event["count"] for event in events if event["name"] == "records_consumed") == 500
    commits = [event for event in events if event["name"] == "offsets_committed"]
    assert commits
    assert all(event["success"] for event in commits)
    assert kit.committed() == kit.ends()


def test_the_consumer_performance_tool_reads_a_topic_with_a_group(kit: Kit) -> None:
    kit.make_topic()
    size, how = ("--record-size", "100"), ("--num-records", "20000", "--throughput", "-1")
    producer = f"{TOOLS}.ProducerPerformance"
    made = kit.jvm.tool(
        producer, "--topic", kit.name, *how, *size, "--command-property", f"bootstrap.servers={kit.bootstrap}"
    )
    assert made.code == 0, made.out + made.err
    arguments = ("--topic", kit.name, "--group", kit.name, "--num-records", "20000", "--timeout", "20000")
    head, figures = kit.says(f"{TOOLS}.ConsumerPerformance", *arguments).splitlines()[-2:]
    found = dict(zip(head.split(", "), figures.split(", "), strict=True))
    assert int(found["data.consumed.in.nMsg"]) >= 20_000
    assert kit.name in kit.says(GROUPS, "--list").splitlines()
