"""Gateway and worker together: what is held is given back, what waits goes on, requests keep their order."""

import contextlib
import gc
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from perf import wire
from perf.batches import batch_of_size
from tailrace.core import errors
from tailrace.core.metadata.records import PartitionRecord, TopicRecord
from tailrace.core.protocol.apis import APIS, FETCH
from tailrace.core.protocol.compile import encoder
from tailrace.core.protocol.frames import request_frame
from tailrace.core.protocol.messages.fetch import FetchRequest, FetchRequestPartition, FetchRequestTopic
from tailrace.shm.arena import BLOCK_MAX
from tailrace.shm.ring import DescriptorConsumer
from tailrace.shm.slots import GATEWAY
from tailrace.shm.state_table import HIGH_WATERMARK, ROLE_LEADER, ROLE_NONE, ROLE_OFFLINE
from tailrace.workers.gateway import doorkeeper, partitions
from tailrace.workers.gateway.buffers import Block
from tailrace.workers.gateway.connection import RECEIVE_BYTES
from tests.unit.workers.gateway.in_process import (
    BATCH,
    GATEWAY_AT,
    TOPIC,
    WORKER_AT,
    InProcess,
    correlation_ids,
    fetch_frame,
    in_process,
    produce_frame,
)

FOREVER_MS = 2_000_000_000


@pytest.fixture
def run(tmp_path: Path) -> Iterator[InProcess]:
    with in_process(tmp_path / "data") as made:
        yield made


def fetched(answer: bytes) -> wire.Fetched:
    return wire.fetch_response(memoryview(answer))


def turn_until_closed(run: InProcess, fd: int) -> None:
    for _ in range(500):
        if fd not in run.gateway.connections:
            return
        run.turn()
    raise AssertionError("the connection stays")


def wanted(run: InProcess) -> int:
    return run.shared.waiters.wanted(1, 0)


def test_a_waiting_fetch_ends_with_its_connection(run: InProcess) -> None:
    run.lead()
    client, connection = run.dial()
    client.sendall(fetch_frame(0, wait_ms=FOREVER_MS))
    while not run.gateway.long_polls.has(connection):
        run.turn()
    assert wanted(run) == 0
    client.close()
    turn_until_closed(run, connection.fd)
    assert wanted(run) == -1
    assert not run.gateway.long_polls.has(connection)


def test_a_waiting_fetch_ends_with_its_connection_though_more_requests_are_behind_it(run: InProcess) -> None:
    run.lead()
    client, connection = run.dial()
    client.sendall(fetch_frame(0, wait_ms=FOREVER_MS) + produce_frame())
    while not connection.stalled:
        run.turn()
    run.turn()
    client.close()
    turn_until_closed(run, connection.fd)
    assert wanted(run) == -1
    assert run.blocks_taken() == 0


def test_fetches_that_were_served_leave_no_deadlines(run: InProcess) -> None:
    run.lead()
    client, _ = run.dial()
    other, _ = run.dial()
    for offset in range(200):
        client.sendall(fetch_frame(offset, wait_ms=FOREVER_MS))
        other.sendall(produce_frame())
        assert fetched(run.answers(client, 1)[0]).high_watermark == offset + 1
        run.answers(other, 1)
    assert len(run.gateway.timers._heap) < 150  # pyright: ignore[reportPrivateUsage]


def test_a_half_closed_client_gets_all_its_answers(run: InProcess) -> None:
    client, connection = run.dial()
    client.sendall(
        b"".join(produce_frame(number) for number in range(5)) + fetch_frame(0, wait_ms=0, correlation_id=5)
    )
    client.shutdown(socket.SHUT_WR)
    run.turn(5)  # nobody leads the partition yet
    run.lead()
    answers = run.answers(client, 6)
    assert correlation_ids(answers) == list(range(6))
    assert fetched(answers[5]).length == 5 * len(BATCH)
    turn_until_closed(run, connection.fd)
    assert run.blocks_taken() == 0


