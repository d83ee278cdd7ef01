"""Three brokers under one controller: what it does when all processes of one are dead, or it is back."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tailrace.core.errors import NOT_LEADER_OR_FOLLOWER
from tailrace.core.metadata.records import NO_LEADER
from tailrace.shm.slots import CONTROLLER, GATEWAY, STOPPING, SUPERVISOR_SLOT, WORKER
from tailrace.workers.control import Assigned, BrokerMayStop, ServeReplica, ShutDownBroker, Unassigned
from tailrace.workers.metadata_follower import MetadataFollower
from tailrace.workers.process import DiskLost
from tailrace.workers.quorum_member import Member
from tests.unit.workers.cluster_run import Cluster
from tests.unit.workers.controller_run import heard


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """With a partition on each broker, all led."""
    made = Cluster(tmp_path)
    try:
        made.create((0,), (1,), (2,))
        for gateway in (0, 1, 2):
            assert {each.broker for each in made.told(gateway) if isinstance(each, Assigned)} == {0, 1, 2}
        yield made
    finally:
        made.end()


def lives(cluster: Cluster) -> int:
    """A broker whose controller does not decide."""
    return (cluster.active + 1) % 3


def everything_of(cluster: Cluster, broker: int) -> list[int]:
    """The slots of a broker in which somebody lives."""
    layout = cluster.layout
    slots = [layout.gateway(broker), *layout.workers(broker), layout.controller(broker)]
    return [slot for slot in slots if cluster.slots.live_incarnation(slot)]


def test_a_worker_is_of_the_broker_whose_partition_it_leads(cluster: Cluster) -> None:
    by_key = cluster.controller.assignments.by_key
    of = {replica.broker: cluster.layout.broker_of(replica.slot) for replica in by_key.values()}
    assert of == {0: 0, 1: 1, 2: 2}
    paths = {replica.broker: replica.log_dir for replica in by_key.values()}
    data = f"{Path(cluster.run_dir.path).parent}/data"
    assert paths == {broker: f"{data}/broker-{broker}" for broker in range(3)}


@pytest.mark.parametrize("kind", [GATEWAY, WORKER, CONTROLLER])
def test_a_broker_is_fenced_only_when_the_last_of_its_processes_is_dead(cluster: Cluster, kind: int) -> None:
    """(R) Who lives may still append, or acknowledge."""
    gone, active = lives(cluster), cluster.active
    *others, last = sorted(everything_of(cluster, gone), key=lambda slot: cluster.slots.role(slot) == kind)
    epoch = cluster.partition(gone).leader_epoch
    for slot in others:
        cluster.kill(slot)
        cluster.settle()
        assert not cluster.image.brokers[gone].fenced
    assert cluster.partition(gone).leader == gone
    cluster.kill(last)
    cluster.settle()
    assert cluster.image.brokers[gone].fenced
    assert cluster.partition(gone).leader == NO_LEADER
    assert cluster.partition(gone).leader_epoch > epoch
    assert not cluster.image.brokers[active].fenced
    assert cluster.told(active)[-1] == Unassigned(
        topic_id=cluster.image.topics_by_name["t"].topic_id, partition=gone, error_code=NOT_LEADER_OR_FOLLOWER
    )


def test_a_broker_that_is_back_registers_anew_and_leads_in_an_epoch_that_nobody_had(cluster: Cluster) -> None:
    gone = lives(cluster)
    before = cluster.image.brokers[gone]
    cluster.kill_broker(gone)
    epoch = cluster.partition(gone).leader_epoch
    worker = cluster.begin_worker(gone)
    cluster.settle()
    assert not worker.told(ServeReplica), "it is told nothing before its gateway serves"
    cluster.gateways[gone] = cluster.begin(cluster.layout.gateway(gone), GATEWAY)
    cluster.settle()
    now = cluster.image.brokers[gone]
    assert now.broker_epoch > before.broker_epoch
    assert now.incarnation_id != before.incarnation_id
    assert (cluster.partition(gone).leader, cluster.partition(gone).leader_epoch) == (gone, epoch + 1)
    assert [order.leader_epoch for order in worker.told(ServeReplica)] == [epoch + 1]


def test_what_is_made_meanwhile_lies_with_who_is_there(cluster: Cluster) -> None:
    gone = lives(cluster)
    cluster.kill_broker(gone)
    cluster.create((0, 1, 2), topic="u")
    made = cluster.partition(0, "u")
    assert set(made.isr) == {0, 1, 2} - {gone}
    assert made.leader == made.isr[0]


def test_nobody_is_fenced_while_the_host_stops(cluster: Cluster) -> None:
    cluster.slots.set_state(SUPERVISOR_SLOT, STOPPING)
    gone = lives(cluster)
    cluster.kill_broker(gone)
    assert not cluster.image.brokers[gone].fenced


def test_every_process_follows_the_copy_of_its_own_controller(cluster: Cluster) -> None:
    for gateway in cluster.gateways.values():
        follower = MetadataFollower.of(gateway)
        assert follower.poll()
        assert "t" in follower.image.topics_by_name


def test_the_broker_of_the_controller_that_decides_may_go_as_well(cluster: Cluster) -> None:
    gone = cluster.active
    cluster.kill_broker(gone)
    assert cluster.active != gone
    assert cluster.image.brokers[gone].fenced
    epoch = cluster.partition(gone).leader_epoch
    cluster.start_broker(gone)
    assert (cluster.partition(gone).leader, cluster.partition(gone).leader_epoch) == (gone, epoch + 1)


def test_a_broker_that_is_to_stop_hands_over_first(cluster: Cluster) -> None:
    """(R) Its leaders resign before others lead; only then is it told that it may stop."""
    stops = lives(cluster)
    cluster.create((stops, cluster.active), topic="u")
    worker = cluster.workers[stops]
    worker.is_slow_to_resign = True
    cluster.say(cluster.supervisor, ShutDownBroker(broker=stops))
    assert cluster.partition(0, "u").leader == stops
    assert BrokerMayStop(broker=stops) not in heard(cluster.supervisor)
    worker.resign_now()
    cluster.settle()
    assert cluster.partition(0, "u").leader == cluster.active
    assert cluster.partition(stops).leader == NO_LEADER
    assert cluster.image.brokers[stops].in_controlled_shutdown
    assert heard(cluster.supervisor)[-1] == BrokerMayStop(broker=stops)


def test_a_broker_that_was_stopped_and_is_back_before_anybody_has_looked_registers_anew(
    cluster: Cluster,
) -> None:
    """(R) Or it is about to stop for ever, and never in sync again; and others lead what it led."""
    stops = lives(cluster)
    cluster.create((stops, cluster.active), topic="u")
    cluster.say(cluster.supervisor, ShutDownBroker(broker=stops))
    before = cluster.image.brokers[stops]
    assert before.in_controlled_shutdown
    cluster.bring_back(stops)
    now = cluster.image.brokers[stops]
    assert now.broker_epoch > before.broker_epoch
    assert not now.fenced
    assert not now.in_controlled_shutdown
    assert cluster.partition(stops).leader == stops
    assert cluster.workers[stops].told(ServeReplica)


def test_where_all_in_sync_have_died_one_that_is_back_leads(cluster: Cluster) -> None:
    """It has what the others have; they may never come."""
    cluster.create((0, 1, 2), topic="u")
    for broker in (0, 1, 2):
        for slot in everything_of(cluster, broker):
            cluster.kill(slot)
    for broker in (0, 1):
        cluster.members[broker] = Member(cluster.begin(cluster.layout.controller(broker), CONTROLLER))
        cluster.begin_worker(broker)
        cluster.gateways[broker] = cluster.begin(cluster.layout.gateway(broker), GATEWAY)
    cluster.settle()
    now = cluster.partition(0, "u")
    assert now.leader in (0, 1)
    assert now.isr == (now.leader,)
    assert cluster.image.brokers[2].fenced


def test_a_broker_is_told_nothing_in_a_life_that_it_is_not_registered_in(cluster: Cluster) -> None:
    """(R) It is registered as one that had what is lost with it."""
    gone = lives(cluster)
    presence = cluster.controller.presence
    assert presence.is_there(gone)
    for slot in everything_of(cluster, gone):
        cluster.kill(slot)
    cluster.begin_worker(gone)
    assert not presence.is_there(gone)
    cluster.settle()
    assert cluster.image.brokers[gone].fenced


def test_a_controller_makes_no_metadata_log_where_its_own_was_lost(cluster: Cluster) -> None:
    """(R) It would vote under the name of the lost one, which has promised what the new one does not know."""
    gone = lives(cluster)
    for slot in everything_of(cluster, gone):
        cluster.kill(slot)
    directory = Path(cluster.shared.brokers[gone].log_dirs.metadata_dir)
    directory.rename(directory.with_name("lost"))
    directory.mkdir()
    with pytest.raises(DiskLost, match="where the metadata log lies"):
        Member(cluster.begin(cluster.layout.controller(gone), CONTROLLER))
    assert not list(directory.iterdir())


@pytest.fixture
def replicated(tmp_path: Path) -> Iterator[Cluster]:
    """With one partition, that is on all brokers."""
    made = Cluster(tmp_path)
    try:
        made.create((0, 1, 2))
        yield made
    finally:
        made.end()


def test_a_leader_that_has_failed_is_replaced_only_when_its_worker_has_let_go(replicated: Cluster) -> None:
    """(R) Whatever else happens to the partition before: an order on its way may have it lead once more."""
    cluster = replicated
    cluster.kill(cluster.layout.workers(2)[0])
    cluster.settle()
    cluster.begin_worker(2)
    cluster.settle()
    worker = cluster.workers[0]
    (order,) = worker.orders.values()
    assert cluster.partition().leader == 0
    assert cluster.controller.assignments.by_row[order.row].told_orders > 1
    worker.lose(order)
    cluster.kill(cluster.layout.workers(2)[0])
    cluster.settle()
    assert cluster.partition().leader == 1
