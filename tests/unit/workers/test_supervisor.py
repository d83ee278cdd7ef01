"""The supervisor with real processes that do nothing: start, restart, stop, and what is left."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailrace.shm.slots import SlotTable, role_name
from tailrace.workers.data_dir import read_info
from tests.support.waiting import wait_until

ORDER = ["gateway 0 stopped", "worker 0 stopped", "housekeeper 0 stopped", "controller 0 stopped"]


class Tiny:
    """A tiny broker and its slot table."""

    def __init__(self, path: Path) -> None:
        self.data, self.run_base = path / "data", path / "run"
        self.run_base.mkdir()
        self.process: subprocess.Popen[str] | None = None

    def start(self, **environment: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "tests.support.tiny_broker", str(self.data), str(self.run_base)]
        self.process = subprocess.Popen(
            [*command, "supervisor.restart.backoff.ms=1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
        return self.process

    def start_ready(self, **environment: str) -> SlotTable:
        process = self.start(**environment)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == f"ready bootstrap=127.0.0.1:1 unix=/nowhere data={self.data}\n"
        info = read_info(str(self.data))
        assert info is not None
        assert info.pid == process.pid
        return SlotTable.attach(os.path.join(info.run_dir, "slots"))

    def finish(self, signum: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        assert self.process is not None
        self.process.send_signal(signum)
        _, stderr = self.process.communicate()
        return self.process.returncode, stderr

    def events(self) -> list[str]:
        return (self.data / ".events").read_text().splitlines()


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Tiny]:
    broker = Tiny(tmp_path)
    try:
        yield broker
    finally:
        if broker.process is not None:
            broker.process.kill()
            broker.process.communicate()


def live(slots: SlotTable) -> dict[str, int]:
    """Process ids by role of all that are ready and whose ids are known."""
    return {
        role_name(slots.role(slot)): slots.pid(slot)
        for slot in range(1, slots.count)
        if slots.live_incarnation(slot) and slots.state(slot) == 2 and slots.pid(slot)
    }


def test_processes_stop_in_order_and_leave_nothing(tiny: Tiny) -> None:
    slots = tiny.start_ready()
    wait_until(lambda: len(live(slots)) == 4, "all four processes")
    assert tiny.finish() == (0, "")
    assert tiny.events() == ORDER
    assert not list(tiny.run_base.iterdir())
    assert read_info(str(tiny.data)) is None


@pytest.mark.parametrize("role", ["controller", "gateway", "housekeeper", "worker"])
def test_a_killed_process_is_replaced_under_a_new_incarnation(tiny: Tiny, role: str) -> None:
    slots = tiny.start_ready()
    wait_until(lambda: len(live(slots)) == 4, "all four processes")
    before = live(slots)
    os.kill(before[role], signal.SIGKILL)
    wait_until(lambda: live(slots).get(role, before[role]) != before[role], f"a new {role}")
    slot = next(slot for slot in range(slots.count) if slots.pid(slot) == live(slots)[role])
    assert slots.dead_incarnation(slot) < slots.incarnation(slot)
    after = live(slots)
    assert {name: pid for name, pid in after.items() if name != role} == {
        name: pid for name, pid in before.items() if name != role
    }
    code, stderr = tiny.finish()
    assert code == 0
    assert stderr == f"tailrace: {role} 0 was killed by SIGKILL\n"


def test_children_die_with_the_supervisor_and_the_next_start_sweeps(tiny: Tiny) -> None:
    slots = tiny.start_ready()
    wait_until(lambda: len(live(slots)) == 4, "all four processes")
    pids = list(live(slots).values())
    assert tiny.finish(signal.SIGKILL)[0] == -signal.SIGKILL
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), "every child to be gone")
    assert len(list(tiny.run_base.iterdir())) == 1
    tiny.start_ready()
    assert len(list(tiny.run_base.iterdir())) == 1
    assert tiny.finish() == (0, "")
    assert not list(tiny.run_base.iterdir())


def test_a_refusal_is_one_line_and_ends_the_start(tiny: Tiny) -> None:
    process = tiny.start(TINY_REFUSE="port 9092 is taken: name another one with --port")
    stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (1, "")
    assert stderr == "tailrace: port 9092 is taken: name another one with --port\n"
    assert not list(tiny.run_base.iterdir())


def test_a_process_that_never_starts_ends_the_start(tiny: Tiny) -> None:
    process = tiny.start(TINY_CRASH="controller")
    stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (1, "")
    assert stderr == "tailrace: controller 0 ended with status 70 again and again\n"


def test_a_fork_that_fails_is_tried_again(tiny: Tiny) -> None:
    slots = tiny.start_ready(TINY_FORKS_FAIL="4")
    wait_until(lambda: len(live(slots)) == 4, "all four processes")
    why = os.strerror(errno.EAGAIN)
    assert tiny.finish() == (0, f"tailrace: cannot start worker 0: {why}\n" * 4)
    assert tiny.events() == ORDER


def test_a_second_signal_kills_what_does_not_stop(tiny: Tiny) -> None:
    slots = tiny.start_ready(TINY_DEAF="gateway")
    assert tiny.process is not None
    tiny.process.send_signal(signal.SIGTERM)
    wait_until(lambda: slots.state(0) == 3, "the stop to begin")
    assert tiny.finish()[0] == 0
    assert not list(tiny.run_base.iterdir())


def test_one_directory_has_one_broker(tiny: Tiny, tmp_path: Path) -> None:
    """The second start would wait for the first to die: here the first goes while it waits."""
    tiny.start_ready()
    (tmp_path / "other").mkdir()
    second = Tiny(tmp_path / "other")
    second.data = tiny.data
    second.start()
    try:
        assert tiny.finish() == (0, "")
        assert second.process is not None
        assert second.process.stdout is not None
        assert second.process.stdout.readline().startswith("ready ")
        assert second.finish() == (0, "")
    finally:
        if second.process is not None:
            second.process.kill()
            second.process.communicate()
