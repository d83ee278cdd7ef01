"""Rows are whole at every instant, whatever happens to their writer."""

import mmap
import time
from array import array
from pathlib import Path

from tailrace.shm.state_table import (
    HIGH_WATERMARK,
    TOPIC_ID_HI,
    WORDS,
    RowWriter,
    StateTable,
    topic_id_bytes,
    topic_id_words,
)
from tests.support.forks import fork
from tests.support.watched_words import WatchedWords

READS = 100_000
KILLS = 30


def test_row_is_what_was_published_last(tmp_path: Path) -> None:
    table = StateTable.create(str(tmp_path / "state"), 4)
    writer = RowWriter(table, 2)
    for number in range(5):
        writer.values[HIGH_WATERMARK] = number
        before = table.read(2)
        assert before[HIGH_WATERMARK] == max(0, number - 1)
        writer.publish()
        assert (table.read(2)[HIGH_WATERMARK], table.read_word(2, HIGH_WATERMARK)) == (number, number)
    assert [table.sequence(row) for row in range(4)] == [0, 0, 5, 0]
    assert table.read(1) == table.read(3) == (0,) * WORDS


def test_next_owner_goes_on_from_the_last_published_row(tmp_path: Path) -> None:
    table = StateTable.create(str(tmp_path / "state"), 4)
    table.write(0, array("q", range(WORDS)))
    first = RowWriter(table, 0)
    first.values[3] = 99
    first.publish()
    first.values[3] = 100  # never published: its process died
    second = RowWriter(StateTable.attach(str(tmp_path / "state")), 0)
    assert second.values.tolist() == [0, 1, 2, 99, *range(4, WORDS)]
    second.values[3] = 101
    second.publish()
    assert table.read(0)[3] == 101


def test_a_row_changes_with_the_last_store_and_not_before(tmp_path: Path) -> None:
    """(R) The copy first, then the word that names it."""
    table = StateTable.create(str(tmp_path / "state"), 4)
    attached = StateTable.attach(str(tmp_path / "state"))
    writer = RowWriter(table, 2)
    seen: list[int] = []
    watched = WatchedWords(table.words, lambda _: seen.append(attached.read(2)[HIGH_WATERMARK]))
    writer._words = table.words = watched  # type: ignore[assignment]  # pyright: ignore
    for number in range(1, 5):
        writer.values[HIGH_WATERMARK] = number
        writer.publish()
    for number in range(5, 8):
        writer.values[HIGH_WATERMARK] = number
        table.write(2, writer.values)
    assert seen == [value for number in range(1, 8) for value in (number - 1, number)]


def test_neighbours_are_not_touched(tmp_path: Path) -> None:
    table = StateTable.create(str(tmp_path / "state"), 3)
    for row in range(3):
        table.write(row, array("q", [row + 1] * WORDS))
    for _ in range(3):
        table.write(1, array("q", [-1] * WORDS))
    assert [table.read(row) for row in range(3)] == [(1,) * WORDS, (-1,) * WORDS, (3,) * WORDS]


def _write_for_ever(table: StateTable) -> None:
    writer = RowWriter(table, 1)
    number = writer.values[0]
    while True:
        number += 1
        writer.values[:] = array("q", [number]) * WORDS
        writer.publish()


def test_reader_beside_a_writer_never_sees_a_torn_row(tmp_path: Path) -> None:
    table = StateTable.create(str(tmp_path / "state"), 3)
    child = fork(lambda: _write_for_ever(table))
    try:
        last = 0
        for _ in range(READS):
            row = table.read(1)
            assert row.count(row[0]) == WORDS
            assert row[0] >= last
            last = row[0]
            assert table.read_word(1, 5) >= last
    finally:
        child.kill()
    assert last > 0


def test_writer_killed_at_any_instant_leaves_a_whole_row(tmp_path: Path) -> None:
    table = StateTable.create(str(tmp_path / "state"), 3)
    for _ in range(KILLS):
        before = table.sequence(1)
        child = fork(lambda: _write_for_ever(table))
        while table.sequence(1) < before + 100:
            time.sleep(0)
        child.kill()
        row = table.read(1)
        assert row.count(row[0]) == WORDS


def test_writer_killed_half_way_leaves_the_row_before(tmp_path: Path) -> None:
    """The copy not in use is overwritten in part, the sequence word is not reached."""
    table = StateTable.create(str(tmp_path / "state"), 1)
    table.write(0, array("q", [7] * WORDS))
    assert table.sequence(0) == 1
    unused = 8 + 8  # copy 0 of row 0
    for word in range(WORDS // 2):
        table.words[unused + word] = 8
        assert table.read(0) == (7,) * WORDS
    RowWriter(table, 0).publish()
    assert table.read(0) == (7,) * WORDS


class _OvertakenMap:
    """A mapping whose writer publishes twice in the middle of the first slice."""

    def __init__(self, mapping: mmap.mmap, writer: RowWriter) -> None:
        self._mapping, self._writer, self.slices = mapping, writer, 0

    def __getitem__(self, where: slice) -> bytes:
        before = self._mapping[where]
        self.slices += 1
        if self.slices == 1:
            for _ in range(2):
                self._writer.values[:] = array("q", [self._writer.values[0] + 1]) * WORDS
                self._writer.publish()
        return before[:64] + self._mapping[where][64:]


def test_reader_overtaken_in_the_middle_of_a_row_reads_again(tmp_path: Path) -> None:
    table = StateTable.create(str(tmp_path / "state"), 1)
    mapping = _OvertakenMap(table.region.map, RowWriter(table, 0))
    object.__setattr__(table, "_map", mapping)
    assert table.read(0) == (2,) * WORDS
    assert mapping.slices == 2


def test_topic_id_survives_its_two_words(tmp_path: Path) -> None:
    topic_id = bytes.fromhex("ffeeddccbbaa99887766554433221100")
    table = StateTable.create(str(tmp_path / "state"), 1)
    writer = RowWriter(table, 0)
    writer.values[TOPIC_ID_HI], writer.values[TOPIC_ID_HI + 1] = topic_id_words(topic_id)
    writer.publish()
    row = table.read(0)
    assert topic_id_bytes(row[TOPIC_ID_HI], row[TOPIC_ID_HI + 1]) == topic_id
