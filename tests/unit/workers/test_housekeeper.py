"""Prefaulting changes no byte, and what comes too late is counted."""

from pathlib import Path

import pytest

from tailrace.workers.housekeeper import Prefaulter


def test_a_range_is_populated_and_its_bytes_stay(tmp_path: Path) -> None:
    path = tmp_path / "segment"
    path.write_bytes(b"x" * 10_000 + bytes(100_000))
    prefaulter = Prefaulter()
    prefaulter.prefault(str(path), 5_000, 1 << 30)
    assert path.read_bytes() == b"x" * 10_000 + bytes(100_000)
    assert prefaulter.done_count + prefaulter.late_count == 1  # late: a kernel without the advice


@pytest.mark.parametrize(("name", "position"), [("gone", 0), ("short", 1 << 20)])
def test_a_file_that_is_gone_or_cut_is_no_error(tmp_path: Path, name: str, position: int) -> None:
    (tmp_path / "short").write_bytes(b"x")
    prefaulter = Prefaulter()
    prefaulter.prefault(str(tmp_path / name), position, 4096)
    assert (prefaulter.done_count, prefaulter.late_count) == (0, 1)
