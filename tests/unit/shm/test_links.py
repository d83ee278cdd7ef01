"""Links: who hears whom, and that nobody hears the dead."""

import os
from pathlib import Path

import pytest

from tailrace.shm.links import BYTES, DESCRIPTOR, HeadTable, Links, unlink_dead_rings
from tailrace.shm.region import Region, ShmError
from tailrace.shm.ring import (
    ByteConsumer,
    ByteProducer,
    DescriptorConsumer,
    DescriptorProducer,
    Entry,
    create_ring,
    pack_entry,
    ring_tag,
)
from tests.support.forks import fork
from tests.support.shared_run import SharedRun, shared_run


def entry(number: int) -> bytes:
    return pack_entry(number, 1, 2, 3, 4, 5, 6, -7)


def push(links: Links, peer: int, *numbers: int) -> DescriptorProducer:
    producer = links.outgoing(peer, DESCRIPTOR, 16)
    assert producer is not None
    for number in numbers:
        assert producer.try_push(entry(number))
    producer.publish()
    return producer


def say(links: Links, peer: int, *frames: bytes) -> ByteProducer:
    producer = links.outgoing(peer, BYTES, 256)
    assert producer is not None
    assert all(producer.try_push(frame) for frame in frames)
    return producer


def hear(links: Links) -> dict[int, list[int] | list[bytes]]:
    """All that is unread, by peer slot."""
    heard: dict[int, list[int] | list[bytes]] = {}
    for peer, _, consumer in links.poll():
        if isinstance(consumer, DescriptorConsumer):
            heard[peer] = [taken[0] for taken in consumer.pop_all()]
        else:
            heard[peer] = take(consumer)
    return heard


def take(consumer: ByteConsumer) -> list[bytes]:
    frames: list[bytes] = []
    while (frame := consumer.pop()) is not None:
        frames.append(frame)
    return frames


def ring_files(run: SharedRun) -> list[str]:
    return sorted(name for name in os.listdir(run.run_dir.path) if name.startswith("ring-"))


def test_only_published_entries_are_seen_and_in_order() -> None:
    with shared_run() as run:
        a, b = run.begin(1), run.begin(2)
        producer = push(a, 2)
        assert producer.try_push(entry(1))
        assert (b.has_work(), b.poll()) in (
            (True, []),
            (False, []),
        )  # a new ring may be noticed, its content not
        assert not b.has_work()
        producer.publish()
        assert b.has_work()
        push(a, 2, 2, 3)
        assert hear(b) == {1: [1, 2, 3]}
        assert not b.has_work()
        assert b.poll() == []


def test_entry_arrives_as_its_eight_words() -> None:
    with shared_run() as run:
        a, b = run.begin(1), run.begin(2)
        words: Entry = (1 << 62, -(1 << 63), 0, -1, 5, 6, 7, 8)
        producer = push(a, 2)
        producer.try_push(pack_entry(*words))
        producer.publish()
        ((peer, incarnation, consumer),) = b.poll()
        assert isinstance(consumer, DescriptorConsumer)
        assert (peer, incarnation, consumer.pop_all()) == (1, run.slots.incarnation(1), [words])


def test_ring_not_emptied_comes_again() -> None:
    with shared_run() as run:
        a, b = run.begin(1), run.begin(2)
        push(a, 2, *range(10))
        for first in (0, 4, 8):
            ((_, _, consumer),) = b.poll()
            assert isinstance(consumer, DescriptorConsumer)
            assert [taken[0] for taken in consumer.pop_all(4)] == list(range(10))[first : first + 4]
        assert b.poll() == []


def test_all_producers_of_a_full_house_are_heard() -> None:
    with shared_run(70) as run:
        consumer = run.begin(0)
        everyone = [run.begin(slot) for slot in range(1, 70)]
        for lap in range(3):
            for slot, links in enumerate(everyone, 1):
                push(links, 0, slot * 10 + lap)
            assert hear(consumer) == {slot: [slot * 10 + lap] for slot in range(1, 70)}
        assert not consumer.has_work()


def test_new_ring_is_noticed_although_known_rings_are_never_empty() -> None:
    with shared_run() as run:
        busy, b, late = run.begin(1), run.begin(2), run.begin(3)
        push(busy, 2, 0)
        hear(b)
        push(late, 2, 7)
        for lap in range(100):
            push(busy, 2, lap)
            if 3 in hear(b):
                return
    pytest.fail("the busy ring starved the new one")


