"""The brokers of a run as their supervisor keeps them: the processes of each, and whether they are to live.

A stop goes group after group, so that each finds those it needs: gateways drain, workers close their logs,
the housekeeper writes the checkpoints, the controller last. Other brokers go on meanwhile: `step` does what
is due and returns. Time comes in as seconds of a clock that never goes back.
"""

import signal
from collections.abc import Callable
from typing import Final

from tailrace.shm.slots import CONTROLLER, GATEWAY, HOUSEKEEPER, WORKER
from tailrace.workers.restarts import Backoff

STOP_LIMITS_S = ((GATEWAY, 10.0), (WORKER, 60.0), (HOUSEKEEPER, 10.0), (CONTROLLER, 10.0))

RUNNING: Final = "running"
STOPPING: Final = "stopping"
STOPPED: Final = "stopped"


class Watched:
    """One slot of the table and the process in it."""

    __slots__ = (
        *("backoff", "broker", "incarnation", "index", "pid", "pidfd"),
        *("restart_at_s", "role", "slot", "wanted"),
    )

    def __init__(self, slot: int, role: int, broker: int, index: int, first_pause_s: float) -> None:
        self.slot = slot
        self.role = role
        self.broker = broker
        self.index = index
        self.wanted = False
        self.pid = 0
        self.pidfd = -1
        self.incarnation = 0
        self.restart_at_s = 0.0
        self.backoff = Backoff(first_pause_s)


Signal = Callable[[Watched, signal.Signals], None]
"""Sends a signal to a process, if it lives."""


class BrokerRun:
    """One broker."""

    def __init__(self, index: int, node_id: int, processes: list[Watched]) -> None:
        self.index = index
        self.node_id = node_id
        self.processes = processes
        self.state = RUNNING
        self._groups: list[tuple[int, float]] = []  # still to be stopped, in order, each with its limit
        self._deadline_s = 0.0  # of the first of them; 0: it was not told yet

    def is_ended(self) -> bool:
        """Whether none of its processes lives."""
        return not any(watched.pid for watched in self.processes)

    def stop(self) -> None:
        """Begin an orderly stop, if it runs. Leaders are handed over before (`hand_overs.py`)."""
        if self.state == RUNNING:
            self.state = STOPPING
            self._groups = list(STOP_LIMITS_S)
            self._deadline_s = 0.0

    def kill(self, send: Signal) -> None:
        """End all of its processes at once; an orderly stop under way is over with it."""
        self._groups = []
        self.state = STOPPED if self.is_ended() else STOPPING
        for watched in self.processes:
            send(watched, signal.SIGKILL)

    def start(self) -> None:
        """Its processes are to live again; it has ended before."""
        assert self.state == STOPPED
        self.state = RUNNING
        for watched in self.processes:
            watched.restart_at_s = 0.0

    def step(self, now_s: float, send: Signal) -> float:
        """Do what is due of a stop; seconds until something is due again if nothing happens."""
        while self.state == STOPPING:
            group = [watched for watched in self.processes if watched.pid]
            if self._groups:
                role, limit_s = self._groups[0]
                group = [watched for watched in group if watched.role == role]
                if group and not self._deadline_s:
                    self._deadline_s = now_s + limit_s
                    for watched in group:
                        send(watched, signal.SIGTERM)
            if group:
                return self._wait_s(group, now_s, send)
            self._deadline_s = 0.0
            if self._groups:
                self._groups.pop(0)
            else:
                self.state = STOPPED
        return 3600.0

    def _wait_s(self, group: list[Watched], now_s: float, send: Signal) -> float:
        if not self._groups:  # they were killed
            return 3600.0
        if now_s < self._deadline_s:
            return self._deadline_s - now_s
        for watched in group:
            send(watched, signal.SIGKILL)
        return 1.0
