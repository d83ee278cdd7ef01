"""What stands between the real code of workers/ and a simulated host: contexts, time, and what is patched.

Real are: Controller with all it has, Member, Worker with all it has, their Outbox and Inbox, the tables in
shared memory, link slots. Simulated are rings, disks, threads for syncs, clocks, Raft's log and vote file.
"""

import os
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from unittest import mock

from tailrace.core.config import BrokerConfig, load
from tailrace.core.config_brokers import split
from tailrace.core.replication.follower import FollowerPartition
from tailrace.core.replication.partition import LeaderPartition
from tailrace.shm import links as shm_links
from tailrace.shm.doorbell import Bells, Doorbell
from tailrace.shm.log_dir_table import LogDirTable
from tailrace.shm.state_table import RowWriter
from tailrace.workers import (
    appends,
    beginning,
    changes,
    commit,
    controller,
    failed_dirs,
    flusher,
    gateway_requests,
    leader_files,
    losses,
    orders,
    quorum_member,
    replica,
    replicas,
    replication,
    survey,
    worker,
)
from tailrace.workers.log_dirs import LogDir, LogDirs
from tailrace.workers.outbox import Inbox, Outbox
from tailrace.workers.process import ProcessContext
from tests.sim.cluster_disk import Disks, StartingPoints
from tests.sim.cluster_memory import AckWords, Links, region
from tests.sim.cluster_memory import Bells as SimulatedBells

if TYPE_CHECKING:
    from tests.sim.cluster_host import Host

FIRST_ID = 1
CLOCK_MS = 1_000_000  # what clocks say when a world begins
TIMED = (appends, changes, commit, controller, beginning, losses, replica, replicas, replication, worker)


class Killed(BaseException):
    """The process dies in the middle of its turn."""


@cache
def configs(brokers: int, **settings: str) -> tuple[BrokerConfig, ...]:
    """Of each broker; `settings` are keys with _ for dots."""
    given = {"log.dirs": "/a,/b", "metadata.log.dir": "/a", "brokers": str(brokers), "node.id": str(FIRST_ID)}
    given |= {"listeners": "PLAINTEXT://127.0.0.1:0", "workers.max": str(brokers)}
    given |= {name.replace("_", "."): value for name, value in settings.items()}
    return split(load(given)[0])


class SimulatedDirs(LogDirs):
    """Two a broker, of which the first holds the metadata as well."""

    def __init__(self, broker: int, disks: Disks, known: LogDirs | None = None) -> None:
        """known: the directories of the run before, of which those that were lost are others now."""
        names = [f"/broker{broker}/{name}" for name in "ab"]
        self._disks = disks
        dirs: list[LogDir] = []
        for index, path in enumerate(names):
            last = (
                f"dir-{broker}-{path[-1]}-".ljust(22, "A")
                if known is None
                else known.dirs[index].directory_id
            )
            if path in disks.lost:
                last = f"{last[:8]}{int(last[8:].strip('A') or 0) + 1}".ljust(22, "A")
            dirs.append(LogDir(path, last))
        super().__init__(dirs, names[0], LogDirTable(region(8 + 8 * 2, 2)))

    def probe(self, path: str) -> int:
        """See LogDirs."""
        return self._disks.probe(path)


class SimulatedDoorbell:
    """See Doorbell."""

    def __init__(self, wake: Callable[[], object]) -> None:
        self.wake = wake

    def linger(self, _has_work: Callable[[], object], _poll: object = None, patience: object = None) -> None:
        """See Doorbell."""


class Context(ProcessContext):
    """See ProcessContext. `stopping` is true after each turn, so that a real loop ends there."""

    def __init__(self, host: "Host", slot: int, incarnation: int) -> None:
        memory, layout = host.memory, host.layout
        self.host = host
        self.broker, self.brokers, self.layout = layout.broker_of(slot), tuple(host.brokers), layout
        own = host.brokers[self.broker]
        self.config, self.node_id, self.log_dirs = own.config, own.node_id, own.log_dirs
        self.controller_slot = layout.controller(self.broker)
        self.gateway_slot = layout.gateway(self.broker)
        self.housekeeper_slot = layout.housekeeper(self.broker)
        self._controllers = layout.controllers()
        self.cluster_id, self.run_dir = "sim", f"/run-1-{host.run:08x}"
        self.slots, self.state_table, self.waiters = memory.slots, memory.state_table, memory.waiters
        self.slot, self.incarnation, self.index, self.eventfd = slot, incarnation, 0, -1
        self._turns = 0
        self.waits_s = 0.0
        self.doorbell = cast("Doorbell", SimulatedDoorbell(lambda: host.wake(slot)))
        self.bells = cast("Bells", SimulatedBells(host.wake, layout.slot_count))
        self.links = cast("shm_links.Links", Links(memory, slot, incarnation, lambda: host.step(slot)))
        self.outbox = Outbox(self.links, self.bells, self.slots)
        self.inbox = Inbox()

    @property
    def stopping(self) -> bool:  # type: ignore[override]
        """See the class."""
        self._turns -= 1
        return self._turns < 0

    def one_turn(self) -> None:
        """The loop goes round once."""
        self._turns, self.waits_s = 1, 0.0

    def ready(self) -> None:
        """See ProcessContext."""

    def has_work(self) -> bool:
        """See ProcessContext."""
        return self.links.has_work()

    def wait(self, timeout_s: float, has_work: Callable[[], bool] | None = None) -> None:
        """See ProcessContext: how long it would."""
        busy = (has_work or self.links.has_work)()
        wanted = self.outbox.wait_s(timeout_s)
        assert wanted is not None
        self.waits_s = 0.0 if busy else wanted

    def pause(self, timeout_s: float) -> None:
        """See ProcessContext."""
        del timeout_s


