"""Stops, kills and starts single brokers of a run as the command line asks, and answers once it is done.

A broker that is to stop while others run first has them lead what it leads (`hand_overs.py`).
"""

import select
import time

from tailrace.shm.slots import READY, WORKER
from tailrace.workers.addresses import Addresses, read_addresses
from tailrace.workers.broker_runs import RUNNING, STOPPED, STOPPING, BrokerRun, Signal
from tailrace.workers.control_socket import (
    KILL,
    LIST,
    START,
    STOP,
    Answer,
    Asker,
    BrokerState,
    ControlSocket,
    Question,
)
from tailrace.workers.hand_overs import HandOvers
from tailrace.workers.process import ProcessContext, Shared

STARTING = "starting"


class BrokerControl:
    """What the supervisor does about its brokers one by one."""

    def __init__(
        self,
        shared: Shared,
        context: ProcessContext,
        runs: list[BrokerRun],
        poll: select.epoll,
        send: Signal,
    ) -> None:
        self._shared = shared
        self._runs = runs
        self._send = send
        self.hand_overs = HandOvers(context.active_controller, context.outbox.send)
        self._waiting: list[tuple[Asker, BrokerRun, str]] = []  # until the broker is in that state
        self.socket = ControlSocket(shared.run_dir, poll, self._on_question)

    def is_serving(self, run: BrokerRun) -> bool:
        """Whether clients reach the broker."""
        slots, layout = self._shared.slots, self._shared.layout
        return run.state == RUNNING and all(
            slots.state(slot) == READY for slot in (layout.controller(run.index), layout.gateway(run.index))
        )

    def step(self, now_s: float) -> float:
        """Do what is due, answer who waits; seconds until something is due again if nothing happens."""
        for node_id in self.hand_overs.step(now_s):
            next(run for run in self._runs if run.node_id == node_id).stop()
        wait_s = min(run.step(now_s, self._send) for run in self._runs)
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for asker, run, goal in waiting:
                self._settle(asker, run, goal)
        return min(wait_s, self.hand_overs.wait_s())

    def lose(self, run: BrokerRun) -> bool:
        """This broker cannot go on: its disks have failed. Whether any other is left."""
        self._kill(run)
        return any(other.state == RUNNING for other in self._runs)

    def addresses(self, run: BrokerRun) -> Addresses:
        """Where it listens, or listened before it was stopped."""
        try:
            return read_addresses(self._shared.run_dir, run.index)
        except FileNotFoundError:  # it has never been ready
            return Addresses("", "")

    def _on_question(self, asker: Asker, question: Question) -> None:
        run = next((run for run in self._runs if run.node_id == question.broker), None)
        if question.do == LIST:
            self._answer(asker)
        elif question.do not in (STOP, START, KILL):
            self.socket.answer(asker, Answer(error=f"{question.do!r} is not done here"))
        elif run is None:
            ids = ", ".join(str(run.node_id) for run in self._runs)
            self.socket.answer(asker, Answer(error=f"there is no broker {question.broker}: there are {ids}"))
        else:
            self._begin(asker, run, question.do)

    def _begin(self, asker: Asker, run: BrokerRun, what: str) -> None:
        if what == START:
            if run.state == STOPPING or run.node_id in self.hand_overs:
                self.socket.answer(asker, Answer(error=f"broker {run.node_id} is still stopping"))
                return
            if run.state == STOPPED:
                run.start()
            self._settle(asker, run, RUNNING)
            return
        if what == KILL:
            if run.state != STOPPED:
                self._kill(run)
        elif self._has_heirs(run):
            self.hand_overs.begin(run.node_id, time.monotonic())
        else:
            run.stop()
        self._settle(asker, run, STOPPED)

    def _kill(self, run: BrokerRun) -> None:
        self.hand_overs.cancel(run.node_id)
        run.kill(self._send)

    def _has_heirs(self, run: BrokerRun) -> bool:
        """Whether it runs and others do that can lead in its place."""
        others = [other for other in self._runs if other is not run and other.state == RUNNING]
        wanted = self._shared.brokers[run.index].config.controlled_shutdown_enable
        return wanted and run.state == RUNNING and bool(others)

    def _settle(self, asker: Asker, run: BrokerRun, goal: str) -> None:
        if goal == RUNNING and run.state != RUNNING:
            self.socket.answer(asker, Answer(error=f"broker {run.node_id} was stopped meanwhile"))
        elif goal == STOPPED and run.state == RUNNING and run.node_id not in self.hand_overs:
            self.socket.answer(asker, Answer(error=f"broker {run.node_id} was started meanwhile"))
        elif run.state != goal or (goal == RUNNING and not self.is_serving(run)):
            self._waiting.append((asker, run, goal))
        else:
            self._answer(asker)

    def _answer(self, asker: Asker) -> None:
        self.socket.answer(asker, Answer(brokers=[self._state_of(run) for run in self._runs]))

    def _state_of(self, run: BrokerRun) -> BrokerState:
        addresses = self.addresses(run)
        state = STARTING if run.state == RUNNING and not self.is_serving(run) else run.state
        if run.node_id in self.hand_overs:
            state = STOPPING
        first = [watched.pid for watched in run.processes if watched.pid and watched.role != WORKER]
        workers = [watched.pid for watched in run.processes if watched.pid and watched.role == WORKER]
        return BrokerState(
            node_id=run.node_id,
            state=state,
            bootstrap=addresses.bootstrap,
            unix=addresses.unix,
            pids=first + workers,
        )
