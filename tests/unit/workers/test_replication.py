"""Leader and followers of one partition: what is copied, what is committed, what deaths do to it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import pytest
from msgspec import structs

from tailrace.core.errors import INELIGIBLE_REPLICA, KAFKA_STORAGE_ERROR, NOT_ENOUGH_REPLICAS, KafkaError
from tailrace.shm.slots import WORKER
from tailrace.shm.state_table import (
    HIGH_WATERMARK,
    LEADER_EPOCH,
    ROLE,
    ROLE_FOLLOWER,
    ROLE_LEADER,
    TOPIC_ID_LO,
    RowWriter,
)
from tailrace.workers import control
from tailrace.workers.leader_files import LeaderFile
from tailrace.workers.replication import MARKS_MS
from tests.support.waiting import wait_until
from tests.unit.workers.replicated_run import BROKERS, ROWS, ReplicatedRun, replicated_run


@pytest.fixture(params=["page", "group", "each"])
def run(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ReplicatedRun]:
    """Broker 0 leads, in epoch 1."""
    with replicated_run(tmp_path, flush_policy=request.param, replica_lag_time_max_ms="100") as made:
        made.elect(0)
        yield made


def stored(run: ReplicatedRun, broker: int) -> bytes:
    """The bytes of its active segment."""
    log = run.replica(broker).log
    return bytes(log.stored(0, log.active_position))


def word(run: ReplicatedRun, broker: int, number: int) -> int:
    """A word of its row."""
    return run.shared.state_table.read_word(ROWS[broker], number)


def test_followers_get_what_the_leader_appends_and_all_show_that_it_is_committed(run: ReplicatedRun) -> None:
    run.settle()
    run.append("a", "b")
    run.append("large", size=100_000)
    run.settle()
    assert [run.shown(broker) for broker in BROKERS] == [(3, 3)] * 3
    assert stored(run, 0) == stored(run, 1) == stored(run, 2)
    assert [word(run, broker, ROLE) for broker in BROKERS] == [ROLE_LEADER, ROLE_FOLLOWER, ROLE_FOLLOWER]
    assert [word(run, broker, LEADER_EPOCH) for broker in BROKERS] == [1, 1, 1]


def test_nothing_is_committed_that_a_member_in_sync_has_not(run: ReplicatedRun) -> None:
    """(R)"""
    run.settle()
    one, two, _ = run.workers
    assert one is not None
    assert two is not None
    run.append("a")
    for _ in range(200):
        one.turn()
        two.turn()
    assert run.shown(0) == (1, 0)
    run.settle()


def test_of_two_acknowledgements_the_last_one_is_work_for_the_leader(tmp_path: Path) -> None:
    with replicated_run(tmp_path) as run:
        run.elect(0)
        run.settle()
        leader, one, two = run.workers
        assert leader is not None
        assert one is not None
        assert two is not None
        has_work = leader._replication.has_work  # pyright: ignore[reportPrivateUsage]
        run.append("a")
        one.turn()
        assert not has_work()
        led = run.replica(0).leading
        assert led is not None
        assert [led.in_sync.followers[broker].acked for broker in (1, 2)] == [1, 0]
        two.turn()
        assert (has_work(), has_work()) == (True, True)
        assert run.shown(0) == (1, 0)
        leader.turn()
        assert (run.shown(0), has_work()) == ((1, 1), False)


def test_followers_hear_what_is_committed_at_once_where_a_reader_waits_and_else_a_little_later(
    run: ReplicatedRun,
) -> None:
    run.settle()
    leader, follower, _ = run.workers
    assert leader is not None
    assert follower is not None

    def turn() -> None:
        for worker in run.workers:
            if worker is not None:
                worker.turn()

    def sleeps() -> None:
        leader._replication.before_sleep()  # pyright: ignore[reportPrivateUsage]
        follower.turn()

    run.append("a")
    while run.shown(0) != (1, 1):
        turn()
    leader._replication._marks_due_ms = 1 << 62  # pyright: ignore[reportPrivateUsage]  # not yet
    sleeps()
    assert run.shown(1) == (1, 0), "nobody waits for it there"
    run.shared.waiters.want(ROWS[1], 1, 0)
    sleeps()
    assert run.shown(1) == (1, 1)
    run.shared.waiters.clear(ROWS[1], 1)
    run.append("b")
    while run.shown(0) != (2, 2):
        turn()
    sleeps()
    assert 0 < leader._replication.timeout_s() <= MARKS_MS / 1000  # pyright: ignore[reportPrivateUsage]

    def knows() -> bool:
        turn()
        return run.shown(1) == (2, 2)

    wait_until(knows, "the follower's high watermark")


def test_a_ring_that_is_full_stops_nobody(run: ReplicatedRun) -> None:
    """What it had no room for is copied from the leader's file."""
    run.settle()
    for number in range(300):
        run.append(f"{number}", size=4000)
    run.settle()
    assert stored(run, 0) == stored(run, 1)


