"""Under flush.policy=group and each nothing counts before it is synced: not for acks=all, not for consumers,
not for who asks a coordinator.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from errno import EIO
from pathlib import Path
from typing import Any, cast

import pytest

from tailrace.core.errors import (
    KAFKA_STORAGE_ERROR,
    NONE,
    NOT_COORDINATOR,
    NOT_LEADER_OR_FOLLOWER,
)
from tailrace.core.log.directory import DiskFullError, RealDirectory
from tailrace.core.log.flush import Flush
from tailrace.shm.state_table import (
    HIGH_WATERMARK,
    LOG_END_OFFSET,
    RECOVERY_POINT,
    ROLE,
    ROLE_OFFLINE,
    SYNC_FAILED,
)
from tailrace.workers import control
from tailrace.workers.background import Background
from tailrace.workers.coordinator_host import CoordinatorHost
from tailrace.workers.descriptors import MAX_TIMESTAMP
from tailrace.workers.leader_asks import Ask, Asks
from tailrace.workers.worker import Worker
from tests.unit.log.logs import batch
from tests.unit.workers.gateway.in_process import (
    BATCH,
    TOPIC,
    TOPIC_ID,
    WORKER_AT,
    InProcess,
    correlation_ids,
    fetch_frame,
    in_process,
    produce_frame,
)

# Turned by hand, without its loop.
# pyright: reportPrivateUsage=false

ERROR_AT = 4 + 1 + 1 + 1 + len(TOPIC) + 1 + 4  # in an answer to Produce 9, without its size


class Gate:
    """Stands before the disk: syncs of segments wait, or fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.open.set()
        self.broken = False
        self.synced: list[str] = []
        real = RealDirectory.sync_file

        def sync_file(directory: RealDirectory, name: str) -> None:
            assert self.open.wait(60)
            if self.broken:
                raise OSError(EIO, "input/output error")
            real(directory, name)
            self.synced.append(name)

        monkeypatch.setattr(RealDirectory, "sync_file", sync_file)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(monkeypatch)


@pytest.fixture
def run(tmp_path: Path, gate: Gate, request: pytest.FixtureRequest) -> Iterator[InProcess]:
    """One led partition; the policy is `group`, unless the test says otherwise."""
    policy = getattr(request, "param", "group")
    with in_process(tmp_path / "data", flush_policy=policy) as made:
        made.lead()
        yield made
        gate.open.set()


each = pytest.mark.parametrize("run", ["each"], indirect=True)


def now_ms() -> int:
    """The time of day."""
    return time.time_ns() // 1_000_000


def word(run: InProcess, number: int) -> int:
    """A word of the partition's row."""
    return run.shared.state_table.read_word(1, number)


def turn(run: InProcess) -> None:
    """All of them look at what there is, the worker as its loop does."""
    run.turn()
    leader = run.leader
    assert leader.replicas.commit is not None
    leader.replicas.commit.turn()
    for coordinator in leader.replicas.coordinators.values():
        coordinator.turn()
    leader.publish()
    leader.completions.send_waiting()
    run.gateway._turn_once(0.0)


def answers(run: InProcess, client: Any, count: int) -> list[bytes]:
    """The next answers to a client."""
    client.setblocking(False)
    data, found = b"", list[bytes]()
    for _ in range(20_000):
        turn(run)
        with suppress(BlockingIOError):
            data += client.recv(1 << 20)
        while len(data) >= 4 and len(data) >= 4 + int.from_bytes(data[:4]):
            size = int.from_bytes(data[:4])
            found.append(data[4 : 4 + size])
            data = data[4 + size :]
        if len(found) >= count:
            assert not data
            return found
    raise AssertionError(f"{len(found)} answers instead of {count}")


def is_silent(run: InProcess, client: Any) -> bool:
    """Nothing is answered while all have looked for work many times."""
    client.setblocking(False)
    for _ in range(20):
        turn(run)
    try:
        return not client.recv(1)
    except BlockingIOError:
        return True


def errors(found: list[bytes]) -> list[int]:
    """The error codes of answers."""
    return [int.from_bytes(answer[ERROR_AT : ERROR_AT + 2], signed=True) for answer in found]


def test_acks_all_and_consumers_wait_for_the_sync_and_acks_1_does_not(run: InProcess, gate: Gate) -> None:
    """(R) The high watermark moves after the sync has returned; the acknowledgement comes after that."""
    client, _ = run.dial()
    other, _ = run.dial()
    consumer, _ = run.dial()
    consumer.sendall(fetch_frame(0, wait_ms=60_000))
    gate.open.clear()
    client.sendall(produce_frame(1))
    other.sendall(produce_frame(2, acks=1))
    assert correlation_ids(answers(run, other, 1)) == [2]
    assert is_silent(run, client)
    assert is_silent(run, consumer)
    assert (word(run, LOG_END_OFFSET), word(run, HIGH_WATERMARK)) == (2, 0)
    gate.open.set()
    assert errors(answers(run, client, 1)) == [NONE]
    assert len(answers(run, consumer, 1)) == 1
    while word(run, HIGH_WATERMARK) < 2:  # what acks=1 appended is synced as well
        turn(run)


