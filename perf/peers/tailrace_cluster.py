"""Tailrace with three brokers, started as a user starts it: one command, three ports side by side."""

import json
import socket
import subprocess
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from perf import processes
from perf.peers.cluster import BROKERS, SETTINGS, Kill
from perf.peers.peer import Tcp, free_port
from perf.peers.tailrace import COMMAND, Tailrace

FIRST_ID = 0  # ids and the numbers that `tailrace status` shows are the same then
NOT_WORKERS = ("supervisor", "controller", "gateway", "housekeeper")


class TailraceCluster:
    """Brokers 0 to 2. With `sync_delay_ms` every fsync and fdatasync takes so much longer."""

    name = "tailrace"

    def __init__(
        self, directory: Path, settings: dict[str, str] | None = None, sync_delay_ms: float = 0.0
    ) -> None:
        self.directory = directory
        self._port = free_ports(BROKERS)
        together = {**SETTINGS, "brokers": str(BROKERS), "node.id": str(FIRST_ID), **(settings or {})}
        self._host = Tailrace(directory, together, self._port, sync_delay_ms)
        self._killed: set[int] = set()

    @property
    def data(self) -> Path:
        """Where the directories of all brokers are."""
        return self._host.data

    def start(self) -> None:
        """Start the supervisor, which starts the rest."""
        self._host.start()

    def wait_until_ready(self) -> None:
        """Returns once all brokers serve."""
        assert self._host.bootstrap

    def stop(self) -> None:
        """Stop the supervisor, and with it the rest."""
        self._host.stop()

    def brokers(self) -> dict[int, Tcp]:
        """The first at the port given, the others at those after it."""
        return {FIRST_ID + number: Tcp("127.0.0.1", self._port + number) for number in range(BROKERS)}

    def roots(self) -> list[int]:
        """The supervisor."""
        return [self._host.pid]

    def replica_killer(self, broker_id: int, topic: str, partition: int) -> Kill:
        """For the worker that has the partition."""
        for process in self._processes(broker_id):
            holds = any(
                (own["topic"], own["partition"]) == (topic, partition) for own in process["partitions"]
            )
            if holds and process["role"] not in NOT_WORKERS:
                return partial(processes.kill, [process["pid"]])
        raise LookupError(f"no worker of broker {broker_id} holds {topic}-{partition}")

    def controller_killer(self, broker_id: int) -> Kill:
        """For its controller's process."""
        found = [process["pid"] for process in self._processes(broker_id) if process["role"] == "controller"]
        return partial(processes.kill, found)

    def broker_killer(self, broker_id: int) -> Kill:
        """The command that kills it and keeps the supervisor from starting it again."""

        def kill() -> None:
            self._run("broker", "kill", str(broker_id))
            self._killed.add(broker_id)

        return kill

    def revive(self, broker_id: int | None = None) -> None:
        """Start the brokers that were killed as a whole; what was killed alone is started again by itself."""
        for killed in sorted(self._killed):
            if broker_id in (None, killed):
                self._run("broker", "start", str(killed))
                self._killed.discard(killed)

    def _processes(self, broker_id: int) -> list[dict[str, Any]]:
        status = json.loads(self._run("status", "-o", "json"))
        found: list[dict[str, Any]] = status["processes"]
        return [process for process in found if process["broker"] == broker_id]

    def _run(self, *words: str) -> str:
        command = [str(COMMAND), *words, "--data", str(self._host.data)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def free_ports(count: int) -> int:
    """The first of so many ports side by side at which nobody listens now."""
    while True:
        first = free_port()
        with ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except (OSError, OverflowError):
                continue
            return first
