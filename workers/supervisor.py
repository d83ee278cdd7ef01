"""The supervisor: makes what all share, forks every process, restarts the dead, stops them in order.

It does no data work and holds the only pidfds. A death is told in this order: a WorkerDied frame to every
controller, then dead_incarnation in the slot table, then every bell. Whoever sees the slot table therefore
finds the frame (R). Of the controllers the one that decides does something about it. A process that stands
still (`stalls.py`) is killed.

Order of a stop: gateways drain, workers close their logs, the housekeeper writes the checkpoints, the
controller last; each group has its limit, after which its processes are killed. A second signal kills all at
once. One broker of several is stopped, killed and started as the command line asks (`broker_control.py`).
"""

import os
import select
import signal
import time
from collections.abc import Callable
from types import FrameType

from tailrace.shm.link_slots import slots_path
from tailrace.shm.names import unlink_large_files
from tailrace.shm.region import unlink_if_there
from tailrace.shm.ring import ByteConsumer
from tailrace.shm.slots import (
    CONTROLLER,
    GATEWAY,
    HOUSEKEEPER,
    STOPPING,
    SUPERVISOR_SLOT,
    WORKER,
)
from tailrace.workers.addresses import Addresses
from tailrace.workers.broker_control import BrokerControl
from tailrace.workers.broker_runs import RUNNING, STOP_LIMITS_S, BrokerRun, Watched
from tailrace.workers.control import BrokerMayStop, RetireWorker, WantWorker, WorkerDied
from tailrace.workers.descriptors import arena_name
from tailrace.workers.process import (
    EXIT_DISK_LOST,
    EXIT_REFUSED,
    STOP_SIGNALS,
    ProcessContext,
    Roles,
    Shared,
    become,
)
from tailrace.workers.say import say
from tailrace.workers.stalls import Sample, StallWatch

START_FAILURES_MAX = 5  # deaths in a row before the brokers were ever ready: they will not be

Announce = Callable[[list[Addresses]], None]
"""Called with the addresses of each broker once all of them serve."""


class StartError(Exception):
    """The broker cannot start, or go on. The text is one line that says what to do; empty when the process
    itself has said it.
    """


