"""Replicas that move and leaders that change while a crew writes and reads, with kill -9 among it."""

import random
from collections.abc import Mapping
from contextlib import suppress
from typing import TypeVar

from msgspec import Struct

from perf import wire
from perf.peers.cluster import Cluster
from perf.peers.peer import Tcp
from perf.whereabouts import Guide, wait_until_whole
from tailrace.clients.connection import Connection, UnreachableError
from tailrace.core.errors import ELECTION_NOT_NEEDED, NONE, PREFERRED_LEADER_NOT_AVAILABLE
from tailrace.core.protocol.apis import (
    ALTER_PARTITION_REASSIGNMENTS,
    ELECT_LEADERS,
    LIST_PARTITION_REASSIGNMENTS,
)
from tailrace.core.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsResponse,
)
from tailrace.core.protocol.messages.elect_leaders import ElectLeadersResponse
from tailrace.core.protocol.messages.list_partition_reassignments import ListPartitionReassignmentsResponse
from tests.support.history_check import Fault, Summary
from tests.support.history_run import Crew
from tests.support.replica_messages import election, listing, reassignment
from tests.support.waiting import wait_until

TOPIC = "moved"
REPLICAS = 2
PATIENCE_S = 90.0
R = TypeVar("R", bound=Struct)


class Mover:
    """Asks whichever broker answers."""

    def __init__(self, brokers: Mapping[int, Tcp]) -> None:
        self._brokers = list(brokers.values())

    def _ask(self, key: int, message: Struct, response: type[R]) -> R:
        for at in self._brokers:
            try:
                with Connection(f"{at.host}:{at.port}", timeout_s=60) as connection:
                    connection.send(key, message)
                    return connection.receive(response)
            except UnreachableError:
                continue
        raise AssertionError("no broker answers")

    def move(self, partition: int, replicas: list[int]) -> None:
        """Begin; asked again when a broker died before it said whether it has begun."""
        asked = reassignment({TOPIC: {partition: replicas}})
        answer = self._ask(ALTER_PARTITION_REASSIGNMENTS, asked, AlterPartitionReassignmentsResponse)
        codes = [one.error_code for topic in answer.responses for one in topic.partitions]
        assert (answer.error_code, codes) == (NONE, [NONE]), answer

    def is_moving(self) -> bool:
        """Whether some move has not ended."""
        answer = self._ask(LIST_PARTITION_REASSIGNMENTS, listing(None), ListPartitionReassignmentsResponse)
        return bool(answer.topics)

    def elect(self, partition: int) -> None:
        """The preferred leader, if it can lead now."""
        answer = self._ask(ELECT_LEADERS, election({TOPIC: [partition]}), ElectLeadersResponse)
        (code,) = [
            one.error_code for each in answer.replica_election_results for one in each.partition_result
        ]
        assert code in (NONE, ELECTION_NOT_NEEDED, PREFERRED_LEADER_NOT_AVAILABLE), answer


def moved_in_a_loop(
    cluster: Cluster, moves: int, partitions: int, records: int, seed: int, *, kills: bool
) -> tuple[list[Fault], Summary]:
    """Partitions of two replicas go from brokers to brokers, on a cluster that serves; with `kills` each
    second move is hurt: its leader, a replica, the controller or a broker dies in the middle.
    """
    chance, brokers = random.Random(seed), cluster.brokers()
    print(f"seed {seed}", flush=True)
    with wire.Connection(next(iter(brokers.values()))) as connection:
        wire.create_topic(connection, TOPIC, partitions, replicas=list(brokers)[:REPLICAS])
    mover = Mover(brokers)
    with Crew(brokers, TOPIC, partitions, REPLICAS) as crew, Guide(brokers) as guide:
        crew.goes_on(records)
        for number in range(moves):
            wait_until_whole(guide, TOPIC, REPLICAS, partitions)
            partition = chance.randrange(partitions)
            replicas = chance.sample(sorted(brokers), REPLICAS)
            who = (
                chance.choice(("leader", "newcomer", "controller", "broker")) if kills and number % 2 else ""
            )
            print(f"move {number}: {partition} to {replicas}, {who or 'nobody'} dies", flush=True)
            mover.move(partition, replicas)
            if who:
                _hurt(cluster, guide, partition, replicas[0], who)
            crew.goes_on(records)
            cluster.revive()
            wait_until(lambda: not mover.is_moving(), f"the end of move {number}", PATIENCE_S)
            mover.elect(partition)
            crew.goes_on(records)
        return crew.finish()


def _hurt(cluster: Cluster, guide: Guide, partition: int, newcomer: int, who: str) -> None:
    """Kill -9; a process that is not there (yet, or any more) is left alone."""
    leader = guide.partition(TOPIC, partition).leader
    with suppress(LookupError):
        if who == "leader":
            cluster.replica_killer(leader, TOPIC, partition)()
        elif who == "newcomer":
            cluster.replica_killer(newcomer, TOPIC, partition)()
        elif who == "controller":
            cluster.controller_killer(guide.quorum().leader)()
        else:
            cluster.broker_killer(newcomer)()
