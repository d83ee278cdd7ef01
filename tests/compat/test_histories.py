"""The checker of histories on the original: three Apache Kafka nodes, of which one after the other is killed.

What it calls a fault of ours must be none of Kafka's.
"""

from pathlib import Path

import pytest

from perf import replicated
from perf.peers import jars
from perf.peers.kafka_cluster import KafkaCluster
from tests.support.history_run import DEATHS, killed_in_a_loop
from tests.support.peers import require

PARTITIONS, RECORDS, KILLS = 3, 1_000, len(DEATHS)


@pytest.mark.full
@pytest.mark.timeout(600)
def test_kafka_breaks_no_promise_while_its_nodes_are_killed(tmp_path: Path) -> None:
    require(None if jars.available() else jars.MISSING)
    cluster = KafkaCluster(tmp_path / "cluster")
    cluster.start()
    try:
        replicated.wait_until_served(cluster)
        faults, summary = killed_in_a_loop(cluster, KILLS, PARTITIONS, RECORDS)
    finally:
        cluster.stop()
    print(f"{KILLS} kills, {summary}")
    assert faults == []
    assert summary.stored >= summary.acknowledged >= (1 + KILLS) * RECORDS
    assert summary.read > summary.stored
