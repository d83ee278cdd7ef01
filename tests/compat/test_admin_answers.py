"""Topics, metadata, producer ids and configs: every field as Apache Kafka answers it, but for what is listed
here with its reason.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from perf import lifecycle, wire
from perf.peers import jars
from perf.peers.kafka import Kafka
from perf.peers.peer import Peer
from perf.peers.tailrace import Tailrace
from tailrace.core.protocol.apis import METADATA
from tests.support.admin_cases import answers
from tests.support.peers import require
from tests.support.waiting import wait_until

# Kafka's JVM fails on these with an exception of its own; we say whose mistake it is.
BETTER_CODES = {"Metadata v13: neither"}
# We advertise what we serve, no more.
ADVERTISED = {"ApiVersions v3: software 'a' '1.0-x'"}

DYNAMIC_DEFAULT_SOURCE = 3
DEFAULT_SOURCE = 5
BROKER = 4


def _answers(broker: Peer, address: Callable[[], str]) -> dict[str, Any]:
    broker.start()
    try:
        lifecycle.wait_until_served(broker)
        with wire.Connection(broker.endpoints()["tcp"]) as connection:
            wait_until(lambda: _names_a_broker(connection), "a broker that names itself", 60)
        return answers(address())
    finally:
        broker.stop()


def _names_a_broker(connection: wire.Connection) -> bool:
    """Kafka listens before its controller has unfenced it, and until then knows of no broker."""
    answer = connection.ask(wire.frame((METADATA, 0), bytes(4), flexible=False))
    return int.from_bytes(answer[4:8]) > 0


def _without_elr_default(answer: object) -> object:
    """Kafka's eligible-leader-replicas feature sets min.insync.replicas for the cluster; we have no such
    feature.
    """
    if isinstance(answer, list):
        parts = [_without_elr_default(part) for part in cast("list[object]", answer)]
        return [part for part in parts if part is not None]
    if not isinstance(answer, dict):
        return answer
    fields = cast("dict[str, object]", answer)
    if fields.get("name") == "min.insync.replicas":
        if fields.get("source") == DYNAMIC_DEFAULT_SOURCE:
            return None
        if fields.get("config_source") == DYNAMIC_DEFAULT_SOURCE:
            fields = fields | {"config_source": DEFAULT_SOURCE}
    fields = {name: part if part is None else _without_elr_default(part) for name, part in fields.items()}
    if "configs" in fields and (fields.get("resource_type"), fields.get("resource_name")) == (BROKER, ""):
        configs = cast("list[dict[str, object]]", fields["configs"])
        fields["configs"] = [entry for entry in configs if entry["name"] != "min.insync.replicas"]
    return fields


def test_every_field_is_as_kafka_answers(tmp_path: Path) -> None:
    require(None if jars.available() else jars.MISSING)
    settings = {
        "num.partitions": "1",
        "log.segment.delete.delay.ms": "500",
        "log.retention.hours": "100",
        "log.index.interval.bytes": "8192",
    }
    kafka = Kafka(tmp_path / "kafka", settings)
    expected = _answers(kafka, lambda: f"{kafka.address.host}:{kafka.address.port}")
    tailrace = Tailrace(tmp_path / "tailrace", settings | {"node.id": "1"})
    found = _answers(tailrace, lambda: tailrace.bootstrap)
    assert found.keys() == expected.keys()
    different = {
        what: (answer, expected[what])
        for what, answer in found.items()
        if answer != _without_elr_default(expected[what]) and what not in BETTER_CODES | ADVERTISED
    }
    assert different == {}
