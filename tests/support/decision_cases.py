"""The same questions about replicas for a Kafka of three brokers and for our decisions alone: placements,
moves, elections, with all brokers and after the death of one.

A story is a list of steps; each gives plain data, which is compared. The brokers are 1, 2 and 3.
"""

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from tailrace.core.errors import KafkaError
from tailrace.core.metadata.alter_partition import alter_partitions
from tailrace.core.metadata.brokers import Registration, fence, start_all, unregister
from tailrace.core.metadata.elections import elect_leaders
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.leadership import LeaderRules
from tailrace.core.metadata.partitions import create_partitions
from tailrace.core.metadata.reassignments import ongoing, reassign
from tailrace.core.metadata.records import NO_LEADER, Record
from tailrace.core.metadata.requests import IsrProposal, MorePartitions, NewTopic, Reassignment
from tailrace.core.metadata.topics import TopicDefaults, create_topics
from tailrace.core.protocol import apis
from tailrace.core.protocol.compile import decoder, encoder
from tailrace.core.protocol.frames import parse_response_header, request_frame
from tailrace.core.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsRequestPartition,
    AlterPartitionReassignmentsRequestTopic,
    AlterPartitionReassignmentsResponse,
)
from tailrace.core.protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsRequestAssignment,
    CreatePartitionsRequestTopic,
    CreatePartitionsResponse,
)
from tailrace.core.protocol.messages.create_topics import (
    CreateTopicsRequest,
    CreateTopicsRequestAssignment,
    CreateTopicsRequestTopic,
    CreateTopicsResponse,
)
from tailrace.core.protocol.messages.elect_leaders import (
    ElectLeadersRequest,
    ElectLeadersRequestTopic,
    ElectLeadersResponse,
)
from tailrace.core.protocol.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsRequestTopic,
    ListPartitionReassignmentsResponse,
)
from tailrace.core.protocol.messages.metadata import MetadataRequest, MetadataResponse
from tailrace.core.protocol.messages.unregister_broker import (
    UnregisterBrokerRequest,
    UnregisterBrokerResponse,
)
from tests.support.waiting import wait_until

PATIENCE_S = 30.0
TIMEOUT_MS = 10_000
PREFERRED, UNCLEAN = 0, 1
RULES = LeaderRules()

Answer = list[Any]
Step = tuple[str, str, tuple[Any, ...]]  # what for, what to do, with what


def story() -> list[Step]:
    """All of it, in order."""
    return [*_with_all(), *_moves_with_all(), ("the third dies", "kill", (3,)), *_without_one(), *_stuck()]


def _with_all() -> list[Step]:
    return [
        ("three replicas", "create", ("auto", 3, 3, None)),
        ("too many replicas", "create", ("four", 1, 4, None)),
        ("in order", "create", ("one", -1, -1, {0: [1, 2, 3]})),
        ("by hand", "create", ("two", -1, -1, {0: [2, 3], 1: [3, 1]})),
        ("third first", "create", ("three", -1, -1, {0: [3, 1, 2]})),
        ("third alone", "create", ("alone", -1, -1, {0: [3]})),
        ("to be moved", "create", ("move", -1, -1, {0: [1, 2]})),
        ("nobody", "create", ("bad", -1, -1, {0: []})),
        ("unknown", "create", ("bad", -1, -1, {0: [9, 1]})),
        ("unknown twice", "create", ("bad", -1, -1, {0: [9, 9, 1, 1]})),
        ("twice", "create", ("bad", -1, -1, {0: [2, 1, 2]})),
        ("negative", "create", ("bad", -1, -1, {0: [-1]})),
        ("uneven", "create", ("bad", -1, -1, {0: [1, 2], 1: [1]})),
        ("a hole", "create", ("bad", -1, -1, {0: [1], 2: [1]})),
        ("grown by hand", "grow", ("two", 3, [[1, 2]])),
        ("grown unevenly", "grow", ("two", 4, [[1]])),
        ("grown to nobody", "grow", ("two", 4, [[]])),
        ("grown to an unknown", "grow", ("two", 4, [[1, 7]])),
        ("grown by too few", "grow", ("two", 6, [[1, 2]])),
        ("as made", "state", ()),
        ("elect all", "elect", (PREFERRED, None)),
        ("elect all uncleanly", "elect", (UNCLEAN, None)),
        ("elect", "elect", (PREFERRED, [("one", 0), ("absent", 0), ("two", 9), ("two", -1)])),
        ("elect uncleanly", "elect", (UNCLEAN, [("one", 0), ("absent", 0)])),
        ("elect in no known way", "elect", (7, [("one", 0)])),
        ("forget an unknown", "unregister", (9,)),
    ]


