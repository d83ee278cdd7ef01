"""`python -m perf.micro.fences`: how often a wake-up is missed without the doorbell's fences, and with them.

The figure depends on the machine and its load: 0 to 3 of 500,000 rounds on two virtual processors, 0 on busy ones.
A descheduled ringer counts too, as the net here is short. It is a measurement, and no test.
"""

import functools
import operator
import os
import select
from collections.abc import Callable

from tailrace.shm import doorbell, words
from tailrace.shm.doorbell import Bells, Doorbell, make_eventfd
from tailrace.shm.names import RunDir
from tailrace.shm.region import Region
from tailrace.shm.slots import WORKER, SlotTable

ROUNDS = 500_000
NET_S = 0.02
SPINS_MASK = 4095
WORK, SLEEPER_AT, RINGER_AT, CONTENDED = 0, 64, 128, (256, 264, 272, 280)


def ring_rounds(shared: "memoryview[int]", bells: Bells, delays: int) -> None:
    """Publish at about the moment the sleeper parks. The waits spin in line: a call would blur the moment."""
    spins = 0
    for number in range(1, ROUNDS + 1):
        while shared[WORK]:
            spins += 1
            if not spins & SPINS_MASK:
                os.sched_yield()
        shared[RINGER_AT] = number
        while shared[SLEEPER_AT] != number:
            spins += 1
            if not spins & SPINS_MASK:
                os.sched_yield()
        for _ in range(number * 5 % delays):
            pass
        for line in CONTENDED:
            shared[line] = number
        shared[WORK] = 1
        bells.ring(0)


def sleep_rounds(shared: "memoryview[int]", bell: Doorbell, poll: Callable[[float], object]) -> None:
    """Park until there is work, round after round."""
    spins = 0
    has_work = functools.partial(operator.getitem, shared, WORK)
    for number in range(1, ROUNDS + 1):
        shared[SLEEPER_AT] = number
        while shared[RINGER_AT] != number:
            spins += 1
            if not spins & SPINS_MASK:
                os.sched_yield()
        for line in CONTENDED:
            shared[line] = number
        while not shared[WORK]:
            bell.park(poll, has_work, None)
        shared[WORK] = 0


def race(delays: int) -> int:
    """Missed wake-ups between two processes."""
    run_dir = RunDir.create()
    eventfd = make_eventfd()
    try:
        slots = SlotTable.create(run_dir.file("slots"), 1)
        slots.begin(0, WORKER, 0, 0)
        shared = Region.create(run_dir.file("words"), 4096, kind="words", version=1).words
        bell, bells = Doorbell(slots, 0, eventfd, net_s=NET_S), Bells(slots, [eventfd])
        pid = os.fork()
        if not pid:
            ring_rounds(shared, bells, delays)
            os._exit(0)
        epoll = select.epoll()
        epoll.register(eventfd, select.EPOLLIN)
        sleep_rounds(shared, bell, epoll.poll)
        os.waitpid(pid, 0)
        return slots.missed_wakeups(0)
    finally:
        os.close(eventfd)
        run_dir.remove()


def main() -> None:
    """Print both counts for several delays."""
    for delays in (10, 20, 30):
        for name, fence in (("without", lambda: None), ("with", words.fence)):
            doorbell.fence = fence
            print(f"{name:8} fences, delays below {delays}: {race(delays)} of {ROUNDS} missed", flush=True)


if __name__ == "__main__":
    main()
