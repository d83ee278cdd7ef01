"""Run directories are locked while any process of the run lives, and swept afterwards."""

import fcntl
import os
from pathlib import Path

import pytest

from tailrace.shm.names import (
    RunDir,
    large_name,
    parse_ring_name,
    ring_name,
    sweep,
    unlink_large_files,
)
from tailrace.shm.region import ShmError
from tests.support.forks import fork


def test_run_directory_is_private_and_goes_with_all_it_holds(tmp_path: Path) -> None:
    run_dir = RunDir.create(str(tmp_path))
    assert os.path.basename(run_dir.path).startswith(f"tailrace-{os.geteuid()}-{os.getpid()}-")
    assert os.stat(run_dir.path).st_mode & 0o777 == 0o700
    Path(run_dir.file("state")).write_bytes(b"x")
    run_dir.remove()
    assert os.listdir(tmp_path) == []


def test_sweep_leaves_a_living_run_alone(tmp_path: Path) -> None:
    run_dir = RunDir.create(str(tmp_path))
    assert sweep(str(tmp_path)) == []
    assert os.path.exists(run_dir.path)


def test_sweep_removes_what_a_killed_run_left(tmp_path: Path) -> None:
    child = fork(lambda: Path(RunDir.create(str(tmp_path)).file("state")).touch())
    assert child.wait() == 0
    (left,) = os.listdir(tmp_path)
    assert sweep(str(tmp_path)) == [str(tmp_path / left)]
    assert os.listdir(tmp_path) == []


def test_lock_is_held_until_the_last_fork_is_gone(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    run_dir = RunDir.create(str(tmp_path))

    def live_on() -> None:
        os.close(writer)
        os.read(reader, 1)

    child = fork(live_on)
    os.close(run_dir.lock_fd)
    assert sweep(str(tmp_path)) == []
    os.close(writer)
    os.close(reader)
    assert child.wait() == 0
    assert sweep(str(tmp_path)) == [run_dir.path]


def test_directory_that_is_just_being_made_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / f"tailrace-{os.geteuid()}-{os.getpid()}-00000000").mkdir()
    assert sweep(str(tmp_path)) == []


def test_directory_whose_maker_died_before_its_lock_is_removed(tmp_path: Path) -> None:
    child = fork(lambda: None)
    child.wait()
    left = tmp_path / f"tailrace-{os.geteuid()}-{child.pid}-00000000"
    left.mkdir()
    (left / "lock.new").touch()
    assert sweep(str(tmp_path)) == [str(left)]


def test_sweep_touches_no_links_and_no_foreign_names(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "lock").touch()
    (tmp_path / f"tailrace-{os.geteuid()}-1-00000000").symlink_to(precious)
    assert sweep(str(tmp_path)) == []
    assert (precious / "lock").exists()
    assert sweep(str(tmp_path / "gone")) == []


def test_lock_is_a_flock_on_the_file_named_lock(tmp_path: Path) -> None:
    run_dir = RunDir.create(str(tmp_path))
    other = os.open(run_dir.file("lock"), os.O_RDWR)
    with pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(other)


def test_base_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ShmError, match="cannot make a run directory in"):
        RunDir.create(str(tmp_path / "gone"))


def test_ring_names_say_who_and_nothing_else_is_a_ring_name() -> None:
    assert ring_name(2, 9, 14, 301) == "ring-2.9-14.301"
    assert parse_ring_name("ring-2.9-14.301") == (2, 9, 14, 301)
    for name in ("ring-2.9-14", "ring-2.9-14.x", "lock", "state", "large-1.2-3", "ring-2.9-14.3.4"):
        assert parse_ring_name(name) is None


def test_large_files_of_one_incarnation_are_removed_and_no_others(tmp_path: Path) -> None:
    for slot, incarnation, serial in ((2, 5, 1), (2, 5, 2), (2, 51, 1), (12, 5, 1)):
        (tmp_path / large_name(slot, incarnation, serial)).touch()
    unlink_large_files(str(tmp_path), 2, 5)
    assert sorted(os.listdir(tmp_path)) == ["large-12.5-1", "large-2.51-1"]
