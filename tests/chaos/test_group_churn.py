"""Members join, leave and die without a pause, in both protocols: nothing is owned twice, and it settles."""

import asyncio
import struct
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random

import pytest

from perf import wire
from perf.groups import await_coordinator
from perf.peers.tailrace import Tailrace
from tests.chaos.members import BEAT_S, ClassicMember, ConsumerMember, Ledger

PARTITIONS = 60
TOPIC = "churn"
SETTINGS = {
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.session.timeout.ms": "3000",
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.consumer.heartbeat.interval.ms": "100",
}
PROTOCOLS: dict[str, type[ClassicMember] | type[ConsumerMember]] = {
    "classic": ClassicMember,
    "consumer": ConsumerMember,
}
EVERY_S = 0.04  # between two events
SETTLE_S = 5.0


class Crowd:
    """So many members at most; seeded chance says who comes and goes."""

    def __init__(self, bootstrap: str, protocol: str, size: int, seed: int) -> None:
        with wire.Connection(wire.address(bootstrap)) as connection:
            wire.create_topic(connection, TOPIC, PARTITIONS)
            topic = (topic_id(connection), TOPIC, PARTITIONS)
            await_coordinator(connection, f"crowd-{protocol}")
        self.ledger = Ledger()
        self._make = partial(PROTOCOLS[protocol], bootstrap, f"crowd-{protocol}", topic, self.ledger)
        self._random, self._size = Random(seed), size
        self.living: dict[asyncio.Task[None], ClassicMember | ConsumerMember] = {}
        self.events = Counter[str]()

    def join(self) -> None:
        """One more."""
        member = self._make()
        self.living[asyncio.create_task(member.live())] = member

    async def go(self, politely: bool) -> None:
        """One leaves, or dies."""
        task = self._random.choice(list(self.living))
        member = self.living.pop(task)
        task.cancel()
        await asyncio.wait([task])
        if politely:
            await member.leave()

    async def churn(self, seconds: float) -> None:
        """Something happens every EVERY_S; about two thirds of the places are taken."""
        stop = time.monotonic() + seconds
        while time.monotonic() < stop:
            event = self._random.choice(["join", "join", "leave", "die"])
            if event == "join" and len(self.living) < self._size:
                self.join()
            elif event != "join" and self.living:
                await self.go(politely=event == "leave")
            self.events[event] += 1
            await asyncio.sleep(EVERY_S)
            self._fail_early()

    def _fail_early(self) -> None:
        for task in self.living:
            if task.done():
                task.result()
        assert not self.ledger.wrong, self.ledger.wrong[:5]

    def settled(self) -> bool:
        """All partitions are owned once, by members of one epoch that share equally."""
        members = self.living.values()
        owned = Counter(partition for member in members for partition in member.owned)
        sizes = [len(member.owned) for member in members]
        return (
            owned == dict.fromkeys(range(PARTITIONS), 1)
            and len({member.epoch for member in members}) == 1
            and max(sizes) - min(sizes) <= 1
        )

    async def settle(self) -> float:
        """Fill every place and wait; the seconds it took."""
        begin = time.monotonic()
        while len(self.living) < self._size:
            self.join()
        while not self.settled():
            await asyncio.sleep(BEAT_S / 4)
            self._fail_early()
        return time.monotonic() - begin

    async def close(self) -> None:
        """All go."""
        while self.living:
            await self.go(politely=True)


def topic_id(connection: wire.Connection) -> bytes:
    """Of TOPIC, from Metadata 10."""
    body = b"\2" + bytes(16) + wire.compact(TOPIC) + b"\0" + b"\0\0\0" + b"\0"
    answer = bytes(connection.ask(wire.frame((3, 10), body, flexible=True)))
    at = answer.index(wire.compact(TOPIC)) + len(wire.compact(TOPIC))
    assert struct.unpack_from(">h", answer, at - len(wire.compact(TOPIC)) - 2)[0] == 0
    return answer[at : at + 16]


async def story(crowd: Crowd, seconds: float, settle_s: float) -> None:
    """Churn, settle, part."""
    try:
        await crowd.churn(seconds)
        taken = await asyncio.wait_for(crowd.settle(), settle_s)
        print(f"{dict(crowd.events)}; settled in {taken:.2f} s; {len(crowd.ledger.generations)} generations")
        assert not crowd.ledger.wrong, crowd.ledger.wrong[:5]
    finally:
        await crowd.close()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Tailrace]:
    """One where a dead member is missed soon."""
    started = Tailrace(tmp_path, SETTINGS)
    started.start()
    try:
        yield started
    finally:
        started.stop()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_partition_has_two_owners_while_members_come_and_go(broker: Tailrace, protocol: str) -> None:
    asyncio.run(story(Crowd(broker.bootstrap, protocol, 12, seed=4), 3.0, 60.0))


@pytest.mark.full
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_fifty_members_that_come_and_go_settle_soon(broker: Tailrace, protocol: str) -> None:
    """Also after the last of the dead were missed, which takes a session of 3 s."""
    asyncio.run(story(Crowd(broker.bootstrap, protocol, 50, seed=5), 30.0, SETTLE_S))