class Background:
    """See workers.background: what is submitted is done a little later, if its process still lives."""

    host: "Host"  # of the run that is played

    def __init__(self, ring: Callable[[], object] | None = None) -> None:
        self._ring, self._done = ring, list[tuple[Any, OSError | None]]()
        self._jobs: list[tuple[Any, Callable[[], object]]] = []
        self._slot = self.host.current

    @property
    def under_way(self) -> int:
        """See Background."""
        return len(self._jobs) + len(self._done)

    def submit(self, token: object, job: Callable[[], object]) -> None:
        """See Background."""
        self._jobs.append((token, job))
        self.host.world.after(self.host.name_of(self._slot), self.host.sync_ms(), self._run)

    def _run(self) -> None:
        if self._jobs:
            token, job = self._jobs.pop(0)
            error: OSError | None = None
            try:
                job()
            except OSError as failure:
                error = failure
            self._done.append((token, error))
            if self._ring is not None:
                self._ring()

    def take_done(self, *, wait: bool = False) -> list[tuple[Any, OSError | None]]:
        """See Background."""
        while wait and self._jobs:
            self._run()
        done, self._done = self._done, []
        return done


class ArenaView:
    """See Arena: the batches that a gateway has under way."""

    def __init__(self, batches: dict[int, bytes]) -> None:
        self._batches = batches
        self.view = self

    def __getitem__(self, place: slice) -> memoryview:
        return memoryview(self._batches[place.start])

    def close(self) -> None:
        """See Arena."""


class NothingMoves:
    """See workers.future_files: each host has one log directory."""

    @staticmethod
    def take_place(*_: object) -> None:
        """See future_files."""

    read_mark = take_place

    @staticmethod
    def leftovers(*_: object) -> list[str]:
        """See future_files."""
        return []


def _clock(host: "Host") -> SimpleNamespace:
    def now_ms() -> int:
        return host.world.now_ms + CLOCK_MS

    return SimpleNamespace(
        monotonic=lambda: now_ms() / 1000,
        monotonic_ns=lambda: now_ms() * 1_000_000,
        time_ns=lambda: now_ms() * 1_000_000,
    )


def watched_rows(host: "Host") -> type[RowWriter]:
    """Whose every publish is looked at."""

    class Watched(RowWriter):
        __slots__ = ()

        def publish(self) -> None:
            host.step(host.current)
            super().publish()
            host.on_row(self.row, self.values.tolist())

    return Watched


def _nothing(_line: str) -> None:
    """Nobody reads it."""


def _row_of(one: replica.Replica) -> int:
    return one.row.row


def _row_of_order(one: orders.Replica) -> int:
    return one.row


def _number_of(one: FollowerPartition | LeaderPartition) -> int:
    return one.topic_partition[1]


@contextmanager
def patched(host: "Host") -> Generator[None]:
    """The real modules have this host's clock, disks and memory meanwhile."""
    disks = host.disks
    chance = SimpleNamespace(urandom=host.world.random.randbytes)
    surveyed = SimpleNamespace(
        path=os.path, scandir=disks.scandir, rename=disks.rename, urandom=chance.urandom
    )
    clock = _clock(host)

    def ack_words(_run_dir: str, slot: int, incarnation: int) -> AckWords:
        words = host.memory.words.get((slot, incarnation))
        if words is None or not host.memory.slots.is_live(slot, incarnation):
            raise FileNotFoundError
        return AckWords(words, lambda: host.step(host.current))

    def make_words(*peer: Any) -> object:
        return host.memory.make_words(*peer)

    def metadata_log(context: Context) -> object:
        return host.controllers[context.slot].metadata()

    def starting_points(log_dir: str) -> StartingPoints:
        return StartingPoints(disks, log_dir)

    def arena(path: str) -> ArenaView:
        return ArenaView(host.arenas[path])

    changed: list[tuple[object, str, object]] = [
        *((module, "time", clock) for module in TIMED),
        (gateway_requests, "os", chance),
        (failed_dirs, "say", _nothing),
        (survey, "os", surveyed),
        (survey, "say", _nothing),
        (survey, "_topic_id_in", disks.topic_id_in),
        (leader_files, "os", disks.as_os()),
        (quorum_member, "open_metadata_log", metadata_log),
        (replica, "RealDirectory", disks.directory),
        (replica, "future_files", NothingMoves),
        (replica, "Log", SimpleNamespace(open=disks.open)),
        (replica, "RowWriter", watched_rows(host)),
        (replicas, "RealDirectory", disks.directory),
        (replicas, "StartingPoints", starting_points),
        (replication, "LinkSlots", SimpleNamespace(create=make_words)),
        (replication, "AckWords", ack_words),
        (appends, "Arena", SimpleNamespace(attach=arena)),
        (commit, "Background", Background),
        (flusher, "Background", Background),
        (Background, "host", host),
        # sets of them are walked in the same order in each run of a seed
        (replica.Replica, "__hash__", _row_of),
        (orders.Replica, "__hash__", _row_of_order),
        (FollowerPartition, "__hash__", _number_of),
        (LeaderPartition, "__hash__", _number_of),
    ]
    with ExitStack() as stack:
        for owner, name, value in changed:
            stack.enter_context(mock.patch.object(owner, name, value, create=True))
        yield
