"""What takes a log directory out of service, and what does not."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailrace.core.errors import KAFKA_STORAGE_ERROR, KafkaError
from tailrace.core.log.directory import storage_error
from tailrace.core.log.flush import SyncFailedError
from tailrace.shm.log_dir_table import LogDirTable
from tailrace.workers.data_dir import LOCK
from tailrace.workers.log_dirs import LogDir, LogDirs, is_broken
from tests.support.log_dirs import ReadOnly, require_mounts, unmount_all

NAMES = ("metadata", "b", "c")


@pytest.fixture
def dirs(tmp_path: Path) -> Iterator[LogDirs]:
    """Three, the first of which holds the metadata log."""
    made: list[LogDir] = []
    for name in NAMES:
        (tmp_path / name).mkdir()
        lock_fd = os.open(tmp_path / name / LOCK, os.O_RDWR | os.O_CREAT)
        made.append(LogDir(str(tmp_path / name), f"id of {name}", lock_fd))
    yield LogDirs(made, made[0].path, LogDirTable.create(str(tmp_path / "table"), len(made)))
    for log_dir in made:
        os.close(log_dir.lock_fd)


def path_of(dirs: LogDirs, name: str) -> str:
    """Of the directory of this name."""
    return dirs.dirs[NAMES.index(name)].path


def as_told(number: int) -> list[Exception]:
    """An error of the disk as it comes out of a log."""
    error = OSError(number, os.strerror(number))
    behind = storage_error(error, "cannot")
    behind.__cause__ = error
    return [error, behind]


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.ESTALE, errno.ENODEV])
def test_a_broken_disk_takes_its_directory_out_of_service(dirs: LogDirs, number: int) -> None:
    for name, error in zip(("b", "c"), as_told(number), strict=True):
        assert is_broken(error)
        assert dirs.blame(path_of(dirs, name), error)
    assert [log_dir.path for log_dir in dirs.online()] == [path_of(dirs, "metadata")]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENOENT, errno.EACCES])
def test_what_says_nothing_of_the_disk_takes_nothing_out_of_service(dirs: LogDirs, number: int) -> None:
    for error in as_told(number):
        assert not dirs.blame(path_of(dirs, "b"), error)
        assert not is_broken(error)
    assert not dirs.blame(path_of(dirs, "b"), KafkaError(KAFKA_STORAGE_ERROR, "for a reason of its own"))
    assert len(dirs.online()) == len(NAMES)


def test_a_failed_sync_takes_the_directory_out_of_service(dirs: LogDirs) -> None:
    """As Kafka: what else of it was lost, nobody knows."""
    assert dirs.blame(path_of(dirs, "b"), SyncFailedError(errno.EIO, "lost"))


def test_the_directory_of_the_metadata_log_is_given_up_only_when_all_of_it_fails(dirs: LogDirs) -> None:
    path = path_of(dirs, "metadata")
    assert not dirs.blame(path, OSError(errno.EIO, ""))
    assert dirs.is_online(path)
    os.unlink(f"{path}/{LOCK}")
    assert dirs.blame(path, OSError(errno.EIO, ""))
    assert not dirs.is_online(path)


def test_the_last_directory_is_given_up_only_when_all_of_it_fails(dirs: LogDirs) -> None:
    dirs.fail(path_of(dirs, "metadata"), errno.EIO)
    dirs.fail(path_of(dirs, "c"), errno.EIO)
    assert not dirs.blame(path_of(dirs, "b"), OSError(errno.EIO, ""))
    os.unlink(f"{path_of(dirs, 'b')}/{LOCK}")
    assert dirs.blame(path_of(dirs, "b"), OSError(errno.ENOENT, ""))


def test_another_directory_in_its_place_is_none(dirs: LogDirs) -> None:
    """(R) As the empty one under a file system that was unmounted: nothing may be made there."""
    path = path_of(dirs, "b")
    assert dirs.probe(path) == 0
    os.rename(path, f"{path} away")
    os.mkdir(path)
    assert dirs.probe(path) == errno.ENOENT
    with open(f"{path}/{LOCK}", "w", encoding="ascii"):
        assert dirs.probe(path) == errno.ENOENT


def test_a_read_only_directory_is_found_out_without_a_write(dirs: LogDirs) -> None:
    path = Path(path_of(dirs, "b"))
    require_mounts(path)
    ReadOnly().strike_at(path)
    try:
        assert dirs.probe(str(path)) == errno.EROFS
    finally:
        unmount_all(path)


def test_what_failed_stays_out_of_service_for_the_first_reason(dirs: LogDirs) -> None:
    """(R) Its partitions are led by nobody; a directory that came back by itself would have two tales."""
    path = path_of(dirs, "b")
    dirs.fail(path, errno.EIO)
    dirs.fail(path, errno.EROFS)
    assert dirs.table.failure(1) == errno.EIO
    assert dirs.blame(path, OSError(errno.ENOSPC, ""))
    assert not dirs.is_online(path)
    assert LogDirTable.attach(dirs.table.region.path).failure(1) == errno.EIO


def test_ids_that_could_not_be_read_are_nobodys(tmp_path: Path) -> None:
    dirs = LogDirs([LogDir("/gone", "")], "/gone", LogDirTable.create(str(tmp_path / "table"), 1))
    assert dirs.by_id("") is None
    assert not dirs.is_online("/unknown")
