"""Committed offsets and what the admin APIs tell of their groups: every field as Apache Kafka answers it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from perf import lifecycle
from perf.peers import jars
from perf.peers.kafka import Kafka
from perf.peers.peer import Peer
from perf.peers.tailrace import Tailrace
from tests.support.offset_cases import answers
from tests.support.peers import require


def _answers(broker: Peer, address: Callable[[], str]) -> dict[str, Any]:
    broker.start()
    try:
        lifecycle.wait_until_served(broker)
        return answers(address())
    finally:
        broker.stop()


def test_every_field_is_as_kafka_answers(tmp_path: Path) -> None:
    require(None if jars.available() else jars.MISSING)
    settings = {
        "offsets.topic.num.partitions": "3",
        "group.initial.rebalance.delay.ms": "0",
        "offsets.retention.check.interval.ms": "100",
    }
    ours = settings | {"node.id": "1"}
    theirs = settings | {"offsets.topic.replication.factor": "1"}
    kafka = Kafka(tmp_path / "kafka", theirs)
    expected = _answers(kafka, lambda: f"{kafka.address.host}:{kafka.address.port}")
    tailrace = Tailrace(tmp_path / "tailrace", ours)
    found = _answers(tailrace, lambda: tailrace.bootstrap)
    assert found.keys() == expected.keys()
    different = {what: (answer, expected[what]) for what, answer in found.items() if answer != expected[what]}
    assert different == {}
