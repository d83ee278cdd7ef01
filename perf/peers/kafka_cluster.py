"""Three Apache Kafka nodes, each broker and controller, as a user of one host would start them."""

import base64
import os
from pathlib import Path

from perf.peers.cluster import BROKERS, SETTINGS, Kill
from perf.peers.kafka import Node
from perf.peers.peer import Tcp, free_port


class KafkaCluster:
    """Nodes 1 to 3 in folders of `directory`; their quorum may change its voters (kraft.version 1)."""

    name = "kafka"

    def __init__(self, directory: Path, settings: dict[str, str] | None = None) -> None:
        self.directory = directory
        ports = {node_id: (free_port(), free_port()) for node_id in range(1, BROKERS + 1)}
        voters = ",".join(
            f"{node_id}@127.0.0.1:{controller}:{directory_id()}" for node_id, (_, controller) in ports.items()
        )
        controllers = ",".join(f"127.0.0.1:{controller}" for _, controller in ports.values())
        together = {**SETTINGS, "controller.quorum.bootstrap.servers": controllers, **(settings or {})}
        self.nodes = {
            node_id: Node(directory / str(node_id), node_id, both, together, voters)
            for node_id, both in ports.items()
        }

    def start(self) -> None:
        """Start all nodes."""
        self.revive()

    def stop(self) -> None:
        """Stop all nodes, all at once: the last of them would wait for a controller in vain."""
        for node in self.nodes.values():
            node.terminate()
        for node in self.nodes.values():
            node.stop()

    def brokers(self) -> dict[int, Tcp]:
        """Where each node listens for clients."""
        return {node_id: node.address for node_id, node in self.nodes.items()}

    def roots(self) -> list[int]:
        """The Java processes that run."""
        return [node.pid for node in self.nodes.values() if node.running]

    def broker_killer(self, broker_id: int) -> Kill:
        """For the node's one process."""
        return self.nodes[broker_id].kill

    def replica_killer(self, broker_id: int, topic: str, partition: int) -> Kill:
        """One process does all: that of the whole broker."""
        del topic, partition
        return self.broker_killer(broker_id)

    def controller_killer(self, broker_id: int) -> Kill:
        """The same."""
        return self.broker_killer(broker_id)

    def revive(self, broker_id: int | None = None) -> None:
        """Start the nodes that do not run."""
        for node_id, node in self.nodes.items():
            if not node.running and broker_id in (None, node_id):
                node.start()


def directory_id() -> str:
    """A random id as Kafka writes it, whose first character is no dash: it would look like an option."""
    return "A" + base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")[1:]
