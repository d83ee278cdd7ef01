"""What an open of a log that was left well costs does not grow with the log: a start opens a thousand."""

import os
from pathlib import Path

import pytest

from tailrace.core.log.directory import RealDirectory
from tailrace.core.log.log_config import LogConfig
from tailrace.core.log.scan import CHUNK
from tests.unit.log.logs import NOW, batch, open_log

LARGE = LogConfig(segment_bytes=8 << 20, index_interval_bytes=4096, segment_index_bytes=1 << 20)


def filled(path: Path, batches: int) -> None:
    """A log with a producer, whose owner dies."""
    log = open_log(path, LARGE)
    for number in range(batches):
        log.append_as_leader(batch("x" * 2000, producer=7, sequence=number), 0, NOW)
    log.close(clean=False)


@pytest.fixture
def read_bytes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How much each pread brought."""
    sizes: list[int] = []
    pread = os.pread

    def counted(fd: int, length: int, position: int) -> bytes:
        data = pread(fd, length, position)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(os, "pread", counted)
    return sizes


@pytest.mark.parametrize("batches", [20, 2000])
def test_an_open_reads_the_tail_alone(tmp_path: Path, read_bytes: list[int], batches: int) -> None:
    filled(tmp_path, batches)
    log = open_log(tmp_path, LARGE)
    assert sum(read_bytes) < 2 * CHUNK + 40_000, "no zero tail of an index, no header of an older batch"
    assert log.log_end_offset == batches
    log.close(clean=False)


def test_the_producers_are_there_when_they_are_asked_for(tmp_path: Path) -> None:
    filled(tmp_path, 50)
    log = open_log(tmp_path, LARGE)
    log.append_as_leader(batch("of nobody"), 1, NOW)
    again = log.append_as_leader(batch("x" * 2000, producer=7, sequence=49), 1, NOW)
    assert again.duplicate
    assert again.base_offset == 49
    assert log.producers.producers[7].last_sequence == 49
    log.close(clean=False)


def test_what_was_replayed_once_is_not_replayed_again(tmp_path: Path) -> None:
    filled(tmp_path, 50)
    log = open_log(tmp_path, LARGE)
    assert log.producers.producers
    log.tick(NOW)
    assert (tmp_path / f"{50:020d}.snapshot").exists()
    log.close(clean=False)


def test_after_a_kill_the_files_stay_and_none_is_made(tmp_path: Path) -> None:
    filled(tmp_path, 50)
    names = ("log", "index", "timeindex")
    before = {name: os.stat(tmp_path / f"{0:020d}.{name}").st_ino for name in names}
    mark = RealDirectory(str(tmp_path)).identity("tailrace.trust")
    open_log(tmp_path, LARGE).close(clean=False)
    assert {name: os.stat(tmp_path / f"{0:020d}.{name}").st_ino for name in names} == before
    assert RealDirectory(str(tmp_path)).identity("tailrace.trust") == mark


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("texts", [["x"] * 9, ["x" * 900] * 40, ["x", "y" * 3000] * 12])
def test_a_producer_may_repeat_all_that_it_had_under_way(
    tmp_path: Path, clean: bool, texts: list[str]
) -> None:
    """Also when a snapshot was taken since: it had no answer, and only five batches are ever under way."""
    log = open_log(tmp_path, LARGE)
    for number, text in enumerate(texts):
        log.append_as_leader(batch(text, producer=7, sequence=number), 0, NOW)
        log.append_as_leader(batch(text * 2, producer=8, sequence=number), 0, NOW)
    log.close(clean=True)
    if not clean:  # a snapshot between them all the same
        log = open_log(tmp_path, LARGE)
        texts.append("z")
        log.append_as_leader(batch("z", producer=7, sequence=len(texts) - 1), 0, NOW)
        log.close(clean=False)
    log = open_log(tmp_path, LARGE)
    for number in range(len(texts) - 5, len(texts)):
        again = log.append_as_leader(batch(texts[number], producer=7, sequence=number), 1, NOW)
        assert again.duplicate
    log.close(clean=False)
