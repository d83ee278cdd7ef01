"""One broker of several stops group after group, while time and signals are the test's."""

import signal

import pytest

from tailrace.shm.slots import CONTROLLER, GATEWAY, HOUSEKEEPER, WORKER
from tailrace.workers.broker_runs import RUNNING, STOPPED, STOPPING, BrokerRun, Watched

ORDER = [GATEWAY, WORKER, HOUSEKEEPER, CONTROLLER]


class World:
    """A broker of five processes that live until the test says otherwise."""

    def __init__(self) -> None:
        roles = [CONTROLLER, GATEWAY, HOUSEKEEPER, WORKER, WORKER, WORKER]
        self.processes = [Watched(slot, role, 1, 0, 0.05) for slot, role in enumerate(roles)]
        for watched in self.processes[:-1]:  # the last worker slot is empty
            watched.pid = 100 + watched.slot
        self.run = BrokerRun(1, 2, self.processes)
        self.sent: list[tuple[int, signal.Signals]] = []

    def send(self, watched: Watched, signum: signal.Signals) -> None:
        if watched.pid:
            self.sent.append((watched.role, signum))

    def step(self, now_s: float) -> list[tuple[int, signal.Signals]]:
        self.sent.clear()
        self.run.step(now_s, self.send)
        return list(self.sent)

    def die(self, role: int) -> None:
        for watched in self.processes:
            if watched.role == role:
                watched.pid = 0


def test_a_stop_goes_group_after_group_and_waits_for_each() -> None:
    world = World()
    world.run.stop()
    for role in ORDER:
        told = world.step(100.0)
        assert set(told) == {(role, signal.SIGTERM)}
        assert len(told) == (2 if role == WORKER else 1)
        assert not world.step(101.0)
        assert world.run.state == STOPPING
        world.die(role)
    assert not world.step(102.0)
    assert world.run.state == STOPPED
    world.run.start()
    assert world.run.state == RUNNING


def test_who_does_not_stop_in_time_is_killed_and_the_stop_goes_on() -> None:
    world = World()
    world.run.stop()
    world.step(100.0)
    assert not world.step(109.9)
    assert world.step(110.0) == [(GATEWAY, signal.SIGKILL)]
    world.die(GATEWAY)
    assert set(world.step(110.1)) == {(WORKER, signal.SIGTERM)}


def test_a_kill_is_of_all_at_once_also_in_the_middle_of_a_stop() -> None:
    world = World()
    world.run.stop()
    world.step(100.0)
    world.sent.clear()
    world.run.kill(world.send)
    assert len(world.sent) == 5
    assert {signum for _, signum in world.sent} == {signal.SIGKILL}
    assert not world.step(100.1)
    assert world.run.state == STOPPING
    for role in ORDER:
        world.die(role)
    world.step(100.2)
    assert world.run.state == STOPPED


def test_what_has_not_stopped_is_not_started() -> None:
    world = World()
    with pytest.raises(AssertionError):
        world.run.start()
