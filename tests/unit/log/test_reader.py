"""The read side by descriptors: every offset is found, by a hint, by the index, over a roll."""

from pathlib import Path

import pytest

from tailrace.core.log.directory import RealDirectory
from tailrace.core.log.reader import Hint, Located, LogReader
from tailrace.core.records.batch import HEADER_SIZE, parse_header
from tests.unit.log.logs import NOW, batch, fill, open_log

COUNT = 600  # of 170-byte batches: more than one segment of 64 KiB


def _offsets(located: Located) -> list[int]:
    """Base offsets of the whole batches in the range."""
    data, found, at = located.file.read(located.position, located.length), list[int](), 0
    while len(data) - at >= HEADER_SIZE and (header := parse_header(data, at)).size <= len(data) - at:
        found.append(header.base_offset)
        at += header.size
    return found


@pytest.mark.parametrize("max_bytes", [1, 1000, 20_000, 10_000_000])
def test_a_reader_in_order_meets_every_offset_once(tmp_path: Path, max_bytes: int) -> None:
    log = open_log(tmp_path / "t-0")
    fill(log, COUNT)
    assert log.active_base_offset > 0, "the log has rolled"
    reader = LogReader(RealDirectory(str(tmp_path / "t-0")))
    seen: list[int] = []
    hint: Hint | None = None
    while (found := reader.locate_in(log, len(seen), max_bytes, hint)) is not None:
        hint = found.next_hint
        seen += _offsets(found)
    assert seen == list(range(COUNT))
    log.close()


def test_any_hint_gives_what_no_hint_gives(tmp_path: Path) -> None:
    """Also one of another reader, far behind or ahead, or of a generation that is over."""
    log = open_log(tmp_path / "t-0")
    fill(log, COUNT)
    reader = LogReader(RealDirectory(str(tmp_path / "t-0")))
    hints: list[Hint | None] = [Hint(-1, 0, 0, 0), None]
    for offset in range(0, COUNT, 37):
        plain = reader.locate_in(log, offset, 500)
        assert plain is not None
        hints.append(plain.next_hint)
        for hint in hints:
            found = reader.locate_in(log, offset, 500, hint)
            assert found is not None
            assert (found.position, found.length) == (plain.position, plain.length)
    log.close()


def test_nothing_at_or_above_the_high_watermark_is_named(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t-0")
    fill(log, 10)
    reader = LogReader(RealDirectory(str(tmp_path / "t-0")))
    watermark, position = log.log_end_offset, log.active_position
    fill(log, 5, start=10)
    found = reader.locate(
        8,
        high_watermark=watermark,
        hw_segment_base_offset=0,
        hw_position=position,
        active_segment_base_offset=0,
        segment_generation=log.segment_generation,
        max_bytes=1 << 20,
        min_one=True,
        hint=None,
    )
    assert found is not None
    assert found.position + found.length == position
    assert _offsets(found) == [8, 9]
    log.close()


def test_a_batch_larger_than_asked_comes_whole_or_not_at_all(tmp_path: Path) -> None:
    log = open_log(tmp_path / "t-0")
    log.append_as_leader(batch("x" * 5000), 0, NOW)
    reader = LogReader(RealDirectory(str(tmp_path / "t-0")))
    whole = reader.locate_in(log, 0, 100)
    assert whole is not None
    assert whole.length == log.active_position
    assert (
        reader.locate(
            0,
            high_watermark=1,
            hw_segment_base_offset=0,
            hw_position=log.active_position,
            active_segment_base_offset=0,
            segment_generation=log.segment_generation,
            max_bytes=100,
            min_one=False,
            hint=None,
        )
        is None
    )
    log.close()
