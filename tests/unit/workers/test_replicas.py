"""Replicas of three brokers under the controller that is active: who is told what, and who leads when."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tailrace.workers.control import (
    Assigned,
    ServeReplica,
)
from tests.unit.workers.cluster_run import Cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three brokers."""
    made = Cluster(tmp_path)
    try:
        yield made
    finally:
        made.end()


def test_every_replica_is_served_and_followers_hear_of_the_leader_once_it_leads(cluster: Cluster) -> None:
    cluster.create((0, 1, 2))
    orders = {broker: worker.told(ServeReplica) for broker, worker in cluster.workers.items()}
    assert [order.leader_slot for order in orders[0]] == [0]
    rows = {broker: told[0].row for broker, told in orders.items()}
    leader = cluster.workers[0].context
    for broker in (1, 2):
        last = orders[broker][-1]
        assert (last.leader_slot, last.leader_incarnation) == (leader.slot, leader.incarnation)
        assert (last.leader, last.replicas, last.isr) == (0, (0, 1, 2), (0, 1, 2))
        assert set(last.rows) == set(rows.values())
    assert len(set(rows.values())) == 3
    (assigned,) = cluster.told(2)
    assert isinstance(assigned, Assigned)
    assert {(place.broker, place.row) for place in assigned.replicas} == set(rows.items())
