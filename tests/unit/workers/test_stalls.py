"""Who stands still, and who only seems to."""

from tailrace.workers.stalls import Sample, StallWatch

LIMIT_S = 4.0
IDLE = Sample(incarnation=7, progress=1, long_operation=0)


def look(watch: StallWatch, seconds: float, sample: Sample, start_s: float = 100.0) -> list[float]:
    """Look each second; when slot 3 was said to stand still."""
    times = [start_s + step for step in range(int(seconds) + 1)]
    return [now_s - start_s for now_s in times if watch.look(now_s, {3: sample})]


def test_who_makes_no_progress_for_so_long_is_named_once_a_limit() -> None:
    assert look(StallWatch(LIMIT_S), 9, IDLE) == [4.0, 8.0]


def test_progress_a_successor_and_a_declared_operation_begin_the_time_anew() -> None:
    for other in (
        IDLE._replace(progress=2),
        IDLE._replace(incarnation=8),
        IDLE._replace(long_operation=1),
    ):
        watch = StallWatch(LIMIT_S)
        assert not look(watch, 3, IDLE)
        assert not watch.look(104.0, {3: other})
        assert not look(watch, 2, other, start_s=105.0)
    assert not look(StallWatch(LIMIT_S), 60, IDLE._replace(long_operation=1))


def test_nobody_is_blamed_for_a_time_in_which_the_supervisor_stood_still_itself() -> None:
    watch = StallWatch(LIMIT_S)
    assert not look(watch, 3, IDLE)
    assert not watch.look(200.0, {3: IDLE})  # the machine was suspended, and both with it
    assert look(watch, 5, IDLE, start_s=201.0) == [3.0]


def test_a_slot_that_is_not_watched_for_a_time_begins_anew() -> None:
    watch = StallWatch(LIMIT_S)
    assert not look(watch, 3, IDLE)
    assert not watch.look(104.0, {})
    assert not look(watch, 3, IDLE, start_s=105.0)


def test_looks_come_a_quarter_of_the_limit_apart_and_never_without_one() -> None:
    watch = StallWatch(LIMIT_S)
    watch.look(100.0, {})
    assert watch.wait_s(100.25) == 0.75
    assert watch.wait_s(101.5) == 0.0
    assert StallWatch(0.0).wait_s(0.0) > 1000
