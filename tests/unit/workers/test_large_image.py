"""A controller starts over metadata of 10,000 partitions: in few turns, in as many steps as there are."""

import sys
from pathlib import Path
from types import FrameType

import pytest

from perf.images import ABSENT, METADATA_LOG, topics, write
from tailrace.core.metadata.image import MetadataImage
from tailrace.shm.slots import CONTROLLER
from tailrace.shm.state_table import RECOVERY_POINT, RowWriter
from tailrace.workers.metadata_follower import MetadataReader, metadata_row
from tailrace.workers.quorum_member import Member
from tests.unit.workers.controller_run import CONTROLLER_AT, Run

MANY, FEW = 10_000, 2_000
CALLS_MAX = 120  # of Python functions, a partition: it is read, started, written down and shown
TURNS_MAX = 2


def start(run: Run) -> tuple[int, int]:
    """Another controller over what is in the log; turns until it decides, and calls until then."""
    calls = turns = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        run.member = Member(run.begin(CONTROLLER_AT, CONTROLLER))
        while run.member.controller is None:
            run.turn()
            turns += 1
    finally:
        sys.setprofile(None)
    return turns, calls


def grown(run: Run, partitions: int) -> None:
    """All is stopped, and the metadata log has so many partitions more."""
    run.log.close()
    run.die(CONTROLLER_AT)
    row = RowWriter(run.shared.state_table, metadata_row(0))
    row.values[RECOVERY_POINT] = 0  # who comes next is the first of its run
    row.publish()
    directory = Path(run.shared.brokers[0].log_dirs.metadata_dir) / METADATA_LOG
    write(directory, topics(partitions))


@pytest.mark.parametrize("partitions", [FEW, MANY])
def test_a_start_takes_few_turns_and_as_many_steps_as_there_are_partitions(run: Run, partitions: int) -> None:
    run.turn()
    grown(run, partitions)
    turns, calls = start(run)
    assert turns <= TURNS_MAX
    assert calls < CALLS_MAX * partitions
    image = run.controller.changes.image
    assert sum(1 for _ in image.walk()) == partitions
    assert all(state.replicas[0] in ABSENT for _, state in image.walk())


def test_a_gateway_reads_it_once(run: Run) -> None:
    run.turn()
    grown(run, MANY)
    start(run)
    image, reader = MetadataImage(), MetadataReader(run.shared.brokers[0].log_dirs.metadata_dir)
    end = run.controller.changes.image.metadata_offset
    assert reader.advance(image, end) > 0
    assert sum(1 for _ in image.walk()) == MANY
    assert reader.advance(image, end) == 0
