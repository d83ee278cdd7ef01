"""How long a start takes that finds metadata of 10,000 partitions with three replicas each: from the spawn of
three brokers to the first answer to a Metadata request that names them all.

It is the image that is measured, and nothing is served: the state table has rows for 8,191 replicas, so these
lie on brokers that are not there. Their records are written into the metadata log of a host that was stopped.
"""

import shutil
import struct
import sys
import time
from collections.abc import Generator, Iterable
from pathlib import Path

from perf import lifecycle, wire
from perf.measures import Figures
from perf.peers.tailrace_cluster import TailraceCluster
from perf.report import Report
from tailrace.core.log.directory import RealDirectory
from tailrace.core.log.log import Log
from tailrace.core.log.log_config import LogConfig
from tailrace.core.metadata.batches import batch_of
from tailrace.core.metadata.records import PartitionRecord, Record, TopicRecord

NAME = "image"
PARTITIONS, PARTITIONS_A_TOPIC = 10_000, 100
ABSENT = (101, 102, 103)  # broker ids
METADATA_LOG = "__cluster_metadata-0"
METADATA = (3, 1)
INT32 = struct.Struct(">i")
ROW = f"{NAME}: start with {PARTITIONS:,} partitions"


def topics(partitions: int) -> Generator[list[Record]]:
    """Records of so many partitions, a batch a topic."""
    for number in range(partitions // PARTITIONS_A_TOPIC):
        topic_id = (0xFEED << 64 | number).to_bytes(16, "big")
        made: list[Record] = [TopicRecord(name=f"topic-{number:04}", topic_id=topic_id)]
        for index in range(PARTITIONS_A_TOPIC):
            replicas = ABSENT[index % 3 :] + ABSENT[: index % 3]
            made.append(
                PartitionRecord(
                    topic_id=topic_id, partition=index, replicas=replicas, isr=replicas, leader=replicas[0],
                    leader_epoch=0, partition_epoch=0, directories=("", "", ""),
                )
            )  # fmt: skip
        yield made


def write(directory: Path, batches: Iterable[list[Record]]) -> None:
    """Append to the metadata log there, which nobody has open, as its last leader would have."""
    now_ms = time.time_ns() // 1_000_000
    log = Log.open(RealDirectory(str(directory)), METADATA_LOG, LogConfig(), now_ms=now_ms)
    epoch = log.leader_epochs.latest
    for batch in batches:
        log.append_as_leader(memoryview(batch_of(batch, now_ms)), epoch, now_ms)
    log.flush()
    log.close(True)


def prepare(data: Path, broker_ids: Iterable[int], partitions: int) -> None:
    """The same records in the logs of all brokers of a host that was stopped: after those of one of them."""
    first, *others = [data / f"broker-{broker_id}" / METADATA_LOG for broker_id in broker_ids]
    write(first, topics(partitions))
    for other in others:
        shutil.rmtree(other)
        shutil.copytree(first, other)


def named(connection: wire.Connection) -> int:
    """How many partitions a broker tells of."""
    answer = connection.ask(wire.frame(METADATA, struct.pack(">i", -1), flexible=False))
    view, at = answer, 4
    brokers, at = INT32.unpack_from(view, at)[0], at + 4
    for _ in range(brokers):
        at = _behind_string(view, at + 4)
        at = _behind_string(view, at + 4)
    topics, at = INT32.unpack_from(view, at + 4)[0], at + 8
    count = 0
    for _ in range(topics):
        at = _behind_string(view, at + 2) + 1
        partitions, at = INT32.unpack_from(view, at)[0], at + 4
        count += partitions
        for _ in range(partitions):
            at += 10
            for _ in range(2):  # replicas, those in sync
                at += 4 + 4 * INT32.unpack_from(view, at)[0]
    return count


def _behind_string(view: memoryview, at: int) -> int:
    length: int = struct.unpack_from(">h", view, at)[0]
    return at + 2 + max(0, length)


def load(cluster: TailraceCluster, partitions: int) -> Figures:
    """One start; the broker that was spawned first is asked."""
    begin = time.perf_counter()
    cluster.start()
    try:
        endpoint = next(iter(cluster.brokers().values()))
        with lifecycle.connect(endpoint, begin + lifecycle.START_PATIENCE_S) as connection:
            while named(connection) < partitions:
                time.sleep(0.002)
        return {"s": time.perf_counter() - begin}
    finally:
        cluster.stop()


def rounds(folder: Path, count: int, report: Report) -> None:
    """So many starts."""
    cluster = TailraceCluster(folder / NAME)
    cluster.start()
    cluster.wait_until_ready()
    cluster.stop()
    prepare(cluster.data, cluster.brokers(), PARTITIONS)
    for _ in range(count):
        report.add(ROW, "s", cluster.name, "tcp", load(cluster, PARTITIONS))
    print(f"{count} starts with {PARTITIONS:,} partitions done", file=sys.stderr)
