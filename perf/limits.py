"""A good client beside bad neighbours: how much longer its requests take, at the 99th percentile.

The neighbours are a process of their own (`python -m perf.limits NAME HOST PORT`), on and off in turn, so
that what the machine does meanwhile falls on both sides. A figure is the time with them over that without.
"""

import os
import resource
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from itertools import cycle
from pathlib import Path

from perf import wire
from perf.batches import ONE_RECORD, batch_of_size
from perf.measures import Figures, new_topic
from perf.peers.peer import Endpoint, Tcp

ONE_MIB = batch_of_size(1 << 20, 1 << 10)
TURNS, TURN_S, SETTLE_S = 3, 0.7, 0.1
FIGURE = "p99 x quiet"
PATIENCE_S = 60.0
SEGMENT_BYTES, COLD_BYTES = 64 << 20, 1 << 30
VERSIONS = wire.frame((18, 0), b"", flexible=False)
DESCRIBE_LOG_DIRS = (35, 1)

Neighbours = Callable[[Tcp], Callable[[], None]]
"""Connects, and returns what is done again and again."""


def beside(endpoint: Endpoint, name: str) -> Figures:
    """Single produce and fetch requests in turn, with and without these neighbours."""
    assert isinstance(endpoint, Tcp)
    quiet, loud = _Taken(), _Taken()
    topic = new_topic()
    with wire.Connection(endpoint, 1 << 17) as connection, _prepared(name, endpoint) as argument:
        wire.create_topic(connection, topic)
        good = _Good(connection, topic)
        good.run(_Taken(), TURN_S)
        for _ in range(TURNS):
            good.run(quiet, TURN_S)
            with _neighbours(name, endpoint, argument):
                good.run(_Taken(), SETTLE_S)
                good.run(loud, TURN_S)
        wire.delete_topic(connection, topic)
    figures = {f"{side} {what} p99 us": _p99(times) / 1000
               for side, taken in (("quiet", quiet), ("loud", loud))
               for what, times in (("produce", taken.produce), ("fetch", taken.fetch))}  # fmt: skip
    figures[FIGURE] = max(
        figures[f"loud {what} p99 us"] / figures[f"quiet {what} p99 us"] for what in ("produce", "fetch")
    )
    return figures


def _p99(times: list[int]) -> int:
    return sorted(times)[len(times) * 99 // 100]


class _Taken:
    """Nanoseconds of each request."""

    def __init__(self) -> None:
        self.produce: list[int] = []
        self.fetch: list[int] = []


class _Good:
    """Writes a record, reads it, and so on."""

    def __init__(self, connection: wire.Connection, topic: str) -> None:
        self._connection, self._topic = connection, topic
        self._frame = wire.produce_frame(topic, ONE_RECORD.data, -1, 0)
        self._response = wire.ProduceResponse.of(topic)
        self._offset = 0

    def run(self, taken: _Taken, seconds: float) -> None:
        """For so long."""
        connection, clock = self._connection, time.perf_counter_ns
        stop = clock() + int(seconds * 1e9)
        end = 0
        while end < stop:
            begin = clock()
            connection.socket.sendall(self._frame)
            connection.read_exactly(0, self._response.size)
            end = clock()
            taken.produce.append(end - begin)
            _, _, error, offset = self._response.fields.unpack(connection.view[: self._response.size])
            if error or offset != self._offset:
                raise wire.WireError(f"error {error}, base offset {offset} for {self._offset}")
            fetch = wire.fetch_frame(self._topic, offset, 1 << 16)
            begin = clock()
            answer = connection.ask(fetch)
            end = clock()
            taken.fetch.append(end - begin)
            fetched = wire.fetch_response(answer)
            if fetched.error_code or fetched.length != len(ONE_RECORD.data):
                raise wire.WireError(f"fetch: error {fetched.error_code}, {fetched.length} bytes")
            self._offset += ONE_RECORD.records


@contextmanager
def _neighbours(name: str, endpoint: Tcp, argument: str) -> Generator[None, None, None]:
    command = [sys.executable, "-m", "perf.limits", name, endpoint.host, str(endpoint.port), argument]
    root = Path(__file__).parents[1]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"the neighbours ({name}) did not come")
        yield
        process.stdin.close()
        if process.wait(PATIENCE_S):
            raise RuntimeError(f"the neighbours ({name}) failed")


@contextmanager
def _prepared(name: str, endpoint: Tcp) -> Generator[str, None, None]:
    """What some neighbours read: a topic, full of large batches; nothing for the others."""
    size = {"slow readers": 64 << 20, "a cold reader": COLD_BYTES}.get(name)
    if size is None:
        yield ""
        return
    topic = new_topic()
    with wire.Connection(endpoint) as connection:
        body = struct.pack(">i", 1) + wire.string(topic) + struct.pack(">ihii", 1, 1, 0, 1)
        body += wire.string("segment.bytes") + wire.string(str(SEGMENT_BYTES))
        connection.ask(wire.frame((19, 4), body + struct.pack(">ib", 30_000, 0), flexible=False))
        frame = wire.produce_frame(topic, ONE_MIB.data, -1, 0)
        response = wire.ProduceResponse.of(topic)
        offset = 0
        while offset < ONE_MIB.records * (size >> 20):
            connection.socket.sendall(frame)
            connection.read_exactly(0, response.size)
            _, _, error, _ = response.fields.unpack(connection.view[: response.size])
            if error not in (0, *wire.RETRIABLE):
                raise wire.WireError(f"filling {topic}: error {error}")
            offset += 0 if error else ONE_MIB.records
        yield topic
        wire.delete_topic(connection, topic)


