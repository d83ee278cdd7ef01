"""Clients wait, and nobody polls, while descriptors are short."""

import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from resource import RLIMIT_NOFILE, getrlimit, setrlimit

from tests.unit.workers.gateway.in_process import InProcess, in_process


@contextmanager
def no_descriptor_left() -> Generator[None, None, None]:
    """This process cannot open anything."""
    limits = getrlimit(RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    setrlimit(RLIMIT_NOFILE, (lowest_free, limits[1]))
    try:
        yield
    finally:
        setrlimit(RLIMIT_NOFILE, limits)


def waiting(run: InProcess) -> socket.socket:
    """A client that nobody has accepted."""
    client = socket.create_connection(run.gateway.tcp_address, 20)
    run.clients.append(client)
    return client


def is_accepted(run: InProcess, client: socket.socket) -> bool:
    address = client.getsockname()
    return any(c.sock.getpeername()[:2] == address[:2] for c in run.gateway.connections.values())


def test_without_a_descriptor_the_listeners_are_not_watched_until_there_is_one(tmp_path: Path) -> None:
    with in_process(tmp_path / "data") as run:
        gateway = run.gateway
        client = waiting(run)
        with no_descriptor_left():
            gateway._turn_once(1.0)  # pyright: ignore[reportPrivateUsage]
            assert not is_accepted(run, client)
            assert gateway._listeners.is_short  # pyright: ignore[reportPrivateUsage]
            for _ in range(3):
                assert gateway.epoll.poll(0) == []  # the client in the queue is no event
                gateway._turn()  # pyright: ignore[reportPrivateUsage]
        while not is_accepted(run, client):
            gateway._turn()  # pyright: ignore[reportPrivateUsage]


def test_the_last_descriptors_are_kept_for_those_who_are_connected(tmp_path: Path) -> None:
    with in_process(tmp_path / "data") as run:
        listeners = run.gateway._listeners  # pyright: ignore[reportPrivateUsage]
        fd_max, listeners._fd_max = listeners._fd_max, 1  # pyright: ignore[reportPrivateUsage]
        first, second = waiting(run), waiting(run)
        for _ in range(4):
            run.gateway._turn()  # pyright: ignore[reportPrivateUsage]
        assert (is_accepted(run, first), is_accepted(run, second)) == (True, False)
        listeners._fd_max = fd_max  # pyright: ignore[reportPrivateUsage]
        while not is_accepted(run, second):
            run.gateway._turn()  # pyright: ignore[reportPrivateUsage]
