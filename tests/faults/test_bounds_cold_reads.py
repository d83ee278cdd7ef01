"""Old segments that left the page cache are read by a thread of the gateway, with a real disk."""

import os
from pathlib import Path

import pytest

from perf import wire
from perf.batches import batch_of_size
from perf.processes import file_system, tree
from tests.faults.test_bounds import started

BATCH, RECORDS = batch_of_size(100_000, 1000)
BATCHES = 30
TOPIC = "cold"


def gateway_of(root: int) -> int:
    """Its process."""
    (found,) = [pid for pid in tree(root) if "gateway" in Path(f"/proc/{pid}/cmdline").read_text()]
    return found


def threads_of(pid: int) -> int:
    """How many it has."""
    return len(os.listdir(f"/proc/{pid}/task"))


def read_all(connection: wire.Connection) -> bytes:
    """Every batch."""
    data, offset = b"", 0
    while len(data) < BATCHES * len(BATCH):
        answer = connection.ask(wire.fetch_frame(TOPIC, offset, 1 << 20))
        fetched = wire.fetch_response(answer)
        assert fetched.error_code == 0
        after = wire.next_offset(answer, fetched.start, fetched.length)
        assert after > offset
        got = bytes(answer[fetched.start : fetched.start + fetched.length])
        data += got[: (after - offset) // RECORDS * len(BATCH)]
        offset = after
    return data


def drop(path: Path) -> None:
    """Out of the page cache, as far as nobody maps it."""
    fd = os.open(path, os.O_RDWR)
    os.fdatasync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def is_cold(path: Path) -> bool:
    """Whether the kernel has dropped it."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.preadv(fd, (bytearray(1),), os.fstat(fd).st_size // 2, os.RWF_NOWAIT)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def test_cold_segments_are_read_in_by_a_thread_and_come_whole(tmp_path: Path) -> None:
    if file_system(tmp_path) == "tmpfs":
        pytest.skip("the folder for tests is memory: nothing in it is ever cold")
    with started(tmp_path, {"log.segment.bytes": str(1 << 20)}) as broker:
        gateway = gateway_of(broker.pid)
        with wire.Connection(broker.endpoints()["tcp"], 2 << 20) as connection:
            wire.create_topic(connection, TOPIC)
            for _ in range(BATCHES):
                connection.ask(wire.produce_frame(TOPIC, BATCH, -1, 0))
            warm = read_all(connection)
            assert threads_of(gateway) == 1, "what is in memory needs no thread"
            first = min((broker.data / f"{TOPIC}-0").glob("*.log"))
            for path in first.parent.glob("*0*.log"):
                drop(path)
            for path in first.parent.glob("*.index"):
                drop(path)
            if not is_cold(first):
                pytest.skip("this kernel keeps what it is told to drop")
            assert read_all(connection) == warm
            assert threads_of(gateway) == 2
