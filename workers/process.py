"""What every forked process is given, how it starts, waits and ends.

A role is a module with `run(context: ProcessContext) -> None`. It builds its state, calls `context.ready()`,
and loops:

    while not context.stopping:
        for peer_slot, peer_incarnation, ring in context.links.poll(): ...
        context.outbox.flush()
        context.wait(timeout_s)             # or context.park(poll, timeout_s) with an epoll of its own
    ... finish in order ...                 # returning ends the process with status 0

An exception that leaves `run` ends the process with status 70 and a traceback on stderr: the supervisor
restarts it. `Refusal` ends it with status 78 and one line: during start-up the supervisor gives up with it.
`DiskLost` ends it with status 74 and one line, and the supervisor stops the broker at any time.

`stopping` becomes true on SIGTERM, which rings the process's own eventfd. A signal between the check and the
wait is noticed after one idle wait (`shm.doorbell`), at most 500 ms later.
"""

import ctypes
import os
import select
import signal
import traceback
from collections.abc import Callable, Mapping
from types import FrameType
from typing import NoReturn, TypeVar

import setproctitle

from tailrace.core.config import BrokerConfig
from tailrace.shm.doorbell import Bells, Doorbell
from tailrace.shm.links import HeadTable, Links
from tailrace.shm.region import ShmError
from tailrace.shm.slots import READY, SlotTable, role_name
from tailrace.shm.state_table import StateTable
from tailrace.shm.waiters import WaiterTable
from tailrace.workers.log_dirs import LogDirs
from tailrace.workers.outbox import Inbox, Outbox
from tailrace.workers.say import say

EXIT_FAILED = 70  # as sysexits' EX_SOFTWARE
EXIT_REFUSED = 78  # as EX_CONFIG: restarting will not help
EXIT_DISK_LOST = 74  # as EX_IOERR: neither will going on

SUPERVISOR_SLOT = 0
CONTROLLER_SLOT = 1
GATEWAY_SLOT = 2
HOUSEKEEPER_SLOT = 3
FIRST_WORKER_SLOT = 4

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # blocked by the supervisor around a fork

_PR_SET_PDEATHSIG = 1
# Resolved in the supervisor, before any fork: loading ctypes takes 10 ms.
_prctl: Callable[..., int] = ctypes.CDLL(None, use_errno=True).prctl


T = TypeVar("T")

Roles = Mapping[int, "Callable[[ProcessContext], None]"]
"""What to run in a process of each role of `shm.slots`."""


class Refusal(Exception):
    """The process cannot serve as configured (a port is taken): one line that says what to do."""


class DiskLost(Exception):
    """The broker has no disk left to go on with: one line that says what to do. All of it ends."""


class Shared:
    """What the supervisor makes before the first fork and every process inherits: one of it a run."""

    def __init__(
        self,
        *,
        config: BrokerConfig,
        cluster_id: str,
        node_id: int,
        log_dirs: LogDirs,
        run_dir: str,
        slots: SlotTable,
        state_table: StateTable,
        waiters: WaiterTable,
        heads: HeadTable,
        eventfds: tuple[int, ...],
    ) -> None:
        self.config = config
        self.cluster_id = cluster_id
        self.node_id = node_id
        self.broker = 0
        self.log_dirs = log_dirs
        self.run_dir = run_dir
        self.slots = slots
        self.state_table = state_table
        self.waiters = waiters
        self.heads = heads
        self.eventfds = eventfds
        self.supervisor_pid = os.getpid()


