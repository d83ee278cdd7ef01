"""Replicas of three brokers under the controller that is active: who is told what, and who leads when."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailrace.core import errors
from tailrace.core.errors import KafkaError
from tailrace.core.metadata.elections import ELECT_PREFERRED, elect_leaders
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.reassignments import reassign
from tailrace.core.metadata.records import NO_LEADER, PartitionChange, Record
from tailrace.core.metadata.requests import PartitionResult, Reassignment, TopicToDelete
from tailrace.shm.slots import WORKER
from tailrace.workers.control import (
    AlterPartition,
    Assigned,
    DeleteTopics,
    ResignLeadership,
    ServeReplica,
    StopReplica,
    Unassigned,
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


# What workers and gateways are told.


def test_every_replica_is_served_and_followers_hear_of_the_leader_once_it_leads(cluster: Cluster) -> None:
    cluster.create((0, 1, 2))
    orders = {broker: worker.told(ServeReplica) for broker, worker in cluster.workers.items()}
    assert [order.leader_slot for order in orders[0]] == [0]
    rows = {broker: told[0].row for broker, told in orders.items()}
    leader = cluster.workers[0].context
    for broker in (1, 2):
        order = orders[broker][-1]
        assert (order.leader_slot, order.leader_incarnation) == (leader.slot, leader.incarnation)
        assert (order.leader, order.replicas, order.isr) == (0, (0, 1, 2), (0, 1, 2))
        assert set(order.rows) == set(rows.values())
    assert len(set(rows.values())) == 3
    (assigned,) = cluster.told(2)
    assert isinstance(assigned, Assigned)
    assert {(place.broker, place.row) for place in assigned.replicas} == set(rows.items())


def test_replicas_of_a_partition_sit_in_worker_slots_of_the_same_number(cluster: Cluster) -> None:
    cluster.create((0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1))
    by_key = cluster.controller.assignments.by_key.values()
    numbers: dict[int, set[int]] = {}
    for replica in by_key:
        first = cluster.layout.workers(replica.broker)[0]
        numbers.setdefault(replica.partition, set()).add(replica.slot - first)
    assert all(len(number) == 1 for number in numbers.values())


def test_a_topic_goes_with_all_its_replicas(cluster: Cluster) -> None:
    cluster.create((0, 1, 2))
    free = cluster.controller.assignments.seats.rows_free
    gateway = cluster.gateways[1]
    asked = DeleteTopics(request_id=2, topics=[TopicToDelete(name="t")], timeout_ms=1000)
    cluster.say(gateway, asked)
    for worker in cluster.workers.values():
        (stop,) = worker.told(StopReplica)
        assert stop.delete
    assert cluster.controller.assignments.seats.rows_free == free + 3
    gone = [message for message in cluster.told(1) if isinstance(message, Unassigned)]
    assert [message.error_code for message in gone] == [errors.UNKNOWN_TOPIC_OR_PARTITION]


# Deaths.


def test_another_in_sync_leads_when_the_worker_of_the_leader_dies(cluster: Cluster) -> None:
    cluster.create((0, 1, 2))
    cluster.replace_worker(0)
    state = cluster.partition()
    assert (state.leader, state.isr, state.leader_epoch) == (1, (1, 2), 1)
    assert {(worker.last.leader, worker.last.leader_epoch) for worker in cluster.workers.values()} == {(1, 1)}
    leader = cluster.workers[1].context
    for broker in (0, 2):
        assert cluster.workers[broker].last.leader_incarnation == leader.incarnation
    newest = cluster.told(2)[-1]
    assert isinstance(newest, Assigned)
    assert (newest.broker, newest.leader_epoch) == (1, 1)


def test_a_follower_that_dies_is_out_of_sync_and_follows_again_in_the_same_epoch(cluster: Cluster) -> None:
    cluster.create((0, 1, 2))
    before = cluster.workers[2].last
    cluster.replace_worker(2)
    state = cluster.partition()
    assert (state.leader, state.isr, state.leader_epoch) == (0, (0, 1), 0)
    order = cluster.workers[2].last
    assert (order.leader, order.leader_epoch, order.row) == (0, 0, before.row)
    assert order.leader_incarnation == cluster.workers[0].context.incarnation
    assert cluster.workers[0].last.isr == (0, 1), "the leader hears of it"


def test_the_only_one_in_sync_leads_again_in_its_next_epoch(cluster: Cluster) -> None:
    """(R) Nobody else has every record."""
    cluster.create((0, 1, 2))
    cluster.propose(0, 0)
    cluster.replace_worker(0)
    state = cluster.partition()
    assert (state.leader, state.isr, state.leader_epoch) == (0, (0,), 1)
    assert cluster.workers[0].last.leader_epoch == 1


def test_an_unclean_election_takes_who_is_there_where_the_topic_allows_it(cluster: Cluster) -> None:
    gone = (cluster.active + 1) % 3
    others = [broker for broker in range(3) if broker != gone]
    cluster.create((gone, *others), configs={"unclean.leader.election.enable": "true"})
    cluster.propose(gone, gone)
    cluster.kill_broker(gone)
    state = cluster.partition()
    assert (state.leader, state.isr) == (others[0], (others[0],))
    assert state.lineage == state.leader_epoch
    assert cluster.workers[others[0]].last.lineage == state.leader_epoch


def test_a_partition_without_leader_waits_for_the_one_in_sync(cluster: Cluster) -> None:
    gone = (cluster.active + 1) % 3
    others = [broker for broker in range(3) if broker != gone]
    cluster.create((gone, *others))
    cluster.propose(gone, gone)
    cluster.kill_broker(gone)
    assert (cluster.partition().leader, cluster.partition().isr) == (NO_LEADER, (gone,))
    newest = cluster.told(others[0])[-1]
    assert isinstance(newest, Unassigned)
    assert newest.error_code == errors.NOT_LEADER_OR_FOLLOWER
    assert cluster.workers[others[0]].last.leader == NO_LEADER
    epoch = cluster.partition().leader_epoch
    cluster.start_broker(gone)
    assert (cluster.partition().leader, cluster.partition().leader_epoch) == (gone, epoch + 1)


def test_one_becomes_leader_when_unclean_elections_are_allowed_later(cluster: Cluster) -> None:
    gone = (cluster.active + 1) % 3
    others = [broker for broker in range(3) if broker != gone]
    cluster.create((gone, *others))
    cluster.propose(gone, gone)
    cluster.kill_broker(gone)
    cluster.alter("t", "unclean.leader.election.enable", "true")
    assert cluster.partition().leader == others[0]


# In-sync sets.


def test_what_a_leader_proposes_is_committed_and_told(cluster: Cluster) -> None:
    cluster.create((0, 1, 2))
    answer = cluster.propose(0, 0, 1)
    state = cluster.partition()
    assert (answer.error_code, answer.isr, answer.partition_epoch) == (0, (0, 1), state.partition_epoch)
    assert state.isr == (0, 1)
    assert cluster.workers[2].last.isr == (0, 1)
    assert cluster.propose(0, 0, 1, 2).isr == (0, 1, 2)
    stale = cluster.propose(0, 0, epoch=0)
    assert (stale.error_code, cluster.partition().isr) == (errors.INVALID_UPDATE_VERSION, (0, 1, 2))


def test_who_has_died_meanwhile_does_not_join(cluster: Cluster) -> None:
    """(R) What the leader saw caught up is gone."""
    cluster.create((0, 1, 2))
    cluster.propose(0, 0, 1)
    cluster.kill(cluster.layout.workers(2)[0])
    cluster.settle()
    assert cluster.propose(0, 0, 1, 2).error_code == errors.INELIGIBLE_REPLICA
    assert cluster.partition().isr == (0, 1)
    cluster.begin_worker(2)
    cluster.settle()
    assert cluster.propose(0, 0, 1, 2).error_code == errors.NONE


def test_who_has_died_since_the_controller_looked_does_not_join(cluster: Cluster) -> None:
    """(R) The proposal is read before the death is dealt with."""
    cluster.create((0, 1, 2))
    cluster.propose(0, 0, 1)
    cluster.kill(cluster.layout.workers(2)[0])
    assert cluster.propose(0, 0, 1, 2).error_code == errors.INELIGIBLE_REPLICA
    assert cluster.partition().isr == (0, 1)


def test_who_has_yet_to_open_its_log_does_not_join(cluster: Cluster) -> None:
    """(R) What the leader saw caught up was the process before it."""
    cluster.create((0, 1, 2))
    slot = cluster.layout.workers(2)[0]
    cluster.kill(slot)
    cluster.settle()
    cluster.begin(slot, WORKER)
    cluster.settle()
    assert cluster.propose(0, 0, 1, 2).error_code == errors.INELIGIBLE_REPLICA
    assert cluster.partition().isr == (0, 1)


def test_a_proposal_of_a_worker_that_is_dead_is_not_heard(cluster: Cluster) -> None:
    cluster.create((0, 1, 2))
    dead = cluster.workers[0]
    cluster.replace_worker(0)
    order = dead.last
    controller = cluster.controller
    controller._proposals.take(  # pyright: ignore[reportPrivateUsage]
        dead.context.slot,
        dead.context.incarnation,
        AlterPartition(
            row=order.row,
            row_generation=order.row_generation,
            topic_id=order.topic_id,
            partition=0,
            leader_epoch=cluster.partition().leader_epoch,
            partition_epoch=cluster.partition().partition_epoch,
            isr=(0,),
        ),
    )
    assert cluster.partition().isr == (1, 2)


# Leaders that live give way.


def elect(cluster: Cluster, answers: list[tuple[list[PartitionResult] | None, KafkaError | None]]) -> None:
    """The preferred leader of the only partition is to lead."""
    changes = cluster.controller.changes

    def decide(image: MetadataImage) -> tuple[list[Record], list[PartitionResult]]:
        decided = elect_leaders(image, ELECT_PREFERRED, [("t", 0)], changes.rules())
        return decided.records, decided.results

    changes.replace(decide, lambda results, error: answers.append((results, error)))


def given_away(cluster: Cluster) -> None:
    """A partition whose preferred leader, in sync, does not lead it."""
    cluster.create((0, 1, 2))
    cluster.replace_worker(0)
    cluster.propose(1, 0, 1, 2)


def test_a_leader_that_lives_resigns_before_another_leads(cluster: Cluster) -> None:
    """(R) Until it has said so nothing is staged."""
    given_away(cluster)
    cluster.workers[1].is_slow_to_resign = True
    answers: list[tuple[list[PartitionResult] | None, KafkaError | None]] = []
    elect(cluster, answers)
    cluster.settle()
    (asked,) = cluster.workers[1].told(ResignLeadership)
    assert asked.leader_epoch == cluster.partition().leader_epoch == 1
    assert not answers
    assert cluster.partition().leader == 1
    cluster.workers[1].resign_now()
    cluster.settle()
    assert (cluster.partition().leader, cluster.partition().leader_epoch) == (0, 2)
    assert answers == [([PartitionResult(topic="t", partition=0)], None)]
    assert (cluster.workers[1].last.leader, cluster.workers[0].last.leader) == (0, 0)


def test_a_leader_that_dies_instead_of_resigning_is_as_good(cluster: Cluster) -> None:
    given_away(cluster)
    cluster.workers[1].is_slow_to_resign = True
    answers: list[tuple[list[PartitionResult] | None, KafkaError | None]] = []
    elect(cluster, answers)
    cluster.settle()
    cluster.replace_worker(1)
    assert cluster.partition().leader == 0
    ((results, error),) = answers
    assert error is None
    assert [result.error_code for result in results or ()] == [errors.ELECTION_NOT_NEEDED]


def test_who_resigned_in_vain_leads_on_in_an_epoch_of_its_own(cluster: Cluster) -> None:
    """(R) In the one that it resigned nobody leads any more."""
    given_away(cluster)
    cluster.workers[1].is_slow_to_resign = True
    answers: list[tuple[list[PartitionResult] | None, KafkaError | None]] = []
    elect(cluster, answers)
    cluster.settle()
    cluster.kill(cluster.layout.workers(0)[0])  # who was to lead
    cluster.settle()
    cluster.workers[1].resign_now()
    cluster.settle()
    assert [results[0].error_code for results, _ in answers if results] == [
        errors.PREFERRED_LEADER_NOT_AVAILABLE
    ]
    assert (cluster.partition().leader, cluster.partition().leader_epoch) == (1, 2)
    assert cluster.workers[1].last.leader_epoch == 2


@pytest.fixture
def crowded(tmp_path: Path) -> Iterator[Cluster]:
    """Three brokers of one worker each."""
    made = Cluster(tmp_path, workers_max="1")
    try:
        yield made
    finally:
        made.end()


def test_leaders_that_resigned_wait_for_others_that_are_asked_later(crowded: Cluster) -> None:
    """(R) Else each would lead on while the other resigns, without end."""
    cluster = crowded
    cluster.create((0, 1, 2), (0, 1, 2))
    changes, decided = cluster.controller.changes, list[int]()

    def decide(image: MetadataImage) -> tuple[list[Record], None]:
        decided.append(len(decided))
        topic = image.topics_by_name["t"]
        led = topic.partitions[: 1 if len(decided) == 1 else 2]  # the second is led from now on
        return [
            PartitionChange(
                topic_id=topic.topic_id,
                partition=each.partition,
                leader=1,
                leader_epoch=each.leader_epoch + 1,
            )
            for each in led
        ], None

    changes.replace(decide, lambda _result, _error: None)
    cluster.settle()
    assert [(cluster.partition(index).leader, cluster.partition(index).leader_epoch) for index in (0, 1)] == [
        (1, 1),
        (1, 1),
    ]
    assert len(decided) == 3


def test_to_stage_over_a_living_leader_is_an_error_of_ours(cluster: Cluster) -> None:
    """(R) The last line of defence."""
    given_away(cluster)
    changes = cluster.controller.changes
    records = elect_leaders(changes.image, ELECT_PREFERRED, None, changes.rules()).records
    with pytest.raises(AssertionError, match="resigns first"):
        changes.stage(records)


def test_preferred_leaders_get_their_partitions_back(cluster: Cluster) -> None:
    given_away(cluster)
    balance = cluster.controller._balance  # pyright: ignore[reportPrivateUsage]
    balance.look(1e9)
    cluster.settle()
    assert cluster.partition().leader == 0


# Moves.


def move(cluster: Cluster, *replicas: int) -> None:
    """The partition's replicas are to be these."""
    changes = cluster.controller.changes

    def decide(image: MetadataImage) -> tuple[list[Record], None]:
        asked = [Reassignment(topic="t", partition=0, replicas=replicas)]
        return reassign(image, asked, changes.rules()).records, None

    changes.replace(decide, lambda _result, _error: None)
    cluster.settle()