def test_a_client_half_closed_with_requests_at_a_worker_gets_its_answers(run: InProcess) -> None:
    client, connection = run.dial()
    client.sendall(produce_frame(1) + produce_frame(2))
    client.shutdown(socket.SHUT_WR)
    run.turn(5)  # nobody leads the partition yet
    run.lead()
    assert correlation_ids(run.answers(client, 2)) == [1, 2]
    turn_until_closed(run, connection.fd)
    assert run.blocks_taken() == 0


def test_a_half_closed_client_that_waits_holds_no_memory_to_receive_into(run: InProcess) -> None:
    client, connection = run.dial()
    client.sendall(produce_frame(1))
    run.turn(3)  # nobody leads the partition yet
    assert run.blocks_taken() == 1  # of the request
    client.shutdown(socket.SHUT_WR)
    run.turn(3)
    assert run.blocks_taken() == 1
    run.lead()
    assert correlation_ids(run.answers(client, 1)) == [1]
    turn_until_closed(run, connection.fd)
    assert run.blocks_taken() == 0


def test_frames_may_come_byte_by_byte(run: InProcess) -> None:
    run.lead()
    client, _ = run.dial()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in produce_frame(1) + fetch_frame(0, wait_ms=0, correlation_id=2):
        client.send(bytes([byte]))
        run.gateway._turn_once(0.01)  # pyright: ignore[reportPrivateUsage]
    answers = run.answers(client, 2)
    assert correlation_ids(answers) == [1, 2]
    assert fetched(answers[1]).length == len(BATCH)
    assert run.blocks_taken() == 0


def test_mixed_requests_are_answered_in_order(run: InProcess) -> None:
    run.lead()
    client, _ = run.dial()
    frames = [produce_frame(n) if n % 3 else fetch_frame(0, wait_ms=0, correlation_id=n) for n in range(300)]
    client.sendall(b"".join(frames))
    assert correlation_ids(run.answers(client, 300)) == list(range(300))
    assert run.blocks_taken() == 0


BAD_BATCH = BATCH[:-1] + b"?"  # its checksum is wrong


@pytest.mark.parametrize(
    "last", [produce_frame(3, acks=0, batch=BAD_BATCH), produce_frame(3)[:-1] + b"\x05", b"\0" * 9]
)
def test_what_came_before_the_request_that_ends_a_connection_is_answered(run: InProcess, last: bytes) -> None:
    """As with Kafka, which does one request of a connection after the other."""
    client, connection = run.dial()
    client.sendall(produce_frame(1) + produce_frame(2) + last + produce_frame(4))
    run.turn(5)  # nobody leads the partition yet
    run.lead()
    assert correlation_ids(run.answers(client, 2)) == [1, 2]
    turn_until_closed(run, connection.fd)
    assert client.recv(100) == b""
    assert run.blocks_taken() == 0


def test_what_is_no_request_behind_a_waiting_fetch_ends_the_wait(run: InProcess) -> None:
    run.lead()
    client, connection = run.dial()
    client.sendall(fetch_frame(0, wait_ms=FOREVER_MS) + b"\xff" * 9)
    turn_until_closed(run, connection.fd)
    assert wanted(run) == -1
    assert run.blocks_taken() == 0


def test_acks_0_gives_its_memory_back(run: InProcess) -> None:
    run.lead()
    client, _ = run.dial()
    client.sendall(produce_frame(1, acks=0) + produce_frame(2, acks=0) + produce_frame(3))
    assert correlation_ids(run.answers(client, 1)) == [3]
    assert run.blocks_taken() == 0


def test_a_connection_closed_with_requests_at_a_worker_gives_its_memory_back_once(run: InProcess) -> None:
    run.lead()
    client, connection = run.dial()
    client.sendall(produce_frame() * 3)
    while not connection.requests:
        run.gateway._turn_once(0.01)  # pyright: ignore[reportPrivateUsage]
    connection.close()
    assert run.blocks_taken() == 1, "the worker may be copying from it"
    run.turn(2)
    assert run.blocks_taken() == 0


