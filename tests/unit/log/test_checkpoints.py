"""The three files of a log directory: Kafka's bytes, nothing believed of a damaged one, entries that go."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tailrace.core.log import checkpoints
from tailrace.core.log.checkpoints import (
    OFFSET_FILES,
    RECOVERY_POINTS,
    read_offsets,
    take_back,
    write_log_start,
    write_offsets,
)
from tailrace.core.log.directory import Buffer, RealDirectory

OFFSETS = {("b", 1): 7, ("a.b", 0): 9223372036854775807, ("b", 0): 0}


def test_a_file_is_as_kafka_writes_it(tmp_path: Path) -> None:
    directory = RealDirectory(str(tmp_path))
    write_offsets(directory, RECOVERY_POINTS, OFFSETS)
    assert (tmp_path / RECOVERY_POINTS).read_bytes() == b"0\n3\na.b 0 9223372036854775807\nb 0 0\nb 1 7\n"
    assert read_offsets(directory, RECOVERY_POINTS) == OFFSETS
    write_offsets(directory, RECOVERY_POINTS, {})
    assert (tmp_path / RECOVERY_POINTS).read_bytes() == b"0\n0\n"


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"0\n",
        b"1\n1\na 0 5\n",
        b"0\n2\na 0 5\n",
        b"0\n1\na 0 5\nb 0 6\n",
        b"0\n1\na 0\n",
        b"0\n1\na 0 5 6\n",
        b"0\n1\na 0 -5\n",
        b"0\n1\na x 5\n",
        b"0\n1\na 0 \xb2\n",
        "0\n1\na 0 \u00b2\n".encode(),
        "0\n1\na 0 \u0665\n".encode(),
        b"0\n1\na 0 " + b"9" * 5000 + b"\n",
        b"0\n2\na 0 5\na 0 6\n",
        b"0\n2\na 0 5\nb 0 5" + bytes(3),
        bytes(30),
    ],
)
def test_nothing_is_believed_of_a_damaged_file(tmp_path: Path, damaged: bytes) -> None:
    """(R) Not even the lines that look right."""
    (tmp_path / RECOVERY_POINTS).write_bytes(damaged)
    assert read_offsets(RealDirectory(str(tmp_path)), RECOVERY_POINTS) == {}


@pytest.mark.parametrize(("limit", "left"), [(None, None), (3, 3), (7, 7), (9, 7)])
def test_a_partition_is_taken_back_from_every_file(
    tmp_path: Path, limit: int | None, left: int | None
) -> None:
    directory = RealDirectory(str(tmp_path))
    for name in OFFSET_FILES:
        write_offsets(directory, name, {("a", 0): 7, ("a", 1): 8})
    take_back(directory, "a", 0, limit)
    expected = {("a", 1): 8} if left is None else {("a", 0): left, ("a", 1): 8}
    start = expected if left is None else {("a", 0): 7, ("a", 1): 8}  # deleted records stay deleted
    assert [read_offsets(directory, name) for name in OFFSET_FILES] == [expected, expected, start]
    take_back(directory, "nobody", 0)


class Watched(RealDirectory):
    """Says what happens under the lock."""

    __slots__ = ("events",)

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.events: list[str] = []

    @contextmanager
    def locked(self, name: str) -> Generator[None, None, None]:
        """See RealDirectory."""
        with super().locked(name):
            self.events.append("lock")
            yield
            self.events.append("unlock")

    def read(self, name: str) -> bytes | None:
        """See RealDirectory."""
        self.events.append("read")
        return super().read(name)

    def replace(self, name: str, data: Buffer, *, durable: bool = True) -> None:
        """See RealDirectory."""
        self.events.append("durable" if durable else "lost")
        super().replace(name, data, durable=durable)


def test_an_entry_is_taken_back_under_the_lock_and_on_disk(tmp_path: Path) -> None:
    """(R) Or the housekeeper writes again what it read before."""
    directory = Watched(str(tmp_path))
    write_offsets(directory, checkpoints.LOG_STARTS, {("a", 0): 7})
    directory.events.clear()
    take_back(directory, "a", 0)
    assert directory.events == ["lock", "read", "read", "read", "durable", "unlock"]


def test_a_start_is_shown_under_the_lock_once_it_is_on_disk(tmp_path: Path) -> None:
    """(R) Or the housekeeper writes the old one over it."""
    directory = Watched(str(tmp_path))
    write_offsets(directory, checkpoints.LOG_STARTS, {("a", 0): 7, ("a", 1): 8})
    directory.events.clear()
    write_log_start(directory, "a", 0, 9, lambda: directory.events.append("shown"))
    assert directory.events == ["lock", "read", "durable", "shown", "unlock"]
    assert read_offsets(directory, checkpoints.LOG_STARTS) == {("a", 0): 9, ("a", 1): 8}