def _moves_with_all() -> list[Step]:
    bad: list[tuple[str, int, list[int] | None]] = [
        ("absent", 0, [1]), ("one", 5, [1]), ("one", 0, []), ("one", 0, [9]), ("one", 0, [1, 1]),
        ("one", 0, [-1]), ("one", 0, None),
    ]  # fmt: skip
    return [
        *[(f"move badly {place}", "move", (True, [move])) for place, move in enumerate(bad)],
        ("move nowhere", "move", (True, [("one", 0, [1, 2, 3])])),
        ("fewer, not allowed", "move", (False, [("two", 0, [2])])),
        ("more, not allowed", "move", (False, [("two", 0, [2, 3, 1])])),
        ("another order", "move", (True, [("one", 0, [2, 1, 3])])),
        ("its leader stays", "state", ()),
        ("elect the new first", "elect", (PREFERRED, [("one", 0)])),
        ("the new first leads", "state", ()),
        ("fewer", "move", (True, [("auto", 0, [1])])),
        ("its leader goes", "move", (True, [("two", 2, [3, 2])])),
        ("none is moved", "list", (None,)),
        ("none of these", "list", ([("one", [0, 1]), ("absent", [0])],)),
        ("moved", "state", ()),
    ]


def _without_one() -> list[Step]:
    return [
        ("others lead", "state", ()),
        ("elect the dead", "elect", (PREFERRED, [("three", 0), ("alone", 0), ("one", 0)])),
        ("elect in its place", "elect", (UNCLEAN, [("three", 0), ("alone", 0)])),
        ("elect everywhere", "elect", (PREFERRED, None)),
        ("elect everywhere uncleanly", "elect", (UNCLEAN, None)),
        ("on the dead alone", "create", ("bad", -1, -1, {0: [1], 1: [3]})),
        ("on the dead too", "create", ("dead-too", -1, -1, {0: [3, 1]})),
        ("on all", "create", ("all", 1, 3, None)),
        ("grown on the dead", "grow", ("alone", 2, [[3]])),
        ("grown on others", "grow", ("dead-too", 2, [[2, 3]])),
        ("the dead follow", "state", ()),
        ("away from the dead", "move", (True, [("two", 0, [2, 1])])),
        ("it is over", "list", (None,)),
        ("away", "state", ()),
    ]


def _stuck() -> list[Step]:
    return [
        ("to the dead", "move", (True, [("move", 0, [1, 3])])),
        ("waits", "list", (None,)),
        ("waits, asked for", "list", ([("move", [0, 7]), ("one", [0])],)),
        ("waiting", "state", ()),
        ("counted as arrived", "move", (False, [("move", 0, [1])])),
        ("again the same", "move", (True, [("move", 0, [1, 3])])),
        ("still", "list", (None,)),
        ("cancel", "move", (True, [("move", 0, None)])),
        ("cancelled", "list", (None,)),
        ("cancel again", "move", (True, [("move", 0, None)])),
        ("all to the dead", "move", (True, [("move", 0, [3])])),
        ("waits too", "list", (None,)),
        ("cancel all", "move", (True, [("move", 0, None)])),
        ("none waits", "list", (None,)),
        ("as before", "state", ()),
        ("forget the dead", "unregister", (3,)),
        ("on all that are left", "create", ("three-left", 1, 3, None)),
        ("on the forgotten", "create", ("bad", -1, -1, {0: [1, 3]})),
        ("to the forgotten", "move", (True, [("move", 0, [3])])),
        ("at last", "state", ()),
        ("from the forgotten", "move", (True, [("alone", 0, [1])])),
        ("waits for ever", "list", (None,)),
        ("back to the forgotten", "move", (True, [("alone", 0, None)])),
    ]


def played(do: Callable[[str, tuple[Any, ...]], Answer], steps: Sequence[Step]) -> dict[str, Answer]:
    """The answer to each step, by what it is for."""
    return {what: do(doing, arguments) for what, doing, arguments in steps}


