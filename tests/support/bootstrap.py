"""The broker that tests talk to which any Kafka must pass."""

import os
from collections.abc import Iterator

import pytest

from perf import lifecycle
from perf.peers import jars
from perf.peers.kafka import Kafka
from perf.peers.tailrace import Tailrace
from tests.support.peers import require

AGAINST = "TAILRACE_COMPAT_AGAINST"


def against_kafka() -> bool:
    """Whether the tests are being proven on the original."""
    return os.environ.get(AGAINST) == "kafka"


@pytest.fixture(scope="session")
def bootstrap(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """HOST:PORT of a Tailrace; TAILRACE_COMPAT_AGAINST=kafka takes an Apache Kafka, to prove the tests."""
    if not against_kafka():
        broker: Tailrace = request.getfixturevalue("broker")
        yield broker.bootstrap
        return
    require(None if jars.available() else jars.MISSING)
    kafka = Kafka(tmp_path_factory.mktemp("kafka"))
    kafka.start()
    try:
        lifecycle.wait_until_served(kafka)
        yield f"{kafka.address.host}:{kafka.address.port}"
    finally:
        kafka.stop()
