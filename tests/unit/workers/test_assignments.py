"""The controller's decisions about rows and workers, without processes."""

from tailrace.core import errors
from tailrace.workers.control import (
    Assigned,
    ConfigureReplica,
    HeldReplica,
    LogDirFailed,
    ReplicaStarted,
    RetireWorker,
    ServeReplica,
    StopReplica,
    Unassigned,
    WantWorker,
)
from tailrace.workers.orders import Replica
from tests.unit.workers.assignments_world import GATEWAY, A, B, World, state


def test_a_gateway_hears_of_a_leader_only_once_it_has_started() -> None:
    world = World()
    world.place(epoch=3, configs={"k": "v"})
    assert world.take() == [(0, WantWorker(slot=4))]
    world.assignments.serve_slot(4, 7)
    ((slot, order),) = world.take()
    assert slot == 4
    assert isinstance(order, ServeReplica)
    assert (order.row, order.row_generation, order.leader_epoch, order.configs) == (1, 1, 3, {"k": "v"})
    world.started(world.assignments.by_key[A, 0, 0])
    ((slot, assigned),) = world.take()
    assert slot == GATEWAY
    assert isinstance(assigned, Assigned)
    assert (assigned.worker_slot, assigned.worker_incarnation, assigned.leader_epoch) == (4, 7, 3)


def test_an_order_is_given_once_to_an_incarnation() -> None:
    world = World()
    world.place()
    world.assignments.serve_slot(4, 7)
    world.take()
    world.assignments.serve_slot(4, 7)
    assert not world.take()


def test_replicas_of_a_dead_worker_wait_for_a_new_epoch_and_a_new_generation() -> None:
    world = World()
    replica = world.serving()
    assert world.assignments.on_worker_death(4) == [replica]
    world.renew(replica)
    world.assignments.serve_slot(4, 8)
    ((_, order),) = world.take()
    assert isinstance(order, ServeReplica)
    assert (order.leader_epoch, order.row_generation, order.is_new) == (1, 2, False)


def test_an_answer_of_a_dead_incarnation_is_dropped() -> None:
    world = World()
    replica = world.serving()
    world.assignments.on_worker_death(4)
    world.renew(replica)
    world.assignments.serve_slot(4, 8)
    world.take()
    late = ReplicaStarted(row=replica.row, row_generation=2, leader_epoch=1)
    world.assignments.on_started(4, 7, late)
    assert not replica.started
    assert not world.take()


def test_a_row_is_free_only_after_its_replica_stopped() -> None:
    world = World(row_count=2)
    replica = world.serving()
    world.assignments.delete_topic(A, 1)
    (to_gateway, to_worker) = world.take()
    assert to_gateway == (
        GATEWAY,
        Unassigned(topic_id=A, partition=0, error_code=errors.UNKNOWN_TOPIC_OR_PARTITION),
    )
    assert isinstance(to_worker[1], StopReplica)
    assert to_worker[1].delete
    assert world.assignments.seats.rows_free == 0
    world.assignments.on_stopped(4, 7, replica.row, replica.row_generation)
    assert world.assignments.seats.rows_free == 1
    assert world.take() == [(0, RetireWorker(slot=4))]


def test_an_answer_about_the_row_before_it_was_given_away_again_frees_nothing() -> None:
    """(R) Also from the same worker: it may have held both replicas."""
    world = World(row_count=2, workers_max=1)
    old = world.serving()
    world.assignments.delete_topic(A, 1)
    world.assignments.on_stopped(4, 7, old.row, old.row_generation)
    new = world.serving(B)
    assert (new.row, new.slot, new.row_generation) == (old.row, old.slot, old.row_generation + 1)
    world.assignments.delete_topic(B, 1)
    world.assignments.on_stopped(4, 7, old.row, old.row_generation)
    assert world.assignments.seats.rows_free == 0
    world.assignments.on_stopped(4, 7, new.row, new.row_generation)
    assert world.assignments.seats.rows_free == 1


def test_a_worker_that_dies_while_deleting_has_its_successor_delete() -> None:
    world = World()
    replica = world.serving()
    world.assignments.delete_topic(A, 1)
    world.take()
    assert world.assignments.on_worker_death(4) == []
    world.assignments.serve_slot(4, 8)
    ((_, order),) = world.take()
    assert isinstance(order, StopReplica)
    world.assignments.on_stopped(4, 8, replica.row, replica.row_generation)
    assert world.assignments.seats.rows_free == 9