def test_a_new_leader_begins_where_readers_have_been(run: ReplicatedRun) -> None:
    """(R) Though it has not heard of the last high watermark itself."""
    run.settle()
    one = run.workers[0]
    assert one is not None
    run.append("a")
    while run.shown(0) != (1, 1):
        for worker in run.workers:
            assert worker is not None
            worker.turn()
    run.kill(0)
    run.elect(1, (1, 2))
    assert run.shown(1) == (1, 1)
    run.append("b")
    run.settle()
    run.revive(0)
    run.settle()
    assert run.shown(0) == (2, 2)
    assert stored(run, 0) == stored(run, 1) == stored(run, 2)


def test_what_only_the_dead_leader_had_is_cut_when_it_is_back(run: ReplicatedRun) -> None:
    run.settle()
    run.append("a")
    run.settle()
    run.append("lost", "lost, too", is_shown=False)
    run.kill(0)
    run.elect(2, (1, 2))
    run.append("b")
    run.settle()
    run.revive(0)
    run.settle()
    assert stored(run, 0) == stored(run, 2)
    assert run.shown(0) == (2, 2)


def test_who_is_behind_leaves_the_in_sync_set_and_comes_back(run: ReplicatedRun) -> None:
    run.settle()
    run.kill(2)
    run.append("a")
    proposed: list[tuple[int, ...]] = []
    while (0, 1) not in proposed:
        run.turn()
        proposed = run.altered()
    run.settle()
    run.revive(2)
    run.append("b")
    while (0, 1, 2) not in proposed:
        run.turn()
        proposed += run.altered()
    run.settle()
    assert run.shown(2) == (2, 2)


def test_too_few_in_sync_refuse_what_is_to_be_safe(run: ReplicatedRun) -> None:
    run.settle()
    order = run.order(0)
    run.tell(
        0,
        control.ConfigureReplica(
            row=order.row, row_generation=order.row_generation, configs={"min.insync.replicas": "2"}
        ),
    )
    run.kill(1)
    run.kill(2)
    run.commit((0,))
    leading = run.replica(0).leading
    assert leading is not None
    with pytest.raises(KafkaError) as caught:
        leading.in_sync.check_enough()
    assert caught.value.code == NOT_ENOUGH_REPLICAS
    run.append("a")
    run.turn(10)
    assert run.shown(0) == (1, 0)


def test_who_resigns_leads_no_more_in_that_epoch(run: ReplicatedRun) -> None:
    """(R) Whatever it is told."""
    run.settle()
    run.append("a")
    run.settle()
    order = run.order(0)
    run.tell(0, control.ResignLeadership(row=ROWS[0], row_generation=1, leader_epoch=1))
    assert not run.replica(0).leads
    assert run.replica(0).leading is None
    run.tell(0, order)
    assert not run.replica(0).leads
    run.listen()
    assert sum(isinstance(message, control.Resigned) for message in run.said) == 2
    run.elect(1)
    run.settle()
    run.append("b")
    run.settle()
    assert run.shown(0) == (2, 2)
    run.elect(0)
    run.append("c")
    run.settle()
    assert [run.shown(broker) for broker in BROKERS] == [(3, 3)] * 3


def test_what_is_acknowledged_to_one_that_has_resigned_commits_nothing(tmp_path: Path) -> None:
    """(R) The words are of an epoch that is over: another may lead, and truncate what it had."""
    with replicated_run(tmp_path) as run:
        run.elect(0)
        run.append("a")
        run.settle()
        run.append("b")
        run.tell(0, control.ResignLeadership(row=ROWS[0], row_generation=1, leader_epoch=1))
        run.turn(20)
        assert [run.shown(broker)[0] for broker in BROKERS] == [2, 2, 2]
        assert run.shown(0) == (2, 1)


def test_nobody_follows_the_successor_of_a_leader_in_its_name(tmp_path: Path) -> None:
    """(R) A ring is for one incarnation: who came in that slot since leads nothing, or in another epoch."""
    with replicated_run(tmp_path) as run:
        dead = run.contexts[0]
        run.kill(0)
        successor = run.begin(dead.slot, WORKER)
        run.leader, run.epoch = 0, 1
        order = run.order(1)
        assert order.leader_incarnation == dead.incarnation
        run.tell(1, order)
        run.turn(5)
        assert successor.links.poll() == []
        successor.links.close()


def test_what_the_dead_acknowledged_counts_no_more(run: ReplicatedRun) -> None:
    """(R) Its successor may have to truncate."""
    run.append("a")
    run.settle()
    leading = run.replica(0).leading
    assert leading is not None
    assert leading.in_sync.followers[1].acked == 1
    run.kill(1)
    run.turn()
    assert leading.in_sync.followers[1].acked == -1