def test_the_death_of_a_worker_answers_what_it_had(run: InProcess) -> None:
    run.lead()
    client, connection = run.dial()
    client.sendall(produce_frame(7))
    while not connection.requests:
        run.gateway._turn_once(0.01)  # pyright: ignore[reportPrivateUsage]
    run.slots.mark_dead(WORKER_AT, run.worker.incarnation)
    (answer,) = run.answers(client, 1)
    error = int.from_bytes(answer[4 + 1 + 1 + 6 + 1 + 4 :][:2], signed=True)
    assert error == errors.NOT_LEADER_OR_FOLLOWER
    assert run.blocks_taken() == 0
    assert run.gateway.outstanding.count == 0


@pytest.mark.parametrize("is_replaced", [False, True])
def test_what_a_dead_gateway_asked_of_a_worker_is_answered_to_nobody(
    run: InProcess, is_replaced: bool
) -> None:
    """(R) Its successor counts its tokens from 1, too: it would take the completion for one of its own."""
    run.lead()
    client, _ = run.dial()
    client.sendall(produce_frame())
    while not run.gateway.outstanding.count:
        run.gateway._turn_once(0.01)  # pyright: ignore[reportPrivateUsage]
    ((slot, incarnation, ring),) = run.worker.links.poll()
    assert isinstance(ring, DescriptorConsumer)
    run.slots.mark_dead(GATEWAY_AT, incarnation)
    successor = run.begin(GATEWAY_AT, GATEWAY) if is_replaced else None
    run.leader.appends.take(slot, incarnation, ring)  # pyright: ignore[reportPrivateUsage]
    assert successor is None or successor.links.poll() == []
    assert run.shared.state_table.read_word(1, HIGH_WATERMARK) == 0


def test_an_entry_for_the_generation_before_is_refused_and_not_read(run: InProcess) -> None:
    """(R) The row is another replica's by now, or the same one's under another leader."""
    run.lead()
    run.lead(generation=2, is_told=False)
    client, _ = run.dial()
    client.sendall(produce_frame())
    (answer,) = run.answers(client, 1)
    assert int.from_bytes(answer[4 + 1 + 1 + 6 + 1 + 4 :][:2]) == errors.NOT_LEADER_OR_FOLLOWER
    assert run.shared.state_table.read_word(1, HIGH_WATERMARK) == 0
    client.sendall(fetch_frame(0, wait_ms=0))
    assert fetched(run.answers(client, 1)[0]).error_code == errors.NOT_LEADER_OR_FOLLOWER


@pytest.mark.parametrize(
    ("role", "error"),
    [(ROLE_OFFLINE, errors.KAFKA_STORAGE_ERROR), (ROLE_NONE, errors.NOT_LEADER_OR_FOLLOWER)],
)
def test_a_row_that_nobody_leads_is_not_read(run: InProcess, role: int, error: int) -> None:
    run.lead()
    client, _ = run.dial()
    client.sendall(produce_frame() + fetch_frame(0, wait_ms=0))
    assert fetched(run.answers(client, 2)[1]).length == len(BATCH)
    run.set_role(role)
    client.sendall(fetch_frame(0, wait_ms=FOREVER_MS))
    assert fetched(run.answers(client, 1)[0]).error_code == error
    run.set_role(ROLE_LEADER)


def test_list_offsets_is_answered_when_too_much_is_held(
    run: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "HELD_MAX", 0)
    client, _ = run.dial()
    body = b"\xff\xff\xff\xff" + b"\0\0\0\1" + wire.string("topic") + b"\0\0\0\1" + bytes(4) + b"\xff" * 8
    client.sendall(wire.frame((2, 1), body, False, 9))
    (answer,) = run.answers(client, 1)
    assert correlation_ids([answer]) == [9]
    assert int.from_bytes(answer[4 + 4 + 7 + 4 + 4 :][:2]) == errors.NOT_LEADER_OR_FOLLOWER


def send_all(run: InProcess, client: socket.socket, data: bytes) -> None:
    """Send while the gateway reads, and once it has stopped reading let the rest be."""
    client.setblocking(False)
    refused = 0
    while data and refused < 20:
        try:
            data = data[client.send(data) :]
        except BlockingIOError:
            refused += 1
        run.turn()
    assert not data


