"""Deleted records with real processes: they stay deleted whoever dies, readers meet no half-deleted log, and
the disk gets its bytes back.
"""

import os
import signal
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perf import wire
from perf.batches import batch_of_size
from perf.peers.tailrace import Tailrace
from perf.processes import tree
from tailrace.clients.connection import Connection, UnreachableError
from tailrace.core.errors import NONE, NOT_LEADER_OR_FOLLOWER, OFFSET_OUT_OF_RANGE, KafkaError
from tailrace.core.protocol.apis import DELETE_RECORDS, LIST_OFFSETS
from tailrace.core.protocol.messages.delete_records import (
    DeleteRecordsRequest,
    DeleteRecordsRequestPartition,
    DeleteRecordsRequestTopic,
    DeleteRecordsResponse,
)
from tailrace.core.protocol.messages.list_offsets import (
    EARLIEST,
    LATEST,
    ListOffsetsRequest,
    ListOffsetsRequestPartition,
    ListOffsetsRequestTopic,
    ListOffsetsResponse,
)
from tailrace.workers.data_dir import read_info
from tailrace.workers.status import read_status
from tests.support.waiting import wait_until

TOPIC = "deleted"
BATCH = batch_of_size(300_000, 1000).data
RECORDS = struct.unpack_from(">i", BATCH, 57)[0]
BATCHES = 12  # four segments of 1 MiB


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Tailrace]:
    """One with some segments. The housekeeper writes checkpoints once a minute: nobody waits for that."""
    started = Tailrace(tmp_path, {"log.segment.bytes": str(1 << 20)})
    started.start()
    try:
        with wire.Connection(wire.address(started.bootstrap)) as connection:
            wire.create_topic(connection, TOPIC)
            for _ in range(BATCHES):
                connection.ask(wire.produce_frame(TOPIC, BATCH, -1, 0))
        yield started
    finally:
        started.stop()


def delete(address: str, offset: int) -> tuple[int, int]:
    """Error code and low watermark."""
    topic = DeleteRecordsRequestTopic(TOPIC, [DeleteRecordsRequestPartition(0, offset)])
    with Connection(address, timeout_s=20) as connection:
        message = DeleteRecordsRequest([topic], 10_000)
        answer = connection.request(DELETE_RECORDS, message, DeleteRecordsResponse)
    part = answer.topics[0].partitions[0]
    return part.error_code, part.low_watermark


def end(broker: Tailrace, which: int) -> int:
    """Where the log begins or ends, once somebody leads it."""
    found: list[int] = []

    def look() -> bool:
        topic = ListOffsetsRequestTopic(TOPIC, [ListOffsetsRequestPartition(0, -1, which)])
        with Connection(broker.bootstrap, timeout_s=20) as connection:
            message = ListOffsetsRequest(topics=[topic])
            part = connection.request(LIST_OFFSETS, message, ListOffsetsResponse).topics[0].partitions[0]
        found[:] = [part.offset]
        return part.error_code == NONE

    wait_until(look, "a leader")
    return found[0]


def fetch_error(broker: Tailrace, offset: int) -> int:
    """Of one fetch at an offset."""
    with wire.Connection(wire.address(broker.bootstrap)) as connection:
        return wire.fetch_response(connection.ask(wire.fetch_frame(TOPIC, offset, 1 << 16))).error_code


def kill_worker(broker: Tailrace) -> None:
    """Kill it, whatever it is doing."""
    status = read_status(str(broker.data))
    assert status is not None
    for process in status.processes:
        if process.role == "worker" and process.pid:
            os.kill(process.pid, signal.SIGKILL)


def restart(broker: Tailrace) -> None:
    """Every process dies; a new broker starts."""
    broker.kill()
    broker.stop()  # closes what is left of it here
    wait_until(lambda: read_info(str(broker.data)) is None, "the death of all")
    broker.start()


