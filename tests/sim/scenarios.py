"""What `make sim` runs: a name and a function that takes a seed and returns the world it played in."""

from collections.abc import Callable

from tests.sim import cluster, raft_scenario, replication
from tests.sim.world import World

SCENARIOS: dict[str, Callable[[int], World]] = {
    "cluster": cluster.play,
    "raft": raft_scenario.play,
    "replication": replication.play,
}
