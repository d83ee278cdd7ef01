"""What the workloads of replicas read, kill and slow down."""

import struct
import subprocess
import sys

import pytest

from perf import processes, wire
from perf.peers.tailrace_cluster import free_ports
from perf.replicated import SENT
from perf.slow_disk import slowed
from perf.whereabouts import NO_QUORUM, Part, Quorum, partition, quorum
from tailrace.core.protocol.compile import decode, encode
from tailrace.core.protocol.messages.create_topics import CreateTopicsRequest
from tailrace.core.protocol.messages.describe_quorum import (
    DescribeQuorumRequest,
    DescribeQuorumResponse,
    DescribeQuorumResponsePartition,
    DescribeQuorumResponseReplica,
    DescribeQuorumResponseTopic,
)
from tailrace.core.protocol.messages.fetch import FetchResponse, FetchResponsePartition, FetchResponseTopic
from tailrace.core.protocol.messages.metadata import (
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)

HEADER = 4 + 2 + 2 + 4 + 2 + len("perf")


class Scripted(wire.Connection):
    """Gives prepared answers and keeps what was asked."""

    def __init__(self, *answers: bytes) -> None:
        self.asked: list[bytes] = []
        self._answers = list(answers)

    def ask(self, request: bytes | bytearray) -> memoryview:
        self.asked.append(bytes(request))
        return memoryview(self._answers.pop(0))


def test_the_leader_and_the_replicas_in_sync_are_read_from_metadata() -> None:
    parts = [
        MetadataResponsePartition(0, number, 10 + number, replica_nodes=[1, 2, 3], isr_nodes=[number])
        for number in range(3)
    ]
    brokers = [MetadataResponseBroker(1, "127.0.0.1", 9, None), MetadataResponseBroker(2, "h", 8, "rack")]
    answer = MetadataResponse(
        brokers=brokers, cluster_id="c", topics=[MetadataResponseTopic(0, "t", partitions=parts)]
    )
    connection = Scripted(bytes(4) + encode(answer, 4), bytes(4) + encode(answer, 4))
    assert partition(connection, "t", 2) == Part(12, [1, 2, 3], [2])
    assert partition(connection, "t", 7).leader == -1


def test_the_leader_of_the_quorum_and_how_far_its_voters_are_is_read() -> None:
    voters = [DescribeQuorumResponseReplica(number, log_end_offset=90 + number) for number in (1, 2, 3)]
    part = DescribeQuorumResponsePartition(
        leader_id=2, leader_epoch=5, high_watermark=92, current_voters=voters
    )
    topics = [DescribeQuorumResponseTopic("__cluster_metadata", [part])]
    answers = (DescribeQuorumResponse(topics=topics), DescribeQuorumResponse(error_code=41))
    connection = Scripted(*(bytes(5) + encode(answer, 0) for answer in answers))
    found = quorum(connection)
    assert found == Quorum(2, 92, {1: 91, 2: 92, 3: 93})
    assert not found.whole
    assert Quorum(2, 91, found.ends).whole
    assert quorum(connection) == NO_QUORUM
    asked = decode(DescribeQuorumRequest, 0, connection.asked[0][HEADER + 1 :])
    assert [topic.topic_name for topic in asked.topics] == ["__cluster_metadata"]


def test_a_topic_is_made_on_the_brokers_that_are_named() -> None:
    created = struct.pack(">iii", 0, 0, 1) + wire.string("t") + struct.pack(">hh", 0, -1)
    fetched = FetchResponse(responses=[FetchResponseTopic("t", partitions=[FetchResponsePartition()])])
    connection = Scripted(created, bytes(5) + encode(fetched, 12))
    wire.create_topic(connection, "t", 2, replicas=[2, 3, 1])
    (topic,) = decode(CreateTopicsRequest, 4, connection.asked[0][HEADER:]).topics
    assert (topic.num_partitions, topic.replication_factor) == (-1, -1)
    placed = {each.partition_index: each.broker_ids for each in topic.assignments}
    assert placed == {0: [2, 3, 1], 1: [2, 3, 1]}


def test_syncs_are_slowed_in_a_process_and_in_its_children_and_nowhere_else() -> None:
    code = "import os, sys; print(os.fsync.__module__, os.fdatasync.__module__)"
    twice = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"
    for program, environment, module in (
        (code, slowed(5.0), "sitecustomize"),
        (twice, slowed(5.0), "sitecustomize"),
        (code, None, "posix"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == [module] * 2


def test_killed_processes_are_dead_when_that_returns() -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    try:
        processes.kill([sleeper.pid])
        assert sleeper.poll() == -9
    finally:
        sleeper.kill()
        sleeper.wait()


def test_ports_side_by_side_are_free() -> None:
    first = free_ports(3)
    assert 0 < first < first + 2 < 65536


@pytest.mark.parametrize(
    ("said", "records_a_second"),
    [
        (b"100 records sent, 50.5 records/sec (0.01 MB/sec), 1.0 ms avg latency\n", 50.5),
        (b"9 records sent, 1.0 records/sec (0)\n80 steady state records sent, 60.0 records/sec (0)\n", 60.0),
    ],
)
def test_the_last_sum_of_producer_performance_counts(said: bytes, records_a_second: float) -> None:
    assert float(SENT.findall(said)[-1][1]) == records_a_second
