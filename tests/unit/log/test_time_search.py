"""Records by time where a batch is not what its header says (R): no look-up takes long or fails for good."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tailrace.core.log import time_search
from tailrace.core.log.log import Log
from tailrace.core.log.scan import scan
from tailrace.core.log.time_search import OPENED_BYTES_MAX
from tailrace.core.records.compression import GZIP, ZSTD
from tailrace.core.records.record import NewRecord, assemble, build_batch
from tests.support.batches import changed
from tests.support.hostile_batches import lies, zstd
from tests.unit.log.logs import NOW, batch, open_log

LATE = NOW + 1000


def claiming(codec: int, payload: bytes, count: int = 1) -> bytes:
    """A batch that says it holds so many records, the youngest late."""
    return bytes(
        assemble(
            payload, base_offset=0, leader_epoch=-1, attributes=codec, last_offset_delta=count - 1,
            base_timestamp=NOW, max_timestamp=LATE,
        )
    )  # fmt: skip


def log_with(path: Path, *batches: bytes) -> Log:
    """A log of an old record, these batches and a late record."""
    log = open_log(path)
    for each in (batch("old"), *batches, batch("late", timestamp=LATE)):
        log.append_as_leader(each, 0, NOW)
    return log


@pytest.mark.parametrize("name", [name for name, (_, data) in lies().items() if data])
def test_a_batch_that_cannot_be_opened_is_answered_for_as_a_whole(tmp_path: Path, name: str) -> None:
    log = log_with(tmp_path, claiming(*lies()[name]))
    assert log.offset_for_timestamp(NOW + 1) == (1, LATE, 0)
    assert log.offset_for_timestamp(NOW) == (0, NOW, 0)
    assert log.max_timestamp() == (1, LATE, 0)
    log.close()


def test_a_batch_that_would_grow_too_large_is_not_opened(tmp_path: Path) -> None:
    bomb = claiming(ZSTD, zstd(OPENED_BYTES_MAX + 1, states_size=False))
    log = log_with(tmp_path, bomb)
    assert log.offset_for_timestamp(NOW + 1) == (1, LATE, 0)
    log.close()


def test_a_batch_of_very_many_records_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [NewRecord(value=b"x", timestamp=NOW + n) for n in range(100)]
    many = bytes(build_batch(records, codec=GZIP))
    log = log_with(tmp_path, many)
    assert log.offset_for_timestamp(NOW + 50) == (51, NOW + 50, 0)
    monkeypatch.setattr(time_search, "OPENED_RECORDS_MAX", 99)
    assert log.offset_for_timestamp(NOW + 50) == (1, NOW + 99, 0)
    log.close()


def test_one_without_the_record_that_it_claims_ends_the_search(tmp_path: Path) -> None:
    """Else each of a segment full of them would be opened in turn."""
    log = log_with(tmp_path, *[changed(batch("liar"), max_timestamp=LATE - 1)] * 3)
    assert log.offset_for_timestamp(NOW + 1) == (1, LATE - 1, 0)
    log.close()


def test_what_was_deleted_is_passed_over_by_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(tmp_path)
    for number in range(100):
        log.append_as_leader(
            bytes(build_batch([NewRecord(value=b"x" * 100, timestamp=NOW + number)])), 0, NOW
        )
    log.high_watermark = 100
    log.delete_records_before(90, NOW)
    seen: list[int] = []
    real = scan

    def counted(*arguments: Any, **more: Any) -> Iterator[Any]:
        for position, header in real(*arguments, **more):
            seen.append(position)
            yield position, header

    monkeypatch.setattr(time_search, "scan", counted)
    assert log.offset_for_timestamp(0) == (90, NOW + 90, 0)
    assert len(seen) < 10
    log.close()
