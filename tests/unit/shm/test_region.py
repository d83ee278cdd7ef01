"""Regions are made whole or not at all, and refuse to be taken for something else."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from tailrace.shm.region import PAGE, Region, ShmError, require_x86_64
from tailrace.shm.words import map_words


def test_what_the_creator_stores_is_what_another_mapping_sees(tmp_path: Path) -> None:
    path = str(tmp_path / "region")
    made = Region.create(path, 64, kind="thing", version=3, owner=7)
    made.words[7] = 42
    other = Region.attach(path, "thing", 3)
    assert (other.size, other.owner, other.words[7], len(other.view)) == (64, 7, 42, 64)
    assert os.stat(path).st_mode & 0o777 == 0o600
    made.close()
    other.close()
    assert made.map.closed


def test_every_byte_is_allocated_when_the_file_is_made(tmp_path: Path) -> None:
    path = str(tmp_path / "region")
    Region.create(path, 1 << 20, kind="thing", version=1).close()
    assert os.stat(path).st_blocks * 512 >= (1 << 20) + PAGE


def test_other_kind_version_magic_or_length_is_refused_in_words(tmp_path: Path) -> None:
    path = str(tmp_path / "region")
    Region.create(path, 8192, kind="thing", version=1).close()
    with pytest.raises(ShmError, match="not a ring region"):
        Region.attach(path, "ring", 1)
    with pytest.raises(ShmError, match="version 1 of the thing layout, this program knows 2"):
        Region.attach(path, "thing", 2)
    os.truncate(path, PAGE + 4096)
    with pytest.raises(ShmError, match="shorter than its header says"):
        Region.attach(path, "thing", 1)
    os.truncate(path, 100)
    with pytest.raises(ShmError, match="too short"):
        Region.attach(path, "thing", 1)
    (tmp_path / "foreign").write_bytes(bytes(PAGE))
    with pytest.raises(ShmError, match="not a shared region of tailrace"):
        Region.attach(str(tmp_path / "foreign"), "thing", 1)


def test_half_made_region_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "region")
    made = Region.create(path, 64, kind="thing", version=1)
    map_words(memoryview(made.map)[:PAGE])[0] = 0  # as it is before the creator's last store
    with pytest.raises(ShmError, match="not a shared region"):
        Region.attach(path, "thing", 1)


def test_gone_file_is_told_from_a_bad_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Region.attach(str(tmp_path / "gone"), "thing", 1)


def test_full_file_system_is_one_sentence_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int, _start: int, _length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ShmError, match=r"^no room for 12288 bytes of shared memory in .*$"):
        Region.create(str(tmp_path / "region"), 8192, kind="thing", version=1)
    assert os.listdir(tmp_path) == []


def test_more_than_the_file_system_has_is_refused_by_the_kernel() -> None:
    total = os.statvfs("/dev/shm")
    path = f"/dev/shm/tailrace-test-{os.getpid()}-{os.urandom(4).hex()}"
    with pytest.raises(ShmError):
        Region.create(path, total.f_blocks * total.f_frsize * 2 + (1 << 40), kind="thing", version=1)
    assert not os.path.exists(path)


def test_existing_file_is_never_taken_over(tmp_path: Path) -> None:
    path = str(tmp_path / "region")
    Region.create(path, 64, kind="thing", version=1)
    with pytest.raises(ShmError, match="cannot create"):
        Region.create(path, 64, kind="thing", version=1)


def test_memory_stays_while_a_view_of_it_is_out(tmp_path: Path) -> None:
    region = Region.create(str(tmp_path / "region"), 64, kind="thing", version=1)
    held = region.view[:8]
    region.close()
    held[0] = 1
    assert held[0] == 1


def test_other_processors_are_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    require_x86_64()
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="aarch64"))
    with pytest.raises(ShmError, match="needs an x86-64 processor, this is aarch64"):
        require_x86_64()
