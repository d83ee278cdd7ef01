"""Thousands of partitions with the default configuration, in 64 MiB of shared memory where that can be had;
and with the descriptors that a shell gives.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from perf import lifecycle, many, scale, wire
from perf.peers import tailrace

SHARED_MIB = 64


@pytest.fixture
def small_memory(tmp_path: Path) -> Iterator[Path]:
    """A run.dir as small as the /dev/shm of a container."""
    if os.geteuid():
        pytest.skip("only root can mount a tmpfs of 64 MiB")
    folder = tmp_path / "shm"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SHARED_MIB}m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.full
@pytest.mark.parametrize("partitions", [1_000, 4_000])
def test_thousands_of_partitions_are_served_and_there_again(
    tmp_path: Path, small_memory: Path, partitions: int
) -> None:
    parts = [("large", number) for number in range(partitions)]
    broker = tailrace.Tailrace(tmp_path / "broker", {"run.dir": str(small_memory)})
    broker.start()
    try:
        lifecycle.wait_until_served(broker)
        scale.made(broker, [("large", partitions)], parts)
        for _ in range(2):
            scale.restart(broker, parts)
        read_all(broker, parts, 3)
    finally:
        broker.stop()


@pytest.mark.full
def test_a_thousand_partitions_need_no_more_than_4096_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1024 and 4096 is what a shell gives; the soft limit is raised to the hard one."""
    script = tmp_path / "limited"
    script.write_text(f'#!/bin/sh\nulimit -H -n 4096\nulimit -S -n 1024\nexec {tailrace.COMMAND} "$@"\n')
    script.chmod(0o700)
    monkeypatch.setattr(tailrace, "COMMAND", script)
    parts = [("large", number) for number in range(1_000)]
    broker = tailrace.Tailrace(tmp_path / "broker")
    broker.start()
    try:
        lifecycle.wait_until_served(broker)
        scale.made(broker, [("large", 1_000)], parts)
        read_all(broker, parts, 1)
    finally:
        broker.stop()


def read_all(broker: tailrace.Tailrace, parts: list[many.Part], at_least: int) -> None:
    """Each holds so many records, which can be read."""
    with wire.Connection(broker.endpoints()["tcp"]) as connection:
        for topic, index in parts:
            fetched = wire.fetch_response(connection.ask(wire.fetch_frame(topic, 0, 1, index=index)))
            assert fetched.error_code == 0
            assert fetched.high_watermark >= at_least
