"""A fetch whose bytes are on the disk waits for a thread, and nobody waits for it."""

import contextlib
import errno
import os
import socket
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from perf import wire
from perf.batches import batch_of_size
from tailrace.core.errors import KAFKA_STORAGE_ERROR, NONE
from tailrace.workers.gateway import cold_reads
from tests.support.waiting import wait_until
from tests.unit.workers.gateway.in_process import (
    InProcess,
    correlation_ids,
    fetch_frame,
    in_process,
    produce_frame,
)

LARGE = batch_of_size(200_000, 1000).data
ENOUGH = 100_000


class Disk:
    """Nothing is in the page cache before it was read in; that goes on when it is let, and may fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._read_warm, self._read_in = cold_reads.read_warm, cold_reads.read_in
        self.read: list[tuple[int, int]] = []  # position, end
        self.may_go_on = threading.Semaphore(ENOUGH)
        self.error: OSError | None = None
        self.is_forgetful = False  # what was read in is gone again
        self.loop = threading.get_ident()
        monkeypatch.setattr(cold_reads, "read_warm", self.read_warm)
        monkeypatch.setattr(cold_reads, "read_in", self.read_in)

    def read_warm(self, fd: int, buffer: memoryview, position: int) -> int:
        if self.is_forgetful or not any(start <= position < end for start, end in self.read):
            raise BlockingIOError(errno.EAGAIN, "on the disk")
        return self._read_warm(fd, buffer, position)

    def read_in(self, fd: int, position: int, length: int) -> None:
        assert threading.get_ident() != self.loop
        assert self.may_go_on.acquire(timeout=20)
        if self.error is not None:
            raise self.error
        self._read_in(fd, position, length)
        self.read.append((position, position + length))


@pytest.fixture
def run(tmp_path: Path) -> Iterator[InProcess]:
    """A partition with four large batches."""
    with in_process(tmp_path / "data") as made:
        made.lead()
        client, _ = made.dial()
        for number in range(4):
            client.sendall(produce_frame(number, batch=LARGE))
            made.answers(client, 1)
        yield made


@pytest.fixture
def disk(run: InProcess, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Everything so far is on it."""
    assert run.gateway
    return Disk(monkeypatch)


def error_and_length(answer: bytes) -> tuple[int, int]:
    fetched = wire.fetch_response(memoryview(answer))
    return fetched.error_code, fetched.length


def test_bytes_on_the_disk_are_read_in_by_a_thread_and_answered(run: InProcess, disk: Disk) -> None:
    client, _ = run.dial()
    client.sendall(fetch_frame(0, wait_ms=0))
    assert error_and_length(run.answers(client, 1)[0]) == (NONE, 4 * len(LARGE))
    assert sum(end - start for start, end in disk.read) >= 4 * len(LARGE)
    count = len(disk.read)
    client.sendall(fetch_frame(0, wait_ms=0))
    assert error_and_length(run.answers(client, 1)[0]) == (NONE, 4 * len(LARGE))
    assert len(disk.read) == count, "it is in the page cache now"


def test_others_go_on_meanwhile_and_answers_keep_their_order(run: InProcess, disk: Disk) -> None:
    disk.may_go_on = threading.Semaphore(0)
    cold, _ = run.dial()
    cold.sendall(fetch_frame(0, wait_ms=0, correlation_id=1) + produce_frame(2))
    good, _ = run.dial()
    for number in range(3):
        good.sendall(produce_frame(number))
        run.answers(good, 1)
    cold.setblocking(False)
    with pytest.raises(BlockingIOError):
        cold.recv(1)
    disk.may_go_on.release(ENOUGH)
    assert correlation_ids(run.answers(cold, 2)) == [1, 2]


def test_a_connection_closed_meanwhile_leaves_nothing(run: InProcess, disk: Disk) -> None:
    disk.may_go_on = threading.Semaphore(0)
    client, connection = run.dial()
    client.sendall(fetch_frame(0, wait_ms=0))
    while not run.gateway.cold_reads.under_way:
        run.turn()
    connection.close()
    held = open_files()
    disk.may_go_on.release(ENOUGH)
    while run.gateway.cold_reads.under_way:
        run.turn()
    assert open_files() <= held, "what is held is given back"
    good, _ = run.dial()
    good.sendall(fetch_frame(0, wait_ms=0))
    assert error_and_length(run.answers(good, 1)[0])[0] == NONE


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_disk_that_fails_is_that_partitions_error_and_no_more(run: InProcess, disk: Disk) -> None:
    disk.error = OSError(errno.EIO, "the disk is broken")
    client, connection = run.dial()
    client.sendall(fetch_frame(0, wait_ms=0))
    assert error_and_length(run.answers(client, 1)[0]) == (KAFKA_STORAGE_ERROR, 0)
    disk.error = None
    assert not connection.closed
    client.sendall(fetch_frame(0, wait_ms=0))
    assert error_and_length(run.answers(client, 1)[0]) == (NONE, 4 * len(LARGE))


