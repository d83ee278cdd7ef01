"""Records that are on the disk when they are acknowledged: flush.policy=group and each beside Apache Kafka
with log.flush.interval.messages=1, from one client and from many at once.
"""

import os
import select
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from perf import lifecycle, wire
from perf.batches import Batch
from perf.measures import Figures, new_topic, quantiles
from perf.peers.peer import Endpoint, Peer
from perf.report import Report

CLIENTS = (1, 5, 100)
NAME = "on the disk"
SECONDS = 1.5
POLICIES = ("group", "each")
EVERY_RECORD = {"log.flush.interval.messages": "1"}
FIGURES = ("requests/s", "p50 us", "p99 us")

MakePeer = Callable[[Path, dict[str, str]], Peer]


def produce(endpoint: Endpoint, batch: Batch, clients: int, seconds: float) -> Figures:
    """So many connections, each with one acks=all request on the way at any time, to one partition."""
    topic = new_topic()
    frame, response = wire.produce_frame(topic, batch.data, -1, 0), wire.ProduceResponse.of(topic)
    with ExitStack() as stack:
        connections = [stack.enter_context(wire.Connection(endpoint)) for _ in range(clients)]
        wire.create_topic(connections[0], topic)
        poll = stack.enter_context(select.epoll())
        by_fd = {connection.socket.fileno(): connection for connection in connections}
        sent_at: dict[int, int] = {}
        taken: list[int] = []
        clock = time.perf_counter_ns
        begin = clock()
        stop = begin + int(seconds * 1e9)
        for fd, connection in by_fd.items():
            poll.register(fd, select.EPOLLIN)
            sent_at[fd] = clock()
            connection.socket.sendall(frame)
        while sent_at:
            for fd, _ in poll.poll():
                connection = by_fd[fd]
                connection.read_exactly(0, response.size)
                _, _, error, _ = response.fields.unpack(connection.view[: response.size])
                if error:
                    raise wire.WireError(f"error {error}")
                now = clock()
                taken.append(now - sent_at[fd])
                if now < stop:
                    sent_at[fd] = now
                    connection.socket.sendall(frame)
                else:
                    del sent_at[fd]
        figures = quantiles(taken, (clock() - begin) / 1e9)
        wire.delete_topic(connections[0], topic)
    return figures


def rounds(
    make: dict[str, MakePeer], names: list[str], folder: Path, batch: Batch, count: int, report: Report
) -> None:
    """Each of them in turn, round after round; Kafka's figures stand beside both policies."""
    peers: list[tuple[tuple[str, ...], Peer]] = []
    if "kafka" in names:
        peers.append((POLICIES, make["kafka"](folder / "durable-kafka", EVERY_RECORD)))
    if "tailrace" in names:
        peers += [
            ((policy,), make["tailrace"](folder / f"durable-{policy}", {"flush.policy": policy}))
            for policy in POLICIES
        ]
    try:
        for _, peer in peers:
            lifecycle.start_up(peer, batch)
        for number in range(-1, count):  # the first round warms
            for clients in CLIENTS:
                for policies, peer in peers if number % 2 else reversed(peers):
                    os.sync()
                    figures = produce(peer.endpoints()["tcp"], batch, clients, SECONDS)
                    if number >= 0:
                        _add(report, policies, clients, peer.name, figures)
        print(f"{count} rounds with records on the disk done", file=sys.stderr)
    finally:
        for _, peer in peers:
            peer.stop()


def _add(report: Report, policies: tuple[str, ...], clients: int, peer: str, figures: Figures) -> None:
    for policy in policies:
        for figure in FIGURES:
            name = f"{NAME}, {policy}, {clients} in flight, {figure.split()[0]}"
            report.add(name, figure, peer, "tcp", figures)
