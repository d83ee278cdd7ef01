"""Replicas that move to a log directory whose disk is full, or fills up: they wait for room, what serves goes
on, and nobody else suffers.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tailrace.core.errors import NONE
from tests.support.dir_moves import Mover
from tests.support.log_dirs import Load, load
from tests.support.small_disk import MEBIBYTE, SmallDisk, small_disk
from tests.support.waiting import wait_until

SETTINGS = {"log.segment.bytes": str(MEBIBYTE)}
ROOM = 2 * MEBIBYTE


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Of the directory that logs move to."""
    (tmp_path / "broker").mkdir()
    with small_disk(tmp_path / "broker" / "b", 32 * MEBIBYTE) as made:
        yield made


@pytest.fixture
def broker(disk: SmallDisk, tmp_path: Path) -> Iterator[Mover]:
    """With some megabytes of the topic t in a."""
    del disk
    started = Mover(tmp_path / "broker", ("a", "b"), SETTINGS)
    started.start()
    try:
        started.create("t")
        if started.dir_of("t") != started.dirs[0]:
            assert started.move("t", started.dirs[0]) == NONE
            started.wait_moved("t", started.dirs[0])
        with load(started, "t") as (writer,):
            wait_until(lambda: writer.count > 1500, "some megabytes")
        yield started
    finally:
        started.stop()


def goes_on(writer: Load) -> None:
    """What serves takes more."""
    count = writer.count
    wait_until(lambda: writer.count > count + 50, "more records")


def ends(broker: Mover, writer: Load, target: Path) -> None:
    """There is room: all is in the other directory, now and after a start."""
    broker.wait_moved("t", target)
    goes_on(writer)
    writer.stop()
    assert broker.end_of("t") == writer.end
    broker.stop()
    broker.start()
    assert broker.end_of("t") == writer.end
    assert broker.dir_of("t") == target


@pytest.mark.parametrize("room", [0, ROOM])
def test_a_move_waits_for_room(broker: Mover, disk: SmallDisk, room: int) -> None:
    """Whether it finds none, or takes what there is."""
    workers, target = broker.pids("worker"), broker.dirs[1]
    disk.fill(leave=MEBIBYTE + room)  # the reserve is a mebibyte
    with load(broker, "t") as (writer,):
        assert broker.move("t", target) == NONE
        wait_until(lambda: target in broker.places("t"), "the copy to be shown")
        if room:
            wait_until(lambda: broker.places("t")[target].partition_size >= room // 2, "a part of it")
        goes_on(writer)
        assert broker.places("t")[target].is_future_key
        assert broker.places("t")[target].offset_lag > 0
        assert disk.free() > 0, "the reserve"
        assert broker.pids("worker") == workers
        disk.clear()
        ends(broker, writer, target)
    assert not [line for line in broker.said().splitlines() if "does not move" in line]


def test_a_move_that_waits_for_room_is_called_off(broker: Mover, disk: SmallDisk) -> None:
    """The room that it took is free again."""
    source, target = broker.dirs
    free = disk.free()
    disk.fill(leave=MEBIBYTE + ROOM)
    with load(broker, "t") as (writer,):
        assert broker.move("t", target) == NONE
        wait_until(lambda: target in broker.places("t"), "the copy to be shown")
        assert broker.move("t", source) == NONE
        broker.wait_moved("t", source)
        goes_on(writer)
    disk.clear()
    wait_until(lambda: disk.free() >= free - MEBIBYTE, "the room")
    assert broker.end_of("t") == writer.end


def test_a_move_that_waits_for_room_goes_on_in_the_next_run(broker: Mover, disk: SmallDisk) -> None:
    target, end = broker.dirs[1], broker.end_of("t")
    disk.fill(leave=MEBIBYTE + ROOM)
    assert broker.move("t", target) == NONE
    wait_until(lambda: target in broker.places("t"), "the copy to be shown")
    broker.kill()
    broker.stop()
    broker.start()
    assert broker.end_of("t") == end
    wait_until(lambda: target in broker.places("t"), "the copy to be shown again")
    disk.clear()
    with load(broker, "t") as (writer,):
        goes_on(writer)
        ends(broker, writer, target)
