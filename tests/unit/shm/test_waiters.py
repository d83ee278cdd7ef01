"""Waiting fetches are answered when the high watermark passes what they want."""

from pathlib import Path

import pytest

from tailrace.shm.region import ShmError
from tailrace.shm.waiters import WAITERS, WaiterTable, waiter_of_broker
from tailrace.shm.words import fence
from tests.support.forks import fork

ROUNDS = 100_000


def test_waiter_is_satisfied_once_the_high_watermark_is_above_its_offset(tmp_path: Path) -> None:
    table = WaiterTable.create(str(tmp_path / "waiters"), 4)
    table.want(2, 1, 0)
    table.want(2, 5, 10)
    assert [table.satisfied(2, high_watermark) for high_watermark in (0, 1, 10, 11)] == [[], [1], [1], [1, 5]]
    assert table.satisfied(1, 100) == table.satisfied(3, 100) == []
    table.clear(2, 1)
    assert (table.satisfied(2, 11), table.wanted(2, 1), table.wanted(2, 5)) == ([5], -1, 10)


def test_successor_of_a_waiter_starts_with_nothing_wanted(tmp_path: Path) -> None:
    table = WaiterTable.create(str(tmp_path / "waiters"), 4)
    for row in range(4):
        table.want(row, 0, 1)
        table.want(row, 1, 1)
    WaiterTable.attach(str(tmp_path / "waiters")).clear_waiter(0)
    assert [table.satisfied(row, 5) for row in range(4)] == [[1]] * 4


def test_slots_that_run_out_are_refused_in_words() -> None:
    assert [waiter_of_broker(broker) for broker in range(WAITERS)] == list(range(WAITERS))
    with pytest.raises(ShmError, match="at most 8 brokers"):
        waiter_of_broker(WAITERS)


def test_waiter_or_leader_sees_the_other_with_both_fences(tmp_path: Path) -> None:
    """(R) want, fence, look beside publish, fence, look: never do both miss the other."""
    table = WaiterTable.create(str(tmp_path / "waiters"), ROUNDS)
    other = WaiterTable.create(
        str(tmp_path / "leader"), ROUNDS
    )  # its words stand for high watermarks and answers

    def lead() -> None:
        for row in range(ROUNDS):
            other.words[8 + row * 8] = 1
            fence()
            if table.satisfied(row, 1):
                other.words[8 + row * 8 + 1] = 1

    child = fork(lead)
    seen: list[int] = []
    for row in range(ROUNDS):
        table.want(row, 0, 0)
        fence()
        seen.append(other.words[8 + row * 8])
    assert child.wait() == 0
    assert all(seen[row] or other.words[8 + row * 8 + 1] for row in range(ROUNDS))
