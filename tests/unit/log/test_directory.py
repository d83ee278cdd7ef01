"""What is promised to be on the disk is synced, in the order that a loss of power allows."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tailrace.core.errors import KafkaError
from tailrace.core.log.directory import RealDirectory, is_full, storage_error
from tailrace.core.log.flush import SyncFailedError
from tailrace.workers.data_dir import open_data_dir


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The syncs and renames that were asked for, each with the file's name."""
    seen: list[tuple[str, str]] = []

    def note(name: str, real: "Callable[..., None]", *, by_descriptor: bool) -> None:
        def call(what: int | str, *rest: str) -> None:
            path = os.readlink(f"/proc/self/fd/{what}") if by_descriptor else str(what)
            seen.append((name, Path(path).name))
            real(what, *rest)

        monkeypatch.setattr(os, name, call)

    note("fsync", os.fsync, by_descriptor=True)
    note("fdatasync", os.fdatasync, by_descriptor=True)
    note("replace", os.replace, by_descriptor=False)
    return seen


def test_a_durable_replacement_syncs_contents_then_renames_then_syncs_the_name(
    tmp_path: Path, calls: list[tuple[str, str]]
) -> None:
    directory = RealDirectory(str(tmp_path))
    directory.replace("file", b"contents")
    temporary = f"file.{os.getpid()}.tmp"
    assert calls == [("fdatasync", temporary), ("replace", temporary), ("fsync", tmp_path.name)]
    calls.clear()
    directory.replace("file", b"other", durable=False)
    assert calls == [("replace", temporary)]


def test_a_new_directory_lasts_before_anything_in_it(tmp_path: Path, calls: list[tuple[str, str]]) -> None:
    RealDirectory(str(tmp_path / "t-0"))
    assert calls == [("fsync", tmp_path.name)]
    RealDirectory(str(tmp_path / "t-0"))
    RealDirectory(str(tmp_path / "t-1"), make=False)
    assert len(calls) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["t-0"]


def test_files_and_names_are_synced_when_asked(tmp_path: Path, calls: list[tuple[str, str]]) -> None:
    directory = RealDirectory(str(tmp_path))
    mapped = directory.open_mapped("mapped", 4096)
    mapped.sync()
    mapped.close()
    directory.sync_file("mapped")
    directory.sync()
    assert calls == [("fdatasync", "mapped"), ("fdatasync", "mapped"), ("fsync", tmp_path.name)]


def test_the_identity_of_a_data_directory_lasts_before_it_is_used(
    tmp_path: Path, calls: list[tuple[str, str]]
) -> None:
    os.close(open_data_dir(str(tmp_path), node_id=0, cluster_id=None, wait_s=0.0).lock_fd)
    meta = "meta.properties.tmp"
    assert calls == [("fsync", meta), ("replace", meta), ("fsync", tmp_path.name)]


def test_what_is_reserved_is_on_the_disk_and_a_full_disk_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """(R) A store to a page that the disk has no room for would be a SIGBUS."""
    mapped = RealDirectory(str(tmp_path)).open_mapped("mapped", 1 << 20)
    mapped.reserve(300_000)
    assert mapped.reserved == 300_000
    assert (tmp_path / "mapped").stat().st_blocks * 512 >= 300_000

    def refuse(*_: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(KafkaError, match="the disk is full"):
        mapped.reserve(1 << 20)
    assert mapped.reserved == 300_000
    mapped.close()


@pytest.mark.parametrize(
    ("number", "full"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EIO, False), (errno.EROFS, False)]
)
def test_a_disk_without_room_is_told_from_a_broken_one(number: int, full: bool) -> None:
    error = OSError(number, os.strerror(number))
    assert is_full(error) is full
    assert is_full(storage_error(error, "cannot")) is full
    assert not is_full(SyncFailedError(errno.EIO, os.strerror(number)))


def test_a_replacement_that_fails_leaves_the_old_contents_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = RealDirectory(str(tmp_path))
    directory.replace("file", b"old")
    real = os.write

    def write(fd: int, data: bytes) -> int:
        if len(data) > 1:
            return real(fd, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OSError, match="no space"):
        directory.replace("file", b"contents")
    assert directory.names() == ["file"]
    assert directory.read("file") == b"old"
