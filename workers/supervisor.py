"""The supervisor: makes what all share, forks every process, restarts the dead, stops them in order.

It does no data work and holds the only pidfds. A death is told in this order: a WorkerDied frame to the
controller, then dead_incarnation in the slot table, then every bell. Whoever sees the slot table therefore
finds the frame (R).

Order of a stop: gateways drain, workers close their logs, the housekeeper writes the checkpoints, the
controller last; each group has its limit, after which its processes are killed. A second signal kills all at
once.
"""

import gc
import os
import resource
import select
import signal
import time
from collections.abc import Callable
from types import FrameType

import setproctitle

from tailrace.core.config import BrokerConfig
from tailrace.shm.doorbell import make_eventfd
from tailrace.shm.links import HeadTable
from tailrace.shm.names import BASE, RunDir, sweep, unlink_large_files
from tailrace.shm.region import ShmError, require_x86_64, unlink_if_there
from tailrace.shm.ring import ByteConsumer
from tailrace.shm.slots import (
    CONTROLLER,
    GATEWAY,
    HOUSEKEEPER,
    READY,
    STOPPING,
    SUPERVISOR,
    WORKER,
    SlotTable,
    role_name,
)
from tailrace.shm.state_table import StateTable
from tailrace.shm.waiters import WaiterTable
from tailrace.workers.control import RetireWorker, WantWorker, WorkerDied
from tailrace.workers.data_dir import DataDirError, RunInfo
from tailrace.workers.data_dirs import DataDirs
from tailrace.workers.descriptors import arena_name
from tailrace.workers.process import (
    CONTROLLER_SLOT,
    EXIT_DISK_LOST,
    EXIT_REFUSED,
    FIRST_WORKER_SLOT,
    GATEWAY_SLOT,
    HOUSEKEEPER_SLOT,
    STOP_SIGNALS,
    SUPERVISOR_SLOT,
    ProcessContext,
    Roles,
    Shared,
    become,
    read_addresses,
)
from tailrace.workers.restarts import Backoff
from tailrace.workers.say import say

STOP_LIMITS_S = ((GATEWAY, 10.0), (WORKER, 60.0), (HOUSEKEEPER, 10.0), (CONTROLLER, 10.0))
START_FAILURES_MAX = 5  # deaths in a row before the broker was ever ready: it will not be

Announce = Callable[[str, str], None]
"""Called with the bootstrap address and the Unix path once the broker serves."""


class StartError(Exception):
    """The broker cannot start, or go on. The text is one line that says what to do; empty when the process
    itself has said it.
    """


class _Watched:
    """One slot of the table and the process in it."""

    __slots__ = ("backoff", "incarnation", "index", "pid", "pidfd", "restart_at_s", "role", "slot", "wanted")

    def __init__(self, slot: int, role: int, index: int, first_pause_s: float) -> None:
        self.slot = slot
        self.role = role
        self.index = index
        self.wanted = False
        self.pid = 0
        self.pidfd = -1
        self.incarnation = 0
        self.restart_at_s = 0.0
        self.backoff = Backoff(first_pause_s)


