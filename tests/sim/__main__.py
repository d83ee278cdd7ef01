"""`make sim`: many seeds of every scenario, or one with its story.

python -m tests.sim --seeds 20000 [--only raft] [--jobs 2] [--seconds 600]
python -m tests.sim --seed 17 --only raft
"""

import argparse
import multiprocessing
import sys
import time

from tests.sim.scenarios import SCENARIOS
from tests.sim.world import Broken

SEEDS_A_TASK = 50
Failure = tuple[str, int, str]


def run_some(name: str, first: int) -> list[Failure]:
    """A few seeds of one scenario, and those that failed."""
    failures: list[Failure] = []
    for seed in range(first, first + SEEDS_A_TASK):
        try:
            SCENARIOS[name](seed)
        except Exception as error:  # whatever it is, its seed is what counts
            failures.append((name, seed, str(error).rsplit("\n", 1)[-1] or repr(error)))
    return failures


def run_one(name: str, seed: int) -> int:
    """One seed, told."""
    try:
        world = SCENARIOS[name](seed)
    except Broken as broken:
        print(broken)
        return 1
    print("\n".join(world.story()))
    print(f"{name}: seed {seed}: {world.events} events in {world.now_ms} virtual ms, no promise broken")
    return 0


def run_all(names: list[str], seeds: int, first: int, jobs: int, seconds: float) -> int:
    """Every seed of every scenario, as far as there is time; stops at the first few failures."""
    tasks = [(name, at) for at in range(first, first + seeds, SEEDS_A_TASK) for name in names]
    ends_at = time.monotonic() + seconds
    done, failed = 0, 0
    with multiprocessing.Pool(jobs) as pool:
        for found in pool.imap_unordered(_run_task, tasks):
            done += SEEDS_A_TASK
            failed += len(found)
            for name, seed, why in found:
                print(f"{name}: make sim SEED={seed} SCENARIO={name}: {why}", flush=True)
            if done % 1000 == 0:
                print(f"{done} seeds, {failed} failed", flush=True)
            if failed >= 20 or time.monotonic() > ends_at:
                break
    print(f"{done} seeds of {', '.join(names)}: {failed} failed")
    return int(bool(failed))


def _run_task(task: tuple[str, int]) -> list[Failure]:
    return run_some(*task)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim")
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--only", choices=sorted(SCENARIOS), action="append")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin nothing new after that")
    asked = parser.parse_args()
    names: list[str] = asked.only or sorted(SCENARIOS)
    if asked.seed is not None:
        return max(run_one(name, asked.seed) for name in names)
    return run_all(names, asked.seeds, asked.first, asked.jobs, asked.seconds)


if __name__ == "__main__":
    sys.exit(main())
