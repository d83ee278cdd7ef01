"""Control messages arrive whole, in order, at the incarnation they were sent to or nowhere."""

from collections.abc import Iterator

import pytest

from tailrace.shm.doorbell import Bells
from tailrace.shm.links import Links
from tailrace.shm.ring import ByteConsumer
from tailrace.workers.control import Message, ReplicaFailed, ReplicaStopped, WantWorker
from tailrace.workers.outbox import FULL_RING_S, OUTBOX_BYTES_MAX, RING_BYTES, Inbox, Outbox
from tests.support.shared_run import SharedRun, shared_run


@pytest.fixture
def run() -> Iterator[SharedRun]:
    with shared_run(4) as made:
        yield made


def read(inbox: Inbox, links: Links) -> list[Message]:
    messages: list[Message] = []
    for slot, incarnation, ring in links.poll():
        assert isinstance(ring, ByteConsumer)
        messages += inbox.read(slot, incarnation, ring)
    return messages


class SilentBells(Bells):
    """Bells of slots without eventfds."""

    def ring_many(self, slots: object) -> None:
        """Nobody sleeps."""


def pair(run: SharedRun) -> tuple[Outbox, Links, Links]:
    sender, receiver = run.begin(1), run.begin(2)
    return Outbox(sender, SilentBells(run.slots, ()), run.slots), sender, receiver


def test_messages_arrive_in_order(run: SharedRun) -> None:
    out, _, receiver = pair(run)
    sent: list[Message] = [WantWorker(slot=slot) for slot in range(100)]
    for message in sent:
        assert out.send(2, message)
    assert out.flush()
    assert read(Inbox(), receiver) == sent


def test_a_message_larger_than_the_ring_arrives_whole(run: SharedRun) -> None:
    out, _, receiver = pair(run)
    long = ReplicaFailed(row=1, row_generation=1, error_code=1, message="x" * (3 * RING_BYTES))
    after = ReplicaStopped(row=1, row_generation=1)
    assert out.send(2, long)
    assert out.send(2, after)
    inbox, received = Inbox(), list[Message]()
    while not out.flush() or len(received) < 2:
        received += read(inbox, receiver)
    assert received == [long, after]


def test_nobody_sleeps_long_while_a_ring_is_full(run: SharedRun) -> None:
    """(R) Who empties it does not tell: each 64 KiB would take as long as a sleep."""
    out, _, receiver = pair(run)
    out.send(2, ReplicaFailed(row=1, row_generation=1, error_code=1, message="x" * (3 * RING_BYTES)))
    inbox = Inbox()
    while not out.flush():
        assert out.wait_s(None) == out.wait_s(60.0) == FULL_RING_S
        assert out.wait_s(0.0) == 0.0
        read(inbox, receiver)
    assert out.wait_s(None) is None
    assert out.wait_s(60.0) == 60.0


def test_what_piles_up_has_a_limit(run: SharedRun) -> None:
    out, _, _ = pair(run)
    big = ReplicaFailed(row=1, row_generation=1, error_code=1, message="x" * (1 << 20))
    taken = 0
    while out.send(2, big):
        taken += 1
        out.flush()
    assert abs(taken - (OUTBOX_BYTES_MAX >> 20)) <= 1
    assert not out.is_empty(2)


def test_nothing_is_taken_for_a_dead_peer(run: SharedRun) -> None:
    out, _, _ = pair(run)
    run.die(2)
    assert not out.send(2, WantWorker(slot=1))


def test_what_waited_for_the_dead_never_reaches_the_successor(run: SharedRun) -> None:
    out, sender, _ = pair(run)
    assert out.send(2, WantWorker(slot=1))
    run.die(2)
    successor = run.begin(2)
    assert out.flush()
    sender.drop_dead()
    assert out.send(2, WantWorker(slot=2))
    assert out.flush()
    assert read(Inbox(), successor) == [WantWorker(slot=2)]


def test_what_was_not_yet_flushed_to_the_dead_is_not_put_before_what_its_successor_is_sent(
    run: SharedRun,
) -> None:
    """(R) Also when the death is not noticed between the two."""
    out, _, _ = pair(run)
    first = run.slots.incarnation(2)
    assert out.send(2, WantWorker(slot=1), only=first)
    run.die(2)
    successor = run.begin(2)
    assert not out.send(2, WantWorker(slot=2), only=first)
    assert out.send(2, WantWorker(slot=3))
    assert out.flush()
    assert read(Inbox(), successor) == [WantWorker(slot=3)]


def test_half_a_message_of_the_dead_is_forgotten(run: SharedRun) -> None:
    out, _, receiver = pair(run)
    inbox = Inbox()
    assert out.send(2, ReplicaFailed(row=1, row_generation=1, error_code=1, message="x" * (2 * RING_BYTES)))
    assert not out.flush()
    assert read(inbox, receiver) == []
    run.die(1)
    receiver.drop_dead()
    successor = Outbox(run.begin(1), SilentBells(run.slots, ()), run.slots)
    assert successor.send(2, WantWorker(slot=3))
    assert successor.flush()
    assert read(inbox, receiver) == [WantWorker(slot=3)]
