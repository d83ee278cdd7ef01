"""Raft clusters in bad weather, by seed: `make sim SEED=k SCENARIO=raft` tells the story of one."""

import pytest

from tests.sim.raft_scenario import Climate, play

SEEDS, PARTS = 240, 6


@pytest.mark.parametrize("part", range(PARTS))
def test_a_cluster_in_bad_weather_keeps_its_promises(part: int) -> None:
    for seed in range(part, SEEDS, PARTS):
        play(seed)


def test_a_single_voter_survives_its_crashes() -> None:
    for seed in range(20):
        play(seed, Climate(voters=(1,), lost_disks=0.0, changes=0.0, crashes=0.03))


def test_two_voters_and_their_observer_survive() -> None:
    for seed in range(20):
        play(seed, Climate(voters=(2,), observers=(1,)))