def test_a_topic_made_again_waits_until_the_old_files_are_gone() -> None:
    world = World(workers_max=1)
    old = world.serving()
    world.assignments.delete_topic(A, 1)
    world.place(B)
    world.take()
    world.assignments.serve_slot(4, 7)
    assert not world.take()
    world.assignments.on_stopped(4, 7, old.row, old.row_generation)
    world.take()
    world.assignments.serve_slot(4, 7)
    ((_, order),) = world.take()
    assert isinstance(order, ServeReplica)
    assert order.topic_id == B


def test_a_replica_that_fails_while_it_is_being_deleted_keeps_its_name() -> None:
    """(R) Its files are removed later, by path, and would be those of a topic made again meanwhile."""
    world = World(workers_max=1)
    old = world.serving()
    world.assignments.delete_topic(A, 1)
    world.place(B)
    world.take()
    failed = (4, 7, old.row, old.row_generation, errors.KAFKA_STORAGE_ERROR)
    assert world.assignments.on_failed(*failed, is_full=False) is None
    world.assignments.serve_slot(4, 7)
    assert not world.take()
    world.assignments.on_stopped(4, 7, old.row, old.row_generation)
    assert world.assignments.seats.rows_free == 8


def test_a_topic_made_again_after_a_new_controller_waits_as_well() -> None:
    """(R) Another worker would open the files that the first one is removing."""
    world = World()
    gone = HeldReplica(
        topic="t",
        topic_id=A,
        partition=0,
        row=2,
        row_generation=5,
        leader_epoch=3,
        log_dir="/data",
        started=True,
    )
    world.assignments.adopt_deleted(gone, 5)
    world.assignments.seats.finish_adopting()
    world.place(B)
    slot = world.assignments.by_key[B, 0, 0].slot
    world.take()
    if slot != 5:
        world.assignments.serve_slot(slot, 7)
        assert not world.take()
    world.assignments.serve_slot(5, 7)
    ((_, order),) = world.take()
    assert isinstance(order, StopReplica)
    assert (order.topic, order.topic_id) == ("t", A)
    world.assignments.on_stopped(5, 7, 2, 5)
    world.take()
    world.assignments.serve_slot(slot, 7)
    ((_, order),) = world.take()
    assert isinstance(order, ServeReplica)


def test_a_topic_deleted_while_it_waits_never_reaches_a_worker() -> None:
    world = World(workers_max=1)
    world.serving()
    world.assignments.delete_topic(A, 1)
    world.place(B)
    world.assignments.delete_topic(B, 1)
    world.take()
    world.assignments.serve_slot(4, 7)
    assert not world.take()


def test_a_partition_taken_offline_leaves_its_neighbours_alone() -> None:
    world = World(workers_max=1)
    bad, good = world.serving(A, 0), world.serving(A, 1)
    world.assignments.take_offline(bad, errors.KAFKA_STORAGE_ERROR)
    assert world.take() == [
        (GATEWAY, Unassigned(topic_id=A, partition=0, error_code=errors.KAFKA_STORAGE_ERROR))
    ]
    assert world.assignments.on_worker_death(4) == [bad, good]
    world.renew(good)
    world.assignments.serve_slot(4, 8)
    ((_, order),) = world.take()
    assert isinstance(order, ServeReplica)
    assert order.partition == 1


def test_a_gateway_that_says_hello_hears_what_serves_and_what_is_offline() -> None:
    world = World()
    world.serving(A, 0)
    world.assignments.take_offline(world.serving(A, 1), errors.KAFKA_STORAGE_ERROR)
    world.place(A, 2)
    world.take()
    assert world.assignments.tell_gateway(GATEWAY)
    assert [type(message) for _, message in world.take()] == [Assigned, Unassigned]


