"""Waiting for something that other processes bring about."""

import time
from collections.abc import Callable

EVERY_S = 0.002


def wait_until(condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    """Return as soon as the condition holds; the time is only for tests that would fail anyway."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"waited {seconds:g} s for: {what}"
        time.sleep(EVERY_S)
