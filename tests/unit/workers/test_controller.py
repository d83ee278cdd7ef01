"""The real controller over a real metadata log and real rings, in one process with its peers."""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tailrace.core import errors
from tailrace.core.log.flush import Flush
from tailrace.core.log.log import Log
from tailrace.core.metadata.requests import NewTopic, TopicToDelete
from tailrace.shm.slots import GATEWAY, WORKER
from tailrace.shm.state_table import (
    HIGH_WATERMARK,
    LEADER_EPOCH,
    ROLE,
    ROLE_LEADER,
    ROLE_NONE,
    ROLE_OFFLINE,
    ROW_GENERATION,
    TOPIC_ID_HI,
    TOPIC_ID_LO,
    RowWriter,
    topic_id_words,
)
from tailrace.workers.control import (
    AllocateProducerIds,
    Assigned,
    CreateTopics,
    DeleteTopics,
    Message,
    ProducerIds,
    Replicas,
    ReplicaStopped,
    ReportReplicas,
    ServeReplica,
    StopReplica,
    TopicResults,
    Unassigned,
    WantWorker,
    WorkerDied,
)
from tailrace.workers.metadata_follower import MetadataFollower, metadata_row
from tailrace.workers.survey import Survey
from tests.unit.workers.controller_run import (
    CONTROLLER_AT,
    GATEWAY_AT,
    WORKER_AT,
    Run,
    configured,
    heard,
    held,
    say,
    started,
)

METADATA_ROW = metadata_row(0)


def test_a_topic_is_committed_before_the_answer_and_assigned_once_its_leader_serves(run: Run) -> None:
    answer = run.create("t")
    (result,) = answer.results
    assert result.error_code == errors.NONE
    table = run.shared.state_table
    assert table.read_word(METADATA_ROW, HIGH_WATERMARK) >= answer.metadata_offset
    follower = MetadataFollower(run.shared.brokers[0].log_dirs.metadata_dir, METADATA_ROW, table)
    assert follower.poll()
    assert follower.image.metadata_offset >= answer.metadata_offset
    assert follower.image.topics_by_name["t"].topic_id == result.topic_id
    assert not follower.poll()
    assert heard(run.supervisor) == [WantWorker(slot=WORKER_AT)]
    worker, (order,) = run.serve()
    assert (order.topic, order.leader_epoch, order.is_new) == ("t", 0, True)
    (assigned,) = heard(run.gateway)
    assert isinstance(assigned, Assigned)
    assert (assigned.worker_slot, assigned.worker_incarnation) == (WORKER_AT, worker.incarnation)


