"""Placements, moves and elections as Apache Kafka answers them: the table is what three brokers of Kafka
4.3.1 said to the story of tests/support/decision_cases.py; `make compat` asks them again. To write it anew:

    TAILRACE_RECORD=1 .venv/bin/python -m pytest -m full tests/compat/test_controller_decisions.py
"""

import json
import os
import time
from pathlib import Path

import pytest

from perf import lifecycle, wire
from perf.peers import jars
from perf.peers.kafka_cluster import KafkaCluster
from perf.peers.peer import Tcp
from tests.support.decision_cases import Answer, Asked, Decided, played, story
from tests.support.peers import require
from tests.support.three_brokers import running
from tests.support.waiting import wait_until

TABLE = Path(__file__).with_name("controller_decisions.json")

# What Kafka says otherwise, and why it is said so here.
OTHERWISE = {
    "back to the forgotten": "with eligible leader replicas its ISR is empty; ours keeps the last member",
}


SETTINGS = {"auto.leader.rebalance.enable": "false", "default.replication.factor": "1"}


def test_every_decision_is_as_kafkas() -> None:
    expected: dict[str, Answer] = json.loads(TABLE.read_text())
    found = played(Decided().do, story())
    assert list(found) == list(expected)
    different = {
        what: (answer, expected[what])
        for what, answer in found.items()
        if answer != expected[what] and what not in OTHERWISE
    }
    assert different == {}
    assert all(found[what] != expected[what] for what in OTHERWISE), "it is as Kafka's by now"


def test_three_brokers_say_the_same_over_the_wire(tmp_path: Path) -> None:
    expected: dict[str, Answer] = json.loads(TABLE.read_text())
    settings = {"auto_leader_rebalance_enable": "false", "default_replication_factor": "1"}
    with running(tmp_path, **settings) as host:
        asked = Asked(host.addresses[1], lambda broker: host.broker("kill", str(broker)))
        found = followed(asked)
    assert {what: answer for what, answer in found.items() if what not in OTHERWISE} == {
        what: answer for what, answer in expected.items() if what not in OTHERWISE
    }


@pytest.mark.full
def test_the_table_is_what_kafka_says(tmp_path: Path) -> None:
    require(None if jars.available() else jars.MISSING)
    cluster = KafkaCluster(tmp_path, SETTINGS)
    cluster.start()
    try:
        for address in cluster.brokers().values():
            served(address)
        first = cluster.brokers()[1]
        asked = Asked(f"{first.host}:{first.port}", lambda broker: cluster.broker_killer(broker)())
        found = followed(asked)
    finally:
        cluster.stop()
    if os.environ.get("TAILRACE_RECORD"):
        lines = ",\n".join(f"{json.dumps(what)}: {json.dumps(answer)}" for what, answer in found.items())
        TABLE.write_text(f"{{\n{lines}\n}}\n")
    assert found == json.loads(TABLE.read_text())


def followed(asked: Asked) -> dict[str, Answer]:
    """The story on three brokers, each step when the one before has come to what is decided alone."""
    wait_until(lambda: asked.brokers() == [1, 2, 3], "three brokers that serve", 60)
    decided = Decided()
    return {
        what: asked.do(doing, arguments, expected=decided.do(doing, arguments))
        for what, doing, arguments in story()
    }


def served(address: Tcp) -> None:
    """Wait until the broker there answers a request."""
    with lifecycle.connect(address, time.perf_counter() + lifecycle.START_PATIENCE_S) as connection:
        connection.ask(wire.frame((18, 0), b"", flexible=False))
