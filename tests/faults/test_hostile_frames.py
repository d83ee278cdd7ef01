"""Tens of thousands of hostile frames on 200 connections: no process dies or grows, nothing is said on
stderr, a good client is served all the while, and what nobody named is as it was.

TAILRACE_HOSTILE_FRAMES says how many, TAILRACE_HOSTILE_SEED repeats a run.
"""

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Struct

from perf import wire
from perf.batches import batch_of_size
from perf.peers.peer import Tcp
from perf.peers.tailrace import Tailrace
from perf.processes import memory, tree
from tailrace.core.protocol.apis import (
    DESCRIBE_CONFIGS,
    FIND_COORDINATOR,
    METADATA,
    OFFSET_COMMIT,
    OFFSET_FETCH,
)
from tailrace.core.protocol.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsRequestResource,
)
from tailrace.core.protocol.messages.find_coordinator import FindCoordinatorRequest
from tailrace.core.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from tailrace.core.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from tailrace.core.protocol.messages.offset_fetch import OffsetFetchRequest, OffsetFetchRequestGroup
from tests.support.hostile_frames import Counts, Frames, Swarm
from tests.support.raw_client import Outcome, RawClient
from tests.support.waiting import wait_until

FRAMES = int(os.environ.get("TAILRACE_HOSTILE_FRAMES", "20000"))
SEED = int(os.environ.get("TAILRACE_HOSTILE_SEED", "1"))
WARM_UP = 2000  # frames, by which every process has made the codecs that it makes once
CONNECTIONS = 200
SETTINGS = {
    "workers.max": "3",  # each leads a partition that nobody names, and stays
    "socket.listen.backlog.size": "1000",  # one refused for want of room is tried again after a second
}
PAUSE_S = 0.01  # between the good client's records: it shares an interpreter with the others
IDLE = 50
GROWTH_BYTES_MAX = 32 << 20
NAMED = ("named-1", "named-2", "named-group")  # that hostile frames may change
UNNAMED = "nobody-named-this"
GOOD = batch_of_size(61 + 120, 120).data
LARGEST = batch_of_size(1_000_000, 1000).data
REPEAT = (
    f"TAILRACE_HOSTILE_SEED={SEED} TAILRACE_HOSTILE_FRAMES={FRAMES} .venv/bin/python -m pytest -x {__file__}"
)


class GoodClient(threading.Thread):
    """Writes a record and reads it again, over and over."""

    def __init__(self, bootstrap: str) -> None:
        super().__init__(daemon=True)
        self._address = wire.address(bootstrap)
        self._ended = threading.Event()
        self.topic = "good"
        self.written = 0
        self.slowest_s = 0.0
        self.failure: BaseException | None = None
        with wire.Connection(self._address) as connection:
            wire.create_topic(connection, self.topic)

    def run(self) -> None:
        try:
            with wire.Connection(self._address) as connection:
                while not self._ended.wait(PAUSE_S):
                    self.one(connection, GOOD)
        except BaseException as error:
            self.failure = error

    def one(self, connection: wire.Connection, batch: bytes) -> float:
        """Seconds that one record took on its way there and back."""
        started = time.perf_counter()
        answer = connection.ask(wire.produce_frame(self.topic, batch, -1, 0))
        error, offset = wire.ProduceResponse.of(self.topic).fields.unpack_from(bytes(4) + bytes(answer))[2:]
        assert error == 0
        fetched = wire.fetch_response(connection.ask(wire.fetch_frame(self.topic, offset, 1 << 20)))
        assert fetched.error_code == 0
        assert fetched.length == len(batch)
        took = time.perf_counter() - started
        self.written += 1
        self.slowest_s = max(self.slowest_s, took)
        return took

    def end(self) -> None:
        """Stop; what went wrong is raised here."""
        self._ended.set()
        self.join(30)
        if self.failure is not None:
            raise self.failure
        assert not self.is_alive()


