"""When the dead are started again, and which partition is to blame."""

from tailrace.workers.blame import FORGET_S, Blame
from tailrace.workers.restarts import BACKOFF_S_MAX, HEALTHY_S, Backoff


def test_the_first_restart_is_immediate_and_pauses_double() -> None:
    backoff = Backoff(0.05)
    pauses: list[float] = []
    for _ in range(4):
        backoff.on_start(100.0)
        pauses.append(round(backoff.on_death(100.5) - 100.5, 6))
    assert pauses == [0.0, 0.05, 0.1, 0.2]


def test_pauses_have_a_limit() -> None:
    backoff = Backoff(0.05)
    due = 0.0
    for _ in range(100):
        backoff.on_start(0.0)
        due = backoff.on_death(0.0)
    assert due == BACKOFF_S_MAX


def test_a_healthy_life_forgives() -> None:
    backoff = Backoff(0.05)
    for _ in range(3):
        backoff.on_start(0.0)
        backoff.on_death(0.1)
    backoff.on_start(1.0)
    assert backoff.on_death(1.0 + HEALTHY_S) == 1.0 + HEALTHY_S
    assert backoff.failures == 1


def test_three_deaths_in_a_row_at_one_row_are_its_fault() -> None:
    blame = Blame()
    assert not blame.on_death(5, 0.0)
    assert not blame.on_death(6, 0.5)
    assert not blame.on_death(5, 1.0)
    assert blame.on_death(5, 2.0)


def test_deaths_far_apart_are_not_in_a_row() -> None:
    blame = Blame()
    for death in range(5):
        assert not blame.on_death(5, death * (FORGET_S + 1))


def test_a_disk_fault_needs_no_repetition() -> None:
    assert Blame().on_death(5, 0.0, disk_fault=True)
