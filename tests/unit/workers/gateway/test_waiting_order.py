"""Fences, and what is published before what, where a gateway and a worker look at each other's words."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tailrace.core.errors import NOT_LEADER_OR_FOLLOWER
from tailrace.shm.doorbell import Bells
from tailrace.shm.ring import DescriptorConsumer
from tailrace.shm.slots import WORKER
from tailrace.shm.state_table import HIGH_WATERMARK
from tailrace.shm.waiters import WaiterTable
from tailrace.workers import worker as worker_module
from tailrace.workers.completions import Completions
from tailrace.workers.gateway import long_polls
from tailrace.workers.gateway.outstanding import Completion
from tests.unit.workers.gateway.in_process import (
    GATEWAY_AT,
    WORKER_AT,
    InProcess,
    fetch_frame,
    in_process,
    produce_frame,
)

FOREVER_MS = 2_000_000_000


@pytest.fixture
def run(tmp_path: Path) -> Iterator[InProcess]:
    with in_process(tmp_path / "data") as made:
        made.lead()
        yield made


def high_watermark(run: InProcess) -> int:
    return run.shared.state_table.read_word(1, HIGH_WATERMARK)


def test_the_leader_publishes_then_fences_then_looks_for_waiters_then_completes(
    run: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """(R) Without the fence a waiter that came just now is not seen, nor does it see the record."""
    steps: list[str] = []
    satisfied = WaiterTable.satisfied

    def look(table: WaiterTable, row: int, offset: int) -> list[int]:
        steps.append(f"look for {offset}")
        return satisfied(table, row, offset)

    monkeypatch.setattr(
        worker_module, "fence", lambda: steps.append(f"fence, published {high_watermark(run)}")
    )
    monkeypatch.setattr(WaiterTable, "satisfied", look)
    complete = run.gateway.outstanding.complete

    def hear(slot: int, incarnation: int, entry: Completion) -> None:
        steps.append("completed")
        complete(slot, incarnation, entry)

    monkeypatch.setattr(run.gateway.outstanding, "complete", hear)
    client, _ = run.dial()
    client.sendall(produce_frame())
    run.answers(client, 1)
    assert steps == ["fence, published 1", "look for 1", "completed"]


def test_a_waiting_fetch_names_its_offset_then_fences_then_looks_once_more(
    run: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """(R) A record that comes between the first look and the word is found by the second look."""
    fences: list[int] = []

    def fence_and_append() -> None:
        fences.append(run.shared.waiters.wanted(1, 0))
        if len(fences) == 1:
            other.sendall(produce_frame())
            run.answers(other, 1)

    def push_nothing(_self: Completions, _slot: int, _back: object) -> None:
        """The leader looked before the word was there."""

    client, connection = run.dial()
    other, _ = run.dial()
    monkeypatch.setattr(long_polls, "fence", fence_and_append)
    monkeypatch.setattr(Completions, "_push_notices", push_nothing)
    client.sendall(fetch_frame(0, wait_ms=FOREVER_MS))
    while not fences:
        run.turn()
    assert fences[0] == 0, "the word is there before the fence"
    run.answers(client, 1)
    assert not run.gateway.long_polls.has(connection)
    assert run.shared.waiters.wanted(1, 0) == -1


def test_entries_of_a_dead_worker_fail_and_its_successor_gets_only_its_own(run: InProcess) -> None:
    """(R) Also when the successor is met before the death."""
    client, _ = run.dial()
    client.sendall(produce_frame(1))
    while not run.gateway.outstanding.count:
        run.gateway._turn_once(0.01)  # pyright: ignore[reportPrivateUsage]
    run.slots.mark_dead(WORKER_AT, run.worker.incarnation)
    successor = run.begin(WORKER_AT, WORKER)
    run.assign(generation=2, worker=successor)
    other, _ = run.dial()
    other.sendall(produce_frame(2))
    (answer,) = run.answers(client, 1)
    assert int.from_bytes(answer[4 + 1 + 1 + 6 + 1 + 4 :][:2]) == NOT_LEADER_OR_FOLLOWER
    ((_, _, ring),) = successor.links.poll()
    assert isinstance(ring, DescriptorConsumer)
    ((_, _, _, generation, *_),) = ring.pop_all()
    assert (generation, run.gateway.outstanding.count, run.blocks_taken()) == (2, 1, 1)


def test_nothing_is_sent_to_a_successor_before_it_leads(run: InProcess) -> None:
    """(R) An entry goes to the incarnation that was assigned, or waits."""
    run.slots.mark_dead(WORKER_AT, run.worker.incarnation)
    successor = run.begin(WORKER_AT, WORKER)
    client, connection = run.dial()
    client.sendall(produce_frame(1))
    while not connection.requests:
        run.turn()
    run.turn(3)
    assert successor.links.poll() == []
    assert run.gateway.outstanding.count == 0
    run.assign(generation=2, worker=successor)
    run.turn(3)
    assert len(successor.links.poll()) == 1


def test_who_is_rung_finds_what_was_published(run: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """(R) The ringer publishes, then looks whether anybody sleeps: never the other way round."""
    links = {GATEWAY_AT: run.gateway.context.links, WORKER_AT: run.worker.links}
    found: list[tuple[int, bool]] = []
    ring_many = Bells.ring_many

    def look(bells: Bells, slots: Iterable[int]) -> None:
        slots = list(slots)
        found.extend((slot, links[slot].has_work()) for slot in slots if slot in links)
        ring_many(bells, slots)

    def look_at_one(bells: Bells, slot: int) -> None:
        look(bells, [slot])

    monkeypatch.setattr(Bells, "ring_many", look)
    monkeypatch.setattr(Bells, "ring", look_at_one)
    client, _ = run.dial()
    for _ in range(2):  # the first time the rings are new, which is work enough
        found.clear()
        client.sendall(produce_frame())
        run.answers(client, 1)
    assert set(found) == {(GATEWAY_AT, True), (WORKER_AT, True)}