def test_nobody_hears_of_what_could_not_be_synced(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row moves, and answers leave, only after the sync (R)."""

    def fail(_flush: Flush) -> None:
        raise OSError

    run.create("t")
    before = run.shared.state_table.read_word(METADATA_ROW, HIGH_WATERMARK)
    heard(run.supervisor)
    monkeypatch.setattr(Flush, "run", fail)
    say(run.gateway, CONTROLLER_AT, AllocateProducerIds(request_id=1))
    with pytest.raises(OSError, match=r"^$"):
        run.turn()
    assert heard(run.gateway) == []
    assert heard(run.supervisor) == []
    assert run.shared.state_table.read_word(METADATA_ROW, HIGH_WATERMARK) == before


def test_a_dead_leaders_partitions_get_new_epochs_in_one_batch(run: Run) -> None:
    run.create("t", 2)
    _, orders = run.serve()
    before = run.shared.state_table.read_word(METADATA_ROW, HIGH_WATERMARK)
    run.worker_dies(run.slots.incarnation(WORKER_AT), -1, signal.SIGKILL)
    run.turn()
    assert run.shared.state_table.read_word(METADATA_ROW, HIGH_WATERMARK) == before + len(orders)
    _, again = run.serve()
    assert [order.leader_epoch for order in again] == [order.leader_epoch + 1 for order in orders]


def test_no_new_epoch_before_the_death_is_stored(run: Run) -> None:
    """The frame alone does not prove it (R)."""
    run.create("t")
    worker, (order,) = run.serve()
    before = run.shared.state_table.read_word(METADATA_ROW, HIGH_WATERMARK)
    died = WorkerDied(slot=WORKER_AT, incarnation=worker.incarnation, row=order.row, signal=signal.SIGKILL)
    say(run.supervisor, CONTROLLER_AT, died)
    run.turn()
    assert run.shared.state_table.read_word(METADATA_ROW, HIGH_WATERMARK) == before


def test_a_death_between_two_looks_is_met_with_its_frame(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """(R) Deaths are looked for before frames are read: what the worker died of decides who comes next."""
    run.create("t")
    worker, (order,) = run.serve()
    hear = run.controller._hear  # pyright: ignore[reportPrivateUsage]

    def hear_and_die() -> Sequence[tuple[int, int, Message]]:
        heard = hear()
        monkeypatch.undo()
        run.worker_dies(worker.incarnation, order.row, signal.SIGBUS)
        return heard

    monkeypatch.setattr(run.controller, "_hear", hear_and_die)
    run.turn()
    assert run.shared.state_table.read_word(order.row, ROLE) != ROLE_OFFLINE
    run.turn()
    assert run.shared.state_table.read_word(order.row, ROLE) == ROLE_OFFLINE


def test_a_death_heard_of_late_does_not_touch_the_row_of_the_next_leader(run: Run) -> None:
    """(R) A row has one writer: it is quarantined only while its owner is dead."""
    run.create("t")
    worker, (order,) = run.serve()
    run.die(WORKER_AT)
    run.turn()
    run.serve()
    heard(run.gateway)
    before = run.shared.state_table.read(order.row)
    died = WorkerDied(slot=WORKER_AT, incarnation=worker.incarnation, row=order.row, signal=signal.SIGBUS)
    say(run.supervisor, CONTROLLER_AT, died)
    run.turn()
    assert heard(run.gateway) == []
    assert run.shared.state_table.read(order.row) == before


def test_what_a_dead_gateway_asked_is_not_answered_to_its_successor(run: Run) -> None:
    """(R) The successor numbers its requests from 1, too, and would take the answer for one to its own."""
    worker = run.begin(WORKER_AT, WORKER)
    run.die(CONTROLLER_AT)
    member = run.new_member()
    topic = NewTopic(name="t", num_partitions=1)
    say(run.gateway, CONTROLLER_AT, AllocateProducerIds(request_id=1))
    asked = CreateTopics(request_id=2, topics=[topic], validate_only=False, timeout_ms=1000)
    say(run.gateway, CONTROLLER_AT, asked)
    run.turn()
    assert member.take_over is not None
    assert len(member.take_over.early) == 2
    run.die(GATEWAY_AT)
    successor = run.begin(GATEWAY_AT, GATEWAY)
    say(worker, CONTROLLER_AT, Replicas(replicas=[]))
    run.turn()
    assert heard(successor) == []
    assert "t" in run.log.image.topics_by_name


def test_a_crash_loop_quarantines_its_partition_and_not_the_neighbours(run: Run) -> None:
    run.create("t", 3)  # partitions 0 and 2 share the worker of the first slot
    worker, orders = run.serve()
    bad = orders[0]
    assert len(orders) == 2
    for _ in range(3):
        run.worker_dies(worker.incarnation, bad.row, signal.SIGSEGV)
        run.turn()
        heard(run.gateway)
        worker, orders = run.serve()
    assert [order.partition for order in orders] == [2]
    assert run.shared.state_table.read_word(bad.row, ROLE) == ROLE_OFFLINE
    run.die(CONTROLLER_AT)
    run.new_member(worker, [held(order) for order in orders])
    codes = {
        message.partition: message.error_code
        for message in heard(run.gateway)
        if isinstance(message, Unassigned)
    }
    assert codes == {0: errors.KAFKA_STORAGE_ERROR}


def test_a_new_controller_leaves_alone_what_live_workers_serve(run: Run) -> None:
    run.create("t")
    worker, (order,) = run.serve()
    heard(run.gateway)
    before = run.shared.state_table.read_word(METADATA_ROW, HIGH_WATERMARK)
    run.die(CONTROLLER_AT)
    run.new_member(worker, [held(order)])
    begins = 1  # the record that says who leads
    assert run.shared.state_table.read_word(METADATA_ROW, HIGH_WATERMARK) == before + begins
    assert heard(worker) == [ReportReplicas(), configured(order)]
    (assigned,) = heard(run.gateway)
    assert isinstance(assigned, Assigned)
    assert assigned.worker_incarnation == worker.incarnation


def test_what_nobody_holds_is_served_in_a_new_epoch_and_generation(run: Run) -> None:
    """(R) Its last leader may have died with the controller, which had no time to say so."""
    run.create("t")
    _, (order,) = run.serve()
    writer = RowWriter(run.shared.state_table, order.row)  # what the worker had published
    writer.values[TOPIC_ID_HI], writer.values[TOPIC_ID_LO] = topic_id_words(order.topic_id)
    writer.values[ROLE] = ROLE_LEADER
    writer.values[ROW_GENERATION] = order.row_generation
    writer.publish()
    run.die(CONTROLLER_AT)
    run.die(WORKER_AT)
    run.new_member()
    _, (again,) = run.serve()
    assert (again.row, again.leader_epoch) == (order.row, order.leader_epoch + 1)
    assert again.row_generation > order.row_generation


def test_a_worker_in_an_epoch_before_the_committed_one_is_told(run: Run) -> None:
    """(R) Nobody hears of it as leader before it has said that it leads in the committed epoch."""
    run.create("t")
    worker, (order,) = run.serve()
    heard(run.gateway)
    run.die(CONTROLLER_AT)
    run.new_member(worker, [held(order, order.leader_epoch - 1)])
    assert heard(run.gateway) == []
    report, told, configs = heard(worker)
    assert isinstance(report, ReportReplicas)
    assert isinstance(told, ServeReplica)
    assert configs == configured(told)
    assert (told.leader_epoch, told.row_generation) == (order.leader_epoch, order.row_generation)
    say(worker, CONTROLLER_AT, started(told))
    run.turn()
    assert [type(message) for message in heard(run.gateway)] == [Assigned]


def test_a_controller_waits_for_what_every_living_worker_holds(run: Run) -> None:
    """(R) Or it would give away what is served; and of two that hold the same only one goes on."""
    run.create("t")
    worker, (order,) = run.serve()
    second = run.begin(WORKER_AT + 1, WORKER)
    run.die(CONTROLLER_AT)
    member = run.new_member()
    for asked in (worker, second):
        assert member.controller is None
        say(asked, CONTROLLER_AT, Replicas(replicas=[held(order)]))
        run.turn()
    assert member.controller is not None
    assert heard(worker) == [ReportReplicas(), configured(order)]
    report, stop = heard(second)
    assert isinstance(report, ReportReplicas)
    assert isinstance(stop, StopReplica)
    assert not stop.delete


def test_each_controller_writes_in_a_leader_epoch_of_its_own_above_the_commit_of_the_last(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """(R) What a dead controller had committed is never rewritten, and nobody has its epoch again."""
    given: list[int] = []
    open_log = Log.open

    def watch(*arguments: Any, **options: Any) -> Log:
        given.append(options["high_watermark"])
        return open_log(*arguments, **options)

    monkeypatch.setattr(Log, "open", watch)
    table = run.shared.state_table
    committed: list[int] = []
    epochs: list[int] = []
    for name in ("a", "b", "c"):
        run.create(name)
        heard(run.supervisor)
        epochs.append(table.read_word(METADATA_ROW, LEADER_EPOCH))
        committed.append(table.read_word(METADATA_ROW, HIGH_WATERMARK))
        run.die(CONTROLLER_AT)
        run.new_member()
        heard(run.gateway)
    assert epochs == [epochs[0], epochs[0] + 1, epochs[0] + 2]
    assert given == committed


@pytest.mark.parametrize("role", [ROLE_LEADER, ROLE_NONE])
def test_a_partition_whose_worker_died_without_a_controller_keeps_its_row(run: Run, role: int) -> None:
    """Its next leader goes on from the high watermark in that row (R), also if its last one had resigned."""
    run.create("first")
    run.create("second")  # on the other worker slot
    _, (order,) = run.serve()
    held_row = run.controller.assignments.by_key[order.topic_id, 0, 0].row
    other = next(row for row in run.controller.assignments.by_row if row != held_row)
    topic_id = run.controller.assignments.by_row[other].topic_id
    writer = RowWriter(run.shared.state_table, 9)
    writer.values[TOPIC_ID_HI], writer.values[TOPIC_ID_LO] = topic_id_words(topic_id)
    writer.values[ROLE] = role
    writer.publish()
    run.die(CONTROLLER_AT)
    run.die(WORKER_AT)
    run.new_member()
    assert run.controller.assignments.by_key[topic_id, 0, 0].row == 9


def test_what_a_replica_has_shown_that_is_gone_counts_for_a_new_controller_as_well(run: Run) -> None:
    """(R) Until a leader has begun that was told of it."""
    run.create("t")
    topic_id = run.log.image.topics_by_name["t"].topic_id
    for row, epoch in ((8, 3), (9, 5)):
        writer = RowWriter(run.shared.state_table, row)
        writer.values[TOPIC_ID_HI], writer.values[TOPIC_ID_LO] = topic_id_words(topic_id)
        writer.values[LEADER_EPOCH] = epoch
        writer.publish()
    run.die(CONTROLLER_AT)
    run.new_member()
    free = run.controller.assignments.seats.rows_free
    _, orders = run.serve()
    assert [(order.row, order.rows) for order in orders] == [(9, (9, 8))]
    assert run.controller.assignments.seats.rows_free == free + 1


def test_a_deleted_topic_is_stopped_forgotten_and_its_worker_retired(run: Run) -> None:
    run.create("t")
    worker, _ = run.serve()
    heard(run.gateway)
    heard(run.supervisor)
    say(
        run.gateway, CONTROLLER_AT, DeleteTopics(request_id=2, topics=[TopicToDelete(name="t")], timeout_ms=1)
    )
    run.turn()
    assert {type(message) for message in heard(run.gateway)} == {TopicResults, Unassigned}
    (stop,) = heard(worker)
    assert isinstance(stop, StopReplica)
    free = run.controller.assignments.seats.rows_free
    say(worker, CONTROLLER_AT, ReplicaStopped(row=stop.row, row_generation=stop.row_generation))
    run.turn()
    assert run.controller.assignments.seats.rows_free == free + 1


def test_producer_ids_are_never_given_twice_over_a_restart(run: Run) -> None:
    firsts: list[int] = []
    for request_id in range(2):
        say(run.gateway, CONTROLLER_AT, AllocateProducerIds(request_id=request_id))
        run.turn()
        (block,) = heard(run.gateway)
        assert isinstance(block, ProducerIds)
        assert block.count == 1000
        firsts.append(block.first_producer_id)
        run.die(CONTROLLER_AT)
        run.new_member()
        heard(run.gateway)
    assert firsts == [0, 1000]


def test_directories_of_topics_that_are_gone_are_set_aside_and_kept(run: Run) -> None:
    log_dirs = run.shared.brokers[0].log_dirs
    data = Path(log_dirs.metadata_dir)
    for name in ("gone-0", "unmarked-0"):
        (data / name).mkdir()
        (data / name / "00000000000000000000.log").touch()
    (data / "gone-0" / "partition.metadata").write_text("version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ\n")
    follower = MetadataFollower(log_dirs.metadata_dir, METADATA_ROW, run.shared.state_table)
    (moved,) = Survey(log_dirs, follower.image, 0, (), first_of_run=True).strays
    assert moved.startswith("gone-0.")
    assert moved.endswith("-stray")
    assert (data / moved / "partition.metadata").exists()
    assert (data / "unmarked-0").exists()
