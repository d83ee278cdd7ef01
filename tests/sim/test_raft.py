"""Raft clusters in bad weather, by seed: `make sim SEED=k SCENARIO=raft` tells the story of one."""

import pytest

from tests.sim.raft_scenario import play

SEEDS, PARTS = 300, 6


@pytest.mark.parametrize("part", range(PARTS))
def test_a_cluster_in_bad_weather_keeps_its_promises(part: int) -> None:
    for seed in range(part * SEEDS // PARTS, (part + 1) * SEEDS // PARTS):
        play(seed)


def test_a_seed_tells_the_same_story_again() -> None:
    assert play(5).story() == play(5).story()