class ProcessContext:
    """One forked process's view of the broker."""

    def __init__(self, shared: Shared, slot: int, incarnation: int) -> None:
        self.config = shared.config
        self.cluster_id = shared.cluster_id
        self.node_id = shared.node_id
        self.broker = shared.broker
        self.log_dirs = shared.log_dirs
        self.run_dir = shared.run_dir
        self.slots = shared.slots
        self.state_table = shared.state_table
        self.waiters = shared.waiters
        self.slot = slot
        self.incarnation = incarnation
        self.index = self.slots.index(slot)
        self.eventfd = shared.eventfds[slot]
        self.stopping = False
        self.doorbell = Doorbell(self.slots, slot, self.eventfd, edge_triggered=True)
        self.bells = Bells(self.slots, shared.eventfds)
        self.links = Links(self.run_dir, self.slots, shared.heads, slot, incarnation)
        self.outbox = Outbox(self.links, self.bells, self.slots)
        self.inbox = Inbox()
        self._poll = select.epoll()
        self._poll.register(self.eventfd, select.EPOLLIN | select.EPOLLET)

    def ready(self) -> None:
        """Tell the supervisor that this process serves."""
        self.slots.set_state(self.slot, READY)
        self.bells.ring(SUPERVISOR_SLOT)

    def publish_addresses(self, bootstrap: str, unix: str) -> None:
        """The gateway's addresses, for the ready line, `status` and `stop`; call it before `ready`."""
        path = _addresses_path(self.run_dir, self.broker)
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(f"{bootstrap}\n{unix}\n")
        os.replace(path + ".new", path)

    def blame_disk(self, log_dir: str, error: BaseException) -> bool:
        """Whether a log directory is out of service, now that this happened in it; the controller hears."""
        if not self.log_dirs.blame(log_dir, error):
            return False
        self.bells.ring(CONTROLLER_SLOT)
        return True

    def has_work(self) -> bool:
        """Whether a wait would be in vain: frames are unread, or a stop was asked for."""
        return self.stopping or self.links.has_work()

    def park(self, poll: Callable[[float], T], timeout_s: float | None) -> T:
        """Sleep in `poll` until something happens; returns what it returned.

        `poll` watches `context.eventfd`, edge-triggered: it is never read.
        """
        return self.doorbell.park(poll, self.has_work, self.outbox.wait_s(timeout_s))

    def linger(self, poll: Callable[[float], T]) -> T | None:
        """Look for work a moment, if work comes often now, before `park`; None: nothing came."""
        return self.doorbell.linger(self.has_work, poll)

    def wait(self, timeout_s: float, *, lingers: bool = False) -> None:
        """Sleep until the bell rings, a signal comes or the time is over: for a role without descriptors of
        its own. One that answers requests `lingers` first.
        """
        if lingers:
            self.doorbell.linger(self.has_work)
        self.doorbell.park(self._wait_eventfd, self.has_work, self.outbox.wait_s(timeout_s))

    def pause(self, timeout_s: float) -> None:
        """Sleep although there is work, that cannot be done yet, until the bell rings or the time is over."""
        self.doorbell.park(self._wait_eventfd, lambda: self.stopping, timeout_s)

    def _wait_eventfd(self, timeout_s: float) -> object:
        return self._poll.poll(timeout_s)

    def on_stop_signal(self, _signum: int, _frame: FrameType | None) -> None:
        """SIGTERM: the loop sees `stopping` as soon as it is awake."""
        self.stopping = True
        os.eventfd_write(self.eventfd, 1)


def read_addresses(run_dir: str, broker: int) -> tuple[str, str]:
    """Bootstrap address and Unix path, as the broker's gateway published them."""
    with open(_addresses_path(run_dir, broker), encoding="utf-8") as file:
        bootstrap, unix = file.read().split("\n")[:2]
    return bootstrap, unix


def _addresses_path(run_dir: str, broker: int) -> str:
    return os.path.join(run_dir, f"addresses-{broker}")


def die_with_parent(parent_pid: int) -> None:
    """Die at once when the forking thread dies; and now, if it died before this call could be made.

    (R) The parent's id is asked for afterwards: a parent that dies between the two would be missed.
    """
    if _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0 or os.getppid() != parent_pid:
        os._exit(EXIT_FAILED)


def become(shared: Shared, slot: int, incarnation: int, run: Callable[[ProcessContext], None]) -> NoReturn:
    """Turn the process just forked into the one that holds `slot`; never returns."""
    status = EXIT_FAILED
    try:
        die_with_parent(shared.supervisor_pid)
        signal.set_wakeup_fd(-1)
        context = ProcessContext(shared, slot, incarnation)
        signal.signal(signal.SIGTERM, context.on_stop_signal)
        for ignored in (signal.SIGINT, signal.SIGHUP):  # for the whole terminal: the supervisor decides
            signal.signal(ignored, signal.SIG_IGN)
        signal.pthread_sigmask(
            signal.SIG_UNBLOCK, STOP_SIGNALS
        )  # what came since the fork is taken now, by our handler
        name = f"{role_name(shared.slots.role(slot))} {context.index}"
        setproctitle.setproctitle(f"tailrace: {name}")
        run(context)
        context.links.close()
        status = 0
    except (Refusal, ShmError) as refusal:
        say(f"tailrace: {refusal}\n")
        status = EXIT_REFUSED
    except DiskLost as lost:
        say(f"tailrace: {lost}\n")
        status = EXIT_DISK_LOST
    except BaseException:
        say(f"tailrace: slot {slot} failed\n{traceback.format_exc()}")
    finally:
        # No atexit handlers, no destructors: they belong to the supervisor, from whom this process was
        # forked.
        os._exit(status)
