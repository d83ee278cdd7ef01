"""Questions to a worker: answered at once, later, at length, or not at all."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tailrace.core.errors import INVALID_REQUEST, NONE, NOT_LEADER_OR_FOLLOWER, KafkaError
from tailrace.shm.arena import CHUNK, Arena
from tailrace.shm.links import DESCRIPTOR
from tailrace.shm.ring import DescriptorConsumer
from tailrace.shm.slots import GATEWAY
from tailrace.workers.descriptors import ARENA_BYTES, ASK, ASKS_MAX, REQUESTS_MAX, arena_name, pack
from tailrace.workers.gateway.asks import HELD_SHARE
from tailrace.workers.gateway.buffers import Block
from tailrace.workers.gateway.partitions import Partition
from tailrace.workers.leader_asks import KEPT_MAX, Ask
from tailrace.workers.partition_answers import ANSWERERS
from tailrace.workers.replica import Replica
from tests.unit.workers.gateway.in_process import (
    GATEWAY_AT,
    TOPIC,
    TOPIC_ID,
    WORKER_AT,
    InProcess,
    in_process,
    produce_frame,
)

WHAT = 99
Answers = list[tuple[int, bytes]]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[InProcess]:
    with in_process(tmp_path / "data") as made:
        made.lead()
        yield made


def partition_of(run: InProcess) -> Partition:
    return run.gateway.partitions.get(TOPIC, TOPIC_ID, 0)


def ask(run: InProcess, question: bytes) -> Answers:
    answers: Answers = []

    def on_answer(error: int, answer: bytes) -> None:
        answers.append((error, answer))

    run.gateway.asks.ask(partition_of(run), WHAT, question, on_answer)
    return answers


def test_a_question_is_answered_in_its_block(run: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ANSWERERS, WHAT, lambda _replica, question: question[::-1])
    answers = ask(run, b"abc")
    run.turn()
    assert answers == [(NONE, b"cba")]
    assert run.blocks_taken() == 0


def test_a_refusal_is_its_code(run: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_replica: Replica, _question: bytes) -> bytes:
        raise KafkaError(INVALID_REQUEST, "no")

    monkeypatch.setitem(ANSWERERS, WHAT, refuse)
    answers = ask(run, b"abc")
    run.turn()
    assert answers == [(INVALID_REQUEST, b"")]
    assert run.blocks_taken() == 0


@pytest.mark.parametrize("size", [4096, 4097, 100_000, 3_000_000])
def test_an_answer_of_any_size(run: InProcess, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setitem(ANSWERERS, WHAT, lambda _replica, _question: b"x" * size)
    answers = ask(run, b"y" * size)
    run.turn(2)
    assert answers == [(NONE, b"x" * size)]
    assert run.blocks_taken() == 0
    assert not list(Path(run.shared.run_dir).glob("large-*"))


def test_an_answer_may_come_later(run: InProcess) -> None:
    taken: list[tuple[bytes, Ask]] = []
    asks = run.leader.asks  # pyright: ignore[reportPrivateUsage]
    asks.later[1] = lambda question, ask: taken.append((question, ask))
    answers = ask(run, b"abc")
    run.turn(3)
    assert answers == []
    assert run.blocks_taken() == 1
    asks.answer(taken[0][1], NONE, b"def")
    run.leader.completions.send_waiting()  # pyright: ignore[reportPrivateUsage]
    run.turn()
    assert answers == [(NONE, b"def")]
    assert run.blocks_taken() == 0


def test_questions_of_a_dead_worker_are_refused(run: InProcess) -> None:
    asks = run.leader.asks  # pyright: ignore[reportPrivateUsage]
    asks.later[1] = lambda _question, _ask: None
    answers = ask(run, b"abc")
    run.turn()
    run.slots.mark_dead(WORKER_AT, run.worker.incarnation)
    run.gateway._turn_once(0.0)  # pyright: ignore[reportPrivateUsage]
    assert answers == [(NOT_LEADER_OR_FOLLOWER, b"")]
    assert run.blocks_taken() == 0


def test_nobody_answers_what_nobody_knows(run: InProcess) -> None:
    answers = ask(run, b"abc")
    run.turn()
    assert answers == [(NOT_LEADER_OR_FOLLOWER, b"")]


def test_questions_that_wait_are_bounded_and_leave_room_for_appends(run: InProcess) -> None:
    asks = run.leader.asks  # pyright: ignore[reportPrivateUsage]
    asks.later[1] = lambda _question, _ask: None
    refused: Answers = []
    for _ in range(ASKS_MAX + 1):
        refused += ask(run, b"abc")
        run.turn()
    assert refused == [(NOT_LEADER_OR_FOLLOWER, b"")]
    monkey = run.gateway.outstanding
    assert monkey.count == ASKS_MAX


def test_large_questions_that_wait_leave_memory_for_others(run: InProcess) -> None:
    asks = run.leader.asks  # pyright: ignore[reportPrivateUsage]
    taken: list[Ask] = []
    asks.later[1] = lambda _question, ask: taken.append(ask)
    answers: list[Answers] = []
    while not (answers and answers[-1]):
        answers.append(ask(run, bytes(300_000)))
        run.turn()
    assert answers[-1] == [(NOT_LEADER_OR_FOLLOWER, b"")]
    assert len(taken) == int(HELD_SHARE * ARENA_BYTES) >> 20
    for one in taken:
        asks.answer(one, NONE, b"")
    run.leader.completions.send_waiting()  # pyright: ignore[reportPrivateUsage]
    run.turn()
    assert run.blocks_taken() == 0
    assert ask(run, bytes(300_000)) == []


def test_answers_that_nobody_asks_for_again_are_given_up(
    run: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ANSWERERS, WHAT, lambda _replica, _question: b"x" * 5000)
    allocate = run.gateway.buffers.allocate

    def allocate_or_not(size: int) -> Block | None:
        return None if size == 5000 else allocate(size)

    monkeypatch.setattr(run.gateway.buffers, "allocate", allocate_or_not)
    for _ in range(KEPT_MAX + 3):
        answers = ask(run, b"abc")
        run.turn()
        assert answers == [(NOT_LEADER_OR_FOLLOWER, b"")]
    assert len(run.leader.asks._kept) == KEPT_MAX  # pyright: ignore[reportPrivateUsage]


def test_the_first_question_of_a_successor_is_answered(run: InProcess) -> None:
    """(R) Also when the worker meets it in the turn in which it hears of its predecessor's death."""
    client, _ = run.dial()
    client.sendall(produce_frame())
    run.answers(client, 1)
    run.slots.mark_dead(GATEWAY_AT, run.gateway.context.incarnation)
    successor = run.begin(GATEWAY_AT, GATEWAY)
    arena = Arena.create(
        f"{successor.run_dir}/{arena_name(GATEWAY_AT, successor.incarnation)}",
        CHUNK,
        owner=successor.incarnation,
    )
    position = arena.allocate(4096)
    assert position is not None

    def answer_and_stop(_question: bytes, question: Ask) -> None:
        asks.answer(question, NONE, b"def")
        run.worker.stopping = True

    asks = run.leader.asks  # pyright: ignore[reportPrivateUsage]
    asks.later[1] = answer_and_stop
    ring = successor.links.outgoing(WORKER_AT, DESCRIPTOR, REQUESTS_MAX)
    assert ring is not None
    assert ring.try_push(pack(ASK, 1, 1, 1, 0, position, 3, WHAT << 32 | 4096))
    ring.publish()
    run.leader.serve()
    ((_, _, back),) = successor.links.poll()
    assert isinstance(back, DescriptorConsumer)
    assert [entry[:4] for entry in back.pop_all()] == [(ASK, 1, NONE, 3)]
