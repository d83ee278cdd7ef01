"""When replicas that could not be opened are tried again."""

import pytest

from tailrace.workers.retries import (
    FULL_PAUSE_S,
    FULL_PAUSE_S_MAX,
    PAUSE_S,
    PAUSE_S_MAX,
    Retries,
)


@pytest.mark.parametrize(
    ("is_full", "first_s", "longest_s"),
    [(False, PAUSE_S, PAUSE_S_MAX), (True, FULL_PAUSE_S, FULL_PAUSE_S_MAX)],
)
def test_the_pause_doubles_up_to_a_bound(is_full: bool, first_s: float, longest_s: float) -> None:
    retries, now_s, pauses = Retries(), 100.0, list[float]()
    for _ in range(8):
        retries.note(7, now_s, is_full=is_full)
        pauses.append(retries.wait_s(now_s, 3600.0))
        assert not retries.take_due(now_s + pauses[-1] - 0.1)
        now_s += pauses[-1]
        assert retries.take_due(now_s) == [7]
        assert not retries.take_due(now_s + 1000), "not again before it has failed again"
    assert pauses[0] == first_s
    assert max(pauses) == pauses[-1] == longest_s


def test_a_disk_that_broke_and_is_full_now_is_looked_at_soon() -> None:
    retries = Retries()
    for _ in range(5):
        retries.note(7, 0.0, is_full=False)
    retries.note(7, 0.0, is_full=True)
    assert retries.wait_s(0.0, 3600.0) == FULL_PAUSE_S_MAX


def test_what_is_forgotten_begins_anew() -> None:
    retries = Retries()
    retries.note(7, 0.0, is_full=True)
    retries.note(8, 0.0, is_full=False)
    retries.forget(7)
    assert retries.wait_s(0.0, 3600.0) == PAUSE_S
    retries.forget(8)
    retries.forget(8)
    assert retries.wait_s(0.0, 3600.0) == 3600.0
    retries.note(7, 0.0, is_full=True)
    assert retries.wait_s(0.0, 3600.0) == FULL_PAUSE_S