def test_both_kinds_go_side_by_side_and_back() -> None:
    with shared_run() as run:
        a, b, c = run.begin(1), run.begin(2), run.begin(3)
        push(a, 2, 5)
        say(c, 2, b"one", b"", b"three" * 10)
        say(b, 1, b"back")
        assert hear(b) == {1: [5], 3: [b"one", b"", b"three" * 10]}
        assert hear(a) == {2: [b"back"]}


def test_full_ring_refuses_until_something_is_taken() -> None:
    with shared_run() as run:
        a, b = run.begin(1), run.begin(2)
        producer = push(a, 2, *range(16))
        assert producer.room() == 0
        assert not producer.try_push(entry(16))
        assert hear(b) == {1: list(range(16))}
        assert producer.room() == 16
        assert producer.try_push(entry(16))
        frames = say(b, 1, b"x" * 120, b"x" * 120)
        assert not frames.try_push(b"")
        hear(a)
        assert frames.try_push(b"x" * 120)


def test_frame_over_half_the_capacity_is_the_callers_mistake() -> None:
    with shared_run() as run:
        a, _ = run.begin(1), run.begin(2)
        producer = say(a, 2)
        assert producer.frame_max == 120
        with pytest.raises(AssertionError, match="by reference"):
            producer.try_push(bytes(121))


def test_nobody_in_the_slot_is_no_ring() -> None:
    with shared_run() as run:
        a, _ = run.begin(1), run.begin(2)
        assert a.outgoing(3, DESCRIPTOR) is None
        push(a, 2, 1)
        run.die(2)
        assert a.outgoing(2, DESCRIPTOR) is None


def test_successor_gets_a_fresh_ring_and_nothing_of_the_old_one() -> None:
    """(R) What was pushed to a dead incarnation is never read by the next one."""
    with shared_run() as run:
        a, b = run.begin(1), run.begin(2)
        old = push(a, 2, 1, 2)
        run.die(2)
        successor = run.begin(2)
        old.try_push(entry(3))
        old.publish()  # a has not noticed yet
        assert successor.poll() == []
        assert not successor.has_work()
        assert a.drop_dead() == [(2, run.slots.dead_incarnation(2))]
        assert not old.try_push(entry(4))
        push(a, 2, 9)
        old.publish()  # a late user of the closed ring must not touch the new ring's head
        assert hear(successor) == {1: [9]}
        b.close()


def test_a_death_is_told_though_the_successor_is_met_first() -> None:
    """(R) Whoever waits for completions of the dead hears that none will come."""
    with shared_run() as run:
        a, _ = run.begin(1), run.begin(2)
        push(a, 2, 1)
        run.die(2)
        successor = run.begin(2)
        push(a, 2, 9)
        assert a.has_work()
        assert a.drop_dead() == [(2, run.slots.dead_incarnation(2))]
        assert not a.has_work()
        assert hear(successor) == {1: [9]}
        assert a.drop_dead() == []


def test_ring_of_a_dead_producer_is_never_read_again() -> None:
    """(R) Neither what it left nor what its successor's head says is read from the old ring."""
    with shared_run() as run:
        a, b = run.begin(1), run.begin(2)
        push(a, 2, 1)
        ((_, incarnation, old),) = b.poll()
        assert isinstance(old, DescriptorConsumer)
        run.die(1)
        assert b.has_work()
        assert b.poll() == []
        assert b.drop_dead() == [(1, incarnation)]
        assert b.drop_dead() == []
        assert not b.has_work()
        assert old.pop_all() == []
        again = run.begin(1)
        push(again, 2, 2)
        assert old.pop_all() == []
        assert hear(b) == {1: [2]}


def test_old_ring_does_not_take_the_successors_count_for_its_own() -> None:
    """(R) The dead producer's ring, not yet dropped, beside a head that its successor has stored."""
    with shared_run() as run:
        a, b = run.begin(1), run.begin(2)
        push(a, 2, 1)
        ((_, _, old),) = b.poll()
        assert isinstance(old, DescriptorConsumer)
        assert len(old.pop_all()) == 1
        run.die(1)
        push(run.begin(1), 2, 2, 3, 4)
        assert (old.unread(), old.pop_all()) == (0, [])
        assert hear(b) == {1: [2, 3, 4]}


def test_dead_producers_head_is_no_head_of_the_ring_its_successor_is_making() -> None:
    """(R) The successor's file is there, its head is not stored yet."""
    with shared_run() as run:
        a, b = run.begin(1), run.begin(2)
        push(a, 2, 1)
        run.die(1)
        run.begin(1)
        create_ring(run.run_dir.file("ring-1.3-2.2"), DESCRIPTOR, 16, ring_tag(3, 2))
        assert b.poll() == []
        assert not b.has_work()


