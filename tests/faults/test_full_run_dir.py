"""A run directory without room: a start says so in a line, a broker that runs goes on with what it has."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from perf import wire
from perf.peers.tailrace import COMMAND, Tailrace
from tailrace.core.errors import NONE, NOT_LEADER_OR_FOLLOWER
from tailrace.workers.status import read_status
from tests.faults.test_full_disk import BATCH, produce
from tests.support.small_disk import MEBIBYTE, SmallDisk, small_disk
from tests.support.waiting import wait_until


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[SmallDisk]:
    """As small as LIMITS allows."""
    with small_disk(tmp_path / "run", 64 * MEBIBYTE) as made:
        yield made


def pids(broker: Tailrace) -> set[int]:
    """Everybody's."""
    status = read_status(str(broker.data))
    assert status is not None
    return {process.pid for process in status.processes}


def test_a_start_without_room_says_so_in_a_line(memory: SmallDisk, tmp_path: Path) -> None:
    for leave in (16 * MEBIBYTE, 0):
        memory.fill(leave)
        command = [str(COMMAND), "start", "--data", str(tmp_path / "data"), "--port", "0"]
        command += ["--set", f"run.dir={memory.path}"]
        refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert refused.returncode != 0
        assert refused.stderr.startswith("tailrace: ")
        assert len(refused.stderr.splitlines()) == 1, refused.stderr
        assert [path.name for path in memory.path.iterdir()] == ["ballast"]


def test_a_running_broker_goes_on_and_makes_what_it_needs_once_there_is_room(
    memory: SmallDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """(R) A ring that cannot be made is waited for, by the supervisor as well; workers come and go."""
    # the test's own directory may be too long a path for a socket in its run.dir
    settings = {"run.dir": str(memory.path), "unix.socket.path": str(tmp_path / "s"), "workers.max": "4"}
    broker = Tailrace(tmp_path, settings)
    broker.start()
    try:
        with wire.Connection(wire.address(broker.bootstrap)) as connection:
            for topic in ("written", "quiet"):
                wire.create_topic(connection, topic)
        assert produce(broker, "written", BATCH) == NONE
        before = pids(broker)
        memory.fill()
        monkeypatch.setattr(wire, "CREATE_PATIENCE_S", 0.5)
        assert produce(broker, "written", BATCH) == NONE, "its rings are there"
        assert produce(broker, "quiet", BATCH) == NOT_LEADER_OR_FOLLOWER, "one is missing"
        with (
            wire.Connection(wire.address(broker.bootstrap)) as connection,
            pytest.raises(wire.WireError, match="cannot be read"),
        ):
            wire.create_topic(connection, "late")
        assert before < pids(broker), "a worker for it, that nobody can tell anything"
        memory.clear()
        for topic in ("written", "quiet", "late"):
            wait_until(lambda: produce(broker, topic, BATCH) == NONE, f"{topic} to be written to")  # noqa: B023
        assert before < pids(broker)
    finally:
        broker.stop()
    assert not list(memory.path.iterdir())