class Decided:
    """Our decisions, on an image in which followers catch up at once."""

    def __init__(self) -> None:
        self.image = MetadataImage()
        asked = [
            Registration(
                broker_id=broker,
                incarnation_id=broker.to_bytes(16, "big"),
                listeners=(),
                log_dirs=(f"d{broker}",),
            )
            for broker in (1, 2, 3)
        ]
        self._replay(start_all(self.image, asked, RULES)[0])

    def do(self, doing: str, arguments: tuple[Any, ...]) -> Answer:
        """One step."""
        answer: Answer = getattr(self, f"_{doing}")(*arguments)
        self._catch_up()
        return answer

    def _replay(self, records: Sequence[Record]) -> None:
        self.image.replay(records, self.image.metadata_offset + len(records))

    def _catch_up(self) -> None:
        for topic, partition in list(self.image.walk()):
            if partition.leader == NO_LEADER:
                continue
            isr = [(broker, -1) for broker in partition.replicas if self.image.is_active(broker)]
            if {broker for broker, _ in isr} == set(partition.isr) and not partition.is_reassigned:
                continue
            proposal = IsrProposal(
                topic_id=topic.topic_id,
                partition=partition.partition,
                leader_epoch=partition.leader_epoch,
                partition_epoch=partition.partition_epoch,
                isr=isr,
            )
            epoch = self.image.brokers[partition.leader].broker_epoch
            self._replay(alter_partitions(self.image, partition.leader, epoch, [proposal], RULES).records)

    def _create(self, name: str, partitions: int, factor: int, placed: dict[int, list[int]] | None) -> Answer:
        topic = NewTopic(
            name=name,
            num_partitions=partitions,
            replication_factor=factor,
            assignments=list((placed or {}).items()),
        )
        defaults = TopicDefaults(num_partitions=1, replication_factor=1, partitions_free=1000)
        found = create_topics(self.image, [topic], defaults, lambda: name.encode().ljust(16))
        self._replay(found.records)
        (result,) = found.results
        return [result.error_code, result.error_message, result.num_partitions, result.replication_factor]

    def _grow(self, name: str, count: int, placed: list[list[int]]) -> Answer:
        more = MorePartitions(name=name, count=count, assignments=placed)
        found = create_partitions(self.image, [more], 1000)
        self._replay(found.records)
        return [found.results[0].error_code, found.results[0].error_message]

    def _move(self, may_change: bool, moves: list[tuple[str, int, list[int] | None]]) -> Answer:
        asked = [
            Reassignment(topic=topic, partition=index, replicas=None if to is None else tuple(to))
            for topic, index, to in moves
        ]
        found = reassign(self.image, asked, RULES, replication_factor_may_change=may_change)
        self._replay(found.records)
        return [[result.error_code, result.error_message] for result in found.results]

    def _list(self, asked: list[tuple[str, list[int]]] | None) -> Answer:
        return sorted(
            [move.topic, move.partition, list(move.replicas), list(move.adding), list(move.removing)]
            for move in ongoing(self.image, asked)
        )

    def _elect(self, kind: int, asked: list[tuple[str, int]] | None) -> Answer:
        try:
            found = elect_leaders(self.image, kind, asked, RULES)
        except KafkaError as error:
            return [error.code]
        self._replay(found.records)
        return sorted(
            [result.topic, result.partition, result.error_code, result.error_message]
            for result in found.results
            if result.topic not in PLACED_BY_CHANCE
        )

    def _kill(self, broker: int) -> Answer:
        self._replay(fence(self.image, broker, RULES))
        return []

    def _unregister(self, broker: int) -> Answer:
        try:
            self._replay(unregister(self.image, broker, RULES))
        except KafkaError as error:
            return [error.code, error.message]
        return [0, ""]

    def _state(self) -> Answer:
        return sorted(
            [topic.name, partition.partition, partition.leader, list(partition.replicas)]
            for topic, partition in self.image.walk()
            if topic.name not in PLACED_BY_CHANCE
        )


PLACED_BY_CHANCE = ("auto", "all")


