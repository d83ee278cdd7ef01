"""Memory to receive into: who only says that it sends a lot holds none, who sends little finds some."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from perf.batches import batch_of_size
from tailrace.workers.gateway import doorkeeper
from tailrace.workers.gateway.buffers import Block
from tailrace.workers.gateway.connection import ASIDE_BYTES_MAX, RECEIVE_BYTES
from tests.unit.workers.gateway.in_process import InProcess, correlation_ids, in_process, produce_frame

LARGE = produce_frame(7, batch=batch_of_size(900_000, 1000).data)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[InProcess]:
    with in_process(tmp_path / "data") as made:
        made.lead()
        yield made


def held(run: InProcess) -> int:
    """Bytes of memory that connections hold to receive into."""
    blocks = [connection.block for connection in run.gateway.connections.values()]
    return sum(block.limit - block.start for block in blocks if block is not None)


def send_all(run: InProcess, client: socket.socket, data: bytes) -> None:
    client.setblocking(False)
    while data:
        with contextlib.suppress(BlockingIOError):
            data = data[client.send(data) :]
        run.turn()


def test_a_frame_is_given_the_memory_that_it_says_only_as_it_comes(run: InProcess) -> None:
    clients = [run.dial()[0] for _ in range(20)]
    for client in clients:
        client.sendall(LARGE[:100])
        run.turn()
    assert held(run) == 20 * RECEIVE_BYTES
    send_all(run, clients[0], LARGE[100:])
    assert correlation_ids(run.answers(clients[0], 1)) == [7]


def test_half_open_frames_leave_memory_to_others_and_may_go_on(run: InProcess) -> None:
    silent = [run.dial()[0] for _ in range(400)]  # more than 24 MiB of blocks
    for client in silent:
        client.sendall(LARGE[:100])
        run.turn()
    good, connection = run.dial()
    for number in range(3):
        send_all(run, good, produce_frame(number))
        assert correlation_ids(run.answers(good, 1)) == [number]
    assert not connection.closed
    assert len(run.gateway.connections) == 401, "nobody was closed"
    for client in (silent[0], silent[-1]):
        send_all(run, client, LARGE[100:])
        assert correlation_ids(run.answers(client, 1)) == [7]


def test_who_sends_a_lot_leaves_memory_to_who_sends_little(run: InProcess) -> None:
    buffers = run.gateway.buffers
    taken: list[Block] = []
    while (block := buffers.allocate(1 << 20)) is not None:
        taken.append(block)
    good, _ = run.dial()
    good.sendall(produce_frame(3))
    assert correlation_ids(run.answers(good, 1)) == [3]
    assert not run.gateway.starved
    for block in taken:
        buffers.unpin(block)
    assert buffers.allocate(1 << 20) is not None


def test_many_that_send_large_frames_at_once_do_not_wait_for_each_other(
    run: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorkeeper, "SHORT_MS", 3_600_000)
    monkeypatch.setattr(doorkeeper, "HOLD_MS", 3_600_000)
    clients = [run.dial()[0] for _ in range(80)]
    for start in range(0, len(LARGE), 60_000):
        for client in clients:
            client.setblocking(True)  # its socket takes all of it, read or not
            client.sendall(LARGE[start : start + 60_000])
            run.turn()
    while run.gateway.starved:
        answered = len(run.gateway.starved)
        run.turn(20)
        assert len(run.gateway.starved) < answered, (
            "each waits for memory that another holds, who waits as well"
        )
    for client in clients:
        assert correlation_ids(run.answers(client, 1)) == [7]


def test_who_is_starved_is_not_closed_for_its_silence(
    run: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorkeeper, "SHORT_CHECK_MS", 1)
    buffers = run.gateway.buffers
    taken: list[Block] = []
    while (block := buffers.allocate(1 << 20)) is not None:
        taken.append(block)
    client, connection = run.dial()
    client.setblocking(False)
    sent = 0
    while not connection.starved:
        with contextlib.suppress(BlockingIOError):
            sent += client.send(LARGE[sent : sent + 60_000])
        run.turn()
    connection.last_active_ms -= doorkeeper.SHORT_MS + 1
    for _ in range(50):
        run.turn()
    assert not connection.closed
    for block in taken:
        buffers.unpin(block)
    send_all(run, client, LARGE[sent:])
    assert correlation_ids(run.answers(client, 1)) == [7]


def test_a_frame_begins_when_the_one_before_it_is_taken(run: InProcess) -> None:
    client, connection = run.dial()
    frame = produce_frame(1)
    client.sendall(frame + frame[:20])
    correlation_ids(run.answers(client, 1))
    for _ in range(5):
        connection.since_ms -= doorkeeper.HOLD_MS + 1
        client.sendall(frame[20:] + frame[:20])
        correlation_ids(run.answers(client, 1))
        assert connection.since_ms >= connection.last_active_ms - doorkeeper.HOLD_MS


def test_a_frame_that_only_drips_is_given_up_while_memory_is_short(
    run: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorkeeper, "SHORT_CHECK_MS", 1)
    dripping, connection = run.dial()
    send_all(run, dripping, LARGE[: 10 * ASIDE_BYTES_MAX])
    assert connection.block is not None
    connection.since_ms -= doorkeeper.HOLD_MS + 1
    buffers = run.gateway.buffers
    taken: list[Block] = []
    for size in (1 << 20, RECEIVE_BYTES):
        while (block := buffers.allocate(size)) is not None:
            taken.append(block)
    good, _ = run.dial()
    good.sendall(produce_frame(3))
    for _ in range(50):
        run.turn()
        if connection.closed:
            break
    assert connection.closed
    for block in taken:
        buffers.unpin(block)
    assert correlation_ids(run.answers(good, 1)) == [3]


def test_requests_that_wait_for_answers_are_put_aside_and_taken_later(run: InProcess) -> None:
    client, connection = run.dial()
    run.gateway.partitions.get("topic", bytes(15) + b"\x01", 0).error = 6
    client.sendall(produce_frame(1) + VERSIONS)
    while not connection.stalled:
        run.turn()
    connection.put_aside()
    assert connection.block is None
    run.assign()
    assert correlation_ids(run.answers(client, 2)) == [1, 9]


VERSIONS = (20).to_bytes(4) + bytes.fromhex("0012000000000009000a") + b"0123456789"
