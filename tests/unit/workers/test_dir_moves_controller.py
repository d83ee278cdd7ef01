"""Moves between log directories as the controller has them: orders, answers, and what is committed when."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tailrace.core import errors
from tailrace.core.metadata.reassignments import reassign
from tailrace.core.metadata.requests import Reassignment
from tailrace.workers.control import PartitionResults, ServeReplica
from tailrace.workers.control_moves import CompleteMove, CopyMade, MoveEnded, MoveReplicas
from tests.unit.workers.cluster_run import Cluster, Worker
from tests.unit.workers.controller_run import heard


class Moving:
    """Three brokers with the directories a and b, and one partition that moves."""

    def __init__(self, path: Path) -> None:
        self.cluster = Cluster(path, log_dirs=f"{path}/a,{path}/b")
        self.asked = 0

    def worker(self, broker: int) -> Worker:
        """The first of a broker."""
        return self.cluster.workers[broker]

    def path(self, broker: int, name: str) -> str:
        """Of a directory of a broker."""
        dirs = self.cluster.shared.brokers[broker].log_dirs.dirs
        return next(each.path for each in dirs if f"/{name}/" in each.path)

    def other(self, broker: int) -> str:
        """The directory in which its replica does not lie."""
        return next(
            path
            for path in (self.path(broker, "a"), self.path(broker, "b"))
            if path != self.worker(broker).last.log_dir
        )

    def move(self, broker: int, log_dir: str, partition: int = 0, topic: str = "t") -> int:
        """The answer to its gateway."""
        self.asked += 1
        gateway = self.cluster.gateways[broker]
        self.cluster.say(gateway, MoveReplicas(request_id=self.asked, moves=[(topic, partition, log_dir)]))
        answers = [each for each in heard(gateway) if isinstance(each, PartitionResults)]
        ((result,),) = (answer.results for answer in answers)
        return result.error_code

    def copied(self, broker: int) -> None:
        """Its worker has a copy."""
        order = self.worker(broker).last
        made = CopyMade(row=order.row, row_generation=order.row_generation, log_dir=order.future_log_dir)
        self.cluster.say(self.worker(broker).context, made)

    def ended(self, broker: int, *, is_complete: bool = True) -> None:
        """It answers what it was told last."""
        order, asked = self.worker(broker).last, self.worker(broker).told(CompleteMove)[-1]
        message = MoveEnded(
            row=asked.row, row_generation=asked.row_generation, leader_epoch=asked.leader_epoch,
            log_dir=order.future_log_dir, is_complete=is_complete,
        )  # fmt: skip
        self.cluster.say(self.worker(broker).context, message)


@pytest.fixture
def moving(tmp_path: Path) -> Iterator[Moving]:
    """Nothing moves yet."""
    made = Moving(tmp_path)
    try:
        yield made
    finally:
        made.cluster.end()


def test_a_leader_moves_into_an_epoch_of_its_own(moving: Moving) -> None:
    moving.cluster.create((0, 1, 2))
    before, target = moving.worker(0).last, moving.other(0)
    assert moving.move(0, target) == errors.NONE
    assert (moving.worker(0).last.log_dir, moving.worker(0).last.future_log_dir) == (before.log_dir, target)
    moving.copied(0)
    assert moving.cluster.partition().leader_epoch == 0
    moving.ended(0)
    state, last = moving.cluster.partition(), moving.worker(0).last
    assert (state.leader, state.leader_epoch, state.isr) == (0, 1, (0, 1, 2))
    assert (last.log_dir, last.future_log_dir, last.leader_epoch) == (target, "", 1)
    assert last.row_generation > before.row_generation
    assert moving.worker(1).last.leader_log_dir == target
    directory = moving.cluster.shared.brokers[0].log_dirs.by_id(state.directory_of(0))
    assert directory is not None
    assert directory.path == target


def test_a_follower_moves_in_the_same_epoch(moving: Moving) -> None:
    moving.cluster.create((0, 1, 2))
    target = moving.other(1)
    assert moving.move(1, target) == errors.NONE
    moving.copied(1)
    moving.ended(1)
    state, last = moving.cluster.partition(), moving.worker(1).last
    assert (state.leader, state.leader_epoch, last.log_dir) == (0, 0, target)
    assert last.leader_incarnation == moving.worker(0).context.incarnation


def test_no_order_is_given_until_a_move_has_ended(moving: Moving) -> None:
    """(R) The old log could be appended to behind the copy."""
    moving.cluster.create((0, 1, 2))
    moving.move(1, moving.other(1))
    moving.copied(1)
    count = len(moving.worker(1).told(ServeReplica))
    moving.cluster.propose(0, 0, 1)
    assert len(moving.worker(1).told(ServeReplica)) == count
    assert moving.worker(2).last.isr == (0, 1)
    moving.ended(1)
    assert moving.worker(1).last.isr == (0, 1)


def test_what_cannot_be_completed_is_served_where_it_was(moving: Moving) -> None:
    moving.cluster.create((0, 1, 2))
    before = moving.worker(0).last
    moving.move(0, moving.other(0))
    moving.copied(0)
    moving.ended(0, is_complete=False)
    last = moving.worker(0).last
    assert (last.log_dir, last.future_log_dir, last.leader_epoch) == (before.log_dir, "", 1)


def test_what_has_no_room_to_be_completed_moves_on_later(moving: Moving) -> None:
    moving.cluster.create((0, 1, 2))
    before, target = moving.worker(0).last, moving.other(0)
    moving.move(0, target)
    moving.copied(0)
    asked = moving.worker(0).told(CompleteMove)[-1]
    no_room = MoveEnded(
        row=asked.row, row_generation=asked.row_generation, leader_epoch=asked.leader_epoch,
        log_dir="", is_complete=False,
    )  # fmt: skip
    moving.cluster.say(moving.worker(0).context, no_room)
    last = moving.worker(0).last
    assert (last.log_dir, last.future_log_dir, last.leader_epoch) == (before.log_dir, target, 1)
    moving.copied(0)
    moving.ended(0)
    assert (moving.worker(0).last.log_dir, moving.worker(0).last.leader_epoch) == (target, 2)


def test_a_move_that_was_called_off_meanwhile_is_not_committed(moving: Moving) -> None:
    moving.cluster.create((0, 1, 2))
    here, there = moving.worker(0).last.log_dir, moving.other(0)
    moving.move(0, there)
    moving.copied(0)
    assert moving.move(0, here) == errors.NONE
    moving.ended(0)
    assert (moving.worker(0).last.log_dir, moving.worker(0).last.leader_epoch) == (here, 1)


def test_a_worker_that_dies_has_its_successor_begin_anew(moving: Moving) -> None:
    moving.cluster.create((0, 1, 2))
    target = moving.other(1)
    moving.move(1, target)
    moving.copied(1)
    moving.cluster.replace_worker(1)
    assert moving.worker(1).last.future_log_dir == target
    moving.copied(1)
    moving.ended(1)
    assert moving.worker(1).last.log_dir == target


def test_where_a_replica_is_to_be_made_is_remembered(moving: Moving) -> None:
    moving.cluster.create((0,), (0,))
    wish = moving.path(1, "b")
    moving.cluster.create((1,), topic="others")  # a would have the fewest logs of b and a, or b
    for name in ("a", "b"):
        assert moving.move(1, moving.path(1, name)) == errors.REPLICA_NOT_AVAILABLE
    changes = moving.cluster.controller.changes
    asked = [Reassignment(topic="t", partition=0, replicas=(0, 1))]
    found = reassign(
        changes.image, asked, changes.rules(), replication_factor_may_change=True, replicas_free=9
    )
    changes.stage(found.records)
    moving.cluster.settle()
    assert moving.worker(1).last.log_dir == wish
    assert not changes.wished_dirs


def test_what_cannot_be_is_refused(moving: Moving) -> None:
    moving.cluster.create((0,))
    there = moving.other(0)
    assert moving.move(0, there, topic="nobody") == errors.UNKNOWN_TOPIC_OR_PARTITION
    assert moving.move(0, there, partition=1) == errors.UNKNOWN_TOPIC_OR_PARTITION
    assert moving.move(0, moving.path(1, "a")) == errors.KAFKA_STORAGE_ERROR
    (replica,) = moving.cluster.controller.assignments.by_key.values()
    moving.cluster.controller.assignments.take_offline(replica, errors.KAFKA_STORAGE_ERROR)
    assert moving.move(0, there) == errors.KAFKA_STORAGE_ERROR