class Asked:
    """A cluster that is asked over the wire. What takes a moment there is asked for until it is as expected,
    or patience ends.
    """

    def __init__(self, address: str, kill: Callable[[int], object]) -> None:
        self._address = address
        self._kill_broker = kill

    def do(self, doing: str, arguments: tuple[Any, ...], expected: Answer) -> Answer:
        """One step."""
        answers: list[Answer] = []

        def is_as_expected() -> bool:
            answers[:] = [getattr(self, f"_{doing}")(*arguments)]
            return doing not in ("state", "list") or answers[0] == expected

        with suppress(AssertionError):  # said by the comparison, with all that differs
            wait_until(is_as_expected, doing, PATIENCE_S)
        return answers[0]

    def brokers(self) -> list[int]:
        """Those that serve."""
        found = self._ask(apis.METADATA, 9, MetadataRequest(topics=[]), MetadataResponse)
        return sorted(broker.node_id for broker in found.brokers)

    def _ask(self, key: int, version: int, message: Any, response: Any) -> Any:
        """Of requests that we need not serve."""
        api = apis.DECLARED[key]
        pieces = encoder(api.request, version)(message)
        frame = request_frame(api, version, 1, "t", pieces)
        host, _, port = self._address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(b"".join(frame))
            with connection.makefile("rb") as incoming:
                body = incoming.read(int.from_bytes(incoming.read(4), "big"))
        _, position = parse_response_header(body, 0, len(body), api.response_header_version(version))
        return decoder(response, version)(body, position, len(body), memoryview(body))

    def _create(self, name: str, partitions: int, factor: int, placed: dict[int, list[int]] | None) -> Answer:
        assignments = [CreateTopicsRequestAssignment(*pair) for pair in (placed or {}).items()]
        topic = CreateTopicsRequestTopic(name, partitions, factor, assignments)
        request = CreateTopicsRequest([topic], TIMEOUT_MS, False)
        (found,) = self._ask(apis.CREATE_TOPICS, 7, request, CreateTopicsResponse).topics
        return [found.error_code, found.error_message, found.num_partitions, found.replication_factor]

    def _grow(self, name: str, count: int, placed: list[list[int]]) -> Answer:
        assignments = [CreatePartitionsRequestAssignment(replicas) for replicas in placed]
        request = CreatePartitionsRequest(
            [CreatePartitionsRequestTopic(name, count, assignments)], TIMEOUT_MS, False
        )
        (found,) = self._ask(apis.CREATE_PARTITIONS, 3, request, CreatePartitionsResponse).results
        return [found.error_code, found.error_message]

    def _move(self, may_change: bool, moves: list[tuple[str, int, list[int] | None]]) -> Answer:
        topics = [
            AlterPartitionReassignmentsRequestTopic(
                topic, [AlterPartitionReassignmentsRequestPartition(index, to)]
            )
            for topic, index, to in moves
        ]
        request = AlterPartitionReassignmentsRequest(TIMEOUT_MS, may_change, topics)
        found = self._ask(apis.ALTER_PARTITION_REASSIGNMENTS, 1, request, AlterPartitionReassignmentsResponse)
        return [
            [part.error_code, part.error_message] for topic in found.responses for part in topic.partitions
        ]

    def _list(self, asked: list[tuple[str, list[int]]] | None) -> Answer:
        topics = None
        if asked is not None:
            topics = [ListPartitionReassignmentsRequestTopic(topic, indexes) for topic, indexes in asked]
        request = ListPartitionReassignmentsRequest(TIMEOUT_MS, topics)
        found = self._ask(apis.LIST_PARTITION_REASSIGNMENTS, 0, request, ListPartitionReassignmentsResponse)
        return sorted(
            [topic.name, part.partition_index, part.replicas, part.adding_replicas, part.removing_replicas]
            for topic in found.topics
            for part in topic.partitions
        )

    def _elect(self, kind: int, asked: list[tuple[str, int]] | None) -> Answer:
        topics = None
        if asked is not None:
            names = dict.fromkeys(topic for topic, _ in asked)
            topics = [
                ElectLeadersRequestTopic(name, [index for topic, index in asked if topic == name])
                for name in names
            ]
        request = ElectLeadersRequest(kind, topics, TIMEOUT_MS)
        found = self._ask(apis.ELECT_LEADERS, 2, request, ElectLeadersResponse)
        if found.error_code:
            return [found.error_code]
        return sorted(
            [topic.topic, part.partition_id, part.error_code, part.error_message]
            for topic in found.replica_election_results
            for part in topic.partition_result
            if topic.topic not in PLACED_BY_CHANCE
        )

    def _kill(self, broker: int) -> Answer:
        self._kill_broker(broker)
        return []

    def _unregister(self, broker: int) -> Answer:
        found = self._ask(
            apis.UNREGISTER_BROKER, 0, UnregisterBrokerRequest(broker), UnregisterBrokerResponse
        )
        return [found.error_code, found.error_message]

    def _state(self) -> Answer:
        found = self._ask(apis.METADATA, 9, MetadataRequest(topics=None), MetadataResponse)
        return sorted(
            [topic.name, part.partition_index, part.leader_id, part.replica_nodes]
            for topic in found.topics
            for part in topic.partitions
            if topic.name not in PLACED_BY_CHANCE
        )
