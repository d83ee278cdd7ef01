"""What the supervisor does about a death, in which order, and that nobody outlives it: the test is the
supervisor, and its peers.
"""

import errno
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tailrace.shm.doorbell import Bells
from tailrace.shm.link_slots import LinkSlots, slots_path
from tailrace.shm.names import RunDir, large_name
from tailrace.shm.slots import CONTROLLER, GATEWAY, SUPERVISOR, SUPERVISOR_SLOT, WORKER, SlotTable
from tailrace.workers import process, supervisor
from tailrace.workers.control import Message, WorkerDied
from tailrace.workers.descriptors import arena_name
from tailrace.workers.process import EXIT_FAILED, STOP_SIGNALS, ProcessContext, die_with_parent
from tailrace.workers.restarts import HEALTHY_S
from tailrace.workers.supervisor import Supervisor
from tests.support.forks import fork
from tests.support.shared import LAYOUT, WORKER_SLOT, close_shared, make_shared

# The supervisor's own steps are looked at one by one.
# pyright: reportPrivateUsage=false

CONTROLLER_SLOT, GATEWAY_SLOT = LAYOUT.controller(0), LAYOUT.gateway(0)


class World:
    """A supervisor that has started nobody yet, and a controller that hears it."""

    def __init__(self, path: Path) -> None:
        self.run_dir = RunDir.create(str(path))
        self.shared = make_shared(path, self.run_dir)
        self.slots = self.shared.slots
        self.slots.begin(SUPERVISOR_SLOT, SUPERVISOR, 0, 0)
        self.ends = os.pipe2(os.O_NONBLOCK)
        self.supervisor = Supervisor(self.shared, {WORKER: lambda _: os._exit(70)}, self.ends[0])
        incarnation = self.slots.begin(CONTROLLER_SLOT, CONTROLLER, 0, 0)
        self.controller = ProcessContext(self.shared, CONTROLLER_SLOT, incarnation)

    def begin(self, slot: int, role: int) -> int:
        """A process takes the slot."""
        incarnation = self.supervisor._by_slot[slot].incarnation = self.slots.begin(slot, role, 0, 0)
        return incarnation

    def tell_death(self, slot: int, status: int) -> None:
        """The slot's process has been reaped."""
        self.supervisor._tell_death(self.supervisor._by_slot[slot], status)

    def heard(self) -> list[Message]:
        """What the controller finds in its rings."""
        return [
            message
            for slot, incarnation, ring in self.controller.links.poll()
            for message in self.controller.inbox.read(slot, incarnation, ring)  # type: ignore[arg-type]
        ]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    try:
        yield made
    finally:
        made.supervisor._control.socket.close()
        made.run_dir.remove()
        close_shared(made.shared)
        for descriptor in made.ends:
            os.close(descriptor)


