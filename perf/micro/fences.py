"""`python -m perf.micro.fences`: how often two processes miss each other's store, with a fence and without.

Round by round each stores its own word, then loads the other's. Both find the old value: both loads ran ahead
of both stores, which is what a sleeper and a ringer without fences would do.
"""

import os
from collections.abc import Callable

from tailrace.shm.names import RunDir
from tailrace.shm.region import Region
from tailrace.shm.words import fence

ROUNDS = 500_000
SPINS_MASK = 4095
AT, MINE, SAW = (0, 8), (16, 24), 64  # words: rounds reached, the two words of the race, then what each saw


def nothing() -> None:
    """In the place of a fence."""


def play(shared: "memoryview[int]", me: int, between: Callable[[], None] | None) -> None:
    """One side: meet, store, load, note what was seen."""
    mine, theirs, reached, awaited = MINE[me], MINE[1 - me], AT[me], AT[1 - me]
    note = SAW + me * ROUNDS
    spins = 0
    for number in range(1, ROUNDS + 1):
        shared[reached] = number
        while shared[awaited] < number:
            spins += 1
            if not spins & SPINS_MASK:
                os.sched_yield()
        if between is None:
            shared[mine] = number
            seen = shared[theirs]
        else:
            shared[mine] = number
            between()
            seen = shared[theirs]
        shared[note + number - 1] = seen


def race(between: Callable[[], None] | None) -> int:
    """Rounds in which both missed the other's store."""
    run_dir = RunDir.create()
    try:
        region = Region.create(run_dir.file("words"), 8 * (SAW + 2 * ROUNDS), kind="words", version=1)
        pid = os.fork()
        if not pid:
            play(region.words, 1, between)
            os._exit(0)
        play(region.words, 0, between)
        os.waitpid(pid, 0)
        first = region.words[SAW : SAW + ROUNDS].tolist()
        second = region.words[SAW + ROUNDS : SAW + 2 * ROUNDS].tolist()
        rounds = range(1, ROUNDS + 1)
        return sum(a < number and b < number for number, a, b in zip(rounds, first, second, strict=True))
    finally:
        run_dir.remove()


def main() -> None:
    """Print the counts."""
    ways = (("nothing between", None), ("an empty call between", nothing), ("a fence between", fence))
    for name, between in ways:
        print(f"{name:24} {race(between):6} of {ROUNDS} rounds missed by both", flush=True)


if __name__ == "__main__":
    main()
