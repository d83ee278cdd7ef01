"""A publish races a park: nothing is missed with the fences; what their lack would miss, the net catches."""

import functools
import operator
import os
import select

import pytest

from tailrace.shm.doorbell import Bells, Doorbell, make_eventfd
from tailrace.shm.region import Region
from tailrace.shm.slots import WORKER, SlotTable
from tests.support.forks import fork
from tests.support.shared_run import shared_run

HANDSHAKES = 2_000_000
PARKED_MIN = 20_000  # rounds in which the sleeper was parked or about to be: of two million, most are
SPINS_BEFORE_YIELD = 200

WORK, SLEEPER_AT, RINGER_AT = 0, 64, 128
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
) -> tuple[int, int]:
    """The sleeper: park until there is work, round after round. Returns (missed wake-ups, parks)."""
    parks = 0
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
            parks += 1
        words[WORK] = 0
        if slots.missed_wakeups(0) >= stop_at:
            break
    return slots.missed_wakeups(0), parks


def _publish_and_ring(words: "memoryview[int]", bells: Bells) -> None:
    """The ringer: publish at about the moment the sleeper parks, a little later from round to round."""
    for handshake in range(1, HANDSHAKES + 1):
        _wait_for(words, WORK, 0)
        words[RINGER_AT] = handshake
        _wait_for(words, SLEEPER_AT, handshake)
        for _ in range(handshake * 5 % 30):
            pass
        for line in CONTENDED:
            words[line] = handshake
        words[WORK] = 1
        bells.ring(0)


def _race(net_s: float, stop_at: int) -> tuple[int, int]:
    with shared_run(2) as run:
        run.slots.begin(0, WORKER, 0, 0)
        words = Region.create(run.run_dir.file("words"), 4096, kind="words", version=1).words
        eventfd = make_eventfd()
        bells = Bells(run.slots, [eventfd])
        bell = Doorbell(run.slots, 0, eventfd, net_s=net_s)
        ringer = fork(lambda: _publish_and_ring(words, bells))
        try:
            missed, parks = _sleep_and_wake(words, bell, run.slots, eventfd, stop_at)
            assert missed or ringer.wait() == 0  # after an early end it waits for a sleeper that is gone
        finally:
            ringer.kill()
            os.close(eventfd)
    return missed, parks


def test_two_million_handshakes_miss_no_wakeup() -> None:
    missed, parks = _race(net_s=0.5, stop_at=1)
    assert missed == 0
    assert parks > PARKED_MIN, "the sleeper hardly ever slept: nothing was raced"


@pytest.mark.parametrize("swapped", [True, False])
def test_wakeup_missed_as_without_a_fence_is_caught_and_counted_by_the_net(swapped: bool) -> None:
    """The order that a missing fence permits, made certain: the ringer looks at `parked`, then publishes.

    On its own the processor swaps the two in few of a million rounds, too seldom to wait for in a test.
    """
    with shared_run(2) as run:
        run.slots.begin(0, WORKER, 0, 0)
        words = Region.create(run.run_dir.file("words"), 4096, kind="words", version=1).words
        eventfd = make_eventfd()
        bells = Bells(run.slots, [eventfd])
        bell = Doorbell(run.slots, 0, eventfd, net_s=0.05)
        epoll = select.epoll()
        epoll.register(eventfd, select.EPOLLIN)

        def publish() -> None:
            if swapped:
                bells.ring(0)  # the load: not parked yet
            words[RINGER_AT] = 1
            _wait_for(words, SLEEPER_AT, 1)
            words[WORK] = 1  # the store, after the sleeper looked for it
            if not swapped:
                bells.ring(0)
            words[RINGER_AT] = 2

        def poll(seconds: float) -> list[tuple[int, int]]:
            words[SLEEPER_AT] = 1  # parked, and has looked
            _wait_for(words, RINGER_AT, 2)
            return epoll.poll(seconds)

        ringer = fork(publish)
        try:
            _wait_for(words, RINGER_AT, 1)
            bell.park(poll, lambda: words[WORK], None)
            assert ringer.wait() == 0
        finally:
            ringer.kill()
            os.close(eventfd)
        assert words[WORK] == 1
        assert run.slots.missed_wakeups(0) == (1 if swapped else 0)
