"""A checker that cannot fail is none: each kind of fault, planted in a history that is otherwise good."""

from collections.abc import Callable

import pytest

from tests.support.history_check import FAULTS_MAX, History, Record

PRODUCERS, PARTITIONS, RECORDS = 2, 2, 5

Stored = list[list[tuple[int, Record]]]


def good() -> tuple[History, Stored]:
    """Two producers take turns in two partitions; two readers read all; every offset is as acknowledged."""
    history = History(PRODUCERS, PARTITIONS)
    stored: Stored = [[] for _ in range(PARTITIONS)]
    for _ in range(RECORDS):
        for producer in range(PRODUCERS):
            for partition in range(PARTITIONS):
                number, offset = history.send(producer, partition), len(stored[partition])
                stored[partition].append((offset, Record(producer, number)))
                history.acknowledge(producer, partition, number, offset)
                for reader in range(2):
                    history.read(reader, partition, offset, Record(producer, number))
    return history, stored


def kinds(history: History, stored: Stored) -> set[str]:
    """What the checker finds."""
    return {fault.kind for fault in history.faults(stored)}


def test_a_history_without_faults_has_none_and_is_not_empty() -> None:
    history, stored = good()
    assert history.faults(stored) == []
    records = PRODUCERS * PARTITIONS * RECORDS
    assert history.summary() == (records, records, 2 * records, records)


def test_a_record_without_an_answer_may_be_stored_or_not() -> None:
    history, stored = good()
    number, _ = history.send(0, 0), history.send(1, 1)
    stored[0].append((len(stored[0]), Record(0, number)))
    assert history.faults(stored) == []


def test_a_duplicate_that_was_acknowledged_without_its_offset_may_be_anywhere() -> None:
    history, stored = good()
    number = history.send(0, 0)
    history.acknowledge(0, 0, number)
    assert kinds(history, stored) == {"lost"}
    stored[0].append((len(stored[0]), Record(0, number)))
    history, _ = good()
    history.acknowledge(0, 0, history.send(0, 0))
    assert history.faults(stored) == []


def lose_the_last(stored: Stored) -> None:
    """As a new leader that is behind would."""
    stored[1].pop()


def lose_one_in_between(stored: Stored) -> None:
    """The rest moves up."""
    del stored[0][3]
    stored[0][3:] = [(offset - 1, record) for offset, record in stored[0][3:]]


def leave_a_hole(stored: Stored) -> None:
    """An offset without a record."""
    del stored[0][3]


def store_twice(stored: Stored) -> None:
    """As a broker that forgot the sequence would."""
    stored[0].append((len(stored[0]), stored[0][-1][1]))


def swap(stored: Stored) -> None:
    """Two records of one producer change places."""
    records = stored[0]
    records[4], records[6] = (4, records[6][1]), (6, records[4][1])


def swap_producers(stored: Stored) -> None:
    """Records of two producers change places: in order for each, but not where they were acknowledged."""
    records = stored[0]
    records[4], records[5] = (4, records[5][1]), (5, records[4][1])


def invent(stored: Stored) -> None:
    """A record that nobody sent."""
    stored[1].append((len(stored[1]), Record(0, RECORDS)))


def invent_a_producer(stored: Stored) -> None:
    """A record of nobody."""
    stored[1].append((len(stored[1]), Record(PRODUCERS, 0)))


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (lose_the_last, {"lost", "vanished"}),
        (lose_one_in_between, {"lost", "misplaced", "vanished"}),
        (leave_a_hole, {"lost", "hole", "vanished"}),
        (store_twice, {"duplicated"}),
        (swap, {"reordered", "misplaced", "vanished"}),
        (swap_producers, {"misplaced", "vanished"}),
        (invent, {"phantom"}),
        (invent_a_producer, {"phantom"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_fault_in_what_is_stored_is_found(plant: Callable[[Stored], None], found: set[str]) -> None:
    history, stored = good()
    plant(stored)
    assert kinds(history, stored) == found


def test_a_refused_record_that_is_stored_is_found() -> None:
    history, stored = good()
    number = history.send(0, 0)
    history.refuse(0, 0, number)
    assert history.faults(stored) == []
    stored[0].append((len(stored[0]), Record(0, number)))
    assert kinds(history, stored) == {"phantom"}


def test_a_record_that_was_only_ever_read_may_not_vanish() -> None:
    """Nobody was told that it is stored, but it was below a high watermark."""
    history, stored = good()
    history.read(0, 0, len(stored[0]), Record(0, history.send(0, 0)))
    assert kinds(history, stored) == {"vanished"}


def test_readers_that_see_different_records_at_one_offset_are_found() -> None:
    history, stored = good()
    history.read(7, 0, 2, Record(1, 4))
    assert kinds(history, stored) == {"diverged"}


@pytest.mark.parametrize("offset", [3, 9, 11])
def test_a_reader_that_goes_back_or_leaves_records_out_is_found(offset: int) -> None:
    history, stored = good()
    record = dict(stored[0]).get(offset, Record(0, RECORDS))
    history.read(0, 0, offset, record)
    assert "backwards" in kinds(history, stored)


def test_a_record_that_is_answered_twice_is_found() -> None:
    history, stored = good()
    history.acknowledge(0, 0, 0, 0)
    assert kinds(history, stored) == {"answered twice"}


def test_what_a_client_saw_itself_counts() -> None:
    history, stored = good()
    history.complain("refused", "out of order")
    assert kinds(history, stored) == {"refused"}


def test_many_faults_of_one_kind_are_counted_and_hide_no_others() -> None:
    history, stored = good()
    for _ in range(FAULTS_MAX + 7):
        store_twice(stored)
    stored[1].pop()
    found = history.faults(stored)
    assert [fault.text for fault in found if fault.kind == "duplicated"][-1] == "7 more"
    assert {fault.kind for fault in found} == {"duplicated", "lost", "vanished"}


def test_a_partition_that_was_not_looked_at_is_no_partition_without_faults() -> None:
    history, stored = good()
    with pytest.raises(AssertionError, match="2 partitions, not 1"):
        history.faults(stored[:1])


def test_the_end_of_a_partition_is_what_anybody_knows_of_it() -> None:
    history, stored = good()
    assert history.end(0) == len(stored[0])
    history.acknowledge(0, 0, history.send(0, 0), len(stored[0]) + 4)
    assert history.end(0) == len(stored[0]) + 5
    assert History(1, 1).end(0) == 0


def test_complaints_are_known_before_the_end() -> None:
    history, _ = good()
    assert history.complaints == []
    history.complain("crashed", "a producer")
    assert [fault.kind for fault in history.complaints] == ["crashed"]