def test_what_is_appended_during_a_sync_waits_for_the_next_one(run: InProcess, gate: Gate) -> None:
    """(R) It may have come after the pages were looked at. One sync serves all of it."""
    clients = [run.dial()[0] for _ in range(4)]
    gate.open.clear()
    clients[0].sendall(produce_frame(0))
    turn(run)
    for number, client in enumerate(clients[1:], 1):
        client.sendall(produce_frame(number))
    turn(run)
    (replica,) = run.leader.replicas.by_row.values()
    assert word(run, LOG_END_OFFSET) == 4
    gate.open.set()
    for client in clients:
        assert errors(answers(run, client, 1)) == [NONE]
    assert replica.is_committed(4)
    assert is_silent(run, clients[0])
    assert gate.synced.count(f"{0:020d}.log") == 2


def test_a_duplicate_is_answered_once_its_original_is_synced(run: InProcess, gate: Gate) -> None:
    """(R) Or it would acknowledge what a loss of power takes."""
    sent = batch("once", producer=7, sequence=0, timestamp=now_ms())
    clients = [run.dial()[0] for _ in range(2)]
    gate.open.clear()
    for number, client in enumerate(clients):
        client.sendall(produce_frame(number, batch=sent))
        turn(run)
    assert word(run, LOG_END_OFFSET) == 1, "the second is a duplicate"
    assert is_silent(run, clients[1])
    gate.open.set()
    for client in clients:
        assert errors(answers(run, client, 1)) == [NONE]


def test_after_a_failed_sync_nothing_is_acknowledged_and_the_log_is_out_of_service(
    run: InProcess, gate: Gate
) -> None:
    """(R) All who wait hear of it at once; nobody tries again."""
    clients = [run.dial()[0] for _ in range(2)]
    gate.open.clear()
    clients[0].sendall(produce_frame())
    turn(run)
    clients[1].sendall(produce_frame())
    turn(run)
    gate.broken = True
    gate.open.set()
    for client in clients:
        assert errors(answers(run, client, 1)) == [KAFKA_STORAGE_ERROR]
    assert (word(run, ROLE), word(run, RECOVERY_POINT)) == (ROLE_OFFLINE, SYNC_FAILED)
    assert word(run, HIGH_WATERMARK) == 0
    gate.broken = False
    succeed(run)
    assert word(run, ROLE) == ROLE_OFFLINE
    assert not run.leader.replicas.by_row


def test_who_waits_on_a_deleted_topic_is_answered(run: InProcess, gate: Gate) -> None:
    client, _ = run.dial()
    gate.open.clear()
    client.sendall(produce_frame())
    turn(run)
    stop = control.StopReplica(
        topic=TOPIC,
        topic_id=TOPIC_ID,
        partition=0,
        row=1,
        row_generation=1,
        delete=True,
        log_dir=str(run.path),
    )
    run.leader.replicas.stop(stop)
    assert errors(answers(run, client, 1)) == [NOT_LEADER_OR_FOLLOWER]
    gate.open.set()
    assert is_silent(run, client)


