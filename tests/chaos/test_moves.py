"""Partitions that move from broker to broker under producers and readers, whose history is judged."""

from pathlib import Path

import pytest

from perf import replicated
from perf.peers.tailrace_cluster import TailraceCluster
from tests.support.moves import moved_in_a_loop

PARTITIONS, RECORDS = 2, 300
MOVES, FULL_MOVES = 4, 60
SETTINGS = {"min.insync.replicas": "1", "auto.leader.rebalance.enable": "false"}


def move_in_a_loop(folder: Path, moves: int, seed: int, *, kills: bool) -> None:
    cluster = TailraceCluster(folder, SETTINGS)
    cluster.start()
    try:
        replicated.wait_until_served(cluster)
        faults, summary = moved_in_a_loop(cluster, moves, PARTITIONS, RECORDS, seed, kills=kills)
    finally:
        cluster.stop()
    print(f"{moves} moves, {summary}")
    assert faults == []
    assert summary.stored >= summary.acknowledged >= 2 * moves * RECORDS


@pytest.mark.timeout(180)
def test_nothing_is_lost_while_partitions_move(tmp_path: Path) -> None:
    move_in_a_loop(tmp_path, MOVES, 1, kills=True)


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_in_a_long_loop_of_moves(tmp_path: Path, seed: int) -> None:
    move_in_a_loop(tmp_path, FULL_MOVES, seed, kills=True)
