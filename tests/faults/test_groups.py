"""Deaths under groups: what was committed is there afterwards, and members go on."""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from perf import wire
from perf.peers.peer import free_port
from perf.peers.tailrace import Tailrace
from perf.processes import tree
from tailrace.workers.status import read_status
from tests.compat.members.confluent import Confluent, ck
from tests.compat.members.crew import Crew, crew
from tests.compat.members.member import Place, Wish
from tests.compat.members.records import PARTITIONS, produce
from tests.support.waiting import wait_until

TOPIC = "committed"
COMING = {14, 15, 16, ck.KafkaError._TRANSPORT, ck.KafkaError._TIMED_OUT, ck.KafkaError._WAIT_COORD}
STRATEGIES = ["range", "cooperative-sticky", "consumer"]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Tailrace]:
    """One of our own, on a port that outlives it."""
    started = Tailrace(tmp_path, port=free_port())
    started.start()
    try:
        with wire.Connection(wire.address(started.bootstrap)) as connection:
            wire.create_topic(connection, TOPIC, PARTITIONS)
        yield started
    finally:
        started.stop()


def workers(broker: Tailrace) -> set[int]:
    """The processes that lead partitions now."""
    status = read_status(str(broker.data))
    processes = status.processes if status is not None else []
    return {process.pid for process in processes if process.role == "worker" and process.pid > 0}


def kill_workers(broker: Tailrace) -> None:
    """All of them, the coordinator's among them; wait for as many others."""
    old = workers(broker)
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(workers(broker) - old) == len(old), "new workers")


def kill_everything(broker: Tailrace) -> None:
    """Every process at once, and start again."""
    everyone = tree(broker.pid)
    for pid in everyone:
        os.kill(pid, signal.SIGSTOP)  # or the first deaths are seen by those that are still to die
    for pid in everyone:
        os.kill(pid, signal.SIGKILL)
    broker.kill()
    wait_until(lambda: not any(Path(f"/proc/{pid}/cwd").exists() for pid in everyone), "their end")
    broker.stop()
    broker.start()
    assert broker.bootstrap


def stored(group: Crew) -> list[int | None]:
    """What the group has committed, once somebody can say so."""
    found: list[int | None] = []

    def ask() -> bool:
        try:
            found[:] = [group.members[0].committed(Place(TOPIC, index)) for index in range(PARTITIONS)]
        except ck.KafkaException as error:
            if error.args[0].code() in COMING:
                return False
            raise
        return True

    wait_until(ask, "a coordinator")
    return found


def has_read(group: Crew, wanted: int) -> bool:
    """Whether so many records were read and committed."""
    return len(group.read) >= wanted


def read_all(group: Crew, up_to: int) -> None:
    """Each number below `up_to` once."""
    group.until(lambda: len(group.read) >= up_to, f"{up_to} records")
    assert sorted(int(one.value) for one in group.read) == list(range(up_to))


@pytest.mark.parametrize("kill", [kill_workers, kill_everything])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_members_live_through_the_death_of_their_coordinator(
    broker: Tailrace, strategy: str, kill: Callable[[Tailrace], None]
) -> None:
    """What they committed before is not read again, what comes after is."""
    wish = Wish(broker.bootstrap, "survivors", (TOPIC,), strategy)
    with crew(Confluent(), wish) as group:
        group.join()
        group.join()
        group.settle(PARTITIONS)
        for number in range(2):
            produce(wish, range(number * 600, (number + 1) * 600))
            read_all(group, (number + 1) * 600)
            assert stored(group) == [(number + 1) * 600 // PARTITIONS] * PARTITIONS
            kill(broker)
            assert stored(group) == [(number + 1) * 600 // PARTITIONS] * PARTITIONS
        produce(wish, range(1200, 1260))
        read_all(group, 1260)
        group.settle(PARTITIONS)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_coordinator_that_dies_while_members_join_and_commit_loses_no_commit(
    broker: Tailrace, strategy: str
) -> None:
    """What was committed is never read again; what is passed over is what had its answer lost."""
    wish = Wish(broker.bootstrap, "joining", (TOPIC,), strategy)
    with crew(Confluent(), wish) as group:
        group.join()
        for number in range(3):
            produce(wish, range(number * 600, (number + 1) * 600))
            group.join()
            some = len(group.read) + 100
            group.until(partial(has_read, group, some), f"{some} records")
            kill_workers(broker)
        group.settle(PARTITIONS)
        group.until(lambda: stored(group) == [1800 // PARTITIONS] * PARTITIONS, "the last commit")
    assert max(Counter(one.value for one in group.read).values()) == 1
    assert {int(one.value) for one in [*group.read, *group.doubtful]} == set(range(1800))
