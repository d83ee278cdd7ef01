"""Three brokers on one host: one is killed, stopped, started again; what the others and clients see."""

import base64
import os
import signal
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from perf.batches import batch_of_size
from perf.peers.tailrace import Tailrace
from tailrace.core.errors import LEADER_NOT_AVAILABLE, NONE, NOT_LEADER_OR_FOLLOWER
from tailrace.core.protocol.apis import DESCRIBE_CLUSTER, FETCH, PRODUCE, UNREGISTER_BROKER
from tailrace.core.protocol.messages.describe_cluster import DescribeClusterRequest
from tailrace.core.protocol.messages.fetch import FetchRequest, FetchRequestPartition, FetchRequestTopic
from tailrace.core.protocol.messages.produce import (
    ProduceRequest,
    ProduceRequestPartition,
    ProduceRequestTopic,
)
from tailrace.core.protocol.messages.unregister_broker import UnregisterBrokerRequest
from tests.support.raw_client import RawClient
from tests.support.three_brokers import IDS, Host, running
from tests.support.waiting import wait_until

TOPIC = "spread"
PARTITIONS = 6
BATCH = batch_of_size(61 + 200, 100).data


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """With a topic whose partitions lie with all three; each test leaves all brokers running."""
    with running(tmp_path_factory.mktemp("host")) as started:
        pid = started.pid
        started.create(TOPIC, PARTITIONS)
        wait_until(lambda: None not in leaders(started) and len(leaders(started)) == 3, "leaders")
        yield started
    assert not list(Path("/dev/shm").glob(f"tailrace-{os.getuid()}-{pid}-*"))


def leaders(host: Host) -> dict[int | None, int]:
    """A partition of each broker; None: of nobody."""
    found = host.leaders(1, TOPIC)
    return {leader if leader > 0 else None: partition for partition, leader in found.items()}


def produce(host: Host, broker: int, partition: int, version: int = 9) -> Any:
    """Ask this broker to append one batch; its answer."""
    request = ProduceRequest(
        acks=-1,
        timeout_ms=10_000,
        topic_data=[ProduceRequestTopic(TOPIC, partition_data=[ProduceRequestPartition(partition, BATCH)])],
    )
    with RawClient(host.addresses[broker]) as client:
        return client.ask(PRODUCE, version, request)


def outcome(answer: Any) -> tuple[int, int]:
    """Error code and base offset of the only partition."""
    (part,) = answer["responses"][0]["partition_responses"]
    return part["error_code"], part["base_offset"]


def end_of(host: Host, broker: int, partition: int) -> int:
    """Append one batch once somebody takes it; where it begins."""
    found: list[int] = []

    def is_taken() -> bool:
        code, offset = outcome(produce(host, broker, partition))
        found.append(offset)
        return code == NONE

    wait_until(is_taken, f"broker {broker} to lead partition {partition}")
    return found[-1]


def test_every_broker_tells_of_all_and_each_leads_its_share(host: Host) -> None:
    for broker in IDS:
        assert host.listed(broker) == list(IDS)
        told = host.metadata(broker, TOPIC)
        assert {f"127.0.0.1:{int(port)}" for port in ports(host)} == set(host.addresses.values())
        assert told["controller_id"] in IDS
        assert sorted(host.leaders(broker, TOPIC).values()) == [1, 1, 2, 2, 3, 3]
    for leader, partition in leaders(host).items():
        assert leader is not None
        assert end_of(host, leader, partition) >= 0
    for broker in IDS:
        assert (host.data / f"broker-{broker}" / "meta.properties").exists()
    assert sorted(path.name for path in (host.data / "broker-2").glob(f"{TOPIC}-*")) == [
        f"{TOPIC}-{partition}" for partition, leader in sorted(host.leaders(1, TOPIC).items()) if leader == 2
    ]


def ports(host: Host) -> list[str]:
    """Of the addresses that were printed."""
    return [address.rpartition(":")[2] for address in host.addresses.values()]


