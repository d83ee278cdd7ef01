"""Deadlines run when they are due, in their order, and not once they are cancelled."""

from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from tailrace.core.timers import Timers


def test_nothing_is_due_before_its_time() -> None:
    timers, ran = Timers(), list[str]()
    timers.schedule(100, lambda: ran.append("a"))
    timers.run_due(99)
    assert (ran, timers.next_deadline_ms()) == ([], 100)
    timers.run_due(100)
    assert (ran, timers.next_deadline_ms()) == (["a"], None)
    timers.run_due(1000)
    assert ran == ["a"]


def test_equal_deadlines_run_in_the_order_they_were_set() -> None:
    timers, ran = Timers(), list[int]()
    for number in range(5):
        timers.schedule(7, partial(ran.append, number))
    timers.run_due(7)
    assert ran == [0, 1, 2, 3, 4]


def test_a_cancelled_deadline_neither_runs_nor_counts() -> None:
    timers, ran = Timers(), list[str]()
    first = timers.schedule(1, lambda: ran.append("first"))
    timers.schedule(2, lambda: ran.append("second"))
    timers.cancel(first)
    timers.cancel(first)
    assert timers.next_deadline_ms() == 2
    timers.run_due(10)
    assert ran == ["second"]
    timers.cancel(first)


def test_a_callback_may_schedule_and_cancel() -> None:
    timers, ran = Timers(), list[str]()
    later = timers.schedule(5, lambda: ran.append("cancelled"))

    def first() -> None:
        ran.append("first")
        timers.cancel(later)
        timers.schedule(3, lambda: ran.append("due at once"))
        timers.schedule(50, lambda: ran.append("not yet"))

    timers.schedule(1, first)
    timers.run_due(10)
    assert (ran, timers.next_deadline_ms()) == (["first", "due at once"], 50)


@given(st.lists(st.tuples(st.integers(0, 100), st.booleans()), max_size=300), st.integers(0, 100))
def test_what_runs_is_what_stands_and_is_due(wanted: list[tuple[int, bool]], now_ms: int) -> None:
    timers, ran = Timers(), list[tuple[int, int]]()
    tokens = [
        timers.schedule(deadline, partial(ran.append, (deadline, number)))
        for number, (deadline, _) in enumerate(wanted)
    ]
    for token, (_, stands) in zip(tokens, wanted, strict=True):
        if not stands:
            timers.cancel(token)
    standing = sorted((deadline, number) for number, (deadline, stands) in enumerate(wanted) if stands)
    timers.run_due(now_ms)
    assert ran == [entry for entry in standing if entry[0] <= now_ms]
    rest = [entry[0] for entry in standing if entry[0] > now_ms]
    assert timers.next_deadline_ms() == (rest[0] if rest else None)
