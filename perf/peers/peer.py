"""What a workload needs to know about a broker under test."""

import socket
import subprocess
from pathlib import Path
from typing import NamedTuple, Protocol


class Tcp(NamedTuple):
    """An address a TCP client dials."""

    host: str
    port: int


Endpoint = Tcp | Path


class Peer(Protocol):
    """One broker that can be started, measured and stopped. Its data lives in a directory of its own."""

    name: str
    directory: Path

    def start(self) -> None:
        """Start the broker's processes; returns at once, before it serves."""
        ...

    def stop(self) -> None:
        """Stop it in order and wait until it is gone."""
        ...

    def endpoints(self) -> dict[str, Endpoint]:
        """Where it listens, by the name of the transport: tcp, unix."""
        ...

    @property
    def pid(self) -> int:
        """The process all others of this broker descend from."""
        ...


def free_port() -> int:
    """A TCP port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def stop_process(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """SIGTERM, a time to finish, SIGKILL."""
    process.terminate()
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