def test_who_asks_the_wrong_broker_is_told_the_right_one(host: Host) -> None:
    """KIP-951: no round of Metadata is needed."""
    partition = leaders(host)[2]
    answer = produce(host, 1, partition, version=10)
    (part,) = answer["responses"][0]["partition_responses"]
    assert part["error_code"] == NOT_LEADER_OR_FOLLOWER
    assert part["current_leader"]["leader_id"] == 2
    assert part["current_leader"]["leader_epoch"] >= 0
    assert [(node["node_id"], node["host"]) for node in answer["node_endpoints"]] == [(2, "127.0.0.1")]
    wanted = FetchRequestPartition(partition, partition_max_bytes=1 << 20)
    topics = [FetchRequestTopic(topic_id=topic_id(host, partition), partitions=[wanted])]
    fetch = FetchRequest(max_wait_ms=0, max_bytes=1 << 20, topics=topics)
    with RawClient(host.addresses[3]) as client:
        fetched = client.ask(FETCH, 16, fetch)
    assert isinstance(fetched, dict)
    (read,) = fetched["responses"][0]["partitions"]
    assert read["error_code"] == NOT_LEADER_OR_FOLLOWER
    assert read["current_leader"]["leader_id"] == 2
    assert [node["node_id"] for node in fetched["node_endpoints"]] == [2]


def topic_id(host: Host, partition: int) -> bytes:
    """Of the topic, as the log of a partition of broker 2 says."""
    path = host.data / "broker-2" / f"{TOPIC}-{partition}" / "partition.metadata"
    (text,) = [line[10:] for line in path.read_text().splitlines() if line.startswith("topic_id: ")]
    return base64.urlsafe_b64decode(f"{text}==")


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_broker_that_is_gone_is_not_told_of_and_leads_again_when_it_is_back(host: Host, how: str) -> None:
    partition = leaders(host)[2]
    before = end_of(host, 2, partition)
    gone = host.broker(how, "2")
    assert [(each["node_id"], each["state"]) for each in gone] == [
        (1, "running"), (2, "stopped"), (3, "running"),
    ]  # fmt: skip
    assert not gone[1]["pids"]
    assert "broker 2 is stopped" in host.command("doctor").stdout
    wait_until(lambda: host.leaders(1, TOPIC)[partition] == -1, "its partitions to have no leader")
    for other in (1, 3):
        assert host.listed(other) == [1, 3]
        (told,) = host.metadata(other, TOPIC)["topics"]
        (part,) = [each for each in told["partitions"] if each["partition_index"] == partition]
        assert (part["error_code"], part["isr_nodes"], part["offline_replicas"]) == (
            LEADER_NOT_AVAILABLE, [2], [2],
        )  # fmt: skip
        assert outcome(produce(host, other, partition))[0] == NOT_LEADER_OR_FOLLOWER
        assert end_of(host, other, leaders(host)[other]) >= 0
    host.create(f"{how}-meanwhile", 4)  # led by who is there
    wait_until(lambda: set(host.leaders(1, f"{how}-meanwhile").values()) == {1, 3}, "leaders")
    back = host.broker("start", "2")
    assert [each["state"] for each in back] == ["running"] * 3
    assert back[1]["pids"]
    assert end_of(host, 2, partition) == before + batch_count()
    wait_until(lambda: host.listed(3) == [1, 2, 3], "all to be told of")


def test_a_broker_that_was_given_up_is_told_of_to_nobody_until_it_is_back(host: Host) -> None:
    host.broker("kill", "2")
    wait_until(lambda: described(host) == {1: False, 2: True, 3: False}, "a fence around it")
    with RawClient(host.addresses[1]) as client:
        answer = client.ask(UNREGISTER_BROKER, 0, UnregisterBrokerRequest(2))
    assert isinstance(answer, dict)
    assert answer["error_code"] == NONE
    wait_until(lambda: described(host) == {1: False, 3: False}, "it to be gone")
    host.broker("start", "2")
    wait_until(lambda: described(host) == {1: False, 2: False, 3: False}, "it to be back")
    wait_until(lambda: None not in leaders(host), "leaders")


