"""Many partitions and many connections: made, written to, held, come back to after kill -9.

Each peer runs alone, on storage of its own, since what a thousand partitions cost is looked at, not only what
is done with them. The peers take turns.
"""

import os
import selectors
import signal
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from perf import lifecycle, many, wire
from perf.batches import ONE_RECORD, batch_of_size
from perf.measures import Figures, quantiles
from perf.peers.peer import Endpoint, Peer
from perf.report import Report

SIXTEEN_KIB = batch_of_size(16 << 10, 1 << 10)

PARTITIONS, FEW, CONNECTIONS = 1_000, 8, 500
MANY_MORE = 4_000
SECONDS, IDLE_S, SETTLE_S, CROWD_S = 3.0, 5.0, 3.0, 5.0
GB = 1_000_000_000
MEASURED = {"quick": (GB // 10, GB), "full": (GB // 10, GB, 5 * GB, 10 * GB)}
KAFKA_MEASURED = {"quick": (GB,), "full": (5 * GB,)}

TOPICS, PARTS = "1,000 topics", "1 topic of 1,000"
ANSWERED, WRITABLE = "answered s", "writable s"
MEMORY, IDLE = "memory, 1,000 partitions", "idle, 1,000 partitions"
SPREAD, DROP = "16 KiB over {:,} partitions", "16 KiB, 1,000 partitions over 8"
CROWD = f"{CONNECTIONS} connections"
RESTART = "kill -9, {:g} GB"


def name(what: str) -> str:
    """As it stands in the table, and as --only finds it."""
    return f"scale: {what}"


NAMES = {
    *(name(f"{what}, {when}") for what in (TOPICS, PARTS) for when in ("answered", "writable")),
    *(name(what) for what in (MEMORY, IDLE, DROP)),
    *(name(RESTART.format(size / GB)) for size in MEASURED["full"]),
}  # that have targets


@contextmanager
def running(peer: Peer) -> Generator[Peer, None, None]:
    """The peer on empty storage, once it answers, until it is stopped. Its storage stays: ext4 is slow to
    make files where many were removed in the last minutes.
    """
    peer.start()
    try:
        lifecycle.wait_until_served(peer)
        yield peer
    finally:
        peer.stop()


def rounds(
    peers: dict[str, Callable[[Path], Peer]], names: list[str], folder: Path, form: str, report: Report
) -> None:
    """All of it for each peer; `form`: quick or full."""
    for peer_name in names:
        with running(peers[peer_name](folder / f"topics-{peer_name}")) as peer:
            topics(peer, report)
        with running(peers[peer_name](folder / f"partitions-{peer_name}")) as peer:
            partitions(peer, form, report)
        if form == "full" and peer_name == "tailrace":
            with running(peers[peer_name](folder / f"more-{peer_name}")) as peer:
                many_more(peer, report)
    _drops(names, report)


def topics(peer: Peer, report: Report) -> None:
    """A thousand topics of one partition; what they take when all have been written to."""
    parts = [(f"topic-{number:04}", 0) for number in range(PARTITIONS)]
    _add_made(TOPICS, made(peer, [(topic, 1) for topic, _ in parts], parts), peer, report)
    time.sleep(SETTLE_S)
    report.add(name(MEMORY), "PSS MB", peer.name, "tcp", lifecycle.memory(peer))
    report.add(name(IDLE), "idle CPU %", peer.name, "tcp", lifecycle.idle([peer], IDLE_S)[peer.name])


def partitions(peer: Peer, form: str, report: Report) -> None:
    """A topic of a thousand partitions beside one of eight; a crowd; restarts, with more data each time."""
    parts = [("large", number) for number in range(PARTITIONS)]
    _add_made(PARTS, made(peer, [("large", PARTITIONS)], parts), peer, report)
    endpoint = peer.endpoints()["tcp"]
    made(peer, [("small", FEW)], [("small", number) for number in range(FEW)])
    for _ in range(3):
        for topic, count in (("small", FEW), ("large", PARTITIONS)):
            os.sync()
            figures = many.throughput(endpoint, topic, count, SIXTEEN_KIB, SECONDS)
            report.add(name(SPREAD.format(count)), "MB/s", peer.name, "tcp", figures)
    figures = crowd(endpoint) | lifecycle.memory(peer)
    report.add(name(CROWD), "p99 us", peer.name, "tcp", figures)
    for topic in ("small", "large"):
        with wire.Connection(endpoint) as connection:
            wire.delete_topic(connection, topic)
    restarts(peer, (KAFKA_MEASURED if peer.name == "kafka" else MEASURED)[form], report)


def restarts(peer: Peer, sizes: tuple[int, ...], report: Report) -> None:
    """Fill a new topic up to each size; after each, kill -9 and start."""
    parts = [("filled", number) for number in range(PARTITIONS)]
    made(peer, [("filled", PARTITIONS)], parts)
    filled = 0
    for size in sizes:
        many.Filler(peer.endpoints()["tcp"], "filled", PARTITIONS, SIXTEEN_KIB).fill(size - filled)
        filled = size
        os.sync()
        report.add(name(RESTART.format(size / GB)), "s", peer.name, "tcp", restart(peer, parts))


def many_more(peer: Peer, report: Report) -> None:
    """4,000 partitions: made, held, come back to."""
    parts = [("more", number) for number in range(MANY_MORE)]
    _add_made(f"1 topic of {MANY_MORE:,}", made(peer, [("more", MANY_MORE)], parts), peer, report)
    time.sleep(SETTLE_S)
    text = f"{MANY_MORE:,} partitions"
    report.add(name(f"memory, {text}"), "PSS MB", peer.name, "tcp", lifecycle.memory(peer))
    report.add(
        name(f"idle, {text}"), "idle CPU %", peer.name, "tcp", lifecycle.idle([peer], IDLE_S)[peer.name]
    )
    report.add(name(f"kill -9, {text}"), "s", peer.name, "tcp", restart(peer, parts))


def made(peer: Peer, topics: Sequence[tuple[str, int]], parts: Sequence[many.Part]) -> Figures:
    """Seconds until the creation is answered, and until a batch is acknowledged for each partition."""
    with wire.Connection(peer.endpoints()["tcp"]) as connection:
        begin = time.perf_counter()
        many.create(connection, topics)
        answered = time.perf_counter()
        many.write_to_all(connection, parts, ONE_RECORD)
        return {ANSWERED: answered - begin, WRITABLE: time.perf_counter() - begin}


def _add_made(what: str, figures: Figures, peer: Peer, report: Report) -> None:
    for figure in (ANSWERED, WRITABLE):
        report.add(name(f"{what}, {figure[:-2]}"), figure, peer.name, "tcp", figures)


def restart(peer: Peer, parts: Sequence[many.Part]) -> Figures:
    """kill -9 of all that it is, then seconds from the start: until one partition is written to and read,
    and until all are written to.
    """
    os.kill(peer.pid, signal.SIGKILL)
    peer.stop()
    topic, index = parts[len(parts) // 2]
    begin = time.perf_counter()
    peer.start()
    endpoint = peer.endpoints()["tcp"]
    with lifecycle.connect(endpoint, begin + many.PATIENCE_S) as connection:
        many.write_to_all(connection, [(topic, index)], ONE_RECORD)
        written = time.perf_counter()
        _read_first(connection, topic, index)
        read = time.perf_counter()
        many.write_to_all(connection, parts, ONE_RECORD)
        return {"s": read - begin, "first produce s": written - begin, "all s": time.perf_counter() - begin}


def _read_first(connection: wire.Connection, topic: str, index: int) -> None:
    give_up = time.perf_counter() + many.PATIENCE_S
    while True:
        fetched = wire.fetch_response(connection.ask(wire.fetch_frame(topic, 0, 1, index=index)))
        if not fetched.error_code and fetched.length:
            return
        if fetched.error_code not in many.COMING or time.perf_counter() > give_up:
            raise wire.WireError(f"{topic}-{index} cannot be read: error {fetched.error_code}")
        time.sleep(0.002)


def crowd(endpoint: Endpoint) -> Figures:
    """Connections at once, each with a partition of its own, each sending one record after the answer to the
    last; every other one reads it back in between. Latency of all requests.
    """
    selector, taken = selectors.DefaultSelector(), list[int]()
    clients = [_Client(endpoint, number) for number in range(CONNECTIONS)]
    for client in clients:
        selector.register(client.connection.socket, selectors.EVENT_READ, client)
        client.ask()
    stop, waiting = time.perf_counter() + CROWD_S, len(clients)
    while waiting:
        for key, _ in selector.select(10):
            client = key.data
            taken.append(client.take())
            if time.perf_counter() < stop:
                client.ask()
            else:
                waiting -= 1
    for client in clients:
        client.connection.socket.close()
    selector.close()
    return quantiles(taken, CROWD_S)


class _Client:
    """One of the crowd."""

    def __init__(self, endpoint: Endpoint, number: int) -> None:
        self.connection = wire.Connection(endpoint)
        self._produce = many.produce_frame([(("large", number), ONE_RECORD.data)])
        self._fetch = wire.fetch_frame("large", 0, 1, index=number)
        self._reads = bool(number % 2)
        self._turn = 0
        self._asked_ns = 0

    def ask(self) -> None:
        """Send the next request."""
        self._turn += self._reads
        self._asked_ns = time.perf_counter_ns()
        self.connection.socket.sendall(self._fetch if self._turn % 2 else self._produce)

    def take(self) -> int:
        """Read and check the answer; nanoseconds since it was asked for."""
        answer = self.connection.read_frame()
        taken = time.perf_counter_ns() - self._asked_ns
        if self._turn % 2:
            fetched = wire.fetch_response(answer)
            code = fetched.error_code or (0 if fetched.length else -1)
        else:
            code = sum(code for _, code in many.produce_errors(answer))
        if code:
            raise wire.WireError(f"one of {CONNECTIONS} connections: error {code}")
        return taken


def _drops(names: list[str], report: Report) -> None:
    """What is left of the throughput with eight partitions."""
    for peer_name in names:
        few, thousand = (report.median(name(SPREAD.format(n)), peer_name, "tcp") for n in (FEW, PARTITIONS))
        assert few is not None
        assert thousand is not None
        report.add(name(DROP), "ratio", peer_name, "tcp", {"ratio": thousand / few})
