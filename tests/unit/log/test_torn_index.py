"""A worker that dies inside the store of an index entry: nothing of it is believed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tailrace.core.log.checkpoints import TrustMark, write_trust_mark
from tailrace.core.log.directory import RealDirectory, RealMappedFile
from tailrace.core.log.log import Log
from tailrace.core.log.offset_index import count_entries
from tailrace.core.log.verification import verify
from tests.unit.log.logs import NOW, batch, open_log

TIMES = f"{0:020d}.timeindex"
Store = tuple[int, bytes]


def entries_and_stores(path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Log, list[Store]]:
    """A log whose time index has two entries, far apart, and what the last was stored with."""
    stores: list[Store] = []
    store = RealMappedFile.store

    def record(self: RealMappedFile, position: int, data: bytes) -> None:
        if self.name == TIMES:
            stores.append((position, bytes(data)))
        store(self, position, data)

    monkeypatch.setattr(RealMappedFile, "store", record)
    log = open_log(path)
    for time in (1000, 0, 0, 0, 0, 0, 2000):
        log.append_as_leader(batch("x" * 9, records=100, timestamp=NOW + time), 0, NOW)
    last = max(position for position, _ in stores) // 12 * 12
    return log, [(position, data) for position, data in stores if position >= last]


def torn(stores: list[Store]) -> Iterator[list[Store]]:
    """All that a death in the middle may leave of them."""
    for number, (position, data) in enumerate(stores):
        for length in range(len(data)):
            yield [*stores[:number], (position, data[:length])]


@pytest.mark.parametrize("number", range(12))
def test_half_an_entry_of_a_time_index_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    log, stores = entries_and_stores(tmp_path, monkeypatch)
    log.close(clean=False)
    contents = bytearray((tmp_path / TIMES).read_bytes())
    start = min(position for position, _ in stores)
    contents[start : start + 12] = bytes(12)
    for position, data in list(torn(stores))[number]:
        contents[position : position + len(data)] = data
    with (tmp_path / TIMES).open("r+b") as file:
        file.write(contents)
    log = open_log(tmp_path)
    assert log.max_timestamp() == (699, NOW + 2099, 0)
    log.close()
    assert not verify(RealDirectory(str(tmp_path)), records=True).faults


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 511, 512, 513, 1000, 2000])
def test_entries_are_counted_in_few_reads(count: int) -> None:
    data = b"\0\0\0\1\0\0\0\1" * count + bytes(8 * (1_000_000 - count))
    reads: list[int] = []

    def read(position: int, length: int) -> bytes:
        reads.append(length)
        return data[position : position + length]

    assert count_entries(read, len(data), 8, 0) == count
    assert len(reads) <= 7
    assert sum(reads) < 4096
    assert count_entries(read, 8 * count, 8, 0) == count


def test_a_time_index_as_short_as_it_once_was_is_not_believed_after_a_loss_of_power(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for time in (10, 20, 30, 40, 5, 5, 5):
        log.append_as_leader(batch("x" * 300, timestamp=NOW + time), 0, NOW)
    log.flush()  # up to the end: its indexes are not synced
    log.roll(NOW)
    log.close(clean=False)
    write_trust_mark(
        log.directory,
        TrustMark(boot_id="another-boot", device=0, inode=0, base_offset=log.active_base_offset),
    )
    assert (tmp_path / TIMES).stat().st_size == 36
    (tmp_path / TIMES).write_bytes((tmp_path / TIMES).read_bytes()[:12])
    log = open_log(tmp_path, recovery_point=7)
    assert log.max_timestamp() == (3, NOW + 40, 0)
    assert (tmp_path / TIMES).stat().st_size == 36
    log.close()
