"""How long nothing is written, or decided, after a kill -9 in a cluster: as a client sees it on the raw wire.

One producer sends one-record requests with acks=all, one after the other, to whoever leads; the figure is the
longest time between two acknowledgements while the kill happens. For the controller it is the time from the
signal until another broker names another leader of the quorum.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from perf import many, wire
from perf.batches import ONE_RECORD
from perf.measures import Figures
from perf.peers.cluster import Cluster, Kill
from perf.whereabouts import Guide, wait_until_whole

# not leader, time-out, too few in sync before and after, storage, older and newer epochs, unknown topic id
COMING = many.COMING | {19, 20, 56, 74, 75, 76, 100}
WRITES_BEFORE_S = 0.3
PATIENCE_S = 60.0
LOOK_S = 0.0005
ANSWER_S = 0.25  # an asked broker may itself wait for a controller


class Writer:
    """One request at a time to the leader of partition 0, wherever it goes."""

    def __init__(self, cluster: Cluster, guide: Guide, topic: str) -> None:
        self._brokers, self._guide, self._topic = cluster.brokers(), guide, topic
        self._frame = wire.produce_frame(topic, ONE_RECORD.data, -1, 0)
        self._connection: wire.Connection | None = None
        self._acknowledged_ns = 0
        self.longest_ns = 0

    def write(self) -> None:
        """Returns with the next acknowledgement; WireError when none comes."""
        give_up = time.monotonic() + PATIENCE_S
        while not self._try_once():
            if time.monotonic() > give_up:
                raise wire.WireError(f"{self._topic} cannot be written to")
            time.sleep(LOOK_S)
        now = time.perf_counter_ns()
        if self._acknowledged_ns:
            self.longest_ns = max(self.longest_ns, now - self._acknowledged_ns)
        self._acknowledged_ns = now

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.socket.close()
        self._connection = None

    def _try_once(self) -> bool:
        try:
            if self._connection is None:
                leader = self._guide.partition(self._topic, 0).leader
                if leader < 0:
                    return False
                self._connection = wire.Connection(self._brokers[leader])
            ((_, error),) = many.produce_errors(self._connection.ask(self._frame))
        except OSError:
            self.close()
            return False
        if not error:
            return True
        if error not in COMING:
            raise wire.WireError(f"{self._topic}: error {error}")
        self.close()
        return False


class Kind(NamedTuple):
    """One way to hurt a cluster: milliseconds that it costs."""

    name: str
    measure: Callable[[Cluster, Guide, str], float]


def pause_of_writes(cluster: Cluster, guide: Guide, topic: str, kill: Kill) -> float:
    """Milliseconds between the last acknowledgement before the kill and the first after it."""
    writer = Writer(cluster, guide, topic)
    begin = time.perf_counter()
    while time.perf_counter() - begin < WRITES_BEFORE_S:
        writer.write()
    writer.longest_ns = 0
    with ThreadPoolExecutor(1) as aside:
        killed = aside.submit(kill)
        try:
            while not killed.done():
                writer.write()
            killed.result()
            writer.write()  # sent when it was dead for certain
        finally:
            writer.close()
    return writer.longest_ns / 1e6


def leader_killed(cluster: Cluster, guide: Guide, topic: str) -> float:
    """Of the process that leads the partition."""
    leader = wait_until_whole(guide, topic, len(cluster.brokers())).leader
    return pause_of_writes(cluster, guide, topic, cluster.replica_killer(leader, topic, 0))


def broker_killed(cluster: Cluster, guide: Guide, topic: str) -> float:
    """Of the whole broker that leads the partition."""
    leader = wait_until_whole(guide, topic, len(cluster.brokers())).leader
    return pause_of_writes(cluster, guide, topic, cluster.broker_killer(leader))


def controller_killed(cluster: Cluster, guide: Guide, topic: str) -> float:
    """Milliseconds until another controller leads, as one of the other brokers says."""
    wait_until_whole(guide, topic, len(cluster.brokers()))
    old = guide.quorum().leader
    kill = cluster.controller_killer(old)
    begin = time.perf_counter_ns()
    kill()
    while guide.quorum(without=old, patience_s=ANSWER_S).leader in (-1, old):
        if time.perf_counter_ns() - begin > PATIENCE_S * 1e9:
            raise wire.WireError(f"nobody leads the quorum after {old}")
        time.sleep(LOOK_S)
    return (time.perf_counter_ns() - begin) / 1e6


KINDS = (
    Kind("leader process killed", leader_killed),
    Kind("broker killed", broker_killed),
    Kind("controller killed", controller_killed),
)


def failovers(cluster: Cluster, kind: Kind, topic: str, kills: int) -> Figures:
    """So many of one kind, each on a cluster that is whole again."""
    taken: list[float] = []
    with Guide(cluster.brokers()) as guide:
        for _ in range(kills):
            taken.append(kind.measure(cluster, guide, topic))
            cluster.revive()
        wait_until_whole(guide, topic, len(cluster.brokers()))
    taken.sort()
    p50, p99 = taken[len(taken) // 2], taken[min(len(taken) * 99 // 100, len(taken) - 1)]
    return {"p50 ms": p50, "p99 ms": p99, "slowest ms": taken[-1], "kills": float(kills)}
