"""Three brokers and producers that want every replica in sync: what they hear when followers stand still or
are gone.
"""

import json
import os
import signal
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import pytest

from perf.batches import batch_of_size
from tailrace.core.errors import NONE, NOT_ENOUGH_REPLICAS, NOT_LEADER_OR_FOLLOWER, REQUEST_TIMED_OUT
from tailrace.core.protocol.apis import DESCRIBE_CLUSTER, FETCH, PRODUCE
from tailrace.core.protocol.messages.describe_cluster import DescribeClusterRequest
from tailrace.core.protocol.messages.fetch import FetchRequest, FetchRequestPartition, FetchRequestTopic
from tailrace.core.protocol.messages.produce import (
    ProduceRequest,
    ProduceRequestPartition,
    ProduceRequestTopic,
)
from tests.support.raw_client import RawClient
from tests.support.three_brokers import IDS, Host, running
from tests.support.waiting import wait_until

TOPIC = "safe"
BATCH = batch_of_size(61 + 200, 200).data  # one record


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """With a topic of one partition and three replicas, of which two must be in sync."""
    with running(tmp_path, min_insync_replicas="2") as started:
        started.create(TOPIC, 1, 3)
        wait_until(lambda: started.is_whole(TOPIC), "all replicas to be in sync")
        yield started


def produce(host: Host, broker: int, *, acks: int = -1, timeout_ms: int = 20_000) -> Any:
    """The partition in the answer to one batch."""
    topic = ProduceRequestTopic(TOPIC, partition_data=[ProduceRequestPartition(0, BATCH)])
    with RawClient(host.addresses[broker]) as client:
        answer = client.ask(PRODUCE, 10, ProduceRequest(None, acks, timeout_ms, [topic]))
    assert isinstance(answer, dict)
    return answer["responses"][0]["partition_responses"][0]


def high_watermark(host: Host, broker: int) -> int:
    """As one replica shows it."""
    part = FetchRequestPartition(0, partition_max_bytes=1 << 20)
    asked = FetchRequest(
        max_wait_ms=0, max_bytes=1 << 20, topics=[FetchRequestTopic(TOPIC, partitions=[part])]
    )
    with RawClient(host.addresses[broker]) as client:
        answer = client.ask(FETCH, 12, asked)
    assert isinstance(answer, dict)
    found: int = answer["responses"][0]["partitions"][0]["high_watermark"]
    return found


def shown(host: Host) -> list[int]:
    """The high watermark of every replica."""
    return [high_watermark(host, broker) for broker in IDS]


def workers_of(host: Host, brokers: Container[int]) -> list[int]:
    """Their processes that hold the partition."""
    status = json.loads(host.command("status", "-o", "json").stdout)
    return [
        process["pid"]
        for process in status["processes"]
        if process["broker"] in brokers and process["role"] == "worker" and process["partitions"]
    ]


def test_a_batch_that_followers_do_not_take_in_time_stays_and_is_committed_later(host: Host) -> None:
    leader = host.leaders(1, TOPIC)[0]
    assert produce(host, leader)["error_code"] == NONE
    pids = workers_of(host, set(IDS) - {leader})
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        assert produce(host, leader, timeout_ms=100)["error_code"] == REQUEST_TIMED_OUT
        assert produce(host, leader, acks=1)["base_offset"] == 2, "it is in the log"
        assert high_watermark(host, leader) == 1
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    wait_until(lambda: shown(host) == [3, 3, 3], "all to be committed everywhere")


def test_too_few_in_sync_refuse_what_must_be_safe_and_a_broker_that_left_tells_who_leads(host: Host) -> None:
    leader = host.leaders(1, TOPIC)[0]
    first, second = (broker for broker in IDS if broker != leader)
    host.broker("stop", str(first))
    assert produce(host, leader)["error_code"] == NONE
    refused = produce(host, second)
    assert refused["error_code"] == NOT_LEADER_OR_FOLLOWER
    assert refused["current_leader"]["leader_id"] == leader
    told = {each["broker_id"]: each["is_fenced"] for each in described(host, leader, fenced=True)}
    assert told == {broker: broker == first for broker in IDS}
    assert [each["broker_id"] for each in described(host, leader, fenced=False)] == sorted((leader, second))
    host.broker("stop", str(second))
    assert produce(host, leader)["error_code"] == NOT_ENOUGH_REPLICAS
    assert produce(host, leader, acks=1)["error_code"] == NONE
    host.broker("start", str(first))
    host.broker("start", str(second))
    wait_until(lambda: host.is_whole(TOPIC), "all replicas to be in sync")
    assert produce(host, leader)["error_code"] == NONE
    wait_until(lambda: shown(host) == [3, 3, 3], "all to be committed everywhere")


def described(host: Host, broker: int, *, fenced: bool) -> list[dict[str, Any]]:
    """The brokers as DescribeCluster tells of them."""
    asked = DescribeClusterRequest(include_fenced_brokers=fenced)
    with RawClient(host.addresses[broker]) as client:
        answer = client.ask(DESCRIBE_CLUSTER, 2, asked)
    assert isinstance(answer, dict)
    return sorted(answer["brokers"], key=lambda each: int(each["broker_id"]))