@pytest.fixture
def on_mark_dead(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """What to look at just before a death is stored."""
    looks: list[Callable[[], object]] = []
    mark_dead = SlotTable.mark_dead

    def mark(slots: SlotTable, slot: int, incarnation: int) -> None:
        for look in looks:
            look()
        mark_dead(slots, slot, incarnation)

    monkeypatch.setattr(SlotTable, "mark_dead", mark)
    return looks


def test_whoever_sees_a_death_stored_finds_its_frame(
    world: World, on_mark_dead: list[Callable[[], object]]
) -> None:
    """(R) Or the controller would start the next leader without knowing what the last one died of."""
    incarnation = world.begin(WORKER_SLOT, WORKER)
    world.slots.set_current_row(WORKER_SLOT, 7)
    found: list[Message] = []
    on_mark_dead.append(lambda: found.extend(world.heard()))
    world.tell_death(WORKER_SLOT, signal.SIGBUS)
    assert found == [WorkerDied(slot=WORKER_SLOT, incarnation=incarnation, row=7, signal=signal.SIGBUS)]
    assert not world.slots.is_live(WORKER_SLOT, incarnation)


def test_nobody_is_rung_and_nothing_cleaned_up_before_the_death_is_stored(
    world: World, on_mark_dead: list[Callable[[], object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """(R) Who is rung looks once; and what the dead one had is its own until it is proven dead."""
    incarnation = world.begin(GATEWAY_SLOT, GATEWAY)
    names = {arena_name(GATEWAY_SLOT, incarnation), large_name(GATEWAY_SLOT, incarnation, 1)}
    for name in names:
        (Path(world.run_dir.path) / name).touch()
    world.shared.waiters.want(3, 0, 5)
    live_when_rung: list[bool] = []

    def ring_all(_bells: Bells) -> None:
        live_when_rung.append(world.slots.is_live(GATEWAY_SLOT, incarnation))

    monkeypatch.setattr(Bells, "ring_all", ring_all)
    before: list[tuple[set[str], int, list[bool]]] = []

    def look() -> None:
        there = names & set(os.listdir(world.run_dir.path))
        before.append((there, world.shared.waiters.wanted(3, 0), list(live_when_rung)))

    on_mark_dead.append(look)
    world.tell_death(GATEWAY_SLOT, signal.SIGKILL)
    assert before == [(names, 5, [])]
    assert live_when_rung == [False]
    assert not names & set(os.listdir(world.run_dir.path))
    assert world.shared.waiters.wanted(3, 0) == -1


def test_the_words_in_which_followers_acknowledged_go_with_their_leader(world: World) -> None:
    incarnation = world.begin(WORKER_SLOT, WORKER)
    LinkSlots.create(world.run_dir.path, WORKER_SLOT, incarnation).region.close()
    assert os.path.exists(slots_path(world.run_dir.path, WORKER_SLOT, incarnation))
    world.tell_death(WORKER_SLOT, signal.SIGKILL)
    assert not os.path.exists(slots_path(world.run_dir.path, WORKER_SLOT, incarnation))


class Clock:
    """The supervisor's time, which stands still."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        """As time.monotonic."""
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """In place of the supervisor's."""
    made = Clock()
    monkeypatch.setattr(supervisor, "time", made)
    return made


def test_forks_that_fail_are_tried_again_after_pauses_that_double(
    world: World, clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> int:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    watched = world.supervisor._by_slot[WORKER_SLOT]
    watched.wanted = True
    due_s: list[float] = []
    for _ in range(4):
        world.supervisor._start_due()
        due_s.append(watched.restart_at_s - clock.now_s)
        clock.now_s = watched.restart_at_s
        assert world.slots.live_incarnation(WORKER_SLOT) == 0
    first_s = world.shared.brokers[0].config.supervisor_restart_backoff_ms / 1000
    assert due_s == pytest.approx([0.0, first_s, 2 * first_s, 4 * first_s])
    assert capsys.readouterr().err.count("cannot start worker 0") == 4
    assert not set(STOP_SIGNALS) & signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # test runners have threads, the children use none
def test_deaths_in_a_row_lead_to_longer_pauses_until_one_has_lived(world: World, clock: Clock) -> None:
    world.supervisor._was_ready = True
    watched = world.supervisor._by_slot[WORKER_SLOT]

    def live_and_die(seconds: float) -> float:
        clock.now_s = watched.restart_at_s = max(clock.now_s, watched.restart_at_s)
        world.supervisor._start(watched, clock.now_s)
        clock.now_s += seconds
        while watched.pid:
            world.supervisor._wait(30.0)
        return watched.restart_at_s - clock.now_s

    first_s = world.shared.brokers[0].config.supervisor_restart_backoff_ms / 1000
    pauses_s = [live_and_die(seconds) for seconds in (0.1, 0.1, 0.1, HEALTHY_S, 0.1)]
    assert pauses_s == pytest.approx([0.0, first_s, 2 * first_s, 0.0, first_s])
    assert watched.backoff.failures == 2


def test_a_process_whose_supervisor_is_gone_ends_at_once() -> None:
    assert fork(lambda: die_with_parent(os.getppid())).wait() == 0
    assert fork(lambda: die_with_parent(os.getppid() + 1)).wait() == EXIT_FAILED


def test_a_supervisor_that_dies_before_the_kernel_was_asked_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """(R) Asked the other way round, a death between the two would leave a writer without supervisor."""
    parent, outcome = [1], [0]

    def prctl(*_: int) -> int:
        parent[0] = 2  # it died just before
        return outcome[0]

    monkeypatch.setattr(process, "_prctl", prctl)
    monkeypatch.setattr(os, "getppid", lambda: parent[0])
    assert fork(lambda: die_with_parent(1)).wait() == EXIT_FAILED
    assert fork(lambda: die_with_parent(2)).wait() == 0
    outcome[0] = -1
    assert fork(lambda: die_with_parent(parent[0])).wait() == EXIT_FAILED