def test_what_cannot_be_synced_for_want_of_room_is_synced_later(
    run: InProcess, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits hears of it at once; the log goes on."""
    replica, client = run.leader.replicas.by_row[1], run.dial()[0]

    def refuse() -> Flush:
        raise DiskFullError(KAFKA_STORAGE_ERROR, "the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(replica.log, "begin_flush", refuse)
        client.sendall(produce_frame())
        assert errors(answers(run, client, 1)) == [KAFKA_STORAGE_ERROR]
    assert (word(run, LOG_END_OFFSET), word(run, HIGH_WATERMARK)) == (1, 0)
    run.leader.tick()
    while word(run, HIGH_WATERMARK) < 1:
        turn(run)
    assert gate.synced


def test_appends_gather_as_long_as_they_are_told(tmp_path: Path, gate: Gate) -> None:
    with in_process(tmp_path / "data", flush_policy="group", flush_group_ms="3600000") as run:
        run.lead()
        commit, client = run.leader.replicas.commit, run.dial()[0]
        assert commit is not None
        gate.synced.clear()
        client.sendall(produce_frame())
        assert is_silent(run, client)
        assert not gate.synced
        assert 0 < commit.timeout_s() <= 3600
        commit._gather_ns = 0
        assert commit.timeout_s() == 0
        assert errors(answers(run, client, 1)) == [NONE]


@pytest.mark.parametrize("broken", [False, True])
def test_a_worker_that_stops_acknowledges_what_is_synced_and_no_more(
    run: InProcess, gate: Gate, broken: bool
) -> None:
    """(R)"""
    client, _ = run.dial()
    gate.open.clear()
    client.sendall(produce_frame())
    turn(run)
    gate.broken = broken
    gate.open.set()
    run.leader.close()
    assert errors(run.answers(client, 1)) == [KAFKA_STORAGE_ERROR if broken else NONE]


def succeed(run: InProcess, generation: int = 2) -> None:
    """The worker was killed; its successor leads."""
    for replica in run.leader.replicas.by_row.values():
        replica.log.close(clean=False)
    run.slots.mark_dead(WORKER_AT, run.worker.incarnation)
    run.worker = run.begin(WORKER_AT, 4)
    run.leader = Worker(run.worker)
    run.lead(generation)


@pytest.mark.parametrize("run", ["group", "each"], indirect=True)
def test_a_successor_syncs_what_its_predecessor_had_not(run: InProcess, gate: Gate) -> None:
    """(R) Before the high watermark moves over it."""
    client, _ = run.dial()
    client.sendall(produce_frame())
    answers(run, client, 1)
    replica = run.leader.replicas.by_row[1]
    replica.log.append_as_leader(BATCH, 1, now_ms())  # and it dies
    gate.synced.clear()
    succeed(run)
    assert f"{0:020d}.log" in gate.synced
    assert word(run, HIGH_WATERMARK) == word(run, RECOVERY_POINT) == 2


def test_a_successor_whose_sync_fails_does_not_serve(run: InProcess, gate: Gate) -> None:
    """(R) Nor does the next one, as if that could help."""
    run.leader.replicas.by_row[1].log.append_as_leader(BATCH, 1, now_ms())
    gate.broken = True
    succeed(run)
    gate.broken = False
    succeed(run, 3)
    assert (word(run, ROLE), word(run, RECOVERY_POINT)) == (ROLE_OFFLINE, SYNC_FAILED)
    assert word(run, HIGH_WATERMARK) == 0


def test_times_are_looked_up_below_the_high_watermark(run: InProcess, gate: Gate) -> None:
    gate.open.clear()
    client, _ = run.dial()
    client.sendall(produce_frame())
    turn(run)
    (replica,) = run.leader.replicas.by_row.values()
    assert _offset(run.leader.appends._look_up(replica, 1, MAX_TIMESTAMP)) == -1
    gate.open.set()
    answers(run, client, 1)
    assert _offset(run.leader.appends._look_up(replica, 1, MAX_TIMESTAMP)) == 0


def _offset(completion: bytes) -> int:
    return int.from_bytes(completion[24:32], "little", signed=True)


@each
def test_each_syncs_before_it_answers_anybody(run: InProcess, gate: Gate) -> None:
    for acks in (1, -1):
        client, _ = run.dial()
        gate.synced.clear()
        client.sendall(produce_frame(acks=acks))
        assert errors(answers(run, client, 1)) == [NONE]
        assert f"{0:020d}.log" in gate.synced
    assert word(run, HIGH_WATERMARK) == word(run, RECOVERY_POINT) == 2
    gate.broken = True
    client, _ = run.dial()
    client.sendall(produce_frame(acks=1))
    assert errors(answers(run, client, 1)) == [KAFKA_STORAGE_ERROR]
    assert (word(run, ROLE), word(run, HIGH_WATERMARK)) == (ROLE_OFFLINE, 2)


def test_the_loop_is_rung_when_there_is_something_to_take() -> None:
    """(R) Not before, or it looks too early and sleeps on it."""
    found: list[list[tuple[int, OSError | None]]] = []
    rung = threading.Event()

    def ring() -> None:
        found.append(background.take_done())
        rung.set()

    background: Background[int] = Background(ring)
    background.submit(5, lambda: None)
    assert rung.wait(60)
    assert found == [[(5, None)]]


class Answers:
    """What a coordinator answers, by question."""

    def __init__(self) -> None:
        self.given: list[int] = []

    def answer(self, _: Ask, error: int, body: bytes) -> None:
        """See Asks."""
        assert bool(body) == (error == NONE)
        self.given.append(error)


def test_a_coordinator_tells_nothing_that_is_not_synced(run: InProcess, gate: Gate) -> None:
    """(R) Also not to who only asks."""
    (replica,) = run.leader.replicas.by_row.values()
    told, commit = Answers(), run.leader.replicas.commit
    assert commit is not None
    host = CoordinatorHost(run.worker, replica, cast(Asks, told), commit.appended, run.leader.replicas.fail)
    gate.open.clear()
    host._append([(b"\0\1\0\1g\0\1t\0\0\0\0", None)])
    host._answer(cast(Ask, object()), b"body")
    for _ in range(20):
        turn(run)
        host.turn()
    assert told.given == []
    gate.open.set()
    while not told.given:
        turn(run)
        host.turn()
    assert told.given == [NONE]
    gate.open.clear()
    host._append([(b"\0\1\0\1g\0\1t\0\0\0\0", None)])
    host._answer(cast(Ask, object()), b"body")
    host.close()
    assert told.given == [NONE, NOT_COORDINATOR]
    gate.open.set()
