"""Elections, deaths, and what becomes of the ISR."""

import pytest

from tailrace.core.metadata.brokers import fence, unfence
from tailrace.core.metadata.leadership import (
    LeaderRules,
    elect_leaderless,
    leaders_replaced,
    replicas_died,
    unclean_allowed,
)
from tailrace.core.metadata.records import NO_LEADER, ConfigRecord
from tests.unit.metadata.cluster import RULES, TOPIC_ID, UNCLEAN_RULES, cluster, part, replay, seen


def died(*brokers: int) -> list[tuple[bytes, int, int]]:
    """These replicas of the first partition."""
    return [(TOPIC_ID, 0, broker) for broker in brokers]


def test_the_next_in_sync_leads_when_the_leader_dies() -> None:
    image = cluster([1, 2, 0])
    replay(image, replicas_died(image, died(1), RULES))
    assert seen(image) == (2, (2, 0), 1, 1)


def test_a_follower_that_dies_leaves_the_isr_in_the_same_leader_epoch() -> None:
    image = cluster([1, 2, 0])
    replay(image, replicas_died(image, died(2), RULES))
    assert seen(image) == (1, (1, 0), 0, 1)


def test_a_leader_alone_in_sync_starts_anew_in_place() -> None:
    image = cluster([1])
    replay(image, replicas_died(image, died(1), UNCLEAN_RULES))
    assert seen(image) == (1, (1,), 1, 1)
    assert part(image).lineage == -1, "it has all its records"


def test_when_all_in_sync_die_the_leader_starts_anew_and_they_stay_in_sync() -> None:
    image = cluster([1, 2])
    replay(image, replicas_died(image, died(1, 2), RULES))
    assert seen(image) == (1, (1, 2), 1, 1)


def test_the_last_in_sync_is_not_forgotten_when_its_broker_dies() -> None:
    """(R) Another would be elected as if it had every record."""
    image = cluster([0, 1])
    replay(image, fence(image, 0, RULES))
    replay(image, fence(image, 1, RULES))
    assert seen(image) == (NO_LEADER, (1,), 2, 2)
    replay(image, unfence(image, 0, RULES))
    assert seen(image) == (NO_LEADER, (1,), 2, 2), "0 may lack records"
    replay(image, unfence(image, 1, RULES))
    assert seen(image) == (1, (1,), 3, 3)
    assert part(image).lineage == -1


def test_an_unclean_election_takes_anybody_and_begins_a_lineage() -> None:
    image = cluster([0, 1])
    replay(image, fence(image, 0, RULES))
    replay(image, fence(image, 1, RULES))
    replay(image, unfence(image, 0, UNCLEAN_RULES))
    assert seen(image) == (0, (0,), 3, 3)
    assert part(image).lineage == 3


@pytest.mark.parametrize(
    ("of_topic", "of_all", "own", "allowed"),
    [
        (None, None, False, False),
        (None, None, True, True),
        (None, "true", False, True),
        (None, "false", True, False),
        ("false", "true", True, False),
        ("true", "false", False, True),
    ],
)
def test_the_topic_decides_before_the_cluster_and_that_before_the_broker(
    of_topic: str | None, of_all: str | None, own: bool, allowed: bool
) -> None:
    image, key = cluster([0]), "unclean.leader.election.enable"
    replay(image, [ConfigRecord(resource_type=2, name="t", key=key, value=of_topic)])
    replay(image, [ConfigRecord(resource_type=4, name="", key=key, value=of_all)])
    assert unclean_allowed(image, "t", LeaderRules(unclean_election=own)) is allowed


def test_a_replica_that_cannot_be_served_leads_nothing_until_it_can() -> None:
    image = cluster([0, 1], [0])
    unusable = LeaderRules(unusable=frozenset([(TOPIC_ID, 0, 0), (TOPIC_ID, 1, 0)]))
    replay(image, replicas_died(image, sorted(unusable.unusable), unusable))
    assert seen(image) == (1, (1,), 1, 1)
    assert seen(image, 1) == (NO_LEADER, (0,), 1, 1)
    assert elect_leaderless(image, unusable) == []
    replay(image, elect_leaderless(image, RULES))
    assert seen(image, 1) == (0, (0,), 2, 2)


def test_one_that_cannot_be_served_is_replaced_uncleanly_where_that_is_allowed() -> None:
    image = cluster([0, 1])
    replay(image, replicas_died(image, died(1), RULES))
    unusable = LeaderRules(unclean_election=True, unusable=frozenset(died(0)))
    replay(image, replicas_died(image, died(0), unusable))
    assert seen(image) == (1, (1,), 1, 2)
    assert part(image).lineage == 1


def test_what_is_deleted_is_nobodys() -> None:
    assert replicas_died(cluster([0]), [(b"x" * 16, 0, 0), (TOPIC_ID, 5, 0)], RULES) == []


def test_who_has_to_resign_first_is_said() -> None:
    image = cluster([0, 1], [1, 0], [2])
    assert leaders_replaced(image, fence(image, 0, RULES)) == [(TOPIC_ID, 0, 0)]
    assert leaders_replaced(image, fence(image, 2, RULES)) == [(TOPIC_ID, 2, 2)], "nobody comes after it"
    assert leaders_replaced(image, replicas_died(image, [(TOPIC_ID, 2, 2)], RULES)) == []


def test_a_round_of_elections_is_bounded() -> None:
    image = cluster([0], [0], [0])
    replay(image, fence(image, 0, RULES))
    assert len(elect_leaderless(image, RULES, also=(0,), limit=2)) == 2
