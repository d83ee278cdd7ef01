"""What the rows of a partition show, and when."""

from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from tailrace.shm.state_table import ROLE, ROLE_FOLLOWER, ROLE_NONE, RowWriter
from tests.support.waiting import wait_until
from tests.unit.workers.replicated_run import BROKERS, ROWS, ReplicatedRun, replicated_run


@pytest.fixture(params=["page", "group", "each"])
def run(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ReplicatedRun]:
    """Broker 0 leads, in epoch 1."""
    with replicated_run(tmp_path, flush_policy=request.param, replica_lag_time_max_ms="100") as made:
        made.elect(0)
        yield made


@pytest.mark.parametrize("policy", ["group", "each"])
@pytest.mark.parametrize("before", ["it led alone", "it followed"])
def test_one_that_is_in_sync_alone_commits_what_is_synced(tmp_path: Path, before: str, policy: str) -> None:
    """(R) From its first moment, whatever it has in the page cache: a loss of power may take that."""
    with replicated_run(tmp_path, flush_policy=policy) as run:
        if before == "it led alone":
            run.replicas = (0,)
        run.elect(0, (0,))
        run.append("synced")
        run.settle()
        run.append("in the page cache", is_shown=False)
        run.replicas = BROKERS
        if before == "it followed":
            run.elect(0, (0,))
        else:
            run.commit((0,))
        leader = run.workers[0]
        assert leader is not None
        leader.publish()
        assert run.shown(0) == (2, 1)
        run.append("that syncs it")

        def is_synced() -> bool:
            run.turn()
            return run.shown(0) == (3, 3)

        wait_until(is_synced, "the sync")


def test_nobody_is_shown_to_lead_by_the_row_of_the_dead(tmp_path: Path) -> None:
    """Also where the disk has lost what the row says it held, which the row takes back before all else."""
    with replicated_run(tmp_path) as run:
        run.elect(0)
        run.append("a", "b")
        run.settle()
        replica = run.replica(0)
        replica.publish_recovery_point(2)
        run.kill(0)
        (Path(replica.path) / f"{0:020d}.log").write_bytes(b"")
        run.elect(1, (1, 2))
        shown: list[tuple[int, int]] = []
        publish = RowWriter.publish

        def watched(row: RowWriter) -> None:
            shown.append((row.row, row.values[ROLE]))
            publish(row)

        with mock.patch.object(RowWriter, "publish", watched):
            run.revive(0)
        assert shown == [(ROWS[0], ROLE_NONE), (ROWS[0], ROLE_FOLLOWER)]


def test_followers_hear_of_a_high_watermark_that_the_leader_has_shown(run: ReplicatedRun) -> None:
    """(R) It may die before it shows one; a reader of a follower that knew of it saw more than who leads next
    begins with.
    """
    run.append("a")
    run.settle()
    run.append("b")
    leader, one, two = run.workers
    assert leader is not None
    assert one is not None
    assert two is not None
    leading, commit = run.replica(0).leading, leader.replicas.commit
    assert leading is not None

    def is_committed() -> bool:
        one.turn()
        two.turn()
        if commit is not None:
            commit.turn()
        leader._replication.turn()  # pyright: ignore[reportPrivateUsage]
        return leading.in_sync.high_watermark == 2

    wait_until(is_committed, "the acknowledgements")
    run.append("c", is_shown=False)
    leading.replicate()
    leader._replication.say_marks()  # pyright: ignore[reportPrivateUsage]
    one.turn()
    two.turn()
    assert [run.shown(broker)[1] for broker in BROKERS] == [1, 1, 1]
    run.append("d")
    run.settle()
