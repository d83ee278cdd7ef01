"""A crew of producers and readers on one topic while a cluster is hurt, and the verdict in the end."""

from collections.abc import Callable, Mapping
from contextlib import closing
from itertools import cycle, islice

from perf import wire
from perf.peers.cluster import Cluster, Kill
from perf.peers.peer import Tcp
from perf.whereabouts import Guide, wait_until_whole
from tests.support.history_check import Fault, History, Record, Summary
from tests.support.history_clients import (
    PATIENCE_S,
    Client,
    ConfluentProducer,
    ConfluentReader,
    RawProducer,
    RawReader,
    Routes,
    fetch,
)
from tests.support.waiting import wait_until

LAGGING_MAX = 1_000  # answers without anything new, before a replica that ends early is believed


class Crew:
    """Producers and readers of both kinds. The topic is there, and has `replicas` of each partition."""

    def __init__(
        self,
        brokers: Mapping[int, Tcp],
        topic: str,
        partitions: int,
        replicas: int,
        producers: int = 2,
    ) -> None:
        """`producers`: so many of each kind."""
        self.brokers, self.topic, self.replicas = dict(brokers), topic, replicas
        self.history = history = History(2 * producers, partitions)
        bootstrap = ",".join(f"{address.host}:{address.port}" for address in brokers.values())
        self._producers: list[Client] = [
            *(RawProducer(number, history, brokers, topic) for number in range(producers)),
            *(
                ConfluentProducer(producers + number, history, bootstrap, topic)
                for number in range(producers)
            ),
        ]
        self._readers: list[Client] = [
            RawReader(0, history, brokers, topic),
            ConfluentReader(1, history, bootstrap, topic),
            *(RawReader(2 + number, history, brokers, topic, number) for number in range(1, replicas)),
        ]
        self._next_reader = 2 + replicas

    def __enter__(self) -> "Crew":
        for client in (*self._producers, *self._readers):
            client.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop(self._producers)
        self._stop(self._readers)

    def goes_on(self, records: int) -> None:
        """Wait until so many more are acknowledged, or something is wrong."""
        history = self.history
        wanted = history.acknowledged + records
        wait_until(
            lambda: history.complaints or history.acknowledged >= wanted,
            f"{records} acknowledged records",
            PATIENCE_S,
        )
        assert not history.complaints, history.complaints[:3]

    def stop_producing(self) -> None:
        """Nobody writes when this returns, and nothing is under way."""
        self._stop(self._producers)

    def finish(self) -> tuple[list[Fault], Summary]:
        """Stop, wait until the cluster is whole, read each replica; what is wrong, and how much there was."""
        self.stop_producing()
        with Guide(self.brokers) as guide:
            if self.replicas > 1:
                wait_until_whole(guide, self.topic, self.replicas, self.history.partitions)
        self._stop(self._readers)
        for replica in range(self.replicas) if self.replicas > 1 else ():
            for partition, records in enumerate(self.stored(replica)):
                for offset, record in records:
                    self.history.read(self._next_reader, partition, offset, record)
            self._next_reader += 1
        return self.history.faults(self.stored()), self.history.summary()

    def stored(self, replica: int = -1) -> list[list[tuple[int, Record]]]:
        """All that the leader of each partition, or the replica at a place in its list, has."""
        with closing(Routes(self.brokers, self.topic, replica)) as routes:
            return [self._stored_in(routes, partition) for partition in range(self.history.partitions)]

    def _stored_in(self, routes: Routes, partition: int) -> list[tuple[int, Record]]:
        """Up to the high watermark; one that is behind what is known by others is waited for."""
        found: list[tuple[int, Record]] = []
        known = self.history.end(partition)
        lagging = 0

        def ended() -> bool:
            nonlocal lagging
            offset = found[-1][0] + 1 if found else 0
            more, high_watermark = fetch(routes, self.topic, partition, offset)
            found.extend(more)
            at_end = not more and 0 <= high_watermark <= offset
            lagging = lagging + 1 if at_end else 0
            return at_end and (offset >= known or lagging > LAGGING_MAX)

        wait_until(ended, f"the end of partition {partition}", PATIENCE_S)
        return found

    def _stop(self, clients: list[Client]) -> None:
        for client in clients:
            client.stopping.set()
        for client in clients:
            if client.is_alive():
                client.join()


Choose = Callable[[Cluster, Guide, str], tuple[str, Kill]]
"""Who is to be killed, in words, and what does it."""


def _leader(cluster: Cluster, guide: Guide, topic: str) -> tuple[str, Kill]:
    leader = guide.partition(topic, 0).leader
    return f"leader process in {leader}", cluster.replica_killer(leader, topic, 0)


def _follower(cluster: Cluster, guide: Guide, topic: str) -> tuple[str, Kill]:
    part = guide.partition(topic, 0)
    follower = next(replica for replica in part.replicas if replica != part.leader)
    return f"follower process in {follower}", cluster.replica_killer(follower, topic, 0)


def _controller(cluster: Cluster, guide: Guide, topic: str) -> tuple[str, Kill]:
    del topic
    leader = guide.quorum().leader
    return f"controller {leader}", cluster.controller_killer(leader)


def _broker(cluster: Cluster, guide: Guide, topic: str) -> tuple[str, Kill]:
    leader = guide.partition(topic, 0).leader
    return f"broker {leader}", cluster.broker_killer(leader)


DEATHS: tuple[Choose, ...] = (_leader, _controller, _broker, _follower)


def killed_in_a_loop(
    cluster: Cluster, kills: int, partitions: int, records: int
) -> tuple[list[Fault], Summary]:
    """Kill -9 of every kind in turn under a crew, on a cluster that serves. After each kill `records`
    more are acknowledged before what was killed is started; all replicas are in sync before the next.
    """
    brokers, topic = cluster.brokers(), "history"
    with wire.Connection(next(iter(brokers.values()))) as connection:
        wire.create_topic(connection, topic, partitions, replicas=list(brokers))
    with Crew(brokers, topic, partitions, len(brokers)) as crew, Guide(brokers) as guide:
        crew.goes_on(records)
        for number, choose in enumerate(islice(cycle(DEATHS), kills), 1):
            wait_until_whole(guide, topic, len(brokers), partitions)
            who, kill = choose(cluster, guide, topic)
            print(f"kill {number}: {who}, {crew.history.acknowledged} records acknowledged", flush=True)
            kill()
            crew.goes_on(records)
            cluster.revive()
        return crew.finish()
