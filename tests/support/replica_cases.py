"""Requests about leaders and replicas for a broker that is alone: what their answers look like."""

from typing import Any

from tailrace.core.protocol.apis import (
    ALTER_PARTITION_REASSIGNMENTS,
    ELECT_LEADERS,
    LIST_PARTITION_REASSIGNMENTS,
    UNREGISTER_BROKER,
)
from tailrace.core.protocol.messages.elect_leaders import PREFERRED, UNCLEAN
from tailrace.core.protocol.messages.unregister_broker import UnregisterBrokerRequest
from tests.support.replica_messages import Moves, Partitions, election, listing, reassignment

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
    def ask(what: str, version: int, asked: Partitions | None, kind: int = PREFERRED) -> Case:
        return what, ELECT_LEADERS, version, election(asked, kind)

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
    def ask(what: str, version: int, asked: Moves, *, may_change: bool = True) -> Case:
        return what, ALTER_PARTITION_REASSIGNMENTS, version, reassignment(asked, may_change=may_change)

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
    def ask(what: str, asked: Partitions | None) -> Case:
        return what, LIST_PARTITION_REASSIGNMENTS, 0, listing(asked)

    return [ask("all", None), ask("none", {}), ask("some", {"a.b": [0, 9], "absent": [0]})]
