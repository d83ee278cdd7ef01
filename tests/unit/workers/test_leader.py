"""What a leader takes over from its dead predecessor, and what it does not do on an order for another."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tailrace.core.log.log import Log
from tailrace.shm.state_table import (
    HIGH_WATERMARK,
    PARTITION,
    ROLE,
    ROLE_LEADER,
    SEGMENT_GENERATION,
    RowWriter,
)
from tailrace.workers import control
from tailrace.workers.worker import Worker
from tests.unit.workers.gateway.in_process import (
    BATCH,
    TOPIC,
    TOPIC_ID,
    WORKER_AT,
    InProcess,
    in_process,
    produce_frame,
)

# Turned by hand, without its loop.
# pyright: reportPrivateUsage=false


@pytest.fixture
def run(tmp_path: Path) -> Iterator[InProcess]:
    with in_process(tmp_path / "data") as made:
        made.lead()
        yield made


def produce(run: InProcess, count: int) -> None:
    """So many batches, and their answers."""
    client, _ = run.dial()
    for _ in range(count):
        client.sendall(produce_frame())
        run.answers(client, 1)


def succeed(run: InProcess, generation: int = 2) -> None:
    """The worker was killed; its successor leads."""
    for replica in run.leader.replicas.by_row.values():
        replica.log.close(clean=False)
    run.slots.mark_dead(WORKER_AT, run.worker.incarnation)
    run.worker = run.begin(WORKER_AT, 4)
    run.leader = Worker(run.worker)
    run.lead(generation)


def test_a_leader_goes_on_from_the_high_watermark_of_its_dead_predecessor(
    run: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """(R) From the row of the same partition, and from no other's."""
    given: list[int] = []
    open_log = Log.open

    def watch(*arguments: Any, **options: Any) -> Log:
        given.append(options["high_watermark"])
        return open_log(*arguments, **options)

    monkeypatch.setattr(Log, "open", watch)
    produce(run, 3)
    succeed(run)
    writer = RowWriter(run.shared.state_table, 1)
    writer.values[PARTITION] = 5
    writer.values[HIGH_WATERMARK] = 1000
    writer.publish()
    succeed(run, 3)
    assert given == [3, 0]
    assert run.shared.state_table.read_word(1, HIGH_WATERMARK) == 3


def test_what_its_predecessor_published_and_the_log_lost_stays_for_those_who_send_it(run: InProcess) -> None:
    """(R) The inode that gateways have open is not cut, and no segment generation comes twice."""
    produce(run, 3)
    path = run.path / f"{TOPIC}-0" / f"{0:020d}.log"
    generation = run.shared.state_table.read_word(1, SEGMENT_GENERATION)
    with path.open("r+b") as sending:
        sending.seek(2 * len(BATCH) + 70)
        sending.write(b"\xff\xff\xff")
        sending.flush()
        inode = os.fstat(sending.fileno()).st_ino
        succeed(run)
        assert run.shared.state_table.read_word(1, HIGH_WATERMARK) == 2
        assert path.stat().st_ino != inode
        assert os.fstat(sending.fileno()).st_size >= 3 * len(BATCH)
    assert run.shared.state_table.read_word(1, SEGMENT_GENERATION) > generation


def test_an_order_to_stop_what_is_led_no_more_stops_nothing(run: InProcess) -> None:
    """(R) The row has been given away again."""
    succeed(run)
    stop = control.StopReplica(
        topic="other",
        topic_id=TOPIC_ID,
        partition=0,
        row=1,
        row_generation=1,
        log_dir=str(run.path),
        delete=True,
    )
    run.leader.replicas.stop(stop)
    assert run.shared.state_table.read_word(1, ROLE) == ROLE_LEADER
    produce(run, 1)
    assert (run.path / f"{TOPIC}-0").exists()
