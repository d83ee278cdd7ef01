"""Replicas that move between log directories while something else happens to them that is as large."""

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import confluent_kafka as ck
import pytest

from perf import wire
from tailrace.clients.cluster import Cluster
from tailrace.core.errors import NONE, NOT_COORDINATOR
from tailrace.core.protocol.apis import ALTER_PARTITION_REASSIGNMENTS
from tailrace.core.protocol.messages.alter_partition_reassignments import AlterPartitionReassignmentsResponse
from tests.support.dir_moves import Mover
from tests.support.log_dirs import brokers_of, load
from tests.support.replica_messages import reassignment
from tests.support.waiting import wait_until

OFFSETS = "__consumer_offsets"
GROUPS = [f"group-{number}" for number in range(12)]
SLOW = 200_000


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Mover]:
    """Three brokers with two directories each, and some megabytes of t, which 0 and 1 have."""
    with brokers_of(Mover, tmp_path / "broker") as make:
        broker = make("a", "b", brokers="3", workers_max="6")
        broker.start()
        with wire.Connection(wire.address(broker.bootstrap)) as connection:
            wire.create_topic(connection, "t", replicas=(0, 1))
        with load(broker, "t") as (writer,):
            wait_until(lambda: writer.count > 500, "some records")
        yield broker


def logs_of(broker: Mover, number: int) -> list[str]:
    """The directories of t in those of one broker."""
    roots = [Path(path) for path in broker.broker_dirs() if path.endswith(f"broker-{number}")]
    return sorted(path.name for root in roots for path in root.glob("t-0*"))


def write(broker: Mover, number: int) -> int:
    """So many records by librdkafka, acknowledged by all; returns where the log ends then."""
    ends: list[int] = []

    def on_delivery(error: ck.KafkaError | None, message: ck.Message) -> None:
        assert error is None, error
        ends.append((message.offset() or 0) + 1)

    producer = ck.Producer(
        {"bootstrap.servers": broker.bootstrap, "acks": "all", "enable.idempotence": True, "linger.ms": 0}
    )
    for _ in range(number):
        producer.produce("t", b"record", on_delivery=on_delivery)
    assert producer.flush(60) == 0
    return max(ends)


def reassign(broker: Mover, replicas: list[int]) -> None:
    """Begins to."""
    with Cluster(broker.bootstrap) as cluster:
        answer = cluster.any_connection().request(
            ALTER_PARTITION_REASSIGNMENTS,
            reassignment({"t": {0: replicas}}),
            AlterPartitionReassignmentsResponse,
        )
    assert [one.error_code for topic in answer.responses for one in topic.partitions] == [NONE]


@pytest.mark.parametrize("number", [0, 1], ids=["leader", "follower"])
def test_the_partition_leaves_the_broker_meanwhile(three: Mover, number: int) -> None:
    """Its log goes, and the copy with it."""
    three.throttle(SLOW)
    own = [Path(path) for path in three.broker_dirs() if path.endswith(f"broker-{number}")]
    (target,) = (path for path in own if not (path / "t-0").exists())
    end = write(three, 1)
    assert three.move("t", target, broker=number) == NONE
    wait_until(lambda: len(logs_of(three, number)) == 2, "the copy")
    reassign(three, [2, 1 - number])
    for _ in range(5):
        end += 10
        assert write(three, 10) == end
    wait_until(lambda: not logs_of(three, number), "both to be gone")
    assert sorted(three.partition("t").replica_nodes) == sorted((2, 1 - number))
    wait_until(lambda: len(three.partition("t").isr_nodes) == 2, "both in sync")
    assert write(three, 1) == end + 1


def test_a_partition_comes_to_the_directory_that_was_asked_for(three: Mover) -> None:
    """As in Kafka: who is to come is asked for first, which is refused and remembered."""
    for name in ("a", "b", "a"):
        (target,) = (Path(path) for path in three.broker_dirs() if path.endswith(f"{name}/broker-2"))
        three.move("t", target, broker=2)
        reassign(three, [2, 1])
        wait_until(lambda target=target: (target / "t-0").exists(), "it to come")  # type: ignore[misc]
        wait_until(lambda: not logs_of(three, 0), "the other to go")
        reassign(three, [0, 1])
        wait_until(lambda: not logs_of(three, 2), "it to go")


class Committers:
    """Members of no group that commit for groups of different coordinators, by librdkafka."""

    def __init__(self, broker: Mover) -> None:
        self.last: dict[str, int] = {}
        self._numbers = count(1)
        self._clients = {
            group: ck.Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group}) for group in GROUPS
        }

    def commit(self) -> None:
        """Each something new."""
        for group, client in self._clients.items():
            number = next(self._numbers)
            while not self._is_committed(client, number):
                pass
            self.last[group] = number

    def _is_committed(self, client: ck.Consumer, number: int) -> bool:
        try:
            client.commit(offsets=[ck.TopicPartition("t", 0, number)], asynchronous=False)
        except ck.KafkaException as error:
            if error.args[0].code() != NOT_COORDINATOR:
                raise
            return False  # who coordinated it was killed: again
        return True

    def close(self) -> None:
        """They are gone."""
        for client in self._clients.values():
            client.close()


def committed(broker: Mover) -> dict[str, int]:
    """The offset of t-0 that each group has, by clients that are new."""
    found: dict[str, int] = {}
    for group in GROUPS:
        consumer = ck.Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group})
        with closing(consumer):
            (answer,) = consumer.committed([ck.TopicPartition("t", 0)], timeout=30)
            found[group] = answer.offset
    return found


@pytest.mark.parametrize("hurt", ["nobody", "workers"])
def test_committed_offsets_move(tmp_path: Path, hurt: str) -> None:
    """Their log serves the coordinators beside; what was committed is there, wherever it lies."""
    with brokers_of(Mover, tmp_path / "broker") as make:
        broker = make("a", "b")
        broker.start()
        broker.create("t")
        with closing(Committers(broker)) as committers:
            committers.commit()
            indexes = range(len(broker.partitions(OFFSETS)))
            for path in (broker.dirs[1], broker.dirs[0]):
                for index in indexes:
                    assert broker.move(OFFSETS, path, index) == NONE
                    if hurt == "workers":
                        for pid in broker.pids("worker"):
                            os.kill(pid, signal.SIGKILL)
                    committers.commit()
                wait_until(
                    lambda path=path: all((path / f"{OFFSETS}-{index}").exists() for index in indexes),  # type: ignore[misc]
                    "all to be there",
                )
                committers.commit()
        assert committed(broker) == committers.last
        broker.stop()
        broker.start()
        assert committed(broker) == committers.last
