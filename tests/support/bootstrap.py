"""The broker that tests talk to which any Kafka must pass."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from perf import lifecycle
from perf.peers import jars
from perf.peers.kafka import Kafka
from perf.peers.tailrace import Tailrace
from tests.support.peers import require

AGAINST = "TAILRACE_COMPAT_AGAINST"
AT_ONCE = {"group.initial.rebalance.delay.ms": "0"}  # as a Tailrace of one node; Kafka's 3 s are for a fleet


def against_kafka() -> bool:
    """Whether the tests are being proven on the original."""
    return os.environ.get(AGAINST) == "kafka"


def running_kafka(folder: Path) -> Iterator[str]:
    """HOST:PORT of an Apache Kafka of our own."""
    require(None if jars.available() else jars.MISSING)
    kafka = Kafka(folder, AT_ONCE)
    kafka.start()
    try:
        lifecycle.wait_until_served(kafka)
        yield f"{kafka.address.host}:{kafka.address.port}"
    finally:
        kafka.stop()


@pytest.fixture(scope="session")
def bootstrap(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """HOST:PORT of a Tailrace.

    TAILRACE_COMPAT_AGAINST proves the tests on the original: "kafka" starts one, HOST:PORT is one that runs.
    """
    against = os.environ.get(AGAINST, "")
    if ":" in against:
        yield against
    elif against_kafka():
        yield from running_kafka(tmp_path_factory.mktemp("kafka"))
    else:
        broker: Tailrace = request.getfixturevalue("broker")
        yield broker.bootstrap
