"""Crash states of a workload, made and looked at; what fails says how to have it again."""

from collections.abc import Iterable
from random import Random

from tests.support.log_checks import States, check
from tests.support.log_workload import Workload
from tests.support.simulated_disk import SimulatedDisk

STEPS = 100  # of a workload
STATES = 50  # of one workload; each fifth crashes again meanwhile


def explore(seed: int, *, power: float = 0.8, hidden: bool = False) -> int:
    """Looks at the states of one workload; returns how many these were."""
    journal = Workload(seed, hidden=hidden).run(STEPS).journal
    random, done = Random(seed), 0
    for number, state in enumerate(States(SimulatedDisk(), {}, journal, power).some(random, STATES)):
        chance = Random(random.getrandbits(40))
        try:
            done += check(state, chance, deep=2 if number % 5 == 0 else 0)
        except Exception as error:
            what = "the power went" if state.power else "processes died"
            error.add_note(f"state {number} of seed {seed}: {what} at operation {state.at} of {len(journal)}")
            error.add_note(
                f"again: TAILRACE_CRASH_SEED={seed} TAILRACE_CRASH_STATES=1 "
                "python -m pytest -m full tests/chaos/test_crash_states.py"
            )
            raise
    return done


def explore_all(seeds: Iterable[int], wanted: int) -> int:
    """Looks at the states of workloads until they are as many as wanted."""
    done = 0
    for seed in seeds:
        if done >= wanted:
            break
        done += explore(seed)
    return done