class Supervisor:
    """The parent of all processes of a run."""

    def __init__(self, shared: Shared, roles: Roles, wake_fd: int) -> None:
        self._shared = shared
        self._roles = roles
        self._slots = shared.slots
        self._context = ProcessContext(shared, SUPERVISOR_SLOT, self._slots.incarnation(SUPERVISOR_SLOT))
        self._controllers = shared.layout.controllers()
        self._stop_signals = 0
        self._was_ready = False
        self._wake_fd = wake_fd
        self._poll = select.epoll()
        self._poll.register(wake_fd, select.EPOLLIN)
        self._poll.register(self._context.eventfd, select.EPOLLIN | select.EPOLLET)
        self._runs = [
            BrokerRun(index, broker.node_id, _processes_of(shared, index))
            for index, broker in enumerate(shared.brokers)
        ]
        self._watched = [watched for run in self._runs for watched in run.processes]
        self._by_slot = {watched.slot: watched for watched in self._watched}
        self._by_pidfd: dict[int, Watched] = {}
        self._control = BrokerControl(shared, self._context, self._runs, self._poll, self._signal)
        self._stalls = StallWatch(self._context.config.supervisor_stall_timeout_ms / 1000)

    def on_signal(self, _signum: int, _frame: FrameType | None) -> None:
        """SIGTERM, SIGINT, SIGHUP: stop in order; the second one: at once. The wake-up pipe ends the wait."""
        self._stop_signals += 1

    def serve(self, announce: Announce) -> None:
        """Start everything, `announce` when it serves, keep it running until a signal. Raises StartError."""
        for watched in self._watched:
            watched.wanted = watched.role != WORKER
        while not self._stop_signals:
            self._start_due()
            if not self._was_ready and all(map(self._control.is_serving, self._runs)):
                self._was_ready = True
                announce([self._control.addresses(run) for run in self._runs])
            self._take_frames()
            self._context.outbox.flush()
            now_s = time.monotonic()
            due_s = self._control.step(now_s)
            self._kill_stalled(now_s)
            self._wait(min(due_s, self._stalls.wait_s(now_s), self._next_start_s()))

    def stop(self) -> None:
        """Stop every process, group after group."""
        self._slots.set_state(
            SUPERVISOR_SLOT, STOPPING
        )  # deaths from now on are no failures: nobody reassigns
        self._context.bells.ring_many(self._controllers)
        self._control.socket.close()
        signals_before = self._stop_signals
        for watched in self._watched:
            watched.wanted = False
        for role, limit_s in STOP_LIMITS_S:
            group = [watched for watched in self._watched if watched.role == role]
            for watched in group:
                self._signal(watched, signal.SIGTERM)
            deadline_s = time.monotonic() + limit_s
            while any(watched.pid for watched in group):
                left_s = deadline_s - time.monotonic()
                if left_s <= 0 or self._stop_signals > max(signals_before, 1):
                    self._kill(group)
                self._wait(max(0.0, min(left_s, 1.0)))

    def _kill(self, group: list[Watched]) -> None:
        for watched in group:
            if watched.pid and self._stop_signals <= 1:
                say(f"tailrace: killing {self._name(watched)}, which did not stop in time\n")
            self._signal(watched, signal.SIGKILL)

    def _kill_stalled(self, now_s: float) -> None:
        """(R) Before another may lead what it leads: it might go on at any time."""
        if self._stalls.wait_s(now_s) > 0.0:
            return
        slots = self._slots
        samples = {
            watched.slot: Sample(
                watched.incarnation, slots.progress(watched.slot), slots.long_operation(watched.slot)
            )
            for watched in self._watched
            if watched.pid and watched.wanted and self._runs[watched.broker].state == RUNNING
        }
        for slot in self._stalls.look(now_s, samples):
            watched = self._by_slot[slot]
            say(f"tailrace: killing {self._name(watched)}, which stands still\n")
            self._signal(watched, signal.SIGKILL)

    def _name(self, watched: Watched) -> str:
        return self._shared.name_of(watched.slot)

    def _signal(self, watched: Watched, signum: signal.Signals) -> None:
        if watched.pid:
            signal.pidfd_send_signal(watched.pidfd, signum)

    def _wait(self, timeout_s: float) -> None:
        for descriptor, _ in self._context.park(self._poll.poll, timeout_s):
            if descriptor == self._wake_fd:
                _drain(self._wake_fd)
            elif descriptor in self._by_pidfd:
                self._reap(self._by_pidfd[descriptor])
            elif descriptor in self._control.socket:
                self._control.socket.on_event(descriptor)

    def _is_due(self, watched: Watched) -> bool:
        return watched.wanted and not watched.pid and self._runs[watched.broker].state == RUNNING

    def _start_due(self) -> None:
        now_s = time.monotonic()
        for watched in self._watched:
            if watched.restart_at_s <= now_s and self._is_due(watched):
                self._start(watched, now_s)

    def _next_start_s(self) -> float:
        """Seconds until the next restart is due."""
        due_s = [watched.restart_at_s for watched in self._watched if self._is_due(watched)]
        return max(0.0, min(due_s) - time.monotonic()) if due_s else 3600.0

    def _start(self, watched: Watched, now_s: float) -> None:
        watched.incarnation = self._slots.begin(watched.slot, watched.role, watched.broker, watched.index)
        # A signal that comes between the fork and the child's own handlers waits: it would be taken by ours,
        # in the child.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        watched.backoff.on_start(now_s)
        try:
            pid = os.fork()  # in the main thread: PR_SET_PDEATHSIG follows the thread that forks
        except OSError as error:  # no memory or process left on this machine: as a death, tried again later
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
            self._slots.mark_dead(watched.slot, watched.incarnation)
            watched.restart_at_s = watched.backoff.on_death(now_s)
            say(f"tailrace: cannot start {self._name(watched)}: {error.strerror}\n")
            return
        if pid == 0:
            self._leave_to_child()
            become(self._shared, watched.slot, watched.incarnation, self._roles[watched.role])
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        watched.pid = pid
        watched.pidfd = os.pidfd_open(pid)
        self._slots.set_pid(watched.slot, pid)
        self._by_pidfd[watched.pidfd] = watched
        self._poll.register(watched.pidfd, select.EPOLLIN)
        self._context.bells.ring_many(self._controllers)  # it may have something for the new incarnation

    def _leave_to_child(self) -> None:
        """In the child: close what only the supervisor may hold."""
        self._poll.close()
        for pidfd in self._by_pidfd:
            os.close(pidfd)
        self._control.socket.close()
        os.close(self._wake_fd)

    def _reap(self, watched: Watched) -> None:
        _, status = os.waitpid(watched.pid, 0)
        self._poll.unregister(watched.pidfd)
        os.close(watched.pidfd)
        del self._by_pidfd[watched.pidfd]
        self._tell_death(watched, status)
        watched.pid, watched.pidfd = 0, -1
        code = os.waitstatus_to_exitcode(status)
        run = self._runs[watched.broker]
        is_meant_to_live = watched.wanted and run.state == RUNNING
        if is_meant_to_live and self._was_ready and code not in (0, EXIT_DISK_LOST):
            say(f"tailrace: {self._name(watched)} {_describe_exit(code)}\n")
        watched.restart_at_s = watched.backoff.on_death(time.monotonic())
        if code == EXIT_DISK_LOST and not self._stop_signals:  # it has said why
            if not (self._was_ready and self._control.lose(run)):
                raise StartError
            say(f"tailrace: broker {run.node_id} has ended, the others go on\n")
        if self._was_ready or self._stop_signals or not watched.wanted:
            return
        if code == EXIT_REFUSED:
            raise StartError
        if watched.backoff.failures >= START_FAILURES_MAX:
            raise StartError(f"{self._name(watched)} {_describe_exit(code)} again and again")

    def _tell_death(self, watched: Watched, status: int) -> None:
        signum = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        if watched.role == WORKER:
            row = self._slots.current_row(watched.slot)
            death = WorkerDied(slot=watched.slot, incarnation=watched.incarnation, row=row, signal=signum)
            for controller in self._controllers:
                self._context.outbox.send(controller, death)
            self._context.outbox.flush()
        self._slots.mark_dead(watched.slot, watched.incarnation)
        if watched.role == WORKER:
            unlink_if_there(slots_path(self._shared.run_dir, watched.slot, watched.incarnation))
        if watched.role == GATEWAY:
            unlink_large_files(self._shared.run_dir, watched.slot, watched.incarnation)
            unlink_if_there(f"{self._shared.run_dir}/{arena_name(watched.slot, watched.incarnation)}")
            self._shared.waiters.clear_waiter(watched.broker)
        self._context.links.drop_dead()
        self._context.bells.ring_all()

    def _take_frames(self) -> None:
        for peer_slot, peer_incarnation, ring in self._context.links.poll():
            assert isinstance(ring, ByteConsumer)
            for message in self._context.inbox.read(peer_slot, peer_incarnation, ring):
                if not self._context.obeys(peer_slot):
                    continue
                if isinstance(message, WantWorker):
                    self._by_slot[message.slot].wanted = True
                elif isinstance(message, RetireWorker):
                    watched = self._by_slot[message.slot]
                    watched.wanted = False
                    self._signal(watched, signal.SIGTERM)
                elif isinstance(message, BrokerMayStop):
                    self._control.hand_overs.on_may_stop(message.broker)
        self._start_due()


def _processes_of(shared: Shared, broker: int) -> list[Watched]:
    """The slots of a broker, in the order in which their processes are started."""
    layout = shared.layout
    first_pause_s = shared.brokers[0].config.supervisor_restart_backoff_ms / 1000
    fixed = (
        (layout.controller(broker), CONTROLLER),
        (layout.gateway(broker), GATEWAY),
        (layout.housekeeper(broker), HOUSEKEEPER),
    )
    processes = [Watched(slot, role, broker, 0, first_pause_s) for slot, role in fixed]
    processes += [
        Watched(slot, WORKER, broker, index, first_pause_s)
        for index, slot in enumerate(layout.workers(broker))
    ]
    return processes


def _drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 512):
            pass
    except BlockingIOError:
        return


def _describe_exit(code: int) -> str:
    if code >= 0:
        return f"ended with status {code}"
    return f"was killed by {signal.Signals(-code).name}"
