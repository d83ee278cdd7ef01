"""A publish races a park: nothing is missed with the fences; without them the net catches it."""

import functools
import operator
import os
import select

import pytest

from tailrace.shm import doorbell
from tailrace.shm.doorbell import Bells, Doorbell, make_eventfd
from tailrace.shm.region import Region
from tailrace.shm.slots import WORKER, SlotTable
from tests.support.forks import fork
from tests.support.shared_run import shared_run

HANDSHAKES = 2_000_000
MISSED_ENOUGH = 3
SPINS_BEFORE_YIELD = 200

WORK, SLEEPER_AT, RINGER_AT, STOP = 0, 64, 128, 192
CONTENDED = (
    256,
    264,
    272,
    280,
)  # lines both sides store to first, so that their stores take long to become visible


def _wait_for(words: "memoryview[int]", index: int, value: int) -> None:
    """Spin, for the race needs both sides awake; give the processor away when the peer has none."""
    while True:
        for _ in range(SPINS_BEFORE_YIELD):
            if words[index] == value:
                return
        os.sched_yield()


def _sleep_and_wake(
    words: "memoryview[int]", bell: Doorbell, slots: SlotTable, eventfd: int, stop_at: int
) -> int:
    """The sleeper: park until there is work, round after round. Returns the missed wake-ups."""
    epoll = select.epoll()
    epoll.register(eventfd, select.EPOLLIN)
    has_work = functools.partial(operator.getitem, words, WORK)
    for handshake in range(1, HANDSHAKES + 1):
        words[SLEEPER_AT] = handshake
        _wait_for(words, RINGER_AT, handshake)
        for line in CONTENDED:
            words[line] = handshake
        while not words[WORK]:
            bell.park(epoll.poll, has_work, None)
        words[WORK] = 0
        if slots.missed_wakeups(0) >= stop_at:
            break
    words[STOP] = 1
    words[SLEEPER_AT] = -1
    return slots.missed_wakeups(0)


def _publish_and_ring(words: "memoryview[int]", bells: Bells) -> None:
    """The ringer: publish at about the moment the sleeper parks, a little later from round to round."""
    for handshake in range(1, HANDSHAKES + 1):
        _wait_for(words, WORK, 0)
        words[RINGER_AT] = handshake
        while words[SLEEPER_AT] != handshake:
            if words[STOP]:
                return
            os.sched_yield()
        for _ in range(handshake * 5 % 30):
            pass
        for line in CONTENDED:
            words[line] = handshake
        words[WORK] = 1
        bells.ring(0)


def _race(net_s: float, stop_at: int) -> int:
    with shared_run(2) as run:
        run.slots.begin(0, WORKER, 0, 0)
        words = Region.create(run.run_dir.file("words"), 4096, kind="words", version=1).words
        eventfd = make_eventfd()
        bells = Bells(run.slots, [eventfd])
        bell = Doorbell(run.slots, 0, eventfd, net_s=net_s)
        ringer = fork(lambda: _publish_and_ring(words, bells))
        try:
            missed = _sleep_and_wake(words, bell, run.slots, eventfd, stop_at)
            assert ringer.wait() == 0
        finally:
            ringer.kill()
            os.close(eventfd)
    return missed


def test_two_million_handshakes_miss_no_wakeup() -> None:
    assert _race(net_s=0.5, stop_at=1) == 0


@pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="stores and loads swap between two processors only"
)
def test_without_the_fences_wakeups_are_missed_and_the_net_counts_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doorbell, "fence", bool)  # does nothing, as fast as can be
    assert _race(net_s=0.02, stop_at=MISSED_ENOUGH) >= MISSED_ENOUGH
