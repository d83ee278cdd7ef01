"""Moves beyond those compared with Kafka's own answers (tests/compat)."""

import pytest

from tailrace.core import errors
from tailrace.core.metadata.brokers import fence, unfence
from tailrace.core.metadata.directories import fill_directories
from tailrace.core.metadata.elections import (
    ELECT_PREFERRED,
    ELECT_UNCLEAN,
    elect_leaders,
    is_imbalanced,
    rebalance,
)
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.leadership import is_complete
from tailrace.core.metadata.reassignments import Reassigned, ongoing, reassign
from tailrace.core.metadata.requests import Reassignment
from tests.unit.metadata.cluster import RULES, UNCLEAN_RULES, cluster, part, replay, seen


def move(image: MetadataImage, *replicas: int, partition: int = 0) -> Reassigned:
    """Decide, and have the image take it in."""
    asked = Reassignment(topic="t", partition=partition, replicas=replicas or None)
    found = reassign(image, [asked], RULES)
    replay(image, fill_directories(image, found.records))
    return found


def lists(image: MetadataImage) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Replicas, those added, those removed."""
    partition = part(image)
    return partition.replicas, partition.adding, partition.removing


def test_a_move_adds_first_and_removes_at_its_end() -> None:
    image = cluster([0, 1])
    move(image, 2, 1)
    assert lists(image) == ((2, 1, 0), (2,), (0,))
    assert part(image).directories == ("dir-2", "dir-1", "dir-0")
    assert seen(image) == (0, (0, 1), 0, 1), "the leader knows nothing of it but the epoch"


@pytest.mark.parametrize(
    ("replicas", "isr", "adding", "removing", "ends"),
    [
        ((2, 1, 0), (0, 1), (2,), (0,), False),
        ((2, 1, 0), (0, 2), (2,), (0,), True),
        ((2, 1, 0), (0,), (), (0,), False),
        ((1, 0, 2), (1, 2), (), (2,), False),
        ((1, 0, 2), (1, 0, 2), (), (2,), True),
        ((1, 0), (0,), (1,), (0,), False),
    ],
)
def test_when_a_move_can_end(
    replicas: tuple[int, ...],
    isr: tuple[int, ...],
    adding: tuple[int, ...],
    removing: tuple[int, ...],
    ends: bool,
) -> None:
    assert is_complete(replicas, isr, adding, removing) is ends


def test_one_move_takes_the_place_of_another() -> None:
    """Kafka forgets here that 2 is being added, and this would never end."""
    image = cluster([0, 1])
    move(image, 2, 1)
    move(image, 0, 1)
    assert lists(image) == ((0, 1), (), ()), "the first is undone"
    move(image, 2, 1)
    move(image, 2, 0, 1)
    assert lists(image) == ((2, 0, 1), (2,), ())
    move(image)
    assert lists(image) == ((0, 1), (), ())


def test_a_cancelled_move_leaves_what_there_was() -> None:
    image = cluster([0, 1])
    move(image, 2)
    move(image)
    assert lists(image) == ((0, 1), (), ()), "in the order that they have come to"
    assert seen(image) == (0, (0, 1), 1, 2), "its leader stops counting what it added"


def test_a_move_that_cannot_be_undone_cleanly_needs_leave_for_it() -> None:
    image = cluster([0])
    replay(image, reassign(image, [Reassignment(topic="t", partition=0, replicas=(1, 2))], RULES).records)
    replay(image, fence(image, 0, RULES))
    (result,) = elect_leaders(image, ELECT_UNCLEAN, [("t", 0)], RULES).results
    replay(image, elect_leaders(image, ELECT_UNCLEAN, [("t", 0)], RULES).records)
    assert (result.error_code, seen(image)[:2], part(image).lineage) == (0, (1, (1,)), 2)
    cancel = [Reassignment(topic="t", partition=0, replicas=None)]
    (refused,) = reassign(image, cancel, RULES).results
    assert refused.error_code == errors.INVALID_REPLICA_ASSIGNMENT
    assert "unclean leader election" in (refused.error_message or "")
    replay(image, reassign(image, cancel, UNCLEAN_RULES).records)
    assert (lists(image)[0], seen(image)[:2], part(image).lineage) == ((0,), (-1, (0,)), 3)
    replay(image, unfence(image, 0, RULES))
    assert seen(image)[0] == 0


def test_a_partition_named_twice_is_decided_once() -> None:
    image = cluster([0])
    asked = [Reassignment(topic="t", partition=0, replicas=(broker,)) for broker in (1, 2)]
    found = reassign(image, asked, RULES)
    assert [result.error_code for result in found.results] == [0, errors.INVALID_REQUEST]
    assert len(found.records) == 1


def test_a_move_takes_no_more_rows_than_there_are() -> None:
    image = cluster([0], [0])
    asked = [Reassignment(topic="t", partition=index, replicas=(0, 1)) for index in (0, 1)]
    found = reassign(image, asked, RULES, replicas_free=1)
    assert [result.error_code for result in found.results] == [0, errors.POLICY_VIOLATION]


def test_what_is_asked_for_and_not_moved_is_not_listed() -> None:
    image = cluster([0, 1], [1, 0])
    move(image, 2, 1)
    assert [(found.partition, found.adding) for found in ongoing(image, [("t", [0, 1, 5]), ("x", [0])])] == [
        (0, (2,))
    ]
    assert len(ongoing(image, None)) == 1


def test_leadership_comes_back_by_itself_a_bounded_number_at_a_time() -> None:
    image = cluster([0, 1], [0, 1], [0, 1], [2, 1])
    replay(image, fence(image, 0, RULES))
    assert rebalance(image, RULES) == [], "it is not there"
    for index in range(3):
        assert seen(image, index)[0] == 1
    replay(image, unfence(image, 0, RULES))
    assert is_imbalanced(image)
    assert rebalance(image, RULES) == [], "it is not in sync"
    (result,) = elect_leaders(image, ELECT_PREFERRED, [("t", 0)], RULES).results
    assert result.error_code == errors.PREFERRED_LEADER_NOT_AVAILABLE
    move_back = cluster([0, 1], [0, 1])
    for index in (0, 1):
        move(move_back, 1, 0, partition=index)
    assert len(rebalance(move_back, RULES, limit=1)) == 1
    replay(move_back, rebalance(move_back, RULES))
    assert [seen(move_back, index)[0] for index in (0, 1)] == [1, 1]
    assert not is_imbalanced(move_back)
