"""Each rule of Raft that is broken on purpose is noticed, within so many seeds."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pytest

from tailrace.core.raft.node import RaftNode
from tests.sim import raft_faults, raft_scenario
from tests.sim.raft_scenario import Climate, play
from tests.sim.world import Broken

SEEDS_MAX = 2000

FAULTS: list[tuple[type[RaftNode], Climate]] = [
    (raft_faults.CommitsOldEpochs, raft_scenario.QUICK_DEATHS),
    (raft_faults.CountsOldVotes, raft_scenario.CHANGEABLE),
    (raft_faults.CountsOldFetches, raft_scenario.SLOW_LINKS),
    (raft_faults.TellsVotesEarly, raft_scenario.SLOW_DISKS),
    (raft_faults.VotesTwice, raft_scenario.CHANGEABLE),
    (raft_faults.VotesForShortLogs, raft_scenario.CHANGEABLE),
    (raft_faults.CountsUnsynced, raft_scenario.CHANGEABLE),
    (raft_faults.IgnoresTruncationsOfSyncs, raft_scenario.CHANGEABLE),
    (raft_faults.KeepsCutVoters, raft_scenario.COMING_AND_GOING),
]
PATCHES: list[tuple[Callable[[], AbstractContextManager[None]], Climate]] = [
    (raft_faults.never_diverging, raft_scenario.CHANGEABLE),
    (raft_faults.never_cutting, raft_scenario.CHANGEABLE),
    (raft_faults.changing_at_once, raft_scenario.COMING_AND_GOING),
]


def seeds_until_noticed(climate: Climate, node: type[RaftNode], fault: AbstractContextManager[None]) -> int:
    """How many seeds it takes; SEEDS_MAX if that many do not."""
    with fault:
        for seed in range(SEEDS_MAX):
            try:
                play(seed, climate, node)
            except Broken:
                return seed
    return SEEDS_MAX


@pytest.mark.parametrize(("node", "climate"), FAULTS, ids=[node.__name__ for node, _ in FAULTS])
def test_a_node_that_breaks_a_rule_is_noticed(node: type[RaftNode], climate: Climate) -> None:
    assert seeds_until_noticed(climate, node, nullcontext()) < SEEDS_MAX


@pytest.mark.parametrize(("fault", "climate"), PATCHES, ids=[fault.__name__ for fault, _ in PATCHES])
def test_a_rule_that_is_patched_away_is_noticed(
    fault: Callable[[], AbstractContextManager[None]], climate: Climate
) -> None:
    assert seeds_until_noticed(climate, RaftNode, fault()) < SEEDS_MAX
