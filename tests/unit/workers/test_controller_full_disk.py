"""A controller whose disk is full: it lives, gives no epoch twice, and goes on once there is room."""

import signal
from collections.abc import Iterator

import pytest

from tailrace.core.errors import KAFKA_STORAGE_ERROR, NONE
from tailrace.core.log.directory import DiskFullError
from tailrace.core.log.log import Log
from tailrace.shm.slots import WORKER
from tailrace.workers.control import Assigned, ReplicaFailed, ServeReplica, Unassigned
from tailrace.workers.retries import FULL_PAUSE_S, PAUSE_S_MAX
from tests.support.waiting import wait_until
from tests.unit.workers.controller_run import (
    CONTROLLER_AT,
    WORKER_AT,
    Run,
    heard,
    say,
    started,
)


class Clock:
    """What `time.monotonic` says to the controller."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The controller's clock, that the test moves."""
    made = Clock()
    monkeypatch.setattr("tailrace.workers.controller.time.monotonic", made)
    return made


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """`fill(disk)` makes the metadata log's disk full until `disk.undo()`."""
    with monkeypatch.context() as patch:
        yield patch


def fill(disk: pytest.MonkeyPatch) -> None:
    """From now on nothing is appended."""

    def refuse(*_: object, **__: object) -> None:
        raise DiskFullError(KAFKA_STORAGE_ERROR, "cannot extend: the disk is full")

    disk.setattr(Log, "append_as_leader", refuse)


def test_a_topic_that_there_is_no_room_for_is_refused_in_words_and_made_later(
    run: Run, disk: pytest.MonkeyPatch
) -> None:
    fill(disk)
    (result,) = run.create("orders").results
    assert (result.error_code, "the disk is full" in (result.error_message or "")) == (
        KAFKA_STORAGE_ERROR,
        True,
    )
    disk.undo()
    (result,) = run.create("orders").results
    assert result.error_code == NONE


def test_no_room_for_a_new_epoch_leaves_a_dead_leaders_partitions_offline_until_there_is_some(
    run: Run, disk: pytest.MonkeyPatch, clock: Clock
) -> None:
    """(R) The controller lives, and nobody serves in the epoch of the dead leader."""
    run.create("orders", 2)
    worker, orders = run.serve()
    heard(run.gateway)
    fill(disk)
    run.worker_dies(worker.incarnation, -1, signal.SIGKILL)
    successor = run.begin(WORKER_AT, WORKER)
    for _ in range(3):
        run.turn()
    assert heard(successor) == []
    gone = [message for message in heard(run.gateway) if isinstance(message, Unassigned)]
    assert {(message.partition, message.error_code) for message in gone} == {
        (order.partition, KAFKA_STORAGE_ERROR) for order in orders
    }
    assert run.controller.next_retry_s() == FULL_PAUSE_S
    clock.now_s += FULL_PAUSE_S
    run.turn()
    assert heard(successor) == [], "there is no room yet"
    disk.undo()
    clock.now_s += 2 * FULL_PAUSE_S
    run.turn()
    again = [message for message in heard(successor) if isinstance(message, ServeReplica)]
    assert [order.leader_epoch for order in again] == [order.leader_epoch + 1 for order in orders]


def test_a_log_that_there_is_no_room_for_is_tried_again_without_a_record_each_time(
    run: Run, clock: Clock
) -> None:
    """(R) Or the metadata log takes, a partition and a second, what room there is."""
    run.create("orders")
    worker = run.begin(WORKER_AT, WORKER)
    run.turn()
    (order,) = (message for message in heard(worker) if isinstance(message, ServeReplica))
    end = run.log.image.metadata_offset  # pyright: ignore[reportPrivateUsage]
    for _ in range(3):
        say(
            worker,
            CONTROLLER_AT,
            ReplicaFailed(
                row=order.row,
                row_generation=order.row_generation,
                error_code=KAFKA_STORAGE_ERROR,
                is_full=True,
                message="the disk is full",
            ),
        )
        run.turn()
        assert heard(worker) == []
        clock.now_s += 5.0
        run.turn()
        assert heard(worker) == [order]
    assert run.log.image.metadata_offset == end  # pyright: ignore[reportPrivateUsage]
    heard(run.gateway)
    say(worker, CONTROLLER_AT, started(order))
    run.turn()
    (told,) = heard(run.gateway)
    assert isinstance(told, Assigned)
    assert run.controller.next_retry_s() > PAUSE_S_MAX


def test_the_successor_of_a_dead_controller_waits_for_room(run: Run, disk: pytest.MonkeyPatch) -> None:
    """(R) The workers go on meanwhile."""
    run.create("orders")
    _, orders = run.serve()
    run.die(CONTROLLER_AT)
    run.die(WORKER_AT)
    fill(disk)
    member = run.new_member()
    for _ in range(3):
        run.turn()
        assert member.controller is None
    disk.undo()
    wait_until(lambda: member.turn() and member.controller is not None, "the controller to decide")
    _, again = run.serve()
    assert [order.leader_epoch for order in again] == [order.leader_epoch + 1 for order in orders]
