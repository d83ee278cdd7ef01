"""Jobs beside a loop: in order, each with its outcome, and one flush of a log at a time."""

import signal
import threading
from pathlib import Path

import pytest

from tailrace.core.log.flush import SyncFailedError
from tailrace.core.log.log import Log
from tailrace.workers.background import Background
from tailrace.workers.flusher import Flusher
from tailrace.workers.process import STOP_SIGNALS
from tests.unit.log.logs import NOW, fill, open_log


class Held:
    """Who holds a log."""

    def __init__(self, log: Log) -> None:
        self.log = log


def test_jobs_run_in_order_and_an_error_of_the_disk_is_an_outcome() -> None:
    background: Background[int] = Background()
    done: list[int] = []
    gate = threading.Event()
    failure = OSError("no disk")

    def fail() -> None:
        raise failure

    background.submit(0, gate.wait)
    background.submit(1, fail)
    background.submit(2, lambda: done.append(2))
    assert background.take_done() == []
    assert background.under_way == 3
    gate.set()
    assert background.take_done(wait=True) == [(0, None), (1, failure), (2, None)]
    assert (done, background.under_way, background.take_done(wait=True)) == ([2], 0, [])


def test_a_fault_of_ours_is_raised_where_outcomes_are_taken() -> None:
    background: Background[int] = Background()
    background.submit(0, lambda: int("nothing"))
    with pytest.raises(ValueError, match="nothing"):
        background.take_done(wait=True)
    background.submit(1, lambda: None)
    assert background.take_done(wait=True) == [(1, None)]


def test_the_thread_leaves_stop_signals_to_the_loop() -> None:
    background: Background[int] = Background()
    blocked: list[set[int]] = []
    background.submit(0, lambda: blocked.append(set(signal.pthread_sigmask(signal.SIG_BLOCK, ()))))
    background.take_done(wait=True)
    assert set(STOP_SIGNALS) <= blocked[0]


def test_a_log_has_one_flush_at_a_time(tmp_path: Path) -> None:
    held, flusher = Held(open_log(tmp_path)), Flusher[Held]()
    fill(held.log, 3)
    held.log.roll(NOW)
    flusher.start_due(held, NOW)
    fill(held.log, 3, start=3)
    held.log.roll(NOW)
    flusher.start_due(held, NOW)
    assert flusher.take_done(wait=True) == [(held, None)]
    assert held.log.recovery_point == 3
    flusher.start_due(held, NOW)
    assert flusher.take_done(wait=True) == [(held, None)]
    assert held.log.recovery_point == 6
    flusher.start_due(held, NOW)
    assert flusher.take_done(wait=True) == []
    held.log.close()


def test_a_flush_that_fails_moves_no_recovery_point(tmp_path: Path) -> None:
    held, flusher = Held(open_log(tmp_path)), Flusher[Held]()
    fill(held.log, 3)
    held.log.roll(NOW)
    held.log.close(clean=False)
    held.log.directory.destroy()
    flusher.start_due(held, NOW)
    [(holder, error)] = flusher.take_done(wait=True)
    assert holder is held
    assert isinstance(error, SyncFailedError)
    assert held.log.recovery_point == 0
