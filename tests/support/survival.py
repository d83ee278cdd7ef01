"""A host with three brokers under load, hurt in a loop, and the judgement in the end: see `survive`."""

import random
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

from perf import wire
from perf.peers.tailrace_cluster import TailraceCluster
from perf.whereabouts import Guide, wait_until_whole
from tailrace.workers.status import read_status
from tests.support.history_check import Summary
from tests.support.history_clients import Client
from tests.support.history_groups import GroupMember, Progress, check_group
from tests.support.history_run import Crew
from tests.support.injuries import PATIENCE_S, STALL_MS, Injuries
from tests.support.leftovers import differences, ends_of, leaks
from tests.support.topic_churn import Churn, directories_left
from tests.support.waiting import wait_until

TOPIC, PARTITIONS, REPLICAS, MEMBERS = "history", 2, 3, 2
BETWEEN = 60  # records acknowledged between two injuries
OFTEN, SELDOM = 0.7, 0.4  # that all replicas are in sync before an injury, that more follows on one


class Outcome(NamedTuple):
    """How much there was, so that little cannot pass for a good end."""

    injuries: Counter[str]  # see Injuries.counts
    summary: Summary
    topics: int


def survive(folder: Path, seed: int, injuries: int, protocol: str = "classic", **settings: str) -> Outcome:
    """So many injuries under idempotent producers that wait for all replicas, readers of all replicas, a
    group, and topics that come and go. AssertionError, WireError: something was lost, repeated, turned round,
    differs, stands still or is left.
    """
    given = {name.replace("_", "."): value for name, value in settings.items()}
    cluster = TailraceCluster(folder, {"supervisor.stall.timeout.ms": str(STALL_MS), **given})
    print(f"seed {seed}", flush=True)
    with ExitStack() as stack:
        stack.callback(cluster.stop)
        cluster.start()
        cluster.wait_until_ready()
        return _Trial(cluster, stack, random.Random(seed), protocol).run(injuries)


class _Trial:
    def __init__(
        self, cluster: TailraceCluster, stack: ExitStack, chance: random.Random, protocol: str
    ) -> None:
        self._cluster, self._chance = cluster, chance
        brokers = cluster.brokers()
        self._bootstrap = ",".join(f"{each.host}:{each.port}" for each in brokers.values())
        with wire.Connection(next(iter(brokers.values()))) as connection:
            wire.create_topic(connection, TOPIC, PARTITIONS, replicas=list(brokers))
        self._crew = Crew(brokers, TOPIC, PARTITIONS, REPLICAS, producers=1)
        self._guide = stack.enter_context(Guide(brokers))
        self._injuries = Injuries(cluster, self._guide, TOPIC, chance)
        self._progress = Progress("group", PARTITIONS)
        history = self._crew.history
        self._churn = Churn(history, self._bootstrap, REPLICAS)
        self._members = [
            GroupMember(history, self._bootstrap, TOPIC, self._progress, protocol) for _ in range(MEMBERS)
        ]
        stack.enter_context(self._crew)
        for client in (*self._members, self._churn):
            client.start()
            stack.callback(_end, client)

    def run(self, count: int) -> Outcome:
        crew, injuries = self._crew, self._injuries
        crew.goes_on(BETWEEN)
        while injuries.counts.total() < count:
            if self._chance.random() < OFTEN:
                self._wait_until_whole()
            done = injuries.next()
            crew.goes_on(BETWEEN)
            if injuries.away and self._chance.random() < SELDOM:
                done += f", {injuries.kill(injuries.controller)}"
                crew.goes_on(BETWEEN)
            injuries.heal()
            print(f"{injuries.counts.total()}: {done}; {crew.history.acknowledged} acknowledged", flush=True)
        return self._judge()

    def _wait_until_whole(self) -> None:
        wait_until_whole(self._guide, TOPIC, REPLICAS, PARTITIONS)

    def _judge(self) -> Outcome:
        _end(self._churn)
        self._crew.stop_producing()
        self._wait_until_whole()
        ends = [self._crew.history.end(partition) for partition in range(PARTITIONS)]
        check_group(self._bootstrap, TOPIC, self._progress, ends, PATIENCE_S)
        for member in self._members:
            _end(member)
        faults, summary = self._crew.finish()
        assert faults == []
        self._check_bytes()
        data = self._cluster.directory / "data"
        (root,) = self._cluster.roots()
        _until_nothing(lambda: directories_left(data), "directories of deleted topics")
        _until_nothing(lambda: leaks(str(data), root), "what the dead have left")
        return Outcome(self._injuries.counts, summary, self._churn.made)

    def _check_bytes(self) -> None:
        data, topic_id = self._cluster.directory / "data", self._injuries.topic_id()

        def is_even(partition: int) -> bool:
            status = read_status(str(data))
            ends = [] if status is None else ends_of(status, topic_id, partition)
            return len(ends) == REPLICAS and len({offset for pair in ends for offset in pair}) == 1

        for partition in range(PARTITIONS):
            wait_until(partial(is_even, partition), "the same end on all replicas", PATIENCE_S)
            folders = [data / f"broker-{broker}" / f"{TOPIC}-{partition}" for broker in range(REPLICAS)]
            assert differences(folders) == []


def _until_nothing(look: Callable[[], list[str]], what: str) -> None:
    left: list[str] = []

    def is_gone() -> bool:
        left[:] = look()
        return not left

    try:
        wait_until(is_gone, what)
    except AssertionError as error:
        raise AssertionError(f"{error}: {left}") from None


def _end(client: Client) -> None:
    client.stopping.set()
    client.join()