def test_the_row_of_another_partition_tells_a_new_leader_nothing(tmp_path: Path) -> None:
    """(R) It was given away again."""
    with replicated_run(tmp_path) as run:
        run.replicas = run.isr = (0, 1)
        other = RowWriter(run.shared.state_table, ROWS[2])
        other.values[TOPIC_ID_LO], other.values[HIGH_WATERMARK] = 77, 1000
        other.publish()
        run.elect(0)
        run.append("a")
        run.settle()
        assert run.shown(0) == (1, 1)


def test_a_sync_begun_before_it_led_alone_takes_nothing_back(tmp_path: Path) -> None:
    """(R) What it found in its log when it began to lead alone was synced then, and may have been read."""
    with replicated_run(tmp_path, flush_policy="group") as run:
        run.replicas = run.isr = (0, 1)
        run.elect(0)
        run.append("a")
        run.settle()
        flush = run.replica(0).log.begin_flush()
        run.append("b")
        flush.run()
        run.replicas = run.isr = (0,)
        run.elect(0)
        assert run.shown(0) == (2, 2)
        run.replica(0).synced(flush)
        assert run.replica(0).committed == 2


def test_one_that_led_alone_goes_on_with_others(tmp_path: Path) -> None:
    """In the same leader epoch."""
    with replicated_run(tmp_path) as run:
        run.replicas = run.isr = (0,)
        run.elect(0)
        run.append("a")
        assert run.shown(0) == (1, 1)
        run.replicas = (0, 1)
        run.commit((0,))
        run.append("b")
        run.settle()
        assert run.shown(1) == (2, 2)
        while not (proposed := run.altered()):
            run.turn()
        assert proposed == [(0, 1)]


def test_nobody_is_followed_who_does_not_lead_yet(run: ReplicatedRun) -> None:
    run.settle()
    run.kill(0)
    run.leader, run.epoch, run.isr, run.partition_epoch = 1, 2, (1, 2), 9
    run.tell(2, run.order(2, leader_known=False))
    run.turn(5)
    run.tell(1, run.order(1))
    run.tell(2, run.order(2))
    run.append("a")
    run.settle()


def test_who_was_refused_is_proposed_again_soon_though_nothing_is_appended(tmp_path: Path) -> None:
    """A broker that is back is fenced for a moment longer; half of replica.lag.time.max.ms is 15 s."""
    with replicated_run(tmp_path) as run:
        run.isr = (0, 1)
        run.elect(0)
        run.settle()
        proposed: list[control.AlterPartition] = []
        while len(proposed) < 2:
            run.turn()
            run.listen()
            said, run.said = run.said, []
            found = [message for message in said if isinstance(message, control.AlterPartition)]
            proposed += found
            for message in found:
                refusal = control.PartitionAltered(
                    row=message.row,
                    row_generation=message.row_generation,
                    proposed=message.partition_epoch,
                    error_code=INELIGIBLE_REPLICA,
                )
                run.tell(0, refusal)
        assert [message.isr for message in proposed] == [(0, 1, 2)] * 2
        worker = run.workers[0]
        assert worker is not None
        assert worker._replication.timeout_s() <= 0.2  # pyright: ignore[reportPrivateUsage]


def test_who_is_throttled_copies_as_fast_as_it_may(tmp_path: Path) -> None:
    with replicated_run(tmp_path) as run:
        run.replicas = run.isr = (0,)
        run.elect(0)
        for number in range(100):
            run.append(f"{number}", size=10_000)
        run.replicas, run.partition_epoch = (0, 1), 2
        slow = structs.replace(run.order(1), copy_rate=1)
        run.tell(0, run.order(0))
        run.tell(1, slow)
        run.turn(300)
        assert run.shown(1)[0] < 10, "some batches at first, then one in hours"
        run.tell(1, run.order(1))
        run.settle()
        assert stored(run, 1) == stored(run, 0)


def test_a_copy_that_takes_its_directory_out_of_service_ends_the_others_there(tmp_path: Path) -> None:
    """(R) The worker lives, and so do its replicas elsewhere."""
    with replicated_run(tmp_path) as run:
        worker = run.workers[1]
        assert worker is not None
        replication = worker.replicas.replication
        failed: list[int] = []

        class Broken:
            """Two that are copied, from a disk to one that takes nothing."""

            topic_partition = (b"", 0)
            files: ClassVar[dict["Broken", LeaderFile]] = {}

            def copying(self) -> list[tuple["Broken", tuple[int, int]]]:
                return [(each, (0, 0)) for each in both]

            def copy(self, *_: object) -> int:
                raise KafkaError(KAFKA_STORAGE_ERROR, "")

            def fail(self, _replica: object, _error: Exception) -> None:
                failed.append(len(self.files))
                self.files.clear()  # of both

        both = [Broken(), Broken()]
        Broken.files.update({each: LeaderFile("") for each in both})
        replaced: dict[str, Any] = {
            "_followers": both[0],
            "_files": Broken.files,
            "_failed": both[0].fail,
            "_replicas": {(b"", 0): None},
        }
        with mock.patch.multiple(replication, **replaced):
            replication._copy()  # pyright: ignore[reportPrivateUsage]
        assert failed == [2]
