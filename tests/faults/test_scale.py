"""Many partitions with real processes: made, written to, there again after kill -9. More: tests/chaos."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from perf import images, lifecycle, many, wire
from perf.batches import ONE_RECORD
from perf.peers.tailrace import Tailrace
from perf.peers.tailrace_cluster import TailraceCluster
from perf.scale import made

PARTITIONS = 300
PARTS = [("large", number) for number in range(PARTITIONS)]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Tailrace]:
    """One of our own, with fewer workers than would be there by default: more partitions each."""
    started = Tailrace(tmp_path, {"workers.max": "8"})
    started.start()
    try:
        lifecycle.wait_until_served(started)
        yield started
    finally:
        started.stop()


def test_partitions_beyond_the_workers_are_all_served_and_there_again_after_a_kill(broker: Tailrace) -> None:
    made(broker, [("large", PARTITIONS)], PARTS)
    many.Filler(broker.endpoints()["tcp"], "large", PARTITIONS, ONE_RECORD).fill(
        3 * PARTITIONS * len(ONE_RECORD.data)
    )
    broker.kill()
    broker.stop()
    broker.start()
    with wire.Connection(broker.endpoints()["tcp"]) as connection:
        many.write_to_all(connection, PARTS, ONE_RECORD)
        for topic, index in PARTS:
            fetched = wire.fetch_response(connection.ask(wire.fetch_frame(topic, 0, 1, index=index)))
            assert (fetched.error_code, fetched.high_watermark) == (0, 5), index
    # producers were not looked at until now: a new one finds them, and an old sequence is out of order
    many.Filler(broker.endpoints()["tcp"], "large", PARTITIONS, ONE_RECORD).fill(1)


def test_brokers_that_start_over_metadata_of_10_000_partitions_tell_of_them_all(tmp_path: Path) -> None:
    cluster = TailraceCluster(tmp_path / "cluster")
    cluster.start()
    cluster.wait_until_ready()
    cluster.stop()
    images.prepare(cluster.data, cluster.brokers(), images.PARTITIONS)
    cluster.start()
    try:
        cluster.wait_until_ready()
        for endpoint in cluster.brokers().values():
            with wire.Connection(endpoint) as connection:
                assert images.named(connection) == images.PARTITIONS
    finally:
        cluster.stop()
