"""What every ring promises, run on each kind: entries and frames in shared memory, and a list.

A ring carries numbers here. A number is an entry, or a frame of a length that depends on it.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Protocol

import pytest

from tailrace.shm.links import BYTES, DESCRIPTOR, Links
from tailrace.shm.ring import ByteConsumer, DescriptorConsumer, pack_entry
from tests.support.forks import fork
from tests.support.shared_run import SharedRun, shared_run

CAPACITY = 32
STREAM = 50_000
KILLS = 20


class Ring(Protocol):
    """One producer and one consumer of numbers."""

    def push(self, number: int) -> bool: ...

    def pop(self) -> list[int]: ...


class ListRing:
    """The reference: a bounded list."""

    def __init__(self) -> None:
        self._numbers: deque[int] = deque()

    def push(self, number: int) -> bool:
        if len(self._numbers) == CAPACITY:
            return False
        self._numbers.append(number)
        return True

    def pop(self) -> list[int]:
        numbers = list(self._numbers)
        self._numbers.clear()
        return numbers


class DescriptorRing:
    """Numbers as entries, published one by one."""

    def __init__(self, source: Links, target: Links) -> None:
        self.source, self.target = source, target

    def push(self, number: int) -> bool:
        producer = self.source.outgoing(2, DESCRIPTOR, CAPACITY)
        assert producer is not None
        pushed = producer.try_push(pack_entry(number, ~number, number, 0, 0, 0, 0, ~number))
        producer.publish()
        return pushed

    def pop(self) -> list[int]:
        numbers: list[int] = []
        for _, _, consumer in self.target.poll():
            assert isinstance(consumer, DescriptorConsumer)
            for entry in consumer.pop_all():
                assert entry[1] == entry[7] == ~entry[0]
                numbers.append(entry[0])
        return numbers


class ByteRing:
    """Numbers as frames of all lengths that a ring of this capacity takes."""

    def __init__(self, source: Links, target: Links) -> None:
        self.source, self.target = source, target

    def push(self, number: int) -> bool:
        producer = self.source.outgoing(2, BYTES, CAPACITY * 16)
        assert producer is not None
        return producer.try_push(number.to_bytes(8, "little") * (1 + number % (producer.frame_max // 8)))

    def pop(self) -> list[int]:
        numbers: list[int] = []
        for _, _, consumer in self.target.poll():
            assert isinstance(consumer, ByteConsumer)
            while (frame := consumer.pop()) is not None:
                number = int.from_bytes(frame[:8], "little")
                assert frame == frame[:8] * (len(frame) // 8)
                numbers.append(number)
        return numbers


SHARED: dict[str, Callable[[Links, Links], Ring]] = {"descriptors": DescriptorRing, "bytes": ByteRing}


@pytest.fixture(params=["list", *SHARED])
def ring(request: pytest.FixtureRequest) -> Iterator[Ring]:
    kind = str(request.param)
    with ExitStack() as stack:
        if kind == "list":
            yield ListRing()
        else:
            run = stack.enter_context(shared_run())
            yield SHARED[kind](run.begin(1), run.begin(2))


def test_empty_ring_gives_nothing(ring: Ring) -> None:
    assert ring.pop() == []


def test_what_goes_in_comes_out_once_and_in_order(ring: Ring) -> None:
    sent: list[int] = []
    received: list[int] = []
    for number in range(500):
        if ring.push(number):
            sent.append(number)
        if number % 3 == 0:
            received += ring.pop()
    assert received + ring.pop() == sent
    assert len(sent) > 300
    assert ring.pop() == []


def test_full_ring_refuses_and_keeps_what_it_has(ring: Ring) -> None:
    pushed = 0
    while ring.push(pushed):
        pushed += 1
    assert 2 <= pushed <= 64
    assert not ring.push(pushed)
    assert ring.pop() == list(range(pushed))
    assert ring.push(pushed)
    assert ring.pop() == [pushed]


def test_filled_and_emptied_ring_serves_for_ever(ring: Ring) -> None:
    number = 0
    for _ in range(200):
        first = number
        while ring.push(number):
            number += 1
        assert ring.pop() == list(range(first, number))


@pytest.mark.parametrize("kind", SHARED)
def test_two_processes_lose_and_tear_nothing(kind: str) -> None:
    with shared_run() as run:
        source, target = run.slots.begin(1, 4, 0, 1), run.begin(2)
        child = fork(lambda: _stream(run, kind, source))
        ring = SHARED[kind](target, target)
        received: list[int] = []
        try:
            while len(received) < STREAM:
                taken = ring.pop()
                if not taken:
                    os.sched_yield()
                received += taken
        finally:
            child.kill() if len(received) < STREAM else child.wait()
        assert received == list(range(STREAM))


def _stream(run: SharedRun, kind: str, incarnation: int) -> None:
    links = run.links(1, incarnation)
    ring = SHARED[kind](links, links)
    for number in range(STREAM):
        while not ring.push(number):
            os.sched_yield()


@pytest.mark.parametrize("kind", SHARED)
def test_producer_killed_at_any_instant_leaves_only_whole_frames(kind: str) -> None:
    with shared_run() as run:
        target = run.begin(2)
        ring = SHARED[kind](target, target)
        for _ in range(KILLS):
            source = run.slots.begin(1, 4, 0, 1)
            child = fork(lambda source=source: _stream(run, kind, source))  # type: ignore[misc]
            received: list[int] = []
            while len(received) < 200:
                received += ring.pop()
            child.kill()
            received += ring.pop()
            assert received == list(range(len(received)))
            run.die(1)
            assert target.drop_dead() == [(1, source)]
            assert ring.pop() == []