def test_a_partition_moves_to_other_brokers_and_the_old_replica_is_deleted(cluster: Cluster) -> None:
    cluster.create((0, 1))
    move(cluster, 1, 2)
    assert cluster.partition().adding == (2,)
    assert cluster.workers[2].told(ServeReplica)[0].is_new
    worker = cluster.workers[0]
    cluster.propose(0, 0, 1, 2)
    state = cluster.partition()
    assert (state.replicas, state.leader, state.adding, state.removing) == ((1, 2), 1, (), ())
    assert worker.told(ResignLeadership), "(R) also the leader that goes"
    (stop,) = worker.told(StopReplica)
    assert stop.delete
    rows = {replica.row for replica in cluster.controller.assignments.replicas_of(stop.topic_id, 0)}
    assert set(cluster.workers[1].last.rows) == {*rows, stop.row}, "(R) what the old leader has shown counts"
    assert set(cluster.workers[2].last.rows) == rows, "once the new one has begun"


# Failures.


def test_another_leads_what_a_worker_has_lost_once_that_is_certain(cluster: Cluster) -> None:
    """(R) An order on its way may have it open the log once more."""
    cluster.create((0, 1, 2))
    cluster.propose(0, 0, 1)  # so it has been told twice
    worker = cluster.workers.pop(0)
    worker.lose(worker.last)
    cluster.settle()
    assert cluster.partition().leader == 0
    cluster.workers[0] = worker
    cluster.settle()
    (stop,) = worker.told(StopReplica)
    assert not stop.delete
    assert (cluster.partition().leader, cluster.partition().isr) == (1, (1,))


