"""A broker that nobody asks anything sleeps."""

import time
from pathlib import Path

from perf import processes
from perf.peers.tailrace import Tailrace
from tests.support.waiting import wait_until

WATCHED_S = 1.0


def test_no_process_turns_without_work(tmp_path: Path) -> None:
    """A descriptor that stays readable makes its loop take a whole processor: far above the limit."""
    broker = Tailrace(tmp_path / "data")
    broker.start()
    try:
        assert broker.bootstrap
        before, begin = processes.processor_seconds(broker.pid), time.monotonic()
        wait_until(lambda: time.monotonic() - begin >= WATCHED_S, "the watched time")
        assert processes.processor_seconds(broker.pid) - before < WATCHED_S / 2
    finally:
        broker.stop()