def test_a_successor_adopts_what_live_workers_hold() -> None:
    world = World(row_count=4)
    held = HeldReplica(
        topic="t",
        topic_id=A,
        partition=0,
        row=2,
        row_generation=5,
        leader_epoch=3,
        log_dir="/data",
        started=True,
        partition_epoch=0,
    )
    gone = HeldReplica(
        topic="gone",
        topic_id=B,
        partition=0,
        row=3,
        row_generation=1,
        leader_epoch=0,
        log_dir="/data",
        started=True,
    )
    world.assignments.adopt(held, "t", state(epoch=3), {}, 4, 7, held.log_dir)
    world.assignments.adopt_deleted(gone, 5)
    world.assignments.seats.finish_adopting()
    assert world.assignments.seats.rows_free == 1
    world.take()
    world.assignments.serve_slot(4, 7)
    ((_, configs),) = world.take()
    assert configs == ConfigureReplica(row=2, row_generation=5, configs={})
    world.assignments.serve_slot(5, 8)
    ((_, order),) = world.take()
    assert isinstance(order, StopReplica)


def test_other_configs_are_told_once_to_whoever_serves() -> None:
    world = World()
    replica = world.serving()
    world.assignments.configure(A, 1, {0: {"segment.bytes": "1"}})
    world.assignments.serve_slot(replica.slot, 7)
    world.assignments.serve_slot(replica.slot, 7)
    ((slot, told),) = world.take()
    assert slot == replica.slot
    assert told == ConfigureReplica(
        row=replica.row, row_generation=replica.row_generation, configs={"segment.bytes": "1"}
    )


def test_who_serves_next_begins_with_the_configs_there_are() -> None:
    world = World()
    replica = world.serving()
    world.assignments.on_worker_death(replica.slot)
    world.assignments.configure(A, 1, {0: {"segment.bytes": "1"}})
    world.renew(replica)
    world.assignments.serve_slot(replica.slot, 8)
    orders = [order for _, order in world.take() if isinstance(order, ServeReplica)]
    assert [order.configs for order in orders] == [{"segment.bytes": "1"}]


def test_configs_that_could_not_be_sent_are_sent_again() -> None:
    world = World()
    replica = world.serving()
    world.assignments.configure(A, 1, {0: {"segment.bytes": "1"}})
    world.is_full = True
    world.assignments.serve_slot(replica.slot, 7)
    world.is_full = False
    assert not world.take()
    world.assignments.serve_slot(replica.slot, 7)
    assert len(world.take()) == 1


def test_workers_are_shared_past_their_limit() -> None:
    world = World(workers_max=2)
    for partition in range(4):
        world.place(A, partition)
    assert [len(world.assignments.seats.replicas_of(slot)) for slot in (4, 5)] == [2, 2]


def test_partitions_of_internal_topics_share_a_worker_that_others_avoid() -> None:
    world = World(workers_max=3)
    world.place()
    for partition in range(4):
        world.place(B, partition, topic="__consumer_offsets")
    world.place(A, 1)
    slots = [{replica.topic for replica in world.assignments.seats.replicas_of(slot)} for slot in (4, 5, 6)]
    assert slots == [{"t"}, {"__consumer_offsets"}, {"t"}]


def test_a_log_directory_that_fails_takes_its_partitions_offline_and_no_others() -> None:
    world = World(workers_max=1)
    bad, good = world.serving(A, 0), world.serving(A, 1)
    good.log_dir = "/other"
    assert world.assignments.fail_log_dir("/data") == 1
    assert world.take() == [
        (GATEWAY, Unassigned(topic_id=A, partition=0, error_code=errors.KAFKA_STORAGE_ERROR)),
        (bad.slot, LogDirFailed(log_dir="/data")),
    ]
    world.assignments.on_failed(4, 7, bad.row, bad.row_generation, errors.KAFKA_STORAGE_ERROR, is_full=False)
    assert (bad.offline_code, good.offline_code) == (errors.KAFKA_STORAGE_ERROR, 0)
    world.assignments.delete_topic(A, 1)  # its row is free only when the worker has let go
    world.assignments.serve_slot(4, 7)
    (stop,) = world.told(StopReplica)
    free = world.assignments.seats.rows_free
    world.assignments.on_stopped(4, 7, stop.row, stop.row_generation)
    assert world.assignments.seats.rows_free == free + 1


def test_an_order_reaches_nobody_who_came_since_the_controller_looked() -> None:
    """(R) Who was not found to have died would lead, and its death lead to another leader beside it."""
    world = World()
    world.place()
    world.take()
    world.living[4] = 8
    world.assignments.serve_slot(4, 7)
    assert not world.take()
    world.assignments.serve_slot(4, 8)
    assert len(world.told(ServeReplica)) == 1


