"""What a broker costs before, between and after the work: start-up, memory, idle time."""

import time

from perf import processes, wire
from perf.batches import Batch
from perf.measures import Figures, Pipeline, new_topic
from perf.peers.peer import Endpoint, Peer, Tcp

START_PATIENCE_S = 60.0
FIRST_SECONDS = 3.0


def connect(endpoint: Endpoint, give_up: float) -> wire.Connection:
    """Dial until someone answers."""
    while True:
        try:
            return wire.Connection(endpoint)
        except OSError:
            if time.perf_counter() > give_up:
                raise
            time.sleep(0.002)


def start_up(peer: Peer, batch: Batch) -> Figures:
    """Seconds from spawning the broker to the first acknowledged record; requests in the 3 s after that.

    The broker's storage is made; its first topic is not.
    """
    begin = time.perf_counter()
    peer.start()
    endpoint = peer.endpoints()["tcp"]
    assert isinstance(endpoint, Tcp)
    with connect(endpoint, begin + START_PATIENCE_S) as connection:
        topic = new_topic()
        wire.create_topic(connection, topic)
        pipeline = Pipeline(connection, topic, batch, acks=-1, in_flight=5)
        pipeline.run(0, 0)
        first = time.perf_counter() - begin
        requests, _ = pipeline.run(FIRST_SECONDS, 1 << 40)
    return {"first produce s": first, "requests in 3 s": float(requests)}


def memory(peer: Peer) -> Figures:
    """Proportional set size of all its processes in MB."""
    used = processes.memory(peer.pid)
    return {"PSS MB": used.total / 1e6, "of it files MB": used.file / 1e6}


def idle(peers: list[Peer], seconds: float) -> dict[str, Figures]:
    """Share of one processor that each takes while nobody asks it anything."""
    before = {peer.name: processes.processor_seconds(peer.pid) for peer in peers}
    begin = time.perf_counter()
    time.sleep(seconds)
    taken = time.perf_counter() - begin
    after = {peer.name: processes.processor_seconds(peer.pid) for peer in peers}
    return {name: {"idle CPU %": (after[name] - before[name]) / taken * 100} for name in after}


def wait_until_served(peer: Peer) -> None:
    """Wait until the broker answers a request."""
    with connect(peer.endpoints()["tcp"], time.perf_counter() + START_PATIENCE_S) as connection:
        connection.ask(wire.frame((18, 0), b"", flexible=False))
