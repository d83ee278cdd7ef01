"""A gateway or worker that dies leaves nothing behind, and what readers knew of a log does not outlive it."""

import os
import signal
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from perf import wire
from perf.batches import batch_of_size
from perf.peers.tailrace import Tailrace
from tailrace.workers.data_dir import read_info
from tailrace.workers.status import read_status
from tests.support.waiting import wait_until

TOPIC = "restarts"
BATCH = batch_of_size(400_000, 1000).data
BATCHES = 9  # three segments of 1 MiB and a bit


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Tailrace]:
    """One of our own, with small segments."""
    started = Tailrace(tmp_path, {"log.segment.bytes": str(1 << 20)})
    started.start()
    try:
        with wire.Connection(wire.address(started.bootstrap)) as connection:
            wire.create_topic(connection, TOPIC)
        yield started
    finally:
        started.stop()


def pid_of(broker: Tailrace, role: str) -> int:
    """The process of a role that runs now, 0 while there is none."""
    status = read_status(str(broker.data))
    found = [process.pid for process in status.processes if process.role == role] if status else []
    return found[0] if found else 0


def kill(broker: Tailrace, role: str) -> None:
    """Kill it, and wait for its successor."""
    old = pid_of(broker, role)
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: pid_of(broker, role) not in (0, old), f"a new {role}")


def produce(broker: Tailrace, batch: bytes = BATCH) -> int:
    """Write one batch once somebody takes it; its base offset."""
    found: list[int] = []

    def try_once() -> bool:
        try:
            with wire.Connection(wire.address(broker.bootstrap)) as connection:
                answer = connection.ask(wire.produce_frame(TOPIC, batch, -1, 0))
        except OSError:
            return False
        error, offset = struct.unpack_from(">hq", answer, 4 + 1 + 1 + len(wire.compact(TOPIC)) + 1 + 4)
        found.append(offset)
        return bool(error == 0)

    wait_until(try_once, "a batch to be taken")
    return found[-1]


def read_all(connection: wire.Connection) -> int:
    """Read from the start up to the high watermark; where the reading ended."""
    offset = 0
    while True:
        frame = connection.ask(wire.fetch_frame(TOPIC, offset, 1 << 19))
        fetched = wire.fetch_response(frame)
        if fetched.error_code in wire.RETRIABLE:  # the gateway has heard of a death just now
            wait_until(lambda: led(connection), "a leader")
            continue
        assert fetched.error_code == 0
        assert struct.unpack_from(">q", frame, fetched.start)[0] == offset
        offset = wire.next_offset(frame, fetched.start, fetched.length)
        if offset == fetched.high_watermark:
            return offset


def test_a_dead_gateway_leaves_no_memory(broker: Tailrace) -> None:
    info = read_info(str(broker.data))
    assert info is not None
    run_dir = Path(info.run_dir)
    before = {path.name.split("-")[0] for path in run_dir.iterdir()}
    for _ in range(2):
        produce(broker)
        kill(broker, "gateway")
    produce(broker)
    assert len(list(run_dir.glob("arena-*"))) == 1
    assert not list(run_dir.glob("large-*"))
    assert {path.name.split("-")[0] for path in run_dir.iterdir()} == before


def test_a_log_is_read_across_rolls_and_the_death_of_its_leader(broker: Tailrace) -> None:
    with wire.Connection(wire.address(broker.bootstrap)) as connection:
        end = 0
        for _ in range(3):
            for _ in range(BATCHES):
                assert produce(broker) == end
                end += batch_count(BATCH)
            assert read_all(connection) == end
            kill(broker, "worker")
            wait_until(lambda: led(connection), "a leader")
            assert read_all(connection) == end
    assert len(list((broker.data / f"{TOPIC}-0").glob("*.log"))) > 6


def test_a_topic_made_anew_under_the_same_name_is_empty(broker: Tailrace) -> None:
    with wire.Connection(wire.address(broker.bootstrap)) as connection:
        for _ in range(BATCHES):
            produce(broker)
        read_all(connection)
        wire.delete_topic(connection, TOPIC)
        wire.create_topic(connection, TOPIC)
        small = batch_of_size(61 + 120, 120).data
        assert produce(broker, small) == 0
        assert read_all(connection) == batch_count(small)
        assert len(list((broker.data / f"{TOPIC}-0").glob("*.log"))) == 1


def batch_count(batch: bytes) -> int:
    """How many offsets it takes."""
    (delta,) = struct.unpack_from(">i", batch, 23)
    return int(delta) + 1


def led(connection: wire.Connection) -> bool:
    """Whether the partition can be read."""
    return wire.fetch_response(connection.ask(wire.fetch_frame(TOPIC, 0, 1))).error_code == 0