class Supervisor:
    """The parent of all processes of a run."""

    def __init__(self, shared: Shared, roles: Roles, wake_fd: int) -> None:
        self._shared = shared
        self._roles = roles
        self._slots = shared.slots
        self._context = ProcessContext(shared, SUPERVISOR_SLOT, self._slots.incarnation(SUPERVISOR_SLOT))
        self._stop_signals = 0
        self._was_ready = False
        self._wake_fd = wake_fd
        self._poll = select.epoll()
        self._poll.register(wake_fd, select.EPOLLIN)
        self._poll.register(self._context.eventfd, select.EPOLLIN | select.EPOLLET)
        first_pause_s = shared.config.supervisor_restart_backoff_ms / 1000
        fixed = ((CONTROLLER_SLOT, CONTROLLER), (GATEWAY_SLOT, GATEWAY), (HOUSEKEEPER_SLOT, HOUSEKEEPER))
        self._watched = [_Watched(slot, role, 0, first_pause_s) for slot, role in fixed]
        self._watched += [
            _Watched(slot, WORKER, slot - FIRST_WORKER_SLOT, first_pause_s)
            for slot in range(FIRST_WORKER_SLOT, self._slots.count)
        ]
        self._by_slot = {watched.slot: watched for watched in self._watched}
        self._by_pidfd: dict[int, _Watched] = {}

    def on_signal(self, _signum: int, _frame: FrameType | None) -> None:
        """SIGTERM, SIGINT, SIGHUP: stop in order; the second one: at once. The wake-up pipe ends the wait."""
        self._stop_signals += 1

    def serve(self, announce: Announce) -> None:
        """Start everything, `announce` when it serves, keep it running until a signal. Raises StartError."""
        for slot in (CONTROLLER_SLOT, GATEWAY_SLOT, HOUSEKEEPER_SLOT):
            self._by_slot[slot].wanted = True
        while not self._stop_signals:
            self._start_due()
            if not self._was_ready and self._all_ready():
                self._was_ready = True
                announce(*read_addresses(self._shared.run_dir, self._shared.broker))
            self._take_frames()
            self._context.outbox.flush()
            self._wait(self._next_start_s())

    def stop(self) -> None:
        """Stop every process, group after group."""
        self._slots.set_state(
            SUPERVISOR_SLOT, STOPPING
        )  # deaths from now on are no failures: nobody reassigns
        self._context.bells.ring(CONTROLLER_SLOT)
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

    def _kill(self, group: list[_Watched]) -> None:
        for watched in group:
            if watched.pid and self._stop_signals <= 1:
                name = f"{role_name(watched.role)} {watched.index}"
                say(f"tailrace: killing {name}, which did not stop in time\n")
            self._signal(watched, signal.SIGKILL)

    def _signal(self, watched: _Watched, signum: signal.Signals) -> None:
        if watched.pid:
            signal.pidfd_send_signal(watched.pidfd, signum)

    def _wait(self, timeout_s: float) -> None:
        for descriptor, _ in self._context.park(self._poll.poll, timeout_s):
            if descriptor == self._wake_fd:
                _drain(self._wake_fd)
            elif descriptor in self._by_pidfd:
                self._reap(self._by_pidfd[descriptor])

    def _all_ready(self) -> bool:
        return all(self._slots.state(slot) == READY for slot in (CONTROLLER_SLOT, GATEWAY_SLOT))

    def _start_due(self) -> None:
        now_s = time.monotonic()
        for watched in self._watched:
            if watched.wanted and not watched.pid and watched.restart_at_s <= now_s:
                self._start(watched, now_s)

    def _next_start_s(self) -> float:
        """Seconds until the next restart is due."""
        due_s = [watched.restart_at_s for watched in self._watched if watched.wanted and not watched.pid]
        return max(0.0, min(due_s) - time.monotonic()) if due_s else 3600.0

    def _start(self, watched: _Watched, now_s: float) -> None:
        watched.incarnation = self._slots.begin(
            watched.slot, watched.role, self._shared.broker, watched.index
        )
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
            say(f"tailrace: cannot start {role_name(watched.role)} {watched.index}: {error.strerror}\n")
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
        self._context.bells.ring(CONTROLLER_SLOT)  # it may have something for the new incarnation

    def _leave_to_child(self) -> None:
        """In the child: close what only the supervisor may hold."""
        self._poll.close()
        for pidfd in self._by_pidfd:
            os.close(pidfd)
        os.close(self._wake_fd)

    def _reap(self, watched: _Watched) -> None:
        _, status = os.waitpid(watched.pid, 0)
        self._poll.unregister(watched.pidfd)
        os.close(watched.pidfd)
        del self._by_pidfd[watched.pidfd]
        self._tell_death(watched, status)
        watched.pid, watched.pidfd = 0, -1
        code = os.waitstatus_to_exitcode(status)
        if watched.wanted and self._was_ready and code not in (0, EXIT_DISK_LOST):
            say(f"tailrace: {role_name(watched.role)} {watched.index} {_describe_exit(code)}\n")
        watched.restart_at_s = watched.backoff.on_death(time.monotonic())
        if code == EXIT_DISK_LOST and not self._stop_signals:
            raise StartError  # it has said why
        if self._was_ready or self._stop_signals or not watched.wanted:
            return
        if code == EXIT_REFUSED:
            raise StartError
        if watched.backoff.failures >= START_FAILURES_MAX:
            raise StartError(
                f"{role_name(watched.role)} {watched.index} {_describe_exit(code)} again and again"
            )

    def _tell_death(self, watched: _Watched, status: int) -> None:
        signum = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        if watched.role == WORKER:
            row = self._slots.current_row(watched.slot)
            self._context.outbox.send(
                CONTROLLER_SLOT,
                WorkerDied(slot=watched.slot, incarnation=watched.incarnation, row=row, signal=signum),
            )
            self._context.outbox.flush()
        self._slots.mark_dead(watched.slot, watched.incarnation)
        if watched.role == GATEWAY:
            unlink_large_files(self._shared.run_dir, watched.slot, watched.incarnation)
            unlink_if_there(f"{self._shared.run_dir}/{arena_name(watched.slot, watched.incarnation)}")
            self._shared.waiters.clear_waiter(self._shared.broker)
        self._context.links.drop_dead()
        self._context.bells.ring_all()

    def _take_frames(self) -> None:
        for peer_slot, peer_incarnation, ring in self._context.links.poll():
            assert isinstance(ring, ByteConsumer)
            for message in self._context.inbox.read(peer_slot, peer_incarnation, ring):
                if isinstance(message, WantWorker):
                    self._by_slot[message.slot].wanted = True
                elif isinstance(message, RetireWorker):
                    watched = self._by_slot[message.slot]
                    watched.wanted = False
                    self._signal(watched, signal.SIGTERM)
        self._start_due()


