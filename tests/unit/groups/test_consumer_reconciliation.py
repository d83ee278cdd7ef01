"""One step of one member towards its target."""

from collections.abc import Callable

import pytest
from msgspec import Struct

from tailrace.core.errors import FENCED_MEMBER_EPOCH, KafkaError
from tailrace.core.groups.consumer_member import (
    STABLE,
    UNRELEASED_PARTITIONS,
    UNREVOKED_PARTITIONS,
    ConsumerMember,
)
from tailrace.core.groups.consumer_reconciliation import Goal, reconcile

T, U = b"t" * 16, b"u" * 16


class Owned(Struct):
    topic_id: bytes
    partitions: list[int]


def goal(
    target: set[int],
    epoch: int = 5,
    owned: list[int] | None = None,
    taken: Callable[[bytes, int], bool] = lambda _topic, _partition: False,
    subscribed: frozenset[bytes] = frozenset({T}),
    changed: bool = False,
) -> Goal:
    said = None if owned is None else [Owned(T, owned)]
    return Goal(epoch, {T: frozenset(target)} if target else {}, subscribed, changed, taken, said)


def member(
    state: int, epoch: int, assigned: dict[int, int], revoking: dict[int, int] | None = None
) -> ConsumerMember:
    return ConsumerMember(
        member_id="m",
        state=state,
        member_epoch=epoch,
        previous_member_epoch=epoch - 1,
        assigned={T: assigned} if assigned else {},
        revoking={T: revoking} if revoking else {},
    )


def test_stable_in_the_epoch_of_the_assignment_stays() -> None:
    stable = member(STABLE, 5, {0: 5})
    assert reconcile(stable, goal({0})) is stable


def test_what_is_free_is_granted_in_the_new_epoch() -> None:
    moved = reconcile(member(STABLE, 4, {0: 3}), goal({0, 1}))
    assert moved == member(STABLE, 5, {0: 3, 1: 5})


def test_what_is_taken_is_waited_for() -> None:
    moved = reconcile(
        member(STABLE, 4, {0: 3}), goal({0, 1, 2}, taken=lambda _topic, partition: partition == 2)
    )
    assert moved == member(UNRELEASED_PARTITIONS, 5, {0: 3, 1: 5})
    assert reconcile(moved, goal({0, 1, 2})).state == STABLE


def test_what_must_go_goes_before_the_epoch_moves() -> None:
    moved = reconcile(member(STABLE, 4, {0: 3, 1: 3}), goal({1, 2}))
    assert moved == ConsumerMember(
        member_id="m",
        state=UNREVOKED_PARTITIONS,
        member_epoch=4,
        previous_member_epoch=4,
        assigned={T: {1: 3}},
        revoking={T: {0: 3}},
    )
    assert reconcile(moved, goal({1, 2}, owned=[0, 1])) is moved
    assert reconcile(moved, goal({1, 2})) is moved  # it did not say
    after = reconcile(moved, goal({1, 2}, owned=[1]))
    assert (after.state, after.member_epoch, after.assigned, after.revoking) == (
        STABLE,
        5,
        {T: {1: 3, 2: 5}},
        {},
    )


def test_who_does_not_own_what_must_go_need_not_give_it_back() -> None:
    moved = reconcile(member(STABLE, 4, {0: 3}), goal(set(), owned=[]))
    assert (moved.state, moved.assigned, moved.revoking) == (STABLE, {}, {})


def test_what_it_gave_back_may_be_its_own_again() -> None:
    waiting = member(UNREVOKED_PARTITIONS, 4, {1: 3}, {0: 3})
    moved = reconcile(waiting, goal({0, 1}, owned=[1], taken=lambda _topic, _partition: True))
    assert (moved.state, moved.assigned) == (STABLE, {T: {1: 3, 0: 5}})


def test_topics_no_longer_subscribed_to_go_before_there_is_a_new_target() -> None:
    stable = member(STABLE, 5, {0: 5})
    unsubscribed = goal({0}, subscribed=frozenset({U}), changed=True)
    moved = reconcile(stable, unsubscribed)
    assert (moved.state, moved.member_epoch, moved.assigned, moved.revoking) == (
        UNREVOKED_PARTITIONS,
        5,
        {},
        {T: {0: 5}},
    )
    assert reconcile(stable, goal({0}, changed=True)) is stable
    gone = reconcile(stable, goal({0}, subscribed=frozenset({U}), changed=True, owned=[]))
    assert (gone.state, gone.assigned, gone.revoking) == (STABLE, {}, {})
    busy = member(UNREVOKED_PARTITIONS, 4, {1: 3}, {0: 3})
    both = reconcile(busy, goal({1}, subscribed=frozenset({U}), changed=True, owned=[0]))
    assert both.revoking == {T: {0: 3, 1: 3}}


def test_a_state_of_later_versions_begins_again_with_nothing() -> None:
    strange = member(99, 4, {0: 3})
    with pytest.raises(KafkaError) as fenced:
        reconcile(strange, goal({0, 1}))
    assert fenced.value.code == FENCED_MEMBER_EPOCH
    assert (
        reconcile(
            strange, Goal(5, {T: frozenset({0})}, frozenset({T}), False, lambda _topic, _partition: False, [])
        ).state
        == STABLE
    )
