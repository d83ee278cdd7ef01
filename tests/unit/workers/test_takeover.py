"""A controller takes over from one that died, while workers hold replicas of three brokers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tailrace.core.metadata.elections import ELECT_PREFERRED, elect_leaders
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.records import PartitionChange, Record
from tailrace.shm.slots import CONTROLLER
from tailrace.workers.control import ConfigureReplica, ResignLeadership, ServeReplica, StopReplica
from tailrace.workers.quorum_member import Member
from tests.unit.workers.cluster_run import Cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three brokers with one partition of three replicas, which broker 0 leads."""
    made = Cluster(tmp_path)
    made.create((0, 1, 2))
    try:
        yield made
    finally:
        made.end()


def replace_controller(cluster: Cluster, *also: int) -> None:
    """The controller that decides dies, and so do the processes in these slots; another decides."""
    gone = cluster.active
    slot = cluster.layout.controller(gone)
    for each in (slot, *also):
        cluster.kill(each)
    cluster.settle()
    assert cluster.active != gone
    cluster.members[gone] = Member(cluster.begin(slot, CONTROLLER))
    cluster.settle()


def test_what_is_led_goes_on_in_its_epoch(cluster: Cluster) -> None:
    before = cluster.partition()
    heard = {broker: len(worker.heard) for broker, worker in cluster.workers.items()}
    rows = {key: replica.row for key, replica in cluster.controller.assignments.by_key.items()}
    replace_controller(cluster)
    assert cluster.partition() == before
    assert {key: replica.row for key, replica in cluster.controller.assignments.by_key.items()} == rows
    since = cluster.workers[0].heard[heard[0] :]
    assert [message for message in since if isinstance(message, ServeReplica)] == []
    assert [message for message in since if isinstance(message, ConfigureReplica)]
    leader = cluster.workers[0].context
    for follower in (1, 2):
        order = cluster.workers[follower].last
        assert (order.leader_slot, order.leader_incarnation) == (leader.slot, leader.incarnation)


def test_a_leader_that_died_with_the_controller_is_replaced(cluster: Cluster) -> None:
    """(R) Nobody had the time to say so."""
    replace_controller(cluster, cluster.layout.workers(0)[0])
    state = cluster.partition()
    assert (state.leader, state.isr, state.leader_epoch) == (1, (1, 2), 1)
    assert {cluster.workers[broker].last.leader_epoch for broker in (1, 2)} == {1}


def test_a_follower_that_died_with_the_controller_is_not_in_sync(cluster: Cluster) -> None:
    replace_controller(cluster, cluster.layout.workers(2)[0])
    state = cluster.partition()
    assert (state.leader, state.isr, state.leader_epoch) == (0, (0, 1), 0)


def test_a_leader_that_resigned_and_was_not_replaced_leads_on_in_a_new_epoch(cluster: Cluster) -> None:
    """(R) In the one that it resigned nobody leads any more."""
    cluster.replace_worker(0)
    asked = ResignLeadership(
        row=cluster.workers[1].last.row,
        row_generation=cluster.workers[1].last.row_generation,
        leader_epoch=1,
    )
    cluster.workers[1].resigned[asked.row] = 1  # its answer went to the dead controller
    replace_controller(cluster)
    state = cluster.partition()
    assert (state.leader, state.leader_epoch) == (1, 2)
    assert cluster.workers[1].last.leader_epoch == 2


def test_what_was_committed_and_not_told_is_told(cluster: Cluster) -> None:
    """(R) A worker in an older epoch is no leader of this one before it has heard of it."""
    deaf = cluster.workers.pop(1)
    deaf_order = deaf.last
    cluster.replace_worker(0)
    assert cluster.partition().leader == 1
    cluster.workers[1] = deaf
    replace_controller(cluster)
    assert deaf.last.leader_epoch == cluster.partition().leader_epoch
    assert deaf.last.row == deaf_order.row
    assert cluster.workers[2].last.leader_incarnation == deaf.context.incarnation


def test_a_replica_that_has_left_the_partition_is_deleted(cluster: Cluster) -> None:
    """(R) Its name is free only then."""
    row, key = next(
        (replica.row, key) for key, replica in cluster.controller.assignments.by_key.items() if key[2] == 2
    )
    deaf = cluster.workers.pop(2)
    gone = PartitionChange(topic_id=key[0], partition=0, replicas=(0, 1), isr=(0, 1), directories=("", ""))
    cluster.controller.changes.stage([gone])
    cluster.settle()
    cluster.workers[2] = deaf
    replace_controller(cluster)
    assert [stop.row for stop in deaf.told(StopReplica) if stop.delete][-1] == row
    assert row not in cluster.controller.assignments.by_row


def test_a_controller_that_dies_while_it_waits_for_a_leader_leaves_it_leading(cluster: Cluster) -> None:
    cluster.replace_worker(0)
    cluster.propose(1, 0, 1, 2)
    cluster.workers[1].is_slow_to_resign = True
    changes = cluster.controller.changes

    def decide(image: MetadataImage) -> tuple[list[Record], None]:
        return elect_leaders(image, ELECT_PREFERRED, None, changes.rules()).records, None

    changes.replace(decide, lambda _result, _error: None)
    cluster.settle()
    assert cluster.workers[1].told(ResignLeadership)
    before = cluster.partition()
    replace_controller(cluster)
    assert cluster.partition() == before


class WithoutDirectories(Cluster):
    """Broker 1 has lost them while the host starts."""

    failed = (1,)


def test_a_broker_without_any_directory_does_not_keep_the_others_from_starting(tmp_path: Path) -> None:
    cluster = WithoutDirectories(tmp_path)
    try:
        serving = {broker.broker_id for broker in cluster.image.brokers.values() if not broker.fenced}
        assert serving == {0, 2}
        cluster.create((0, 2))
        assert cluster.partition().leader == 0
    finally:
        cluster.end()