def test_a_deletion_that_was_acknowledged_survives_the_death_of_all(broker: Tailrace) -> None:
    """(R) In the middle of a batch, at segments' ends, and of all there is."""
    for offset in (1, 5 * RECORDS + 7, 9 * RECORDS, BATCHES * RECORDS):
        assert delete(broker.bootstrap, offset) == (NONE, offset)
        restart(broker)
        assert (end(broker, EARLIEST), end(broker, LATEST)) == (offset, BATCHES * RECORDS)
        assert fetch_error(broker, offset - 1) == OFFSET_OUT_OF_RANGE
        assert fetch_error(broker, offset) == NONE
    with wire.Connection(wire.address(broker.bootstrap)) as connection:
        connection.ask(wire.produce_frame(TOPIC, BATCH, -1, 0))
    assert end(broker, LATEST) == (BATCHES + 1) * RECORDS


class Deleter(threading.Thread):
    """Deletes a few records at a time; keeps the last offset that was acknowledged."""

    def __init__(self, broker: Tailrace, acknowledged: int) -> None:
        super().__init__()
        self.address, self.acknowledged, self.stopping = broker.bootstrap, acknowledged, False
        self.count = 0

    def wait_for(self, count: int) -> None:
        """So many were acknowledged."""
        wait_until(lambda: self.count >= count, "some deletions")

    def run(self) -> None:
        """See threading.Thread."""
        while not self.stopping and self.acknowledged < BATCHES * RECORDS:
            wanted = min(self.acknowledged + RECORDS // 16, BATCHES * RECORDS)
            try:
                error, low = delete(self.address, wanted)
            except (OSError, KafkaError, UnreachableError):
                return
            if error == NONE:
                assert low == wanted
                self.acknowledged, self.count = low, self.count + 1
            else:
                assert error == NOT_LEADER_OR_FOLLOWER


@pytest.mark.parametrize("kill", [kill_worker, restart])
def test_killed_at_any_moment_nothing_that_was_deleted_comes_back(
    broker: Tailrace, kill: Callable[[Tailrace], None]
) -> None:
    """(R)"""
    acknowledged = 0
    for _ in range(3):
        deleter = Deleter(broker, acknowledged)
        deleter.start()
        deleter.wait_for(5)
        kill(broker)
        deleter.stopping = True
        deleter.join()
        acknowledged = deleter.acknowledged
        start = end(broker, EARLIEST)
        assert acknowledged <= start <= acknowledged + RECORDS // 16
        assert end(broker, LATEST) == BATCHES * RECORDS
        acknowledged = start


def test_a_reader_meets_an_offset_or_hears_that_it_is_out_of_range(broker: Tailrace) -> None:
    """Never a file that is gone."""
    deleter = Deleter(broker, 0)
    deleter.start()
    seen: set[int] = set()
    with wire.Connection(wire.address(broker.bootstrap)) as connection:
        while deleter.is_alive():
            offset = max(0, deleter.acknowledged - RECORDS // 32)
            seen.add(wire.fetch_response(connection.ask(wire.fetch_frame(TOPIC, offset, 4096))).error_code)
    deleter.join()
    assert seen <= {NONE, OFFSET_OUT_OF_RANGE}


def test_the_disk_gets_its_bytes_back(broker: Tailrace) -> None:
    """Nobody keeps a deleted segment open: not the gateway that read it, not the housekeeper."""
    for number in range(BATCHES):
        assert fetch_error(broker, number * RECORDS) == NONE
    assert delete(broker.bootstrap, -1) == (NONE, BATCHES * RECORDS)
    names = [path.name for path in (broker.data / f"{TOPIC}-0").iterdir() if path.suffix == ".log"]
    assert names == [f"{BATCHES * RECORDS:020d}.log"]

    def held() -> list[str]:
        return [
            target
            for pid in tree(broker.pid)
            for link in Path(f"/proc/{pid}/fd").glob("*")
            if ".log (deleted)" in (target := _target(link))
        ]

    wait_until(lambda: not held(), "no deleted segment is open")


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""