def test_memory_held_by_requests_that_do_not_go_on_is_taken_back(
    run: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorkeeper, "SHORT_CHECK_MS", 5)
    run.lead()
    beginning = b"\0\x1e\0\0" + produce_frame()[4:] + bytes(1 << 20)  # of a frame of nearly 2 MiB
    while not run.gateway.starved:
        silent, connection = run.dial()
        silent.setblocking(False)
        data = beginning
        while data and not connection.starved:
            with contextlib.suppress(BlockingIOError):
                data = data[silent.send(data) :]
            run.turn()
    for connection in run.gateway.connections.values():
        connection.last_active_ms -= 3_600_000
    client, connection = run.dial()
    send_all(run, client, produce_frame(4, batch=batch_of_size(900_000, 1000).data))
    assert correlation_ids(run.answers(client, 1)) == [4]
    assert connection.fd in run.gateway.connections
    assert len(run.gateway.connections) <= 3, "all but those that were read from since"


def test_a_starved_connection_is_not_looked_at_in_vain_and_goes_on_once_there_is_memory(
    run: InProcess,
) -> None:
    run.lead()
    buffers = run.gateway.buffers
    taken: list[Block] = []
    for size in (BLOCK_MAX, RECEIVE_BYTES):
        while (block := buffers.allocate(size)) is not None:
            taken.append(block)
    client, connection = run.dial()
    client.sendall(produce_frame(4))
    while not connection.starved:
        run.turn()
    run.turn(2)
    assert not [event for event in run.gateway.epoll.poll(0) if event[0] == connection.fd]
    buffers.unpin(taken.pop())
    assert correlation_ids(run.answers(client, 1)) == [4]


def test_a_client_that_reads_nothing_stops_being_read(run: InProcess) -> None:
    run.lead()
    client, connection = run.dial()
    big = produce_frame(0, batch=BATCH)
    client.sendall(big * 400)
    run.answers(client, 400)
    client.setblocking(False)
    for _ in range(4000):
        with contextlib.suppress(BlockingIOError):
            client.send(fetch_frame(0, wait_ms=0) * 50)
        run.turn()
        if connection.stalled and not connection.events & 1:
            break
    assert len(connection.out) < 1000
    assert connection.stalled


def test_a_fetch_that_waits_is_done_with_the_row_that_its_partition_had(run: InProcess) -> None:
    run.lead()
    client, connection = run.dial()
    client.sendall(fetch_frame(0, wait_ms=FOREVER_MS))
    while not run.gateway.long_polls.has(connection):
        run.turn()
    run.set_high_watermark(1, 100)  # it is another partition's now
    run.lead(row=2)
    assert (wanted(run), run.shared.waiters.wanted(2, 0)) == (-1, 0)
    other, _ = run.dial()
    other.sendall(produce_frame())
    run.answers(other, 1)
    assert fetched(run.answers(client, 1)[0]).length == len(BATCH)


