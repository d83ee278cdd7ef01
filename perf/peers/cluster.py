"""What the workloads of replicas need to know about three brokers under test."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from perf.peers.peer import Tcp

BROKERS = 3
SETTINGS = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
}

Kill = Callable[[], object]
"""Kills with SIGKILL what was looked for when it was made; returns when that is dead."""


class Cluster(Protocol):
    """Three brokers that vote on the metadata."""

    name: str
    directory: Path

    def start(self) -> None:
        """Start all brokers; returns at once, before they serve."""
        ...

    def stop(self) -> None:
        """Stop all in order and wait until they are gone."""
        ...

    def brokers(self) -> dict[int, Tcp]:
        """Where each broker listens, by its id; also those that are dead now."""
        ...

    def roots(self) -> list[int]:
        """The processes all others descend from."""
        ...

    def replica_killer(self, broker_id: int, topic: str, partition: int) -> Kill:
        """For the process of this broker that has the partition."""
        ...

    def controller_killer(self, broker_id: int) -> Kill:
        """For the controller of this broker."""
        ...

    def broker_killer(self, broker_id: int) -> Kill:
        """For all that belongs to this broker, and nothing else."""
        ...

    def revive(self, broker_id: int | None = None) -> None:
        """Start what was killed and does not come back by itself: of all brokers, or of this one."""
        ...
