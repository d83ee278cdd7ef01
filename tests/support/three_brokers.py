"""A host with three brokers, and what its command line says of them."""

import json
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from perf.peers.tailrace import COMMAND, Tailrace
from tailrace.core.errors import NONE, TOPIC_ALREADY_EXISTS
from tailrace.core.protocol.apis import CREATE_TOPICS, METADATA
from tailrace.core.protocol.messages.create_topics import CreateTopicsRequest, CreateTopicsRequestTopic
from tailrace.core.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from tests.support.raw_client import RawClient

FIRST_ID = 1
IDS = (1, 2, 3)


class Host(Tailrace):
    """Brokers 1 to 3, each on a free port of its own."""

    def __init__(self, directory: Path, **settings: str) -> None:
        given = {name.replace("_", "."): value for name, value in settings.items()}
        super().__init__(directory, {"brokers": "3", "node.id": str(FIRST_ID), **given})

    @property
    def addresses(self) -> dict[int, str]:
        """HOST:PORT of each broker."""
        return dict(zip(IDS, self.bootstrap.split(","), strict=True))

    def command(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run one that takes --data."""
        command = [str(COMMAND), *words, "--data", str(self.data)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def broker(self, *words: str) -> list[dict[str, Any]]:
        """`tailrace broker`, which must succeed; the brokers afterwards."""
        done = self.command("broker", *words)
        assert done.returncode == 0, done.stderr
        listed = self.command("broker", "list", "-o", "json")
        assert listed.returncode == 0, listed.stderr
        found: list[dict[str, Any]] = json.loads(listed.stdout)
        return found

    def pids(self, broker: int, role: str) -> list[int]:
        """The processes of a role that a broker has."""
        status = json.loads(self.command("status", "-o", "json").stdout)
        return [
            process["pid"]
            for process in status["processes"]
            if (process["broker"], process["role"]) == (broker, role)
        ]

    def all_pids(self, role: str) -> list[int]:
        """The processes of a role, of all brokers."""
        status = json.loads(self.command("status", "-o", "json").stdout)
        return [process["pid"] for process in status["processes"] if process["role"] == role]

    def create(self, topic: str, partitions: int, replicas: int = 1) -> None:
        """Make a topic."""
        wanted = CreateTopicsRequestTopic(topic, partitions, replicas)
        asked = CreateTopicsRequest([wanted], timeout_ms=10_000)
        with RawClient(self.addresses[3]) as client:
            answer = client.ask(CREATE_TOPICS, 5, asked)
        assert isinstance(answer, dict)
        codes = [each["error_code"] for each in answer["topics"]]
        assert codes in ([NONE], [TOPIC_ALREADY_EXISTS]), answer  # made by a controller that died since

    def metadata(self, broker: int, topic: str) -> dict[str, Any]:
        """What one broker says of all, and of a topic."""
        asked = MetadataRequest(topics=[MetadataRequestTopic(name=topic)], allow_auto_topic_creation=False)
        with RawClient(self.addresses[broker]) as client:
            answer = client.ask(METADATA, 12, asked)
        assert isinstance(answer, dict)
        return answer

    def listed(self, broker: int) -> list[int]:
        """The brokers that one of them tells of."""
        return sorted(each["node_id"] for each in self.metadata(broker, "")["brokers"])

    def leaders(self, broker: int, topic: str) -> dict[int, int]:
        """The leader of each partition, as one broker tells it."""
        (found,) = self.metadata(broker, topic)["topics"]
        return {each["partition_index"]: each["leader_id"] for each in found["partitions"]}

    def isrs(self, broker: int, topic: str) -> dict[int, list[int]]:
        """Who is in sync for each partition, as one broker tells it."""
        (found,) = self.metadata(broker, topic)["topics"]
        return {each["partition_index"]: sorted(each["isr_nodes"]) for each in found["partitions"]}

    def is_whole(self, topic: str) -> bool:
        """Whether all three replicas of each partition are in sync with a leader, as all brokers tell it."""
        return all(
            -1 not in self.leaders(broker, topic).values()
            and all(isr == list(IDS) for isr in self.isrs(broker, topic).values())
            for broker in IDS
        )


@contextmanager
def running(directory: Path, **settings: str) -> Generator[Host, None, None]:
    """Three brokers that serve; stopped at the end. Settings have _ for dots."""
    host = Host(directory, **settings)
    host.start()
    try:
        assert host.bootstrap
        yield host
    finally:
        host.stop()