def test_a_large_request_whose_file_is_gone_is_no_fault_of_the_disk(
    run: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.lead()
    client, connection = run.dial()
    batch = batch_of_size(3_000_000, 1000).data
    sender = run.gateway.outstanding.send
    removed: list[str] = []

    def send_and_lose(*arguments: object) -> bool:
        for path in Path(run.shared.run_dir).glob("large-*"):
            path.unlink()
            removed.append(path.name)
        return sender(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(run.gateway.outstanding, "send", send_and_lose)
    send_all(run, client, produce_frame(1, batch=batch))
    assert correlation_ids(run.answers(client, 1)) == [1]
    assert len(removed) == 1
    monkeypatch.undo()
    client.sendall(produce_frame(2))
    (answer,) = run.answers(client, 1)
    assert int.from_bytes(answer[4 + 1 + 1 + 6 + 1 + 4 :][:2]) == 0, "the replica still leads"
    assert not list(Path(run.shared.run_dir).glob("large-*"))
    assert not connection.starved


def test_a_large_request_is_served_and_its_file_removed(tmp_path: Path) -> None:
    with in_process(tmp_path / "data", message_max_bytes="5000000") as run:
        run.lead()
        client, _ = run.dial()
        batch = batch_of_size(3_000_000, 1000).data
        send_all(run, client, produce_frame(1, batch=batch) + produce_frame(2))
        answers = run.answers(client, 2)
        assert [int.from_bytes(answer[4 + 1 + 1 + 6 + 1 + 4 :][:2]) for answer in answers] == [0, 0]
        assert not list(Path(run.shared.run_dir).glob("large-*"))
        assert run.blocks_taken() == 0


def test_a_replica_whose_disk_failed_gives_its_files_back(run: InProcess) -> None:
    gc.collect()  # what earlier tests left open
    before = len(os.listdir("/proc/self/fd"))
    run.lead()
    assert len(os.listdir("/proc/self/fd")) > before
    run.fail_disk()
    assert len(os.listdir("/proc/self/fd")) == before
    client, _ = run.dial()
    client.sendall(fetch_frame(0, wait_ms=FOREVER_MS))
    assert fetched(run.answers(client, 1)[0]).error_code == errors.KAFKA_STORAGE_ERROR


def test_reading_a_topic_that_is_gone_does_not_make_its_directory(run: InProcess) -> None:
    run.lead()
    client, _ = run.dial()
    client.sendall(produce_frame())
    run.answers(client, 1)
    directory = run.path / "topic-0"
    directory.rename(run.path / "elsewhere")
    client.sendall(fetch_frame(0, wait_ms=0))
    assert fetched(run.answers(client, 1)[0]).error_code == errors.KAFKA_STORAGE_ERROR
    assert not directory.exists()
    (run.path / "elsewhere").rename(directory)


def fetch_of(*partitions: int) -> bytes:
    """A fetch of the end of these partitions that waits for ever."""
    parts = [FetchRequestPartition(index, partition_max_bytes=1 << 20) for index in partitions]
    message = FetchRequest(
        max_wait_ms=FOREVER_MS, min_bytes=1, topics=[FetchRequestTopic(TOPIC, partitions=parts)]
    )
    return b"".join(request_frame(APIS[FETCH], 12, 0, None, encoder(FetchRequest, 12)(message)))


def test_a_partition_that_does_not_exist_does_not_end_the_wait_for_another(run: InProcess) -> None:
    """Or its client would ask again at once, without end."""
    run.lead()
    client, connection = run.dial()
    client.sendall(fetch_of(0, 7))
    while not run.gateway.long_polls.has(connection):
        run.turn()
    run.turn(5)
    assert run.gateway.long_polls.has(connection)
    other, _ = run.dial()
    other.sendall(produce_frame())
    assert fetched(run.answers(client, 1)[0]).length == len(BATCH)


def test_a_wait_for_nothing_that_exists_ends_at_once(run: InProcess) -> None:
    client, _ = run.dial()
    client.sendall(fetch_of(7))
    assert fetched(run.answers(client, 1)[0]).error_code == errors.UNKNOWN_TOPIC_OR_PARTITION


def test_only_an_administrator_writes_to_a_topic_of_the_coordinators(run: InProcess) -> None:
    run.lead()
    topic, topic_id = "__consumer_offsets", bytes(15) + b"\x02"
    record = PartitionRecord(
        topic_id=topic_id, partition=0, replicas=(0,), isr=(0,), leader=0, leader_epoch=0, partition_epoch=0
    )
    image = run.gateway.image
    image.replay([TopicRecord(name=topic, topic_id=topic_id), record], image.metadata_offset + 2)
    client, _ = run.dial()
    frame = wire.produce_frame(topic, BATCH, -1, 0)
    client.sendall(frame)
    (answer,) = run.answers(client, 1)
    at = 4 + 1 + 1 + len(wire.compact(topic)) + 1 + 4
    assert int.from_bytes(answer[at : at + 2]) == errors.INVALID_TOPIC_EXCEPTION