def test_who_fails_alone_stays_the_leader_and_is_tried_again_in_its_next_epoch(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """(R) Not in the one in which it has led; clients of its groups find the coordinator where it was."""
    cluster.create((0,))
    cluster.workers[0].lose(cluster.workers[0].last)
    cluster.settle()
    assert (cluster.partition().leader, cluster.partition().leader_epoch) == (0, 0)
    newest = cluster.told(1)[-1]
    assert isinstance(newest, Unassigned)
    assert newest.error_code == errors.KAFKA_STORAGE_ERROR
    monkeypatch.setattr("tailrace.workers.losses.time.monotonic", lambda: 1e9)
    cluster.controller._losses.retry_due()  # pyright: ignore[reportPrivateUsage]
    monkeypatch.undo()
    cluster.settle()
    assert cluster.workers[0].last.leader_epoch == cluster.partition().leader_epoch == 1


def test_a_failed_follower_is_tried_again_as_a_follower(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.create((0, 1, 2))
    cluster.workers[2].lose(cluster.workers[2].last)
    cluster.settle()
    assert cluster.partition().isr == (0, 1)
    count = len(cluster.workers[2].told(ServeReplica))
    monkeypatch.setattr("tailrace.workers.losses.time.monotonic", lambda: 1e9)
    cluster.controller._losses.retry_due()  # pyright: ignore[reportPrivateUsage]
    monkeypatch.undo()
    cluster.settle()
    assert len(cluster.workers[2].told(ServeReplica)) > count
    assert (cluster.workers[2].last.leader, cluster.partition().leader_epoch) == (0, 0)


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[Cluster]:
    """Three brokers with two log directories and one worker each."""
    made = Cluster(tmp_path, workers_max="1", log_dirs=f"{tmp_path}/a,{tmp_path}/b")
    try:
        yield made
    finally:
        made.end()


def test_another_leads_what_lies_in_a_directory_that_failed(disks: Cluster) -> None:
    disks.create((0, 1, 2), (1, 2, 0), (0, 1, 2))
    paths = {
        (replica.partition, replica.broker): replica.log_dir
        for replica in disks.controller.assignments.by_key.values()
    }
    log_dirs = disks.shared.brokers[0].log_dirs
    bad = log_dirs.dirs[1]
    lost = [index for index in range(3) if paths[index, 0] == bad.path]
    assert lost, "both directories hold some"
    log_dirs.fail(bad.path, errno.EIO)
    disks.settle()
    for index in range(3):
        state = disks.partition(index)
        assert (0 in state.isr) == (index not in lost)
        assert state.leader == (1 if index in lost else state.replicas[0])
    assert disks.image.brokers[0].log_dirs == (log_dirs.dirs[0].directory_id,)


def test_nobody_leads_in_place_of_one_that_has_not_let_go_of_a_failed_directory(disks: Cluster) -> None:
    """(R) It may still acknowledge."""
    disks.create((0, 1, 2), (0, 1, 2))
    log_dirs = disks.shared.brokers[0].log_dirs
    bad = log_dirs.dirs[1]
    by_key = disks.controller.assignments.by_key.values()
    (index,) = [each.partition for each in by_key if each.log_dir == bad.path]
    worker = disks.workers.pop(0)
    log_dirs.fail(bad.path, errno.EIO)
    disks.settle()
    assert disks.partition(index).leader == 0
    disks.workers[0] = worker
    disks.settle()
    assert disks.partition(index).leader == 1
