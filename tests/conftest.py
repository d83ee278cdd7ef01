"""Fixtures that start real processes, and what holds for all tests."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from perf.peers.tailrace import Tailrace

pytest_plugins = ["tests.support.bootstrap"]

settings.register_profile("untimed", deadline=None)  # no test is about time: its first example imports numpy
settings.load_profile("untimed")


FDS_LEFT = 100  # by some tests, before it is worth a look at all objects

_fds = [FDS_LEFT]  # how many are worth that now


@pytest.fixture(autouse=True)
def few_descriptors() -> Iterator[None]:
    """Processes played by a test hold each other in cycles, and their files until those are collected."""
    yield
    if len(os.listdir("/proc/self/fd")) > _fds[0]:
        gc.collect()
        _fds[0] = len(os.listdir("/proc/self/fd")) + FDS_LEFT


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tailrace]:
    """A one-node Tailrace for all tests of this test process that leave it as they found it."""
    started = Tailrace(tmp_path_factory.mktemp("broker"))
    started.start()
    pid = started.pid
    try:
        assert started.bootstrap
        yield started
    finally:
        started.stop()
    left = list(Path("/dev/shm").glob(f"tailrace-{os.getuid()}-{pid}-*"))
    assert not left, f"an orderly stop left {left}"
