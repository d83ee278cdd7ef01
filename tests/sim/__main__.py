"""`make sim`: many seeds of every scenario, or one with its story.

python -m tests.sim --seeds 20000 [--only raft] [--jobs 2]
python -m tests.sim --seed 17 --only raft
"""

import argparse
import multiprocessing
import sys

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


def run_all(names: list[str], seeds: int, first: int, jobs: int) -> int:
    """Every seed of every scenario; stops at the first few failures."""
    tasks = [(name, at) for name in names for at in range(first, first + seeds, SEEDS_A_TASK)]
    failures: list[Failure] = []
    with multiprocessing.Pool(jobs) as pool:
        for done, found in enumerate(pool.imap_unordered(_run_task, tasks), 1):
            failures += found
            if done % 100 == 0:
                print(f"{done * SEEDS_A_TASK} seeds, {len(failures)} failed", flush=True)
            if len(failures) >= 20:
                break
    for name, seed, why in failures:
        print(f"{name}: make sim SEED={seed} SCENARIO={name}: {why}")
    print(f"{len(tasks) * SEEDS_A_TASK} seeds of {', '.join(names)}: {len(failures)} failed")
    return int(bool(failures))


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
    asked = parser.parse_args()
    names: list[str] = asked.only or sorted(SCENARIOS)
    if asked.seed is not None:
        return max(run_one(name, asked.seed) for name in names)
    return run_all(names, asked.seeds, asked.first, asked.jobs)


if __name__ == "__main__":
    sys.exit(main())
