"""Whole clusters, by seed: `make sim SEED=k SCENARIO=cluster` tells the story of one. Each rule that is
broken on purpose is noticed.
"""

import pytest

from tests.sim.cluster import Cluster, play
from tests.sim.cluster_faults import FAULTS
from tests.sim.cluster_plan import BREAKS, CONTROLLERS, DISKS, MOVING, TOPICS, Plan
from tests.sim.world import Broken

SEEDS, PARTS = 120, 6
FIND_WITHIN = 60  # seeds

# Where to begin to look, and in which plan: some take a rare order of events
PLACES: dict[str, tuple[int, Plan | None]] = {
    "obeys_old_orders": (0, CONTROLLERS),
    "forgets_rows_of_the_gone": (110, MOVING),
    "opens_the_metadata_log_where_it_was_lost": (120, DISKS),
    "makes_lost_logs_anew": (0, DISKS),
    "elects_while_a_failed_leader_may_append": (310, BREAKS),
    "keeps_what_has_moved_away": (0, TOPICS),
    "does_not_wait_for_deletions": (100, MOVING),
}


@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_befalls_a_cluster_it_keeps_its_promises(part: int) -> None:
    for seed in range(part * SEEDS // PARTS, (part + 1) * SEEDS // PARTS):
        play(seed)


def test_a_run_has_elections_and_acknowledgements_in_it() -> None:
    made = Cluster(2)
    made.run()
    assert made.host.readers.acks > 50
    assert made.host.readers.elections > 1


def test_a_seed_tells_the_same_story_again() -> None:
    assert play(4).story() == play(4).story()


def seeds_until_noticed(fault: str) -> int:
    """How many seeds it takes; FIND_WITHIN if that many do not."""
    first, plan = PLACES.get(fault, (0, None))
    with FAULTS[fault]():
        for seed in range(first, first + FIND_WITHIN):
            try:
                play(seed, plan)
            except Broken:
                return seed - first
    return FIND_WITHIN


@pytest.mark.parametrize("fault", FAULTS)
def test_a_rule_that_is_broken_is_noticed(fault: str) -> None:
    assert seeds_until_noticed(fault) < FIND_WITHIN