# -- the neighbours


def _dial(endpoint: Tcp) -> socket.socket:
    return socket.create_connection((endpoint.host, endpoint.port), PATIENCE_S)


def _slow_readers(endpoint: Tcp, topic: str) -> Callable[[], None]:
    """Ask for 1 MiB again and again, and read next to nothing."""
    clients = [_dial(endpoint) for _ in range(20)]
    for client in clients:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        client.sendall(wire.fetch_frame(topic, 0, 1 << 20) * 50)

    turn = cycle(clients)

    def go_on() -> None:
        next(turn).recv(4096)
        time.sleep(0.001)

    return go_on


def _idle(endpoint: Tcp, _: str) -> Callable[[], None]:
    """2,000 that have said hello."""
    clients = [_dial(endpoint) for _ in range(2000)]
    for client in clients:
        client.sendall(VERSIONS)
    for client in clients:
        client.recv(1 << 16)

    def go_on() -> None:
        assert len(clients) == 2000
        time.sleep(0.05)

    return go_on


def _half_open(endpoint: Tcp, _: str) -> Callable[[], None]:
    """200 that began a request of 1 MiB; 50 of them send a byte now and then, none ever the whole."""
    clients = [_dial(endpoint) for _ in range(200)]
    for number, client in enumerate(clients):
        client.sendall((1 << 20).to_bytes(4) + bytes.fromhex("00000009000000010000") + bytes(number))

    turn = cycle(clients[:50])

    def go_on() -> None:
        with suppress(OSError):
            next(turn).sendall(b"\0")
        time.sleep(0.001)

    return go_on


def _connects(says_hello: bool) -> Callable[[Tcp, str], Callable[[], None]]:
    def begin(endpoint: Tcp, _: str) -> Callable[[], None]:
        """500 connections a second, closed again at once or after an answer."""
        begun, count = time.perf_counter(), 0

        def go_on() -> None:
            nonlocal count
            with _dial(endpoint) as client:
                if says_hello:
                    client.sendall(VERSIONS)
                    client.recv(1 << 16)
            count += 1
            time.sleep(max(0.0, begun + count / 500 - time.perf_counter()))

        return go_on

    return begin


def _flood(endpoint: Tcp, _: str) -> Callable[[], None]:
    """Ten with a hundred produce requests of one record under way each, 5,000 requests a second in all."""
    topic = f"flood-{os.getpid()}"
    connections = [wire.Connection(endpoint, 1 << 20) for _ in range(10)]
    wire.create_topic(connections[0], topic)
    run = wire.produce_frame(topic, ONE_RECORD.data, -1, 0) * 100
    by_fd = {connection.socket.fileno(): connection for connection in connections}
    readable = select.poll()
    for fd in by_fd:
        readable.register(fd, select.POLLIN)
    begun, count = time.perf_counter(), 0

    def go_on() -> None:
        nonlocal count
        for connection in connections:
            connection.socket.sendall(run)
            for fd, _ in readable.poll(0):
                by_fd[fd].socket.recv(1 << 20)
            count += 100
            time.sleep(max(0.0, begun + count / 5000 - time.perf_counter()))

    return go_on


def _cold_reader(endpoint: Tcp, topic: str) -> Callable[[], None]:
    """Reads a log that is not in the page cache, from its start to its end."""
    connection = wire.Connection(endpoint, 4 << 20)
    answer = connection.ask(wire.frame(DESCRIBE_LOG_DIRS, struct.pack(">i", -1), flexible=False))
    (length,) = struct.unpack_from(">h", answer, 4 + 4 + 4 + 2)
    folder = Path(bytes(answer[16 : 16 + length]).decode()) / f"{topic}-0"
    offset = 0

    def forget() -> None:
        for path in folder.glob("*.*"):
            fd = os.open(path, os.O_RDWR)
            os.fdatasync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)

    def go_on() -> None:
        nonlocal offset
        answer = connection.ask(wire.fetch_frame(topic, offset, 1 << 20))
        fetched = wire.fetch_response(answer)
        after = wire.next_offset(answer, fetched.start, fetched.length)
        offset = after
        if fetched.error_code or after >= ONE_MIB.records * ((COLD_BYTES >> 20) - (SEGMENT_BYTES >> 20)):
            forget()
            offset = 0

    forget()
    return go_on


NEIGHBOURS: dict[str, Callable[[Tcp, str], Callable[[], None]]] = {
    "slow readers": _slow_readers,
    "2,000 idle connections": _idle,
    "200 half-open frames": _half_open,
    "500 connects/s": _connects(says_hello=False),
    "500 connects and hellos/s": _connects(says_hello=True),
    "pipelined floods": _flood,
    "a cold reader": _cold_reader,
}


def main() -> None:
    """The neighbours' process: until its input ends."""
    name, host, port, argument = sys.argv[1:]
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    go_on = NEIGHBOURS[name](Tcp(host, int(port)), argument)
    print("ready", flush=True)
    poll = select.poll()
    poll.register(0, select.POLLIN | select.POLLHUP)
    while not poll.poll(0):
        go_on()


if __name__ == "__main__":
    main()
