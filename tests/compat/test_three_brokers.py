"""Unmodified clients and one of Kafka's tools against three brokers on one host."""

from collections.abc import Iterator

import pytest

from tests.compat.clients.aio import Aiokafka
from tests.compat.clients.client import Client, check_travel
from tests.compat.clients.confluent import Confluent
from tests.compat.clients.kafka_python import KafkaPython
from tests.compat.members.jvm import TOOLS, Jvm, Tools
from tests.support.peers import require
from tests.support.three_brokers import IDS, Host, running
from tests.support.waiting import wait_until

CLIENTS: list[Client] = [Confluent(), KafkaPython(), Aiokafka()]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Started anew for these tests."""
    with running(tmp_path_factory.mktemp("host")) as started:
        yield started


def make(host: Host, topic: str) -> None:
    """A topic with partitions on every broker."""
    host.create(topic, len(IDS))
    wait_until(lambda: set(host.leaders(1, topic).values()) == set(IDS), "leaders")


@pytest.mark.parametrize("client", CLIENTS, ids=[client.name for client in CLIENTS])
def test_what_is_written_through_any_broker_is_read_from_all(host: Host, client: Client) -> None:
    """Known to the client is one broker alone."""
    require(client.missing())
    topic = f"all-{client.name}"
    make(host, topic)
    check_travel(client, topic, len(IDS), host.addresses[1], host.addresses[3])


def test_kafkas_tools_see_three_brokers(host: Host, jvm: Jvm) -> None:
    make(host, "described")
    tools = Tools(jvm, host.addresses[2])
    shown = tools.says(f"{TOOLS}.TopicCommand", "--describe", "--topic", "described")
    for broker in IDS:
        assert f"Leader: {broker}\tReplicas: {broker}\tIsr: {broker}" in shown
    lines = "".join(f"line {number}\n" for number in range(30))
    tools.says(f"{TOOLS}.ConsoleProducer", "--topic", "described", given=lines)
    read = tools.says(
        f"{TOOLS}.consumer.ConsoleConsumer", "--topic", "described", "--from-beginning", "--group", "readers",
        "--max-messages", "30", "--timeout-ms", "20000",
    )  # fmt: skip
    assert sorted(read.splitlines()) == sorted(lines.splitlines())
    groups = tools.says(f"{TOOLS}.consumer.group.ConsumerGroupCommand", "--list")
    assert "readers" in groups.split()