def run(config: BrokerConfig, roles: Roles | None = None) -> int:
    """Be a broker until a signal comes. Returns the exit status; errors of the start are one line on
    stderr.
    """
    _raise_descriptor_limit()
    try:
        require_x86_64()
        data_dirs = DataDirs(config)
        base = config.run_dir or BASE
        sweep(base)
        run_dir = RunDir.create(base)
    except (StartError, DataDirError, ShmError) as error:
        say(f"tailrace: {error}\n")
        return 1
    try:
        if roles is None:
            from tailrace.workers.roles import (
                ROLES,
            )  # all that the children need, once, before the first fork

            roles = ROLES
        return _run_locked(config, data_dirs, run_dir, roles)
    except ShmError as error:
        say(f"tailrace: {error}\n")
        return 1
    finally:
        run_dir.remove()
        data_dirs.clear_info()


def _raise_descriptor_limit() -> None:
    """As many descriptors as a process may have: each client, log file and ring takes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _run_locked(config: BrokerConfig, data_dirs: DataDirs, run_dir: RunDir, roles: Roles) -> int:
    shared = _make_shared(config, data_dirs, run_dir)
    wake_fd = _make_wake_pipe()
    supervisor = Supervisor(shared, roles, wake_fd)
    for signum in STOP_SIGNALS:
        signal.signal(signum, supervisor.on_signal)
    setproctitle.setproctitle("tailrace: supervisor")
    gc.collect()
    gc.freeze()  # the children share these pages: no collection of theirs shall write to them

    def announce(bootstrap: str, unix: str) -> None:
        data_dirs.write_info(
            RunInfo(
                pid=os.getpid(),
                run_dir=run_dir.path,
                bootstrap=bootstrap,
                unix=unix,
                log_dirs=data_dirs.all_paths,
                flush_policy=config.flush_policy,
                disk_reserve_bytes=config.disk_reserve_bytes,
            )
        )
        line = f"ready bootstrap={bootstrap} unix={unix} data={','.join(data_dirs.paths)}\n"
        try:
            os.write(1, line.encode())  # not through sys.stdout, which would try again at exit
        except OSError as error:
            raise StartError(f"cannot write the line that says ready to stdout: {error.strerror}") from error

    status = 0
    try:
        supervisor.serve(announce)
    except StartError as error:
        if str(error):
            say(f"tailrace: {error}\n")
        status = 1
    finally:
        supervisor.stop()
    return status


def _make_shared(config: BrokerConfig, data_dirs: DataDirs, run_dir: RunDir) -> Shared:
    """The regions and the eventfds, before the first fork."""
    slot_count = FIRST_WORKER_SLOT + config.workers_max
    slots = SlotTable.create(run_dir.file("slots"), slot_count)
    slots.begin(SUPERVISOR_SLOT, SUPERVISOR, 0, 0)
    slots.set_pid(SUPERVISOR_SLOT, os.getpid())
    slots.set_state(SUPERVISOR_SLOT, READY)
    state_table = StateTable.create(run_dir.file("state"))
    return Shared(
        config=config,
        cluster_id=data_dirs.opened[0].cluster_id,
        node_id=config.node_id,
        log_dirs=data_dirs.share(run_dir.file("log-dirs")),
        run_dir=run_dir.path,
        slots=slots,
        state_table=state_table,
        waiters=WaiterTable.create(run_dir.file("waiters"), state_table.rows),
        heads=HeadTable.create(run_dir.file("heads"), slot_count),
        eventfds=tuple(make_eventfd() for _ in range(slot_count)),
    )


def _make_wake_pipe() -> int:
    """Signals write a byte to it, so that one which comes just before a wait ends the wait. Returns the end
    to read.
    """
    read_fd, write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
    return read_fd


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
