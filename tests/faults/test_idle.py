"""A broker that nobody asks anything sleeps."""

import time
from pathlib import Path

import psutil

from perf.peers.tailrace import Tailrace
from tests.support.waiting import wait_until

WATCHED_S = 1.0


def _processor_seconds(tree: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in tree)


def test_no_process_turns_without_work(tmp_path: Path) -> None:
    """A descriptor that stays readable makes its loop take a whole processor: far above what is allowed here."""
    broker = Tailrace(tmp_path / "data")
    broker.start()
    try:
        assert broker.bootstrap
        root = psutil.Process(broker.pid)
        tree = [root, *root.children(recursive=True)]
        before, begin = _processor_seconds(tree), time.monotonic()
        wait_until(lambda: time.monotonic() - begin >= WATCHED_S, "the watched time")
        assert _processor_seconds(tree) - before < WATCHED_S / 2
    finally:
        broker.stop()
