"""What a follower's worker does when the disk of one replica refuses: the others there go on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tailrace.core.errors import KAFKA_STORAGE_ERROR, KafkaError
from tailrace.shm.link_slots import AckWords
from tailrace.workers import control
from tailrace.workers.replica import Replica
from tests.unit.workers.replicated_run import ROWS, ReplicatedRun, replicated_run


@pytest.fixture
def run(tmp_path: Path) -> Iterator[ReplicatedRun]:
    """Broker 0 leads, and all have ten batches."""
    with replicated_run(tmp_path) as made:
        made.elect(0)
        made.append(*"0123456789")
        made.settle()
        yield made


def refuse(*_: object) -> None:
    """As a disk does."""
    raise KafkaError(KAFKA_STORAGE_ERROR, "EIO")


def is_served(run: ReplicatedRun, broker: int) -> bool:
    """Whether the broker's worker has its replica still."""
    worker = run.workers[broker]
    assert worker is not None
    return ROWS[broker] in worker.replicas.by_row


def failures(run: ReplicatedRun) -> list[int]:
    """The rows that the controller has heard of as failed."""
    run.listen()
    return [message.row for message in run.said if isinstance(message, control.ReplicaFailed)]


def test_a_disk_that_does_not_delete_what_the_leader_has_deleted_is_heard_of(
    run: ReplicatedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start of the leader's log comes in a frame about many partitions."""
    leader = run.replica(0)
    monkeypatch.setattr(run.replica(1).log, "delete_records_before", refuse)
    leader.log.delete_records_before(5, 0)
    assert leader.leading is not None
    leader.leading.on_start_moved()
    run.turn(50)
    assert not is_served(run, 1)
    assert failures(run) == [ROWS[1]]
    assert run.replica(2).log.log_start_offset == 5


def test_a_follower_whose_row_cannot_be_shown_is_out_of_service_and_acknowledges_nothing(
    run: ReplicatedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """(R) What its row does not show is not acknowledged; nor is a word stored in that it has given back."""
    run.kill(2)
    run.commit((0, 1))
    stored: list[int] = []

    def stores(_self: AckWords, _number: int, offset: int) -> None:
        stored.append(offset)

    monkeypatch.setattr(AckWords, "store", stores)
    broken, publish = run.replica(1), Replica.publish

    def publishes(self: Replica) -> None:
        if self is broken:
            refuse()
        publish(self)

    monkeypatch.setattr(Replica, "publish", publishes)
    run.append("a")
    run.turn(50)
    assert not is_served(run, 1)
    assert failures(run) == [ROWS[1]]
    assert stored == []


def test_a_row_shows_what_its_follower_acknowledges(
    run: ReplicatedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """(R) Who leads next looks at the rows: what was committed by that acknowledgement is there."""
    run.kill(2)
    run.commit((0, 1))
    run.settle()
    store, stored = AckWords.store, list[int]()

    def stores(self: AckWords, number: int, offset: int) -> None:
        assert run.shown(1)[0] >= offset
        stored.append(offset)
        store(self, number, offset)

    monkeypatch.setattr(AckWords, "store", stores)
    run.append("a")
    run.settle()
    assert set(stored) == {11}
