"""What a follower reads of its leader's files, and what it does not."""

from pathlib import Path

from tailrace.core.log.segment import LOG_SUFFIX, file_name
from tailrace.workers.leader_files import LeaderFile


def test_a_file_is_read_until_it_is_closed_though_another_has_its_name(tmp_path: Path) -> None:
    path = tmp_path / file_name(0, LOG_SUFFIX)
    path.write_bytes(b"first")
    file = LeaderFile(str(tmp_path))
    assert file.read(0, 1, 10) == b"irst"
    path.unlink()
    path.write_bytes(b"second")
    assert file.read(0, 0, 10) == b"first"
    file.close()
    assert file.read(0, 0, 10) == b"second"
    file.close()


def test_what_the_disk_of_the_leader_does_not_give_is_nothing(tmp_path: Path) -> None:
    """(R) Or the follower would take its own log directory out of service for it."""
    file = LeaderFile(str(tmp_path))
    assert file.read(0, 0, 10) == b""
    (tmp_path / file_name(0, LOG_SUFFIX)).mkdir()  # can be opened, and not read
    assert file.read(0, 0, 10) == b""
    file.close()
