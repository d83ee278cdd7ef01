"""Descriptors run out: who is connected keeps its service, who comes waits, and is served when one goes."""

import contextlib
import resource
import socket
from collections.abc import Generator
from pathlib import Path

import pytest

from perf import wire
from perf.peers import tailrace
from perf.peers.tailrace import Tailrace
from perf.processes import tree
from tests.support.waiting import wait_until

LIMIT = 128
CLIENTS = 90  # more than there are descriptors, fewer than that and the kernel's queue
VERSIONS = wire.frame((18, 0), b"", flexible=False)


def limit_of(pid: int) -> tuple[int, int]:
    """A process's soft and hard limit on open files."""
    return resource.prlimit(pid, resource.RLIMIT_NOFILE)


@contextlib.contextmanager
def started(path: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> Generator[Tailrace, None, None]:
    """A broker after `ulimit LIMIT`."""
    command = path / "limited"
    command.write_text(f'#!/bin/sh\nulimit {limit} && exec "{tailrace.COMMAND}" "$@"\n')
    command.chmod(0o755)
    monkeypatch.setattr(tailrace, "COMMAND", command)
    broker = Tailrace(path, {"workers.max": "4"})
    broker.start()
    try:
        assert broker.bootstrap
        yield broker
    finally:
        broker.stop()


def test_the_soft_limit_is_raised_to_the_hard_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with started(tmp_path, monkeypatch, "-S -n 200") as broker:
        for pid in tree(broker.pid):
            soft, hard = limit_of(pid)
            assert soft == hard > 200


def is_answered(client: socket.socket) -> bool:
    """Whether there is an answer by now."""
    try:
        return bool(client.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


def test_clients_beyond_the_last_descriptor_wait_for_those_before_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with started(tmp_path, monkeypatch, f"-n {LIMIT}") as broker, contextlib.ExitStack() as stack:
        assert {limit_of(pid) for pid in tree(broker.pid)} == {(LIMIT, LIMIT)}
        good = stack.enter_context(wire.Connection(broker.endpoints()["tcp"]))
        wire.create_topic(good, "before")
        clients = [
            stack.enter_context(socket.create_connection(wire.address(broker.bootstrap), 20))
            for _ in range(CLIENTS)
        ]
        for client in clients:
            client.sendall(VERSIONS)
            client.setblocking(False)
        wait_until(lambda: is_answered(clients[0]), "the first client's answer")
        wire.create_topic(good, "meanwhile")  # a log and a worker that need descriptors of their own
        good.ask(VERSIONS)
        assert not is_answered(clients[-1])
        for client in clients[:-1]:
            client.close()
        wait_until(lambda: is_answered(clients[-1]), "the last client's answer")