def described(host: Host) -> dict[int, bool]:
    """The brokers as DescribeCluster tells of them, and whether each is fenced."""
    with RawClient(host.addresses[1]) as client:
        answer = client.ask(DESCRIBE_CLUSTER, 2, DescribeClusterRequest(include_fenced_brokers=True))
    assert isinstance(answer, dict)
    return {each["broker_id"]: each["is_fenced"] for each in answer["brokers"]}


def batch_count() -> int:
    """Records in the batch."""
    count: int = struct.unpack_from(">i", BATCH, 57)[0]
    return count


def test_the_broker_of_the_controller_may_go_as_well(host: Host) -> None:
    """Until it is back nothing is decided, and the others go on with what they lead."""
    own, other = leaders(host)[1], leaders(host)[3]
    before = end_of(host, 1, own), end_of(host, 3, other)
    host.broker("kill", "1")
    assert host.listed(2) == [2, 3]
    assert end_of(host, 3, other) == before[1] + batch_count()
    host.broker("start", "1")
    assert end_of(host, 1, own) == before[0] + batch_count()
    host.create("after", 6)
    wait_until(lambda: set(host.leaders(2, "after").values()) == {1, 2, 3}, "leaders")


def test_a_process_that_dies_alone_is_replaced_and_its_broker_stays(host: Host) -> None:
    (gateway,) = host.pids(3, "gateway")
    os.kill(gateway, signal.SIGKILL)
    wait_until(lambda: host.pids(3, "gateway") not in ([], [gateway]), "a new gateway")
    wait_until(lambda: host.listed(1) == [1, 2, 3], "it to be told of")
    assert end_of(host, 3, leaders(host)[3]) >= 0


def test_what_cannot_be_done_is_said_in_one_line(host: Host) -> None:
    for words, code, said in (
        (("stop", "9"), 5, "there is no broker 9: there are 1, 2, 3"),
        (("list", "-o", "xml"), 2, "xml"),
    ):
        done = host.command("broker", *words)
        assert done.returncode == code
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
    assert host.broker("start", "1")[0]["state"] == "running"  # it runs: nothing to do


def test_a_host_keeps_its_number_of_brokers(tmp_path: Path) -> None:
    one, three = Tailrace(tmp_path), Host(tmp_path)
    one.start()
    assert one.bootstrap
    one.stop()
    three.start()
    assert three.wait() == 1
    assert f"{three.data} is the data directory of one broker: start it without" in three.log_file.read_text()
    other = tmp_path / "other"
    three = Host(other)
    three.start()
    assert three.bootstrap
    three.stop()
    one = Tailrace(other)
    one.start()
    assert one.wait() == 1
    assert (
        f"{one.data} is the data directory of 3 brokers: start it with --brokers 3"
        in one.log_file.read_text()
    )


def test_a_process_that_stands_still_is_killed_and_replaced(tmp_path: Path) -> None:
    with running(tmp_path, supervisor_stall_timeout_ms="2000") as host:
        host.create(TOPIC, 3)
        wait_until(lambda: len(leaders(host)) == 3, "leaders")
        roles = [(1, "worker"), (2, "gateway"), (1, "controller"), (3, "housekeeper"), (2, "worker")]
        stopped = {place: host.pids(*place)[0] for place in roles}
        for pid in stopped.values():
            os.kill(pid, signal.SIGSTOP)
        for place, pid in stopped.items():
            wait_until(partial(is_replaced, host, place, pid), f"another {place[1]}")
        for broker, partition in leaders(host).items():
            assert broker is not None
            assert end_of(host, broker, partition) >= 0
    assert host.log_file.read_text().count("which stands still") == len(stopped)


def is_replaced(host: Host, place: tuple[int, str], pid: int) -> bool:
    """Whether another process has taken its place."""
    found = host.pids(*place)
    return bool(found) and pid not in found