def test_a_log_cut_meanwhile_is_looked_at_anew(run: InProcess, disk: Disk) -> None:
    disk.may_go_on = threading.Semaphore(0)
    client, _ = run.dial()
    client.sendall(fetch_frame(0, wait_ms=0))
    while not run.gateway.cold_reads.under_way:
        run.turn()
    os.truncate(next(run.path.glob("*/*.log")), 0)
    disk.may_go_on.release(ENOUGH)
    with contextlib.suppress(AssertionError):  # closed, as a file that is shorter than was promised
        assert error_and_length(run.answers(client, 1)[0])[1] == 0
    good, _ = run.dial()
    good.sendall(wire.frame((18, 0), b"", flexible=False))
    assert run.answers(good, 1)


def test_what_the_kernel_drops_at_once_is_not_waited_for_twice(run: InProcess, disk: Disk) -> None:
    disk.is_forgetful = True
    client, _ = run.dial()
    client.sendall(fetch_frame(0, wait_ms=0))
    assert error_and_length(run.answers(client, 1)[0]) == (NONE, 4 * len(LARGE))


def test_a_fetch_that_came_to_its_end_at_the_disk_waits_for_records_again(run: InProcess, disk: Disk) -> None:
    client, _ = run.dial()
    frame = wire.fetch_frame("topic", 0, 1 << 20)
    least = (1).to_bytes(4) + (52_428_800).to_bytes(4)
    frame = frame.replace(least, (5 * len(LARGE)).to_bytes(4) + least[4:]).replace(
        (500).to_bytes(4), (20_000).to_bytes(4), 1
    )
    client.sendall(frame)
    while not run.gateway.long_polls.has(next(reversed(run.gateway.connections.values()))):
        run.turn()
    assert disk.read
    good, _ = run.dial()
    good.sendall(produce_frame(7, batch=LARGE))
    run.answers(good, 1)
    assert error_and_length(run.answers(client, 1)[0]) == (NONE, 5 * len(LARGE))


def test_what_goes_cold_before_a_slow_reader_takes_it_is_read_in_again(run: InProcess, disk: Disk) -> None:
    client, connection = run.dial()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
    client.sendall(fetch_frame(0, wait_ms=0))
    while not connection.out or run.gateway.cold_reads.under_way:
        run.turn()
    disk.read.clear()
    assert error_and_length(run.answers(client, 1)[0]) == (NONE, 4 * len(LARGE))
    assert disk.read


def test_a_disk_that_fails_after_the_promise_ends_the_connection(run: InProcess, disk: Disk) -> None:
    client, connection = run.dial()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
    client.sendall(fetch_frame(0, wait_ms=0))
    while not connection.out or run.gateway.cold_reads.under_way:
        run.turn()
    disk.read.clear()
    disk.error = OSError(errno.EIO, "the disk is broken")
    with pytest.raises(AssertionError, match="closed the connection"):
        run.answers(client, 1)


def test_pieces_of_two_readers_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[int] = []

    def read_in(fd: int, _position: int, _length: int) -> None:
        order.append(fd)

    monkeypatch.setattr(cold_reads, "read_in", read_in)
    reads = cold_reads.ColdReads(lambda: None)
    files: list[cold_reads.WarmFile] = []
    done: list[int] = []
    for number in range(2):
        (tmp_path / str(number)).write_bytes(b"x")
        file = cold_reads.WarmFile(str(tmp_path), str(number), reads)
        files.append(file)
        cold = cold_reads.ColdRead(file, 0, 3 * cold_reads.PIECE_BYTES)
        reads.start(cold, {}, partial(done.append, file.fd))

    def are_done() -> bool:
        reads.take()
        return len(done) == 2

    wait_until(are_done, "both to be read")
    first, second = (file.fd for file in files)
    assert order == [first, second] * 3
    for file in files:
        file.release()
