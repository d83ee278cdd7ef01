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
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import NamedTuple, NoReturn, TypeVar

import setproctitle

from tailrace.core.config import BrokerConfig
from tailrace.shm.doorbell import Bells, Doorbell, Patience
from tailrace.shm.links import HeadTable, Links
from tailrace.shm.region import ShmError
from tailrace.shm.slots import READY, SUPERVISOR_SLOT, Layout, SlotTable, role_name
from tailrace.shm.state_table import StateTable
from tailrace.shm.waiters import WaiterTable
from tailrace.workers.control import Message
from tailrace.workers.log_dirs import LogDirs
from tailrace.workers.outbox import Inbox, Outbox
from tailrace.workers.say import say

EXIT_FAILED = 70  # as sysexits' EX_SOFTWARE
EXIT_REFUSED = 78  # as EX_CONFIG: restarting will not help
EXIT_DISK_LOST = 74  # as EX_IOERR: neither will going on

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


class Broker(NamedTuple):
    """What one of the brokers of this host has for itself."""

    config: BrokerConfig
    log_dirs: LogDirs

    @property
    def node_id(self) -> int:
        """Its id, as clients know it."""
        return self.config.node_id


class Shared:
    """What the supervisor makes before the first fork and every process inherits: one of it a run."""

    def __init__(
        self,
        *,
        brokers: Sequence[Broker],
        layout: Layout,
        cluster_id: str,
        run_dir: str,
        slots: SlotTable,
        state_table: StateTable,
        waiters: WaiterTable,
        heads: HeadTable,
        eventfds: tuple[int, ...],
    ) -> None:
        self.brokers = tuple(brokers)
        self.layout = layout
        self.cluster_id = cluster_id
        self.run_dir = run_dir
        self.slots = slots
        self.state_table = state_table
        self.waiters = waiters
        self.heads = heads
        self.eventfds = eventfds
        self.supervisor_pid = os.getpid()

    def name_of(self, slot: int) -> str:
        """The process in the slot, as shown to users."""
        name = f"{role_name(self.slots.role(slot))} {self.slots.index(slot)}"
        if len(self.brokers) == 1:
            return name
        return f"broker {self.brokers[self.layout.broker_of(slot)].node_id} {name}"


class ProcessContext:
    """One forked process's view of its broker, and of the host's others.

    `broker` is the index of its broker, `config`, `node_id` and `log_dirs` are what that one has; the
    supervisor, which is of none, sees the first.
    """

    def __init__(self, shared: Shared, slot: int, incarnation: int) -> None:
        self.broker = shared.layout.broker_of(slot)
        self.brokers = shared.brokers
        self.layout = shared.layout
        own = shared.brokers[self.broker]
        self.config = own.config
        self.node_id = own.node_id
        self.log_dirs = own.log_dirs
        self.controller_slot = shared.layout.controller(self.broker)
        self.gateway_slot = shared.layout.gateway(self.broker)
        self.housekeeper_slot = shared.layout.housekeeper(self.broker)
        self._controllers = shared.layout.controllers()
        self.cluster_id = shared.cluster_id
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

    def active_controller(self) -> tuple[int, int]:
        """The slot of the controller that decides for the host, and its epoch; 0, 0: there is none now."""
        return self.slots.active_controller(self._controllers)

    def obeys(self, slot: int) -> bool:
        """(R) Whether the controller in this slot decides now: what another says, that lost its epoch and has
        yet to notice, may be long overruled.
        """
        return self.active_controller()[0] == slot

    def tell_controller(self, message: Message) -> bool:
        """Send to the controller that decides. False: there is none now, and the message is dropped; the next
        one asks what it has to know.
        """
        slot, _ = self.active_controller()
        return slot != 0 and self.outbox.send(slot, message)

    def index_of(self, node_id: int) -> int:
        """The index of the broker of this id, -1: there is none on this host."""
        index = node_id - self.brokers[0].node_id
        return index if 0 <= index < len(self.brokers) else -1

    def log_dirs_of(self, node_id: int) -> LogDirs:
        """The log directories of a broker of this host."""
        return self.brokers[self.index_of(node_id)].log_dirs

    def owner_of(self, slot: int) -> int:
        """The id of the broker whose slot it is."""
        return self.brokers[self.layout.broker_of(slot)].node_id

    def blame_disk(self, log_dir: str, error: BaseException) -> bool:
        """Whether a log directory is out of service, now that this happened in it; the controller hears."""
        if not self.log_dirs.blame(log_dir, error):
            return False
        self.bells.ring_many(self._controllers)
        return True

    def has_work(self) -> bool:
        """Whether a wait would be in vain: frames are unread, or a stop was asked for."""
        return self.stopping or self.links.has_work()

    def park(self, poll: Callable[[float], T], timeout_s: float | None) -> T:
        """Sleep in `poll` until something happens; returns what it returned.

        `poll` watches `context.eventfd`, edge-triggered: it is never read.
        """
        return self.doorbell.park(poll, self.has_work, self.outbox.wait_s(timeout_s))

    def linger(self, poll: Callable[[float], T], patience: Patience) -> T | None:
        """Look for work a moment, if work comes often now, before `park`; None: nothing came."""
        return self.doorbell.linger(self.has_work, poll, patience)

    def wait(self, timeout_s: float, has_work: Callable[[], bool] | None = None) -> None:
        """Sleep until the bell rings, a signal comes or the time is over: for a role without descriptors of
        its own. `has_work`: whether that would be in vain, of one that looks for more than this.
        """
        self.doorbell.park(self._wait_eventfd, has_work or self.has_work, self.outbox.wait_s(timeout_s))

    def pause(self, timeout_s: float) -> None:
        """Sleep although there is work, that cannot be done yet, until the bell rings or the time is over."""
        self.doorbell.park(self._wait_eventfd, lambda: self.stopping, timeout_s)

    def _wait_eventfd(self, timeout_s: float) -> object:
        return self._poll.poll(timeout_s)

    def on_stop_signal(self, _signum: int, _frame: FrameType | None) -> None:
        """SIGTERM: the loop sees `stopping` as soon as it is awake."""
        self.stopping = True
        os.eventfd_write(self.eventfd, 1)


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
        setproctitle.setproctitle(f"tailrace: {shared.name_of(slot)}")
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
