"""Bytes a second."""

from tailrace.core.replication.copy_limit import WINDOW_MS, CopyLimit


def test_what_is_copied_in_the_long_run_is_the_rate() -> None:
    limit, copied, now = CopyLimit(1000, 0), 0, 0
    while now < 60_000:
        if limit.allowance(now) > 0:
            limit.spend(700)
            copied += 700
        now += 7
    assert 59_000 <= copied <= 61_000


def test_what_was_not_used_is_kept_for_a_moment_only() -> None:
    limit = CopyLimit(1000, 0)
    assert limit.allowance(3_600_000) == WINDOW_MS


def test_after_too_much_there_is_a_pause() -> None:
    limit = CopyLimit(1000, 0)
    limit.spend(5000)
    assert limit.allowance(0) <= 0
    due = limit.due_ms()
    assert limit.allowance(due - 3) <= 0 < limit.allowance(due)
    assert 5000 <= due <= 5010
