"""Requests about leaders and replicas for a broker that is alone: what their answers look like."""

from typing import Any

from tailrace.core.protocol.apis import (
    ALTER_PARTITION_REASSIGNMENTS,
    ELECT_LEADERS,
    LIST_PARTITION_REASSIGNMENTS,
    UNREGISTER_BROKER,
)
from tailrace.core.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsRequestPartition,
    AlterPartitionReassignmentsRequestTopic,
)
from tailrace.core.protocol.messages.elect_leaders import (
    PREFERRED,
    UNCLEAN,
    ElectLeadersRequest,
    ElectLeadersRequestTopic,
)
from tailrace.core.protocol.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsRequestTopic,
)
from tailrace.core.protocol.messages.unregister_broker import UnregisterBrokerRequest

Case = tuple[str, int, int, Any]


def replicas() -> list[Case]:
    """All of them, about topics `a.b` with three partitions and `absent`."""
    return [
        *_elections(),
        *_moves(),
        *_lists(),
        ("unknown", UNREGISTER_BROKER, 0, UnregisterBrokerRequest(9)),
    ]


def _elections() -> list[Case]:
    def ask(what: str, version: int, asked: dict[str, list[int]] | None, kind: int = PREFERRED) -> Case:
        topics = None if asked is None else [ElectLeadersRequestTopic(*pair) for pair in asked.items()]
        return what, ELECT_LEADERS, version, ElectLeadersRequest(kind, topics, 10_000)

    return [
        *[ask("all", version, None) for version in range(3)],
        *[ask("some", version, {"a.b": [1, 7], "absent": [0]}) for version in range(3)],
        ask("none", 2, {}),
        ask("none of a topic", 2, {"a.b": [], "absent": []}),
        ask("twice", 2, {"a.b": [1, 1]}),
        ask("all uncleanly", 2, None, UNCLEAN),
        ask("uncleanly", 1, {"a.b": [1]}, UNCLEAN),
        ask("in no known way", 2, {"a.b": [1]}, 7),
        ask("all in no known way", 2, None, -1),
    ]


def _moves() -> list[Case]:
    def ask(
        what: str, version: int, asked: dict[str, dict[int, list[int] | None]], may_change: bool = True
    ) -> Case:
        topics = [
            AlterPartitionReassignmentsRequestTopic(
                name, [AlterPartitionReassignmentsRequestPartition(*pair) for pair in partitions.items()]
            )
            for name, partitions in asked.items()
        ]
        message = AlterPartitionReassignmentsRequest(10_000, may_change, topics)
        return what, ALTER_PARTITION_REASSIGNMENTS, version, message

    return [
        *[ask("nowhere", version, {"a.b": {0: [1], 2: [1]}}) for version in range(2)],
        *[ask("cancel", version, {"a.b": {0: None, 9: None}, "absent": {0: None}}) for version in range(2)],
        ask("badly", 1, {"a.b": {0: [9], 1: [], 2: [1, 1], 3: [1]}, "absent": {0: [1]}}),
        ask("more, not allowed", 1, {"a.b": {0: [1, 2]}}, may_change=False),
        ask("the same, no more allowed", 1, {"a.b": {0: [1]}}, may_change=False),
        ask("nothing", 1, {}),
        ask("nothing of a topic", 1, {"a.b": {}, "absent": {}}),
    ]


def _lists() -> list[Case]:
    def ask(what: str, asked: dict[str, list[int]] | None) -> Case:
        topics = None
        if asked is not None:
            topics = [ListPartitionReassignmentsRequestTopic(*pair) for pair in asked.items()]
        return what, LIST_PARTITION_REASSIGNMENTS, 0, ListPartitionReassignmentsRequest(10_000, topics)

    return [ask("all", None), ask("none", {}), ask("some", {"a.b": [0, 9], "absent": [0]})]