def test_a_leader_is_not_told_again_in_an_epoch_that_is_spent() -> None:
    """(R) Also if there is no room for the record of another."""
    world = World()
    leader = world.serving()
    world.assignments.on_worker_death(leader.slot)
    world.assignments.serve_slot(leader.slot, 8)
    assert not world.told(ServeReplica)
    world.renew(leader)
    world.assignments.serve_slot(leader.slot, 8)
    assert [order.leader_epoch for order in world.told(ServeReplica)] == [1]


def test_a_follower_is_told_of_the_leader_only_once_that_leads_in_this_epoch() -> None:
    """(R) Its log is truncated by what the leader says, who must have begun."""
    world = World(brokers=3)
    leader, follower, _ = world.replicated()
    world.started(leader)
    world.take()
    world.renew(leader)
    world.serve()
    assert {order.leader_slot for order in world.told(ServeReplica)} == {0}
    world.started(leader)
    world.serve()
    told = world.told(ServeReplica)
    assert [(order.leader_slot, order.leader_incarnation) for order in told] == [(leader.slot, 7)] * 2
    assert follower.row in {order.row for order in told}


def moved_away(world: World) -> tuple[Replica, Replica]:
    """The leader leaves the partition for good, another is to lead: that one, and who left."""
    gone, leader, _ = world.replicated()
    world.started(gone)
    world.serve()
    world.take()
    world.assignments.update(A, state(replicas=(1, 2), leader=1, epoch=1, change=1))
    world.assignments.on_stopped(gone.slot, 7, gone.row, gone.row_generation)
    return leader, gone


def test_a_new_leader_looks_at_the_row_of_one_that_has_left_the_partition() -> None:
    """(R) Nobody else may have shown the high watermark that readers saw there."""
    world = World(brokers=3)
    leader, gone = moved_away(world)
    world.serve()
    (order,) = [order for order in world.told(ServeReplica) if order.row == leader.row]
    assert gone.row in order.rows


def test_the_row_of_one_that_has_left_is_free_once_a_leader_was_told_of_it() -> None:
    world = World(brokers=3)
    leader, gone = moved_away(world)
    free = world.assignments.seats.rows_free
    world.serve()
    world.started(leader)
    assert world.assignments.seats.rows_free == free + 1
    world.renew(leader)
    world.take()
    world.serve()
    assert all(gone.row not in order.rows for order in world.told(ServeReplica))


def test_rows_that_are_kept_for_a_topic_are_free_when_it_is_gone() -> None:
    world = World(brokers=3)
    free = world.assignments.seats.rows_free
    world.assignments.keep_rows(A, 0, {7, 8})
    assert world.assignments.seats.rows_free == free - 2
    world.assignments.delete_topic(A, 1)
    assert world.assignments.seats.rows_free == free


def test_the_brokers_that_are_fenced_are_told_nothing() -> None:
    world = World(brokers=3)
    world.gone = {1}
    _, fenced, _ = world.replicated()
    assert fenced.row not in {order.row for order in world.told(ServeReplica)}
    world.gone.clear()
    world.serve()
    assert [order.row for order in world.told(ServeReplica)] == [fenced.row]


def test_gateways_hear_of_a_replica_that_has_moved_to_another_row_generation() -> None:
    """They read rows by their generation."""
    world = World(brokers=3)
    leader, follower, _ = world.replicated()
    world.started(leader)
    world.started(follower)
    world.take()
    world.assignments.on_worker_death(follower.slot)
    world.serve()
    world.take()
    world.started(follower)
    told = world.told(Assigned)
    assert len(told) == len(world.layout.gateways())
    assert (follower.broker, follower.row_generation) in {
        (place.broker, place.row_generation) for place in told[0].replicas
    }


def test_a_log_that_moved_without_its_worker_hearing_of_it_is_opened_there() -> None:
    """The controller committed its directory and died."""
    world = World()
    held = HeldReplica(
        topic="t", topic_id=A, partition=0, row=3, row_generation=5, leader_epoch=2, log_dir="/a",
        started=True, leads=False, future_log_dir="/b",
    )  # fmt: skip
    world.generations[3] = 5
    world.assignments.adopt(held, "t", state(epoch=3), {}, 4, 7, "/b")
    world.assignments.serve_slot(4, 7)
    (order,) = world.told(ServeReplica)
    assert (order.log_dir, order.row_generation, order.leader_epoch) == ("/b", 6, 3)
    assert order.future_log_dir == ""