def test_head_of_a_producer_that_died_unheard_is_forgotten() -> None:
    with shared_run() as run:
        a, b = run.begin(1), run.begin(2)
        push(a, 2, 1)
        run.die(1)
        assert b.poll() == []
        assert not b.has_work()


def test_successors_ring_is_heard_when_it_spoke_before_the_death_was_noticed() -> None:
    with shared_run() as run:
        a, b = run.begin(1), run.begin(2)
        push(a, 2, 1)
        assert hear(b) == {1: [1]}
        run.die(1)
        push(run.begin(1), 2, 2)
        assert hear(b) == {1: [2]}


def test_ring_files_go_with_either_end() -> None:
    with shared_run() as run:
        a, b, c = run.begin(1), run.begin(2), run.begin(3)
        push(a, 2, 1)
        push(b, 1, 1)
        push(c, 2, 1)
        assert ring_files(run) == ["ring-1.1-2.2", "ring-2.2-1.1", "ring-3.3-2.2"]
        hear(a)
        hear(b)
        run.die(1)
        b.drop_dead()
        assert ring_files(run) == ["ring-3.3-2.2"]
        run.die(2)
        run.begin(2)
        assert ring_files(run) == []


def test_supervisor_can_unlink_the_rings_of_dead_pairs() -> None:
    with shared_run() as run:
        a, _, c = run.begin(1), run.begin(2), run.begin(3)
        push(a, 2, 1)
        push(c, 2, 1)
        run.die(3)
        unlink_dead_rings(run.run_dir.path, run.slots)
        assert ring_files(run) == ["ring-1.1-2.2"]


def test_ring_file_gone_before_it_was_attached_is_forgotten() -> None:
    with shared_run() as run:
        a, b = run.begin(1), run.begin(2)
        push(a, 2, 1)
        os.unlink(run.run_dir.file("ring-1.1-2.2"))
        assert b.poll() == []
        assert not b.has_work()


def test_file_that_is_not_the_ring_its_name_says_is_refused() -> None:
    with shared_run() as run:
        a, b = run.begin(1), run.begin(2)
        push(a, 2, 1)
        path = run.run_dir.file("ring-1.1-2.2")
        Region.attach(path, "ring", 1).words[2] += 1
        with pytest.raises(ShmError, match="not the ring that its name says"):
            b.poll()


def test_head_that_claims_more_than_the_ring_holds_is_refused() -> None:
    with shared_run() as run:
        a, b = run.begin(1), run.begin(2)
        push(a, 2, 1)
        ((_, _, consumer),) = b.poll()
        run.heads.words[run.heads.row(2) + 1] += 500
        with pytest.raises(ShmError, match="claims 501 unread"):
            consumer.unread()


def test_frame_length_that_was_never_published_is_refused() -> None:
    with shared_run() as run:
        a, b = run.begin(1), run.begin(2)
        say(a, 2, b"frame")
        ((_, _, consumer),) = b.poll()
        assert isinstance(consumer, ByteConsumer)
        Region.attach(run.run_dir.file("ring-1.1-2.2"), "ring", 1).words[16] = 1 << 40
        with pytest.raises(ShmError, match="never published"):
            consumer.pop()


def test_closed_links_leave_no_file_of_theirs() -> None:
    with shared_run() as run:
        a, b = run.begin(1), run.begin(2)
        push(a, 2, 1)
        say(b, 1, b"x")
        a.close()
        b.close()
        assert ring_files(run) == []


def test_killed_producer_has_published_all_or_nothing() -> None:
    """A producer killed after its pushes and before its publish leaves nothing to be read."""
    with shared_run() as run:
        b = run.begin(2)
        incarnation = run.slots.begin(1, 4, 0, 1)

        def push_and_die() -> None:
            producer = push(run.links(1, incarnation), 2, 1, 2, 3)
            producer.try_push(entry(4))
            os._exit(9)

        assert fork(push_and_die).wait() == 9
        assert hear(b) == {1: [1, 2, 3]}


def test_another_program_can_attach_the_heads(tmp_path: Path) -> None:
    HeadTable.create(str(tmp_path / "heads"), 12)
    attached = HeadTable.attach(str(tmp_path / "heads"))
    assert (attached.count, attached.columns, attached.row(1) - attached.row(0)) == (12, 16, 16)