class Kept:
    """What nobody names, as clients see it."""

    def __init__(self, bootstrap: str) -> None:
        self._client = RawClient(bootstrap)
        with wire.Connection(wire.address(bootstrap)) as connection:
            for topic in (UNNAMED, *NAMED[:2]):
                wire.create_topic(connection, topic, 3)
            assert connection.ask(wire.produce_frame(UNNAMED, GOOD, -1, 0))
        find = FindCoordinatorRequest(coordinator_keys=["nobodys-group"])
        wait_until(lambda: "'error_code': 0" in str(self.ask(FIND_COORDINATOR, 4, find)), "a coordinator")
        commit = OffsetCommitRequestTopic(UNNAMED, partitions=[OffsetCommitRequestPartition(0, 1)])
        request = OffsetCommitRequest("nobodys-group", topics=[commit])
        wait_until(lambda: "'error_code': 0" in str(self.ask(OFFSET_COMMIT, 8, request)), "a commit")

    def ask(self, key: int, version: int, message: Struct) -> Outcome:
        """An answer that is no refusal to speak."""
        answer = self._client.ask(key, version, message)
        assert isinstance(answer, dict), answer
        return answer

    def seen(self) -> list[Outcome]:
        """Partitions, configs, committed offsets."""
        topic = MetadataRequest([MetadataRequestTopic(name=UNNAMED)], allow_auto_topic_creation=False)
        configs = DescribeConfigsRequest([DescribeConfigsRequestResource(2, UNNAMED)])
        offsets = OffsetFetchRequest(groups=[OffsetFetchRequestGroup("nobodys-group")])
        return [
            self.ask(METADATA, 9, topic),
            self.ask(DESCRIBE_CONFIGS, 4, configs),
            self.ask(OFFSET_FETCH, 8, offsets),
        ]

    def close(self) -> None:
        """Hang up."""
        self._client.close()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Tailrace]:
    started = Tailrace(tmp_path, SETTINGS)
    started.start()
    try:
        yield started
    finally:
        started.stop()


def attack(address: Tcp, seed: int, count: int) -> Counts:
    """So many frames, and what became of them."""
    swarm = Swarm(address, Frames(seed, NAMED, ()), CONNECTIONS)
    try:
        swarm.send(count)
    finally:
        swarm.close()
    return swarm.counts


def test_hostile_frames_hurt_nobody_else(broker: Tailrace) -> None:
    address = wire.address(broker.bootstrap)
    kept, good = Kept(broker.bootstrap), GoodClient(broker.bootstrap)
    idle = [socket.create_connection((address.host, address.port)) for _ in range(IDLE)]
    try:
        with wire.Connection(address) as connection:
            good.one(connection, LARGEST)
        attack(address, SEED + 1000, WARM_UP)
        before, processes = kept.seen(), tree(broker.pid)
        held = memory(broker.pid)
        good.start()
        counts = attack(address, SEED, FRAMES)
        good.end()
        with wire.Connection(address) as connection:
            next_s = good.one(connection, GOOD)
            for _ in range(30):  # more of the largest than there are blocks to receive them into
                good.one(connection, LARGEST)
        grown = memory(broker.pid)
        growth = grown.total - grown.file - (held.total - held.file)  # pages of logs are the kernel's
        print(
            f"{counts}; good client: {good.written} records, slowest {good.slowest_s * 1000:.1f} ms,"
            f" the next {next_s * 1000:.1f} ms; memory {held.total >> 20} MiB and {growth / 2**20:.1f} more"
        )
        assert growth <= GROWTH_BYTES_MAX, REPEAT
        assert sorted(processes) == sorted(tree(broker.pid)), f"a process died or came\n{REPEAT}"
        assert kept.seen() == before, REPEAT
        said = broker.log_file.read_text()
        assert "Traceback" not in said, f"{said[-3000:]}\n{REPEAT}"
        assert "no answer to" not in said, f"{said[-3000:]}\n{REPEAT}"
    finally:
        kept.close()
        for each in idle:
            each.close()
