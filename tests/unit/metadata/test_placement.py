"""Where replicas go."""

from tailrace.core.metadata.placement import pick_worker, place_replicas


def test_leaders_and_followers_spread_over_the_brokers() -> None:
    placed = place_replicas([0, 1, 2], 6, 2, start=0)
    assert [replicas[0] for replicas in placed] == [0, 1, 2, 0, 1, 2]
    assert all(len(set(replicas)) == 2 for replicas in placed)
    assert {replicas[1] for replicas in placed if replicas[0] == 0} == {1, 2}


def test_one_broker_holds_all() -> None:
    assert place_replicas([5], 2, 1, start=7) == [(5,), (5,)]


def test_an_unused_worker_is_taken_before_a_loaded_one() -> None:
    assert pick_worker({4: 1}, 4, 3, frozenset()) == 5


def test_past_the_limit_the_least_loaded_worker_is_shared() -> None:
    assert pick_worker({4: 2, 5: 1, 6: 2}, 4, 3, frozenset()) == 5


def test_a_slot_to_avoid_is_the_last_choice() -> None:
    assert pick_worker({4: 9}, 4, 2, frozenset({5})) == 4
    assert pick_worker({}, 4, 1, frozenset({4})) == 4
